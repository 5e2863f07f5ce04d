//! `SocketTransport`: stream sockets for Python protocols.
//!
//! Data's way in: `on_ready` → [`reading`] → `protocol.data_received`. Its way out: `transport.write` → [`writing`] →
//! the socket, and what does not fit waits in the engine's `WriteBuffer` for `on_ready`. The life of a connection from
//! `connection_made` to `connection_lost` is in [`lifecycle`].

mod lifecycle;
mod methods;
mod reading;
mod writing;

use std::os::fd::RawFd;

use aioxide::driver::{Interest, Readiness};
use aioxide::reactor::SourceKey;
use aioxide::transport::WriteBuffer;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

pub use lifecycle::{TransportJob, close_unclosed, describe, settle};

use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::raw::{self, SocketLayout};
use crate::watches::Watching;

/// `EBADF`, the same on every Unix.
const BAD_DESCRIPTOR: i32 = 9;

/// A `bytes` object that waits to be sent; immutable, so it need not be copied.
pub struct Held(Py<PyBytes>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: transports are used only while attached.
        let py = unsafe { Python::assume_attached() };
        self.0.as_bytes(py)
    }
}

/// A connected stream socket, as `asyncio` transports are: made by the loop, used by a protocol.
#[pyclass(module = "aioxide", name = "SocketTransport", frozen, dict, weakref, subclass)]
pub struct SocketTransport {
    event_loop: Py<Loop>,
    fd: RawFd,
    layout: SocketLayout,
    extra: Py<PyDict>,
    /// The context in which the protocol hears of what happens.
    context: Py<PyAny>,
    /// Whether `context` was given, so that it is the connection's own: the protocol then hears of everything in it.
    owns_context: bool,
    state: GilCell<State>,
}

/// What changes in the life of a transport.
#[derive(Default)]
struct State {
    /// The socket, until the connection is lost.
    sock: Option<Py<PyAny>>,
    protocol: Option<Py<PyAny>>,
    /// Whether the protocol is an `asyncio.BufferedProtocol`.
    is_buffered: bool,
    /// Whether the protocol is asyncio's own for streams, whose work is native.
    is_stream: bool,
    server: Option<Py<PyAny>>,
    key: Option<SourceKey>,
    /// `connection_made` was called, so reading may begin.
    is_started: bool,
    /// `close()` or `abort()` was called, or the connection failed.
    is_closing: bool,
    is_reading_paused: bool,
    is_protocol_paused: bool,
    is_eof_written: bool,
    /// Counts writes after the connection was lost; not 0 means `connection_lost` is scheduled or was called.
    lost: u32,
    buffer: WriteBuffer<Held>,
    high_water_bytes: usize,
    low_water_bytes: usize,
    /// Resolved when the buffer is empty; set while `sendfile` owns the socket.
    empty_waiter: Option<Py<PyAny>>,
    /// How much to receive at once, as learned from this connection.
    receive_bytes: usize,
}

impl State {
    fn interest(&self) -> Interest {
        Interest {
            readable: self.is_started && !self.is_closing && !self.is_reading_paused,
            writable: !self.buffer.is_empty(),
        }
    }
}

impl Watching for SocketTransport {
    fn event_loop(&self) -> &Py<Loop> {
        &self.event_loop
    }

    fn wanted(&self, py: Python<'_>) -> (Option<SourceKey>, Interest) {
        let state = self.state.borrow(py);
        (state.key, state.interest())
    }

    fn fail(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        Self::fatal_error(slf, error, "Fatal error: the socket cannot be watched")
    }
}

impl SocketTransport {
    /// Acts on readiness, in the connection's context. What goes wrong ends this connection, and never the loop's run.
    pub fn on_ready(slf: &Bound<'_, Self>, readiness: Readiness) -> PyResult<()> {
        let done = raw::in_context(slf.py(), &slf.get().context, || {
            if readiness.readable {
                Self::read_ready(slf)?;
            }
            if readiness.writable {
                Self::write_ready(slf)?;
            }
            Ok(())
        });
        done.or_else(|error| Self::fatal_error(slf, error, "Fatal error on socket transport"))
    }

    /// The socket's descriptor. An error when somebody closed the socket behind our back: its number may be another
    /// file's by now.
    fn open_fd(&self, py: Python<'_>, state: &State) -> std::io::Result<RawFd> {
        match &state.sock {
            Some(sock) if self.layout.has_number(sock.bind(py), self.fd) => Ok(self.fd),
            _ => Err(std::io::Error::from_raw_os_error(BAD_DESCRIPTOR)),
        }
    }

    /// What the reactor watches for this transport.
    pub fn interest(&self, py: Python<'_>) -> Interest {
        self.state.borrow(py).interest()
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.extra)?;
        visit.call(&self.context)?;
        let Some(state) = self.state.try_borrow_in_gc() else { return Ok(()) };
        visit.call(&state.sock)?;
        visit.call(&state.protocol)?;
        visit.call(&state.server)?;
        visit.call(&state.empty_waiter)
    }
}
