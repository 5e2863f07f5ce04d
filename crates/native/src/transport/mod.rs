//! `SocketTransport`: stream sockets for Python protocols.
//!
//! Data's way in: `on_ready` → [`reading`] → `protocol.data_received`. Its way out: `transport.write` → [`writing`] →
//! the socket, and what does not fit waits in the engine's `WriteBuffer` for `on_ready`. The life of a connection from
//! `connection_made` to `connection_lost` is in [`lifecycle`], a server's connections begin in [`accepting`], and what
//! datagrams share of it is in [`common`].

mod accepting;
mod common;
mod facts;
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
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

pub use accepting::accept_connection;
pub use common::{Life, Transport, TransportJob, marks};
pub use facts::{Facts, describe, shown_of};

use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::raw::{self, Made, SocketLayout};
use crate::streams;
use crate::tls::TlsTransport;
use crate::watches::{Owner, Watching};

/// `EBADF`, the same on every Unix.
const BAD_DESCRIPTOR: i32 = 9;

/// A `bytes` object that waits to be sent; immutable, so it need not be copied.
pub struct Held(Py<PyBytes>);

impl Held {
    pub fn new(bytes: Bound<'_, PyBytes>) -> Self {
        Self(bytes.unbind())
    }
}

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
    facts: Facts,
    /// The context in which the protocol hears of what happens.
    context: Py<PyAny>,
    /// Whether `context` was given, so that it is the connection's own: the protocol then hears of everything in it.
    owns_context: bool,
    state: GilCell<State>,
    made: Made,
}

/// How the protocol takes data.
#[derive(Default)]
pub enum Receiver {
    /// `data_received`.
    #[default]
    Bytes,
    /// asyncio's own protocol for streams, whose work is native.
    Stream,
    /// `get_buffer` and `buffer_updated`.
    Buffer,
    /// Our own TLS, which is handed the ciphertext without a Python call between.
    Tls(Py<TlsTransport>),
}

impl Receiver {
    pub fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        static BUFFERED_PROTOCOL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = protocol.py();
        if let Ok(tls) = protocol.cast_exact::<TlsTransport>() {
            return Ok(Self::Tls(tls.clone().unbind()));
        }
        let class = BUFFERED_PROTOCOL
            .get_or_try_init(py, || PyResult::Ok(py.import("asyncio")?.getattr("BufferedProtocol")?.unbind()))?;
        if protocol.is_instance(class.bind(py))? {
            return Ok(Self::Buffer);
        }
        Ok(if streams::adopt(protocol)? { Self::Stream } else { Self::Bytes })
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Bytes => Self::Bytes,
            Self::Stream => Self::Stream,
            Self::Buffer => Self::Buffer,
            Self::Tls(tls) => Self::Tls(tls.clone_ref(py)),
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Tls(tls) => visit.call(tls),
            Self::Bytes | Self::Stream | Self::Buffer => Ok(()),
        }
    }
}

/// What changes in the life of a transport.
#[derive(Default)]
struct State {
    life: Life,
    receiver: Receiver,
    server: Option<Py<PyAny>>,
    is_eof_written: bool,
    buffer: WriteBuffer<Held>,
    /// Resolved when the buffer is empty; set while `sendfile` owns the socket.
    empty_waiter: Option<Py<PyAny>>,
    /// How much to receive at once, as learned from this connection.
    receive_bytes: usize,
}

impl Watching for SocketTransport {
    fn event_loop(&self) -> &Py<Loop> {
        &self.event_loop
    }

    fn wanted(&self, py: Python<'_>) -> (Option<SourceKey>, Interest) {
        self.with_life(py, |life, waiting_bytes| (life.key, life.interest(waiting_bytes)))
    }

    fn fail(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        Self::fatal_error(slf, error, "Fatal error: the socket cannot be watched")
    }
}

impl Transport for SocketTransport {
    const CLASS: &'static str = "SocketTransport";

    fn fd(&self) -> RawFd {
        self.fd
    }

    fn shown(&self, py: Python<'_>) -> Py<PyAny> {
        self.facts.shown(py)
    }

    fn owner(slf: &Bound<'_, Self>) -> Owner {
        Owner::Stream(slf.clone().unbind())
    }

    fn with_life<R>(&self, py: Python<'_>, act: impl FnOnce(&mut Life, usize) -> R) -> R {
        let mut state = self.state.borrow_mut(py);
        let waiting_bytes = state.buffer.len();
        act(&mut state.life, waiting_bytes)
    }

    fn discard(&self, py: Python<'_>) {
        let discarded = self.state.borrow_mut(py).buffer.take();
        drop(discarded);
    }

    fn job_context(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.owns_context { Ok(self.context.clone_ref(py)) } else { raw::copy_context(py) }
    }

    fn let_go(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::leave_others(slf)
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
        match &state.life.sock {
            Some(sock) if self.layout.has_number(sock.bind(py), self.fd) => Ok(self.fd),
            _ => Err(std::io::Error::from_raw_os_error(BAD_DESCRIPTOR)),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.made.is_made() {
            return Ok(());
        }
        visit.call(&self.event_loop)?;
        self.facts.traverse(visit)?;
        visit.call(&self.context)?;
        let Some(state) = self.state.try_borrow_in_gc() else { return Ok(()) };
        state.life.traverse(visit)?;
        state.receiver.traverse(visit)?;
        visit.call(&state.server)?;
        visit.call(&state.empty_waiter)
    }
}
