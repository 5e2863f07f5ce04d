//! `ThreadSafeHandle`: a callback that another thread has scheduled, and may cancel while it runs.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::event_loop::Loop;
use crate::handle::{Call, Handle};
use crate::host::detached;

/// How long another thread waits before it looks for signals.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// What `call_soon_threadsafe` gives other threads since Python 3.14: once its `cancel()` has returned, the callback
/// neither runs nor will run.
#[pyclass(module = "aioxide", name = "ThreadSafeHandle", extends = Handle, frozen)]
pub struct ThreadSafeHandle {
    /// The thread that runs the callback now.
    runner: Mutex<Option<ThreadId>>,
    ended: Condvar,
}

impl ThreadSafeHandle {
    /// Whether this Python's asyncio has such handles.
    pub fn is_known(py: Python<'_>) -> bool {
        static KNOWN: PyOnceLock<bool> = PyOnceLock::new();
        *KNOWN.get_or_init(py, || py.version_info() >= (3, 14))
    }

    pub fn build<'py>(event_loop: &Bound<'py, Loop>, call: Call) -> PyResult<Bound<'py, Self>> {
        let this = Self { runner: Mutex::new(None), ended: Condvar::new() };
        let base = Handle::into_base(event_loop, call);
        Bound::new(event_loop.py(), PyClassInitializer::from(base).add_subclass(this))
    }

    /// Runs `body`, which runs the callback; until it is done, `cancel()` does not return in other threads.
    pub fn hold<R>(&self, body: impl FnOnce() -> R) -> R {
        let outer = self.runner().replace(thread::current().id());
        let result = body();
        *self.runner() = outer;
        self.ended.notify_all();
        result
    }

    fn runner(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other thread runs the callback.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        let me = thread::current().id();
        let elsewhere = |runner: &mut Option<ThreadId>| runner.is_some_and(|runner| runner != me);
        while elsewhere(&mut self.runner()) {
            detached(py, || drop(self.ended.wait_timeout_while(self.runner(), SIGNALS_EVERY, elsewhere)));
            py.check_signals()?;
        }
        Ok(())
    }
}

#[pymethods]
impl ThreadSafeHandle {
    /// Keeps the callback from being run, or waits for its end if another thread runs it.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        Handle::cancel(slf.as_super())?;
        slf.get().settle(slf.py())
    }

    /// Whether `cancel()` was called.
    fn cancelled(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.get().settle(slf.py())?;
        Ok(slf.as_super().get().is_cancelled(slf.py()))
    }

    /// `isinstance` holds for asyncio's class of such handles.
    #[getter(__class__)]
    fn class(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(slf.py().import("asyncio.events")?.getattr("_ThreadSafeHandle")?.unbind())
    }
}
