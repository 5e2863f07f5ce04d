//! What an awaitable of our own waits for.

use std::sync::{Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyIterator;

/// The iterator of the future that an awaitable waits for. Going on with it raises what the future does, a cancellation
/// above all.
#[derive(Default)]
pub struct Waiting(Mutex<Option<Py<PyIterator>>>);

impl Waiting {
    /// Goes on waiting; `None` when there is nothing to wait for any more.
    pub fn go_on<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let yielded = waiting.bind(py).clone().next()?;
        self.put(waiting);
        Some(yielded)
    }

    /// Begins to wait for `future`; `None` if it is done.
    pub fn begin<'py>(&self, future: &Bound<'py, PyAny>) -> PyResult<Option<PyResult<Bound<'py, PyAny>>>> {
        let mut iterator = future.call_method0(intern!(future.py(), "__await__"))?.try_iter()?;
        let Some(yielded) = iterator.next() else { return Ok(None) };
        self.put(iterator.unbind());
        Ok(Some(yielded))
    }

    fn put(&self, iterator: Py<PyIterator>) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(iterator);
        // What is dropped may run anything, so nothing is locked by now.
        drop(before);
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_lock() {
            Ok(waiting) => visit.call(&*waiting),
            // It is being changed, so somebody uses it.
            Err(_) => Ok(()),
        }
    }
}
