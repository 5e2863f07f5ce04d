//! The methods that `aioxide._streams` gives asyncio's classes.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

use super::StreamOperation;
use super::operation::Request;
use crate::coroutine::Ready;
use crate::raw::{self, FastArgs};

/// `super().method(...)`: what is asked in an unusual way is asyncio's own business.
fn stock(slf: &Bound<'_, PyAny>, method: &str, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
    let method = slf.get_type().getattr(intern!(slf.py(), "__base__"))?.getattr(method)?;
    args.call_method(&method, slf).map(Bound::unbind)
}

fn operation(slf: &Bound<'_, PyAny>, request: Request) -> PyResult<Py<PyAny>> {
    Ok(Bound::new(slf.py(), StreamOperation::new(slf, request))?.into_any().unbind())
}

fn read(slf: &Bound<'_, PyAny>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
    let [n] = args.bind("read", ["n"], 0)?;
    match n.map(|n| n.extract::<usize>()) {
        Some(Ok(n)) => operation(slf, Request::Read { n, has_waited: false }),
        // Everything until the end, or no number.
        None | Some(Err(_)) => stock(slf, "read", args),
    }
}

fn readexactly(slf: &Bound<'_, PyAny>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
    let [n] = args.bind("readexactly", ["n"], 1)?;
    match n.map(|n| n.extract::<usize>()) {
        Some(Ok(n)) => operation(slf, Request::ReadExactly { n }),
        None | Some(Err(_)) => stock(slf, "readexactly", args),
    }
}

fn readuntil(slf: &Bound<'_, PyAny>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
    let [separator] = args.bind("readuntil", ["separator"], 0)?;
    let separator = match separator {
        None => newline(slf.py()),
        Some(separator) => match separator.cast_into_exact::<PyBytes>() {
            Ok(separator) if !separator.as_bytes().is_empty() => separator.unbind(),
            _ => return stock(slf, "readuntil", args),
        },
    };
    operation(slf, Request::ReadUntil { separator, offset: 0, is_line: false })
}

fn readline(slf: &Bound<'_, PyAny>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
    args.expect_none("readline")?;
    operation(slf, Request::ReadUntil { separator: newline(slf.py()), offset: 0, is_line: true })
}

fn newline(py: Python<'_>) -> Py<PyBytes> {
    PyBytes::new(py, b"\n").unbind()
}

fn exception(slf: &Bound<'_, PyAny>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
    args.expect_none("exception")?;
    slf.getattr(intern!(slf.py(), "_exception")).map(Bound::unbind)
}

/// What `StreamWriter.drain()` awaits: nothing, as long as the transport takes what is written.
fn drain_helper(slf: &Bound<'_, PyAny>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
    static READY: PyOnceLock<Py<Ready>> = PyOnceLock::new();
    let py = slf.py();
    let must_wait = slf.getattr(intern!(py, "_paused"))?.is_truthy()?
        || slf.getattr(intern!(py, "_connection_lost"))?.is_truthy()?;
    if must_wait {
        return stock(slf, "_drain_helper", args);
    }
    Ok(READY.get_or_try_init(py, || Py::new(py, Ready))?.clone_ref(py).into_any())
}

raw::fast_methods!(
    PyAny;
    call_read => read,
    call_readexactly => readexactly,
    call_readuntil => readuntil,
    call_readline => readline,
    call_exception => exception,
    call_drain_helper => drain_helper
);

/// Adds the native methods to the subclasses of asyncio's classes.
#[pyfunction]
pub fn add_stream_methods(reader: &Bound<'_, PyType>, protocol: &Bound<'_, PyType>) -> PyResult<()> {
    let methods: [(&Bound<'_, PyType>, &std::ffi::CStr, &std::ffi::CStr, raw::FastMethod); 6] = [
        (reader, c"read", c"read($self, n=-1)\n--\n\nAt most n bytes, or all until the end.", call_read),
        (reader, c"readexactly", c"readexactly($self, n)\n--\n\nExactly n bytes.", call_readexactly),
        (reader, c"readuntil", c"readuntil($self, separator=b'\\n')\n--\n\nUp to the separator.", call_readuntil),
        (reader, c"readline", c"readline($self, /)\n--\n\nA line.", call_readline),
        (reader, c"exception", c"exception($self, /)\n--\n\nWhat ended the stream.", call_exception),
        (protocol, c"_drain_helper", c"_drain_helper($self, /)\n--\n\nWait for room.", call_drain_helper),
    ];
    for (class, name, doc, method) in methods {
        raw::add_fast_method(class, name, doc, method)?;
    }
    Ok(())
}
