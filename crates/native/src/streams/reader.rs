//! An `asyncio.StreamReader` as the native half sees it: its attributes.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyByteArray, PyBytes, PySlice};

/// A reader. Its attributes are what asyncio's own methods work on too.
pub struct Reader<'a, 'py>(pub &'a Bound<'py, PyAny>);

impl<'py> Reader<'_, 'py> {
    fn py(&self) -> Python<'py> {
        self.0.py()
    }

    pub fn buffer(&self) -> PyResult<Bound<'py, PyByteArray>> {
        Ok(self.0.getattr(intern!(self.py(), "_buffer"))?.cast_into()?)
    }

    /// Bytes from which on the transport is held back, and the longest line.
    pub fn limit(&self) -> PyResult<usize> {
        self.0.getattr(intern!(self.py(), "_limit"))?.extract()
    }

    pub fn is_eof(&self) -> PyResult<bool> {
        self.0.getattr(intern!(self.py(), "_eof"))?.is_truthy()
    }

    /// The exception that ended the stream.
    pub fn exception(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(Some(self.0.getattr(intern!(self.py(), "_exception"))?).filter(|exception| !exception.is_none()))
    }

    /// The future of whoever waits for data.
    pub fn waiter(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(Some(self.0.getattr(intern!(self.py(), "_waiter"))?).filter(|waiter| !waiter.is_none()))
    }

    pub fn set_waiter(&self, waiter: Option<&Bound<'py, PyAny>>) -> PyResult<()> {
        self.0.setattr(intern!(self.py(), "_waiter"), waiter)
    }

    pub fn is_paused(&self) -> PyResult<bool> {
        self.0.getattr(intern!(self.py(), "_paused"))?.is_truthy()
    }

    fn set_paused(&self, paused: bool) -> PyResult<()> {
        self.0.setattr(intern!(self.py(), "_paused"), paused)
    }

    fn transport(&self) -> PyResult<Bound<'py, PyAny>> {
        self.0.getattr(intern!(self.py(), "_transport"))
    }

    /// Holds the transport back if the buffer has more than twice the limit.
    pub fn maybe_pause_transport(&self, buffered: usize) -> PyResult<()> {
        let py = self.py();
        if buffered <= self.limit()?.saturating_mul(2) || self.is_paused()? {
            return Ok(());
        }
        let transport = self.transport()?;
        if transport.is_none() {
            return Ok(());
        }
        match transport.call_method0(intern!(py, "pause_reading")) {
            Ok(_) => self.set_paused(true),
            // A transport that cannot be held back is not asked again.
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyNotImplementedError>(py) => {
                self.0.setattr(intern!(py, "_transport"), py.None())
            }
            Err(error) => Err(error),
        }
    }

    pub fn resume_transport(&self) -> PyResult<()> {
        self.set_paused(false)?;
        self.transport()?.call_method0(intern!(self.py(), "resume_reading")).map(drop)
    }

    fn maybe_resume_transport(&self, buffered: usize) -> PyResult<()> {
        if self.is_paused()? && buffered <= self.limit()? {
            return self.resume_transport();
        }
        Ok(())
    }

    /// Takes the first `length` bytes, or what there is, out of the buffer.
    pub fn take(&self, buffer: &Bound<'py, PyByteArray>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        let (data, left) = with_critical_section(buffer, || {
            // SAFETY: attached, in the buffer's critical section, and no code of others runs before the bytes are copied.
            let bytes = unsafe { buffer.as_bytes() };
            let length = length.min(bytes.len());
            let data = PyBytes::new(buffer.py(), &bytes[..length]);
            let left = bytes.len() - length;
            (data, left)
        });
        self.discard(buffer, data.len()?, left)?;
        Ok(data)
    }

    /// Drops the first `length` bytes of the buffer, after which `left` remain.
    pub fn discard(&self, buffer: &Bound<'py, PyByteArray>, length: usize, left: usize) -> PyResult<()> {
        if left == 0 {
            buffer.resize(0)?;
        } else if length > 0 {
            let length = isize::try_from(length).unwrap_or(isize::MAX);
            buffer.del_item(PySlice::new(buffer.py(), 0, length, 1))?;
        }
        self.maybe_resume_transport(left)
    }
}
