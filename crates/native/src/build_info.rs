//! What this build is made of, for `aioxide.build_info()`.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The version of a crate that this was built with.
fn locked_version(name: &str) -> Option<&'static str> {
    let mut entries = include_str!("../../../Cargo.lock").split("[[package]]");
    let wanted = format!("name = \"{name}\"");
    let entry = entries.find(|entry| entry.lines().any(|line| line == wanted))?;
    entry.lines().find_map(|line| line.strip_prefix("version = ")).map(|version| version.trim_matches('"'))
}

/// Facts that only the binary knows.
#[pyfunction]
pub fn build_facts(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let facts = PyDict::new(py);
    facts.set_item("pyo3", locked_version("pyo3").unwrap_or("unknown"))?;
    facts.set_item("tls", crate::tls::engine_in_words(py))?;
    Ok(facts)
}
