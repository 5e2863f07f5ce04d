//! Requests as tasks of an aioxide loop, in its own thread.

use std::sync::{Mutex, PoisonError};

use aioxide::JoinHandle;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use super::background::RemoteTask;
use super::waiting::Waiting;
use crate::engine::ReachedHandle;
use crate::event_loop::Loop;

/// The loop as Rust futures see it, if it is one of ours.
///
/// # Errors
/// `RuntimeError` if it is closed, or running in another thread.
pub fn native_handle<'a>(event_loop: &'a Bound<'_, PyAny>) -> PyResult<Option<ReachedHandle<'a>>> {
    let Ok(native) = event_loop.cast::<Loop>() else { return Ok(None) };
    let handle = native.get().loop_handle(event_loop.py())?;
    if handle.remote().is_running() && !handle.remote().is_owner() {
        return Err(PyRuntimeError::new_err("the loop is running in another thread"));
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

/// What `fetch` gives: an awaitable of the response. Dropping it, which is what a cancelled task does, drops the request.
#[pyclass(module = "aioxide._native", frozen)]
pub struct PendingResponse {
    future: Py<PyAny>,
    waiting: Waiting,
    job: Job,
}

impl PendingResponse {
    pub fn new(future: Py<PyAny>, job: Job) -> Self {
        Self { future, waiting: Waiting::default(), job }
    }
}

#[pymethods]
impl PendingResponse {
    /// The future of the response, for who awaits that itself: they keep this meanwhile, and `close` it when they give up.
    #[getter]
    fn future(&self, py: Python<'_>) -> Py<PyAny> {
        self.future.clone_ref(py)
    }

    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(yielded) = self.waiting.go_on(py) {
            return yielded;
        }
        let future = self.future.bind(py);
        if let Some(yielded) = self.waiting.begin(future)? {
            return yielded;
        }
        let response = future.call_method0(intern!(py, "result"))?;
        Err(PyStopIteration::new_err((response.unbind(),)))
    }

    /// Raises what was thrown in, a cancellation above all. The request is dropped at once: the exception's traceback may
    /// keep this alive for long.
    #[pyo3(signature = (kind, value=None, _traceback=None))]
    fn throw<'py>(
        &self,
        kind: Bound<'py, PyAny>,
        value: Option<Bound<'py, PyAny>>,
        _traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.job.cancel();
        Err(PyErr::from_value(value.unwrap_or(kind)))
    }

    /// Drops the request.
    fn close(&self) {
        self.job.cancel();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.future)?;
        self.waiting.traverse(&visit)
    }
}
