//! From a transport to a stream reader.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyBytes, PyType};

use super::reader::Reader;

/// asyncio's classes, and ours in their place.
struct Classes {
    stock_protocol: Py<PyType>,
    stock_reader: Py<PyType>,
    protocol: Py<PyType>,
    reader: Py<PyType>,
}

fn classes(py: Python<'_>) -> PyResult<&Classes> {
    static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
    CLASSES.get_or_try_init(py, || {
        let class =
            |module: &str, name: &str| PyResult::Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind());
        Ok(Classes {
            stock_protocol: class("asyncio.streams", "StreamReaderProtocol")?,
            stock_reader: class("asyncio.streams", "StreamReader")?,
            protocol: class("aioxide._streams", "StreamReaderProtocol")?,
            reader: class("aioxide._streams", "StreamReader")?,
        })
    })
}

/// Whether [`feed`] may be called for `protocol`. If it is asyncio's own, it and its reader get our classes; a subclass
/// may have changed anything, and is left alone.
pub fn adopt(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = protocol.py();
    let classes = classes(py)?;
    let class = protocol.get_type();
    if class.is(&classes.protocol) {
        return Ok(true);
    }
    if !class.is(&classes.stock_protocol) {
        return Ok(false);
    }
    let reader = protocol.getattr(intern!(py, "_stream_reader"))?;
    if !reader.get_type().is(&classes.stock_reader) {
        return Ok(false);
    }
    reader.setattr(intern!(py, "__class__"), &classes.reader)?;
    protocol.setattr(intern!(py, "__class__"), &classes.protocol)?;
    Ok(true)
}

/// `protocol.data_received(data)` of an adopted protocol.
pub fn feed(protocol: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<()> {
    let py = protocol.py();
    let reader = protocol.getattr(intern!(py, "_stream_reader_wr"))?;
    if reader.is_none() {
        return Ok(());
    }
    // A weak reference: nobody may read any more.
    let reader = reader.call0()?;
    if reader.is_none() {
        return Ok(());
    }
    let view = Reader(&reader);
    if !reader.get_type().is(&classes(py)?.reader) || view.is_eof()? {
        return protocol.call_method1(intern!(py, "data_received"), (PyBytes::new(py, data),)).map(drop);
    }
    let buffer = view.buffer()?;
    let buffered = with_critical_section(&buffer, || {
        let before = buffer.len();
        buffer.resize(before + data.len())?;
        // SAFETY: attached, in the buffer's critical section, and no code of others runs before the bytes are copied.
        let bytes = unsafe { buffer.as_bytes_mut() };
        bytes[before..].copy_from_slice(data);
        PyResult::Ok(before + data.len())
    })?;
    if let Some(waiter) = view.waiter()? {
        view.set_waiter(None)?;
        if !waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
    }
    view.maybe_pause_transport(buffered)
}
