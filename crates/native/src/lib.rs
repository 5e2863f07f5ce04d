//! Python bindings of aioxide: they convert, call and map errors; policy lives in the engine or in Python.

use pyo3::prelude::*;

#[pymodule]
mod _native {}
