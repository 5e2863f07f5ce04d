//! `HttpServer`: the engine's embedded server.

use std::net::{IpAddr, Ipv4Addr};

use aioxide::http::{Server, ServerOptions};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::convert;

/// The engine's embedded HTTP server, in a thread of its own that never needs the interpreter. It runs from its
/// creation until `stop()`, or as long as it exists.
#[pyclass(module = "aioxide._native", frozen)]
pub struct HttpServer {
    server: Server,
}

#[pymethods]
impl HttpServer {
    #[new]
    #[pyo3(signature = (*, host="127.0.0.1", port=0, latency=0.0, body_size=0))]
    fn new(py: Python<'_>, host: &str, port: u16, latency: f64, body_size: usize) -> PyResult<Self> {
        let host = if host == "localhost" { Ok(Ipv4Addr::LOCALHOST.into()) } else { host.parse::<IpAddr>() };
        let host = host.map_err(|_| PyValueError::new_err("host= is an IP address, such as 127.0.0.1"))?;
        let latency = convert::duration("latency", Some(latency))?
            .ok_or_else(|| PyValueError::new_err("latency= is a number of seconds"))?;
        let options = ServerOptions { host, port, latency, body_bytes: body_size };
        let server = py.detach(|| Server::start(options)).map_err(|error| os_error(&error, host, port))?;
        Ok(Self { server })
    }

    /// The URL of its root, without a slash at the end.
    #[getter]
    fn url(&self) -> String {
        self.server.url()
    }

    /// The port that it listens on.
    #[getter]
    fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// The CPU time of its thread so far: (user, system), in seconds.
    fn cpu_time(&self, py: Python<'_>) -> (f64, f64) {
        let (user, system) = py.detach(|| self.server.cpu_time());
        (user.as_secs_f64(), system.as_secs_f64())
    }

    /// The number of requests answered so far.
    fn requests_served(&self) -> u64 {
        self.server.requests_served()
    }

    /// Closes all connections and ends the thread. Idempotent.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.server.stop());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.stop(py);
    }

    fn __repr__(&self) -> String {
        format!("<HttpServer at {}>", self.server.url())
    }
}

/// `OSError` with its number, as Python's own sockets raise it, and with the address.
fn os_error(error: &std::io::Error, host: IpAddr, port: u16) -> PyErr {
    let text = error.to_string();
    let reason = text.split(" (os error").next().unwrap_or_default();
    let message = format!("{reason}: {host} port {port}");
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, message)),
        None => PyOSError::new_err(message),
    }
}
