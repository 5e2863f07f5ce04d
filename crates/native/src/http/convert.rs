//! Python's values to the engine's and back: requests, limits on time, exceptions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aioxide::http::{Body, Bytes, Error, ErrorKind, Proxy, Request, Sockets, Timeouts};
use aioxide::transport::{SocketOption, SocketSetup};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};

use super::tls::ContextConnector;
use super::upload::Upload;
use crate::raw;

/// Bytes up to this number are copied; more are held as the Python object that they are.
const COPY_BYTES_MAX: usize = 64 * 1024;

/// What a request may do, besides the request itself.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub timeouts: Timeouts,
    pub max_redirects: u32,
    pub server_name: Option<&'a str>,
    pub hedge_after: Option<Duration>,
}

/// What Python may give as a body.
#[derive(FromPyObject)]
pub enum RequestBody {
    Whole(PyBackedBytes),
    Streamed(Py<Upload>),
}

/// Bytes of Python's as the engine's.
pub fn bytes(given: PyBackedBytes) -> Bytes {
    if given.len() <= COPY_BYTES_MAX { Bytes::copy_from_slice(&given) } else { Bytes::from_owner(given) }
}

/// Makes a request. The outer error is a mistake in the call, the inner one an error of the request.
pub fn request(
    method: &str,
    url: &str,
    headers: &Bound<'_, PyList>,
    body: Option<RequestBody>,
    terms: Terms<'_>,
) -> PyResult<Result<Request, Error>> {
    let mut request = match Request::new(method, url) {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    for item in headers.iter() {
        let pair = item.cast::<PyTuple>().map_err(|_| not_a_header())?;
        if pair.len() != 2 {
            return Err(not_a_header());
        }
        let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
        let (Ok(name), Ok(value)) = (name.cast::<PyBytes>(), value.cast::<PyBytes>()) else {
            return Err(not_a_header());
        };
        if let Err(error) = request.header(name.as_bytes(), value.as_bytes()) {
            return Ok(Err(error));
        }
    }
    match body {
        None => {}
        Some(RequestBody::Whole(body)) => request.body = Body::from(bytes(body)),
        Some(RequestBody::Streamed(upload)) => request.body = upload.get().body()?,
    }
    request.timeouts = terms.timeouts;
    request.max_redirects = terms.max_redirects;
    request.server_name = terms.server_name.map(str::to_owned);
    request.hedge_after = terms.hedge_after;
    Ok(Ok(request))
}

fn not_a_header() -> PyErr {
    PyTypeError::new_err("headers are a list of pairs of bytes")
}

/// Makes a proxy.
pub fn proxy(
    url: &str,
    auth: Option<(PyBackedBytes, PyBackedBytes)>,
    headers: &[(PyBackedBytes, PyBackedBytes)],
    tunnel: Option<bool>,
    tls: Option<Py<PyAny>>,
) -> Result<Proxy, Error> {
    let mut proxy = Proxy::new(url)?;
    if let Some((user, password)) = auth {
        proxy.set_credentials(&user, &password)?;
    }
    for (name, value) in headers {
        proxy.header(name, value)?;
    }
    proxy.set_tunnel(tunnel.unwrap_or(false));
    if let Some(context) = tls {
        proxy.set_tls(Arc::new(ContextConnector::new(context)));
    }
    Ok(proxy)
}

/// Makes the settings of sockets.
pub fn sockets(
    unix_path: Option<PathBuf>,
    local_address: Option<&str>,
    options: Vec<(i32, i32, PyBackedBytes)>,
) -> PyResult<Sockets> {
    let local = local_address.map(|text| {
        text.parse().map_err(|_| PyValueError::new_err(format!("local_address={text:?} is not an IP address")))
    });
    let option = |(level, name, value): (_, _, PyBackedBytes)| SocketOption { level, name, value: value.to_vec() };
    let setup = SocketSetup { local: local.transpose()?, options: options.into_iter().map(option).collect() };
    Ok(Sockets { unix_path, setup })
}

/// The limits on time, as Python gives them.
pub fn timeouts(
    connect: Option<f64>,
    read: Option<f64>,
    write: Option<f64>,
    pool: Option<f64>,
    total: Option<f64>,
) -> PyResult<Timeouts> {
    Ok(Timeouts {
        pool: duration("pool_timeout", pool)?,
        connect: duration("connect_timeout", connect)?,
        write: duration("write_timeout", write)?,
        read: duration("read_timeout", read)?,
        total: duration("total_timeout", total)?,
    })
}

/// Seconds as Python gives them; `None` and infinity have no limit.
pub fn duration(name: &str, seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds == f64::INFINITY => Ok(None),
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .map(Some)
            .map_err(|error| PyValueError::new_err(format!("{name}={seconds}: {error}"))),
    }
}

macro_rules! exception_classes {
    ($($kind:ident => $class:literal),* $(,)?) => {
        /// The exception class for a kind of error, each looked up once.
        fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<&Bound<'_, PyType>> {
            match kind {
                $(ErrorKind::$kind => {
                    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                    CLASS.import(py, "aioxide.http._exceptions", $class)
                })*
                _ => {
                    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                    CLASS.import(py, "aioxide.http._exceptions", "TransportError")
                }
            }
        }
    };
}

exception_classes! {
    InvalidUrl => "InvalidURL",
    UnsupportedProtocol => "UnsupportedProtocol",
    LocalProtocol => "LocalProtocolError",
    PoolTimeout => "PoolTimeout",
    ConnectTimeout => "ConnectTimeout",
    WriteTimeout => "WriteTimeout",
    ReadTimeout => "ReadTimeout",
    Connect => "ConnectError",
    Proxy => "ProxyError",
    Write => "WriteError",
    Read => "ReadError",
    RemoteProtocol => "RemoteProtocolError",
    TooManyRedirects => "TooManyRedirects",
}

/// The exception for an error of a request.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    if error.kind() == ErrorKind::ClientClosed {
        return PyRuntimeError::new_err(error.to_string());
    }
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<PyErr>());
    match (class(py, error.kind()), cause) {
        (_, Some(cause)) if raw::ends_run(py, cause) => cause.clone_ref(py),
        (Ok(class), cause) => {
            let exception = PyErr::from_type(class.clone(), error.to_string());
            exception.set_cause(py, cause.map(|cause| cause.clone_ref(py)));
            exception
        }
        (Err(import_error), _) => import_error,
    }
}
