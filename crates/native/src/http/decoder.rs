//! `BodyDecoder`: undoes `br` and `zstd`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aioxide::http::Decoder;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Undoes one content encoding, piece by piece. ValueError for an encoding other than `br` and `zstd`.
#[pyclass(module = "aioxide._native", frozen)]
pub struct BodyDecoder(Mutex<Decoder>);

#[pymethods]
impl BodyDecoder {
    #[new]
    fn new(encoding: &str) -> PyResult<Self> {
        let decoder = Decoder::new(encoding);
        let decoder = decoder.ok_or_else(|| PyValueError::new_err(format!("no decoder for {encoding:?}")))?;
        Ok(Self(Mutex::new(decoder)))
    }

    /// Adds coded data.
    fn feed(&self, data: &[u8]) {
        self.lock().feed(data);
    }

    /// The next decoded bytes, at most `max_bytes`; none when more has to be fed first. ValueError when the data breaks
    /// the format.
    fn take<'py>(&self, py: Python<'py>, max_bytes: usize) -> PyResult<Bound<'py, PyBytes>> {
        let decoded = py.detach(|| self.lock().take(max_bytes));
        let decoded = decoded.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(PyBytes::new(py, &decoded))
    }

    /// Whether the data so far is whole.
    fn is_complete(&self) -> bool {
        self.lock().is_complete()
    }
}

impl BodyDecoder {
    fn lock(&self) -> MutexGuard<'_, Decoder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
