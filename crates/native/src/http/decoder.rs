//! `BodyDecoder`: undoes `br` and `zstd`.

use std::sync::{Mutex, PoisonError};

use aioxide::http::{DecodeError, Decoder};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
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

    /// What the piece decodes to. ValueError when it breaks the format, OverflowError when more than `max_bytes` come
    /// out.
    fn decode<'py>(&self, py: Python<'py>, data: PyBackedBytes, max_bytes: usize) -> PyResult<Bound<'py, PyBytes>> {
        let decoded = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).decode(&data, max_bytes));
        match decoded {
            Ok(decoded) => Ok(PyBytes::new(py, &decoded)),
            Err(error @ DecodeError::TooLarge) => Err(PyOverflowError::new_err(error.to_string())),
            Err(error) => Err(PyValueError::new_err(error.to_string())),
        }
    }

    /// Whether the data so far is whole.
    fn is_complete(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_complete()
    }
}
