//! Requests as tasks of an aioxide loop, in its own thread.

use std::sync::{Mutex, PoisonError};

use aioxide::JoinHandle;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::background::RemoteTask;
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
