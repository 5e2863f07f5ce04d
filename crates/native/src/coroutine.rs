//! What coroutines without a frame have in common.

use pyo3::exceptions::{PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

/// How a coroutine gives its result.
pub fn stop_iteration(py: Python<'_>, value: Py<PyAny>) -> PyErr {
    match py.get_type::<PyStopIteration>().call1((value,)) {
        Ok(stop) => PyErr::from_value(stop),
        Err(error) => error,
    }
}

/// Refuses to send a value into a coroutine that has not begun.
pub fn check_first_send(sent: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    if sent.is_some_and(|value| !value.is_none()) {
        return Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"));
    }
    Ok(())
}

/// The exception that `throw()` was called with, in either of its forms.
pub fn to_throw(
    typ: &Bound<'_, PyAny>,
    val: Option<&Bound<'_, PyAny>>,
    tb: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyErr> {
    let exception = match (typ.cast::<PyType>(), val.filter(|val| !val.is_none())) {
        (Err(_), None) => typ.clone(),
        (Err(_), Some(_)) => return Err(PyTypeError::new_err("instance exception may not have a separate value")),
        (Ok(_), None) => typ.call0()?,
        (Ok(class), Some(val)) if val.is_instance(class)? => val.clone(),
        (Ok(_), Some(val)) => match val.cast::<PyTuple>() {
            Ok(args) => typ.call1(args)?,
            Err(_) => typ.call1((val,))?,
        },
    };
    if let Some(tb) = tb.filter(|tb| !tb.is_none()) {
        exception.setattr(intern!(tb.py(), "__traceback__"), tb)?;
    }
    // What is no exception becomes a TypeError.
    Ok(PyErr::from_value(exception))
}

/// The warning of a coroutine that is dropped before it began.
pub fn warn_never_awaited(qualified_name: &str) {
    Python::attach(|py| {
        // Finalizers must leave the exception that is being handled alone.
        let pending = PyErr::take(py);
        let text = std::ffi::CString::new(format!("coroutine '{qualified_name}' was never awaited"));
        let category = py.get_type::<PyRuntimeWarning>();
        if let Err(error) = text.map_err(PyErr::from).and_then(|text| PyErr::warn(py, &category, &text, 1)) {
            error.write_unraisable(py, None);
        }
        if let Some(pending) = pending {
            pending.restore(py);
        }
    });
}

/// An awaitable whose result, `None`, is there already. It keeps no state, so one serves for all.
#[pyclass(module = "aioxide._native", name = "Ready", frozen)]
pub struct Ready;

#[pymethods]
impl Ready {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[expect(clippy::unused_self, reason = "Python's protocol")]
    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }
}
