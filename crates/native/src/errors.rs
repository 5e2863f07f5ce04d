//! System errors as Python has them.

use std::io;

use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::{PyErr, Python};

/// The `OSError` of the right subclass, with `errno` and the system's words for it, as Python's own sockets raise it.
pub fn os_error(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(code) => {
            let text = error.to_string();
            let words = text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text);
            PyOSError::new_err((code, words.to_owned()))
        }
        None => error.into(),
    }
}

/// Whether a method of a socket that does not block has raised only because there is nothing to do yet.
pub fn would_block(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}
