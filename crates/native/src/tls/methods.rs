//! What Python sees of a TLS connection: a transport for the protocol above, a protocol for the transport below.

use std::ffi::CString;

use aioxide::transport::tls::{Connection, READ_HIGH_WATER_BYTES, WRITE_HIGH_WATER_BYTES};
use pyo3::exceptions::{PyNotImplementedError, PyResourceWarning, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::session::{Session, Wanted};
use super::{State, TlsTransport, Told};
use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::raw::{self, Made};
use crate::transport::{Receiver, marks};

#[pymethods]
impl TlsTransport {
    /// TLS transports are made by their loop: `loop.create_connection(ssl=...)`, `loop.start_tls()`.
    #[new]
    #[pyo3(signature = (
        event_loop, protocol, sslcontext, waiter=None, server_side=false, server_hostname=None,
        call_connection_made=true, ssl_handshake_timeout=None, ssl_shutdown_timeout=None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "those of asyncio's SSLProtocol")]
    fn new<'py>(
        event_loop: &Bound<'py, Loop>,
        protocol: &Bound<'py, PyAny>,
        sslcontext: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        server_side: bool,
        server_hostname: Option<Bound<'py, PyAny>>,
        call_connection_made: bool,
        ssl_handshake_timeout: Option<Bound<'py, PyAny>>,
        ssl_shutdown_timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let handshake_timeout = seconds(py, "ssl_handshake_timeout", "SSL_HANDSHAKE_TIMEOUT", ssl_handshake_timeout)?;
        let shutdown_timeout = seconds(py, "ssl_shutdown_timeout", "SSL_SHUTDOWN_TIMEOUT", ssl_shutdown_timeout)?;
        let server_hostname = match server_hostname {
            Some(name) if !server_side && name.is_truthy()? => Some(name),
            _ => None,
        };
        let session =
            Session::new(&Wanted { context: sslcontext, server_side, server_hostname: server_hostname.as_ref() })?;
        let extra = PyDict::new(py);
        extra.set_item(intern!(py, "sslcontext"), sslcontext)?;
        Ok(Self {
            event_loop: event_loop.clone().unbind(),
            extra: extra.unbind(),
            handshake_timeout,
            shutdown_timeout,
            is_server: server_side,
            state: GilCell::new(State {
                session: Some(Box::new(session)),
                protocol: Some(protocol.clone().unbind()),
                receiver: Receiver::of(protocol)?,
                told: if call_connection_made { Told::Nothing } else { Told::Made },
                waiter: waiter.map(Bound::unbind),
                ..State::default()
            }),
            made: Made::MADE,
        })
    }

    // -- as a protocol, for the transport below ----------------------------------------------------------------------

    fn connection_made(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::begin(slf, transport)
    }

    fn connection_lost(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::lost(slf, exc)
    }

    fn data_received(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        // A copy, so that nothing of Python's is lent while the session may run Python code.
        let ciphertext = raw::with_bytes(data, <[u8]>::to_vec)?;
        Self::receive(slf, &ciphertext)
    }

    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::input_ended(slf)
    }

    fn pause_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::lower_paused(slf, true)
    }

    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::lower_paused(slf, false)
    }

    // -- as a transport, for the protocol above ----------------------------------------------------------------------

    /// Encrypts and sends data; never blocks, keeps what cannot be sent.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_data(slf, data)
    }

    /// Sends several pieces of data at once.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_pieces(slf, list_of_data)
    }

    /// TLS has no half-closed connections.
    #[expect(clippy::unused_self, reason = "asyncio's interface")]
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err("a TLS connection cannot be closed in one direction"))
    }

    #[expect(clippy::unused_self, reason = "asyncio's interface")]
    fn can_write_eof(&self) -> bool {
        false
    }

    /// Closes once everything is sent and the peer has said close_notify too, or `ssl_shutdown_timeout` is over.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_gently(slf)
    }

    /// Closes at once; the protocol hears `connection_lost(None)`.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_hard(slf, None)
    }

    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::close_hard(slf, exc)
    }

    fn is_closing(&self, py: Python<'_>) -> PyResult<bool> {
        if self.state.borrow(py).is_closed {
            return Ok(true);
        }
        match self.lower(py) {
            Some(lower) => lower.as_any().bind(py).call_method0(intern!(py, "is_closing"))?.is_truthy(),
            None => Ok(false),
        }
    }

    fn is_reading(&self, py: Python<'_>) -> bool {
        !self.state.borrow(py).connection.is_reading_paused()
    }

    /// The protocol hears of no more data until `resume_reading()`.
    fn pause_reading(&self, py: Python<'_>) {
        self.state.borrow_mut(py).connection.pause_reading();
    }

    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let was_paused = slf.get().state.borrow_mut(slf.py()).connection.resume_reading();
        if was_paused { Self::call_soon(slf, "_read_on") } else { Ok(()) }
    }

    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let receiver = Receiver::of(protocol)?;
        let old = {
            let mut state = self.state.borrow_mut(protocol.py());
            (std::mem::replace(&mut state.receiver, receiver), state.protocol.replace(protocol.clone().unbind()))
        };
        drop(old);
        Ok(())
    }

    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol(py)
    }

    /// Facts about the connection: `ssl_object`, `peercert`, `cipher`, `compression`, `sslcontext`, and those of the
    /// transport below.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(value) = self.extra.bind(py).get_item(name)? {
            return Ok(Some(value));
        }
        match self.lower(py) {
            Some(lower) => {
                let answer = lower.as_any().bind(py).call_method1(intern!(py, "get_extra_info"), (name, default))?;
                Ok(Some(answer))
            }
            None => Ok(default),
        }
    }

    /// The protocol is held back from `high` bytes on and released at `low`.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(slf: &Bound<'_, Self>, high: Option<isize>, low: Option<isize>) -> PyResult<()> {
        let (high, low) = marks(high, low, WRITE_HIGH_WATER_BYTES)?;
        slf.get().state.borrow_mut(slf.py()).connection.write_marks.set(high, low);
        Self::control_writing(slf)
    }

    /// The marks as (low, high).
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.state.borrow(py).connection.write_marks.marks()
    }

    /// The number of bytes that wait to be sent.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.write_buffer_size(py)
    }

    /// The transport below is held back from `high` bytes on, while the protocol does not read, and released at `low`.
    #[pyo3(signature = (high=None, low=None))]
    fn set_read_buffer_limits(slf: &Bound<'_, Self>, high: Option<isize>, low: Option<isize>) -> PyResult<()> {
        let (high, low) = marks(high, low, READ_HIGH_WATER_BYTES)?;
        slf.get().state.borrow_mut(slf.py()).connection.read_marks.set(high, low);
        Self::control_lower_reading(slf)
    }

    /// The marks as (low, high).
    fn get_read_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.state.borrow(py).connection.read_marks.marks()
    }

    /// The number of bytes that came and are not decrypted yet.
    fn get_read_buffer_size(&self, py: Python<'_>) -> usize {
        self.read_buffer_size(py)
    }

    // -- scheduled ---------------------------------------------------------------------------------------------------

    fn _handshake_overdue(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::handshake_overdue(slf)
    }

    fn _shutdown_overdue(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::shutdown_overdue(slf)
    }

    fn _read_on(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::read_on(slf)
    }

    fn _close_lower(&self, py: Python<'_>) -> PyResult<()> {
        self.tell_lower(py, "close")
    }

    // -- what asyncio's own code asks its transports for -------------------------------------------------------------

    /// `loop.sendfile()` reads the file and writes it here.
    #[classattr]
    fn _sendfile_compatible(py: Python<'_>) -> PyResult<Py<PyAny>> {
        let modes = py.import("asyncio.constants")?.getattr("_SendfileMode")?;
        Ok(modes.getattr("FALLBACK")?.unbind())
    }

    #[classattr]
    fn _start_tls_compatible() -> bool {
        true
    }

    #[getter(_protocol_paused)]
    fn is_protocol_paused(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).connection.write_marks.is_paused()
    }

    #[getter(_loop)]
    fn event_loop(&self, py: Python<'_>) -> Py<Loop> {
        self.event_loop.clone_ref(py)
    }

    /// The protocol that this transport belongs to: itself.
    #[getter(_ssl_protocol)]
    fn ssl_protocol(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    #[getter(_app_reading_paused)]
    fn reading_paused(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).connection.is_reading_paused()
    }

    /// The transport below.
    #[getter(_transport)]
    fn lower_transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lower(py).map(|lower| lower.as_any().clone_ref(py))
    }

    /// For CPython's own tests, which fill the backlog by hand.
    #[pyo3(name = "_test__append_write_backlog")]
    fn append_write_backlog(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.keep(data.py(), data)
    }

    /// `isinstance(transport, asyncio.Transport)` holds, as for asyncio's own TLS transport.
    #[getter(__class__)]
    fn class(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let class = CLASS.get_or_try_init(py, || {
            PyResult::Ok(py.import("asyncio.sslproto")?.getattr("_SSLProtocolTransport")?.unbind())
        })?;
        Ok(class.clone_ref(py))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (phase, waiting, lower) = {
            let state = self.state.borrow(py);
            let lower = state.lower.as_ref().map(|lower| lower.clone_ref(py));
            (state.connection.phase(), state.connection.backlog.len(), lower)
        };
        let over = match lower {
            Some(lower) => format!(" over {}", lower.as_any().bind(py).repr()?),
            None => String::new(),
        };
        Ok(format!("<TlsTransport {phase:?} bufsize={waiting}{over}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    /// Called by the cycle collector, before it takes the cycle apart.
    fn __del__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let is_unknown = slf.get().is_unknown(slf.py());
        let was_closed = std::mem::replace(&mut slf.get().state.borrow_mut(slf.py()).is_closed, true);
        if was_closed || is_unknown { Ok(()) } else { raw::warn_of_resource(slf.as_any(), UNCLOSED) }
    }

    fn __clear__(&self) {
        let Some(state) = self.state.take_in_gc() else { return };
        let (is_closed, told) = (state.is_closed, state.told);
        drop(state);
        Python::attach(|py| {
            // Nothing is left but what the finalizer wants to know.
            let mut state = self.state.borrow_mut(py);
            state.connection = Connection::default();
            state.connection.abort();
            (state.is_closed, state.told) = (is_closed, told);
        });
    }
}

/// A timeout in seconds, or asyncio's own where none is given.
fn seconds(py: Python<'_>, name: &str, default: &str, value: Option<Bound<'_, PyAny>>) -> PyResult<f64> {
    let Some(value) = value else { return py.import("asyncio.constants")?.getattr(default)?.extract() };
    let seconds: f64 = value.extract()?;
    if seconds <= 0.0 {
        return Err(PyValueError::new_err(format!("{name} should be a positive number, got {value}")));
    }
    Ok(seconds)
}

/// What a transport that nobody closed is warned of with.
const UNCLOSED: &str = "unclosed transport <TlsTransport>";

impl Drop for TlsTransport {
    fn drop(&mut self) {
        Python::attach(|py| {
            if self.state.take_in_gc().is_none_or(|state| state.is_closed || state.told == Told::Nothing) {
                return;
            }
            // Finalizers must leave the exception that is being handled alone.
            let pending = PyErr::take(py);
            let category = py.get_type::<PyResourceWarning>();
            if let Err(error) =
                CString::new(UNCLOSED).map_err(PyErr::from).and_then(|text| PyErr::warn(py, &category, &text, 1))
            {
                error.write_unraisable(py, None);
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
    }
}
