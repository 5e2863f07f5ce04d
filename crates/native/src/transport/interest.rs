//! What the reactor watches for a transport.

use std::io::ErrorKind;

use aioxide::LoopHandle;
use aioxide::driver::Interest;
use aioxide::reactor::SourceKey;
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;

use crate::event_loop::Loop;

/// A transport, as the reactor sees it.
pub trait Watched: PyClass<Frozen = True> + Send + Sync {
    fn event_loop(&self) -> &Py<Loop>;

    /// The source, if there is one, and what it is to be watched for now.
    fn wanted(&self, py: Python<'_>) -> (Option<SourceKey>, Interest);

    /// Ends the transport because of an error.
    fn failed(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()>;
}

/// Tells the reactor what to watch now.
pub fn update<T: Watched>(slf: &Bound<'_, T>) -> PyResult<()> {
    let py = slf.py();
    let event_loop = slf.get().event_loop();
    match event_loop.get().reach(py) {
        Ok(Some(engine)) => watch(slf, engine.handle()),
        Ok(None) => {
            let transport = slf.clone().unbind();
            Loop::on_loop(event_loop.bind(py), move |event_loop, engine| {
                let transport = transport.bind(event_loop.py());
                let watched = watch(transport, engine.handle());
                let reported =
                    watched.or_else(|error| T::failed(transport, error, "Fatal error: the socket cannot be watched"));
                if let Err(error) = reported {
                    error.write_unraisable(event_loop.py(), Some(transport.as_any()));
                }
            });
            Ok(())
        }
        // A closed loop watches nothing.
        Err(_closed) => Ok(()),
    }
}

fn watch<T: Watched>(slf: &Bound<'_, T>, handle: &LoopHandle) -> PyResult<()> {
    let (Some(key), interest) = slf.get().wanted(slf.py()) else { return Ok(()) };
    match handle.set_interest(key, interest) {
        // The number was closed behind our back and taken over by somebody else.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => Ok(other?),
    }
}
