//! Requests as tasks of an aioxide loop, in its own thread.

use std::sync::{Mutex, PoisonError};

use aioxide::{JoinHandle, LoopHandle};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::background::RemoteTask;
use crate::event_loop::Loop;

/// The loop as Rust futures see it, if it is one of ours; it must not be running in another thread.
pub fn native_handle(event_loop: &Bound<'_, PyAny>) -> PyResult<Option<LoopHandle>> {
    let Ok(native) = event_loop.cast::<Loop>() else { return Ok(None) };
    let handle = native.get().loop_handle(event_loop.py())?;
    let remote = handle.remote();
    if !remote.is_owner() {
        if !remote.try_own() {
            return Err(PyRuntimeError::new_err("the loop is running in another thread"));
        }
        remote.disown();
    }
    Ok(Some(handle))
}

/// A task that ends with the Python object that holds it.
pub enum Job {
    Local(Mutex<Option<JoinHandle<()>>>),
    Remote(RemoteTask),
}

impl Job {
    pub fn local(task: JoinHandle<()>) -> Self {
        Self::Local(Mutex::new(Some(task)))
    }

    pub fn cancel(&self) {
        match self {
            Self::Local(task) => {
                let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
                drop(task);
            }
            Self::Remote(task) => task.cancel(),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The done callback of a future: drops the request of a future that was cancelled.
#[pyclass(module = "aioxide._native", frozen)]
struct Canceller {
    job: Job,
}

#[pymethods]
impl Canceller {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        if future.call_method0(intern!(future.py(), "cancelled"))?.is_truthy()? {
            self.job.cancel();
        }
        Ok(())
    }
}

/// Ties `job` to `future`.
pub fn cancel_with(future: &Bound<'_, PyAny>, job: Job) -> PyResult<()> {
    let py = future.py();
    let canceller = Bound::new(py, Canceller { job })?;
    future.call_method1(intern!(py, "add_done_callback"), (canceller,)).map(drop)
}
