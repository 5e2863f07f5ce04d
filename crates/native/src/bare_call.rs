//! Calls without a handle: those that asyncio's C classes schedule.
//!
//! A C task's step, and what a C future tells its awaiters, go through `loop.call_soon(callback, context=...)` like
//! everything else; but C drops the handle that it gets. No object is made for such a call, then. It is known by the
//! tuple of the keyword's name, one object, which the C module passes and nobody else does.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyTuple};

use crate::raw::{self, FastArgs};

/// Whether these arguments of `call_soon` come from asyncio's C classes, which drop what they get.
#[inline]
pub fn is_from_asyncio(py: Python<'_>, args: &FastArgs<'_, '_>) -> bool {
    matches!((args.names(), ASYNCIO_NAMES.get(py)), (Some(given), Some(Some(names))) if given.is(names))
}

/// `("context",)`, as asyncio's C classes pass it; `None` if there are none.
static ASYNCIO_NAMES: PyOnceLock<Option<Py<PyTuple>>> = PyOnceLock::new();

/// Learns how asyncio's C classes call, by having a future call a loop that only listens.
pub fn learn(py: Python<'_>) {
    ASYNCIO_NAMES.get_or_init(py, || {
        // Whatever goes wrong means that the classes are not those we know, and that handles are made.
        let listen = || -> PyResult<Option<Py<PyTuple>>> {
            let class = py.get_type::<Listener>();
            raw::add_fast_method(&class, c"call_soon", c"", call_soon)?;
            let listener = Bound::new(py, Listener { names: PyOnceLock::new() })?;
            let keywords = [("loop", &listener)].into_py_dict(py)?;
            let future = py.import("_asyncio")?.getattr("Future")?.call((), Some(&keywords))?;
            future.call_method1("add_done_callback", (py.None(),))?;
            future.call_method1("set_result", (py.None(),))?;
            Ok(listener.get().names.get(py).map(|names| names.clone_ref(py)))
        };
        listen().ok().flatten()
    });
}

/// A loop that hears how it is called.
#[pyclass(frozen)]
struct Listener {
    names: PyOnceLock<Py<PyTuple>>,
}

#[pymethods]
impl Listener {
    #[expect(clippy::unused_self, reason = "a method of the loop in asyncio")]
    fn get_debug(&self) -> bool {
        false
    }
}

impl Listener {
    fn call_soon(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        if let Some(names) = args.names() {
            slf.get().names.get_or_init(slf.py(), || names.clone().unbind());
        }
        Ok(slf.py().None())
    }
}

raw::fast_methods!(Listener; call_soon => Listener::call_soon);
