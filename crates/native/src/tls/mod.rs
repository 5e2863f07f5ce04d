//! `TlsTransport`: TLS for Python protocols, over any transport.
//!
//! It is a protocol towards the transport below and a transport towards the protocol above, as asyncio's `SSLProtocol`
//! and its transport are together. Below is mostly a [`SocketTransport`], which hands what it received straight to
//! [`TlsTransport::receive`] and takes records from [`writing`] without a Python call between; any other transport is
//! called as Python calls it, which is how TLS runs in TLS.
//!
//! The policy is the engine's [`Connection`], the library's part a [`session::Session`]: libssl called directly where
//! [`probe`] proved that it can be, `SSLObject` elsewhere. While a session works, callbacks of the user may run, so it
//! is taken out of the transport for that time; whoever wants it meanwhile finds none, and leaves its work to the one
//! who has it.

mod libssl;
mod lifecycle;
mod methods;
mod pipes;
mod probe;
mod reading;
mod session;
mod warm;
mod writing;

use aioxide::transport::tls::{Connection, Phase};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::raw::Made;
use crate::transport::{Held, Receiver, SocketTransport};
pub use session::{Session, Wanted};

/// So much is encrypted before it is handed to the transport below.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// The transport below.
enum Lower {
    Native(Py<SocketTransport>),
    Foreign(Py<PyAny>),
}

impl Lower {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Native(transport) => Self::Native(transport.clone_ref(py)),
            Self::Foreign(transport) => Self::Foreign(transport.clone_ref(py)),
        }
    }

    fn as_any(&self) -> &Py<PyAny> {
        match self {
            Self::Native(transport) => transport.as_any(),
            Self::Foreign(transport) => transport,
        }
    }
}

/// How far the protocol above has been told.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Made,
    Eof,
    Lost,
}

/// A TLS connection, as `asyncio` transports are.
#[pyclass(module = "aioxide", name = "TlsTransport", frozen, dict, weakref)]
pub struct TlsTransport {
    event_loop: Py<Loop>,
    /// What `get_extra_info` answers from before it asks the transport below.
    extra: Py<PyDict>,
    handshake_timeout: f64,
    shutdown_timeout: f64,
    is_server: bool,
    state: GilCell<State>,
    made: Made,
}

/// What changes in the life of a connection.
#[derive(Default)]
struct State {
    connection: Connection<Held>,
    /// `None` while it works, and once the connection is lost.
    session: Option<Box<Session>>,
    lower: Option<Lower>,
    protocol: Option<Py<PyAny>>,
    receiver: Receiver,
    told: Told,
    /// `close()` or `abort()` was called, or the connection is lost.
    is_closed: bool,
    waiter: Option<Py<PyAny>>,
    handshake_timer: Option<Py<PyAny>>,
    shutdown_timer: Option<Py<PyAny>>,
    /// It was closed once more: nobody needs to know what its context was, and asyncio lets go of it then.
    is_forgotten: bool,
    /// Writes after the connection was closed.
    lost_writes: u32,
}

impl TlsTransport {
    fn phase(&self, py: Python<'_>) -> Phase {
        self.state.borrow(py).connection.phase()
    }

    /// Whether the protocol does not know of the connection yet, so that nobody can have forgotten to close it.
    pub fn is_unknown(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).told == Told::Nothing
    }

    /// Lets `work` use the session; `None` where somebody up the stack has it, or the connection is lost.
    fn with_session<R>(&self, py: Python<'_>, work: impl FnOnce(&mut Session) -> R) -> Option<R> {
        let mut session = self.state.borrow_mut(py).session.take()?;
        let result = work(&mut session);
        let stale = {
            let mut state = self.state.borrow_mut(py);
            // It may have been lost meanwhile.
            if state.told == Told::Lost { Some(session) } else { state.session.replace(session) }
        };
        drop(stale);
        Some(result)
    }

    fn protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.borrow(py).protocol.as_ref().map(|protocol| protocol.clone_ref(py))
    }

    fn lower(&self, py: Python<'_>) -> Option<Lower> {
        self.state.borrow(py).lower.as_ref().map(|lower| lower.clone_ref(py))
    }

    /// Calls a method of the transport below that takes nothing.
    fn tell_lower(&self, py: Python<'_>, method: &str) -> PyResult<()> {
        match self.lower(py) {
            Some(lower) => lower.as_any().bind(py).call_method0(method).map(drop),
            None => Ok(()),
        }
    }

    /// Schedules a method of this transport.
    fn call_soon(slf: &Bound<'_, Self>, method: &str) -> PyResult<()> {
        let py = slf.py();
        let callback = slf.getattr(method)?;
        slf.get().event_loop.bind(py).call_method1(intern!(py, "call_soon"), (callback,)).map(drop)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.made.is_made() {
            return Ok(());
        }
        visit.call(&self.event_loop)?;
        visit.call(&self.extra)?;
        let Some(state) = self.state.try_borrow_in_gc() else { return Ok(()) };
        if let Some(session) = &state.session {
            visit.call(session.object())?;
        }
        if let Some(lower) = &state.lower {
            visit.call(lower.as_any())?;
        }
        visit.call(&state.protocol)?;
        state.receiver.traverse(visit)?;
        visit.call(&state.waiter)?;
        visit.call(&state.handshake_timer)?;
        visit.call(&state.shutdown_timer)
    }
}

/// Which engine new connections use, in words; and why, where it is not libssl.
pub fn engine_in_words(py: Python<'_>) -> String {
    match probe::chosen(py) {
        Ok(Some(_)) => "libssl".to_owned(),
        Ok(None) => match probe::proved(py) {
            Ok(_) => "stdlib (asked for)".to_owned(),
            Err(reason) => format!("stdlib ({reason})"),
        },
        Err(error) => format!("none ({error})"),
    }
}
