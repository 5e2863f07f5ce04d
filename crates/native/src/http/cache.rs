//! `CachePolicy` and `CacheRequest`: the rules for stored responses.

use aioxide::http::{
    AskedOfCache, CachePolicy as Policy, Exchanged, Field, Reuse, merged_fields, selecting_values, storable_fields,
};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

type Fields = Vec<(PyBackedBytes, PyBackedBytes)>;

fn borrowed(fields: &Fields) -> Vec<Field<'_>> {
    fields.iter().map(|(name, value)| (&**name, &**value)).collect()
}

fn to_python<'py>(py: Python<'py>, fields: &[Field<'_>]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, fields.iter().map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value))))
}

/// What a request wants of a cache.
#[pyclass(module = "aioxide._native", frozen)]
pub struct CacheRequest {
    asked: AskedOfCache,
    fields: Fields,
}

#[pymethods]
impl CacheRequest {
    #[new]
    fn new(method: &str, fields: Fields) -> Self {
        Self { asked: AskedOfCache::new(method, &borrowed(&fields)), fields }
    }

    /// Whether a stored response may answer it, and its own may be stored.
    #[getter]
    fn is_answerable(&self) -> bool {
        self.asked.is_answerable
    }

    /// Whether it may change what is stored under its URL.
    #[getter]
    fn is_unsafe(&self) -> bool {
        self.asked.is_unsafe
    }

    /// Whether nothing may be sent.
    #[getter]
    fn only_if_cached(&self) -> bool {
        self.asked.only_if_cached()
    }

    /// The values of the fields of these names: equal for requests that agree in all of them.
    fn selecting<'py>(&self, py: Python<'py>, names: Vec<String>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &selecting_values(&borrowed(&self.fields), &names))
    }
}

/// What may be done with one response. Times are seconds since 1970.
#[pyclass(module = "aioxide._native", frozen)]
pub struct CachePolicy(Policy);

#[pymethods]
impl CachePolicy {
    #[new]
    #[pyo3(signature = (method, request, status, response, *, requested_at, received_at, shared))]
    fn new(
        method: &str,
        request: Fields,
        status: u16,
        response: Fields,
        requested_at: f64,
        received_at: f64,
        shared: bool,
    ) -> Self {
        let (request, response) = (borrowed(&request), borrowed(&response));
        let exchanged = Exchanged { method, request: &request, status, response: &response, requested_at, received_at };
        Self(Policy::new(&exchanged, shared))
    }

    /// Whether the response may be stored at all.
    #[getter]
    fn is_storable(&self) -> bool {
        self.0.is_storable()
    }

    /// The names of the request's fields by which the response was chosen.
    #[getter]
    fn vary(&self) -> Vec<String> {
        self.0.vary().to_vec()
    }

    /// Seconds since the response was made, or last confirmed.
    fn age(&self, now: f64) -> f64 {
        self.0.age(now)
    }

    /// What may be done for a request: `"fresh"`, `"stale"`, `"stale-while-revalidate"` or `"validate"`.
    fn reuse(&self, asked: &CacheRequest, now: f64) -> &'static str {
        match self.0.reuse(&asked.asked, now) {
            Reuse::Fresh => "fresh",
            Reuse::Stale => "stale",
            Reuse::StaleWhileRevalidate => "stale-while-revalidate",
            Reuse::Validate => "validate",
        }
    }

    /// Whether it may be given when the server cannot be asked.
    fn may_stand_in(&self, asked: &CacheRequest, now: f64) -> bool {
        self.0.may_stand_in(&asked.asked, now)
    }

    /// The fields that ask the server whether it still holds.
    fn conditions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let conditions = self.0.conditions();
        let fields: Vec<Field<'_>> =
            conditions.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        to_python(py, &fields)
    }

    /// Whether a 304 with these fields means this response.
    fn is_confirmed_by(&self, update: Fields) -> bool {
        self.0.is_confirmed_by(&borrowed(&update))
    }
}

/// The fields of a response that are stored.
#[pyfunction]
pub fn cache_storable_fields(py: Python<'_>, fields: Fields) -> PyResult<Bound<'_, PyList>> {
    to_python(py, &storable_fields(&borrowed(&fields)))
}

/// The fields of a stored response after a 304 came for it.
#[pyfunction]
pub fn cache_merged_fields(py: Python<'_>, stored: Fields, update: Fields) -> PyResult<Bound<'_, PyList>> {
    to_python(py, &merged_fields(&borrowed(&stored), &borrowed(&update)))
}
