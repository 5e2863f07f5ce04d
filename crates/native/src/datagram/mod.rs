//! `DatagramTransport`: datagram sockets for Python protocols.
//!
//! Data's way in: `on_ready` → [`reading`] → `protocol.datagram_received`. Its way out: `transport.sendto` →
//! [`writing`] → the socket, and what does not fit waits whole for `on_ready`. The life of an endpoint from
//! `connection_made` to `connection_lost` is in [`lifecycle`].
//!
//! Datagrams over IP go straight to the driver. Those of other families, whose addresses are of many kinds, and of
//! sockets of a class of their own go through the socket object's methods.

mod lifecycle;
mod methods;
mod reading;
mod writing;

use std::collections::VecDeque;
use std::os::fd::RawFd;

use aioxide::driver::{Interest, Readiness};
use aioxide::reactor::SourceKey;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

pub use methods::add_finalizer;

use crate::address::{IpFamily, PeerTuples};
use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::raw::{self, Made};
use crate::watches::Watching;

/// A datagram socket, as `asyncio` transports are: made by the loop, used by a protocol.
#[pyclass(module = "aioxide", name = "DatagramTransport", frozen, dict, weakref, subclass)]
pub struct DatagramTransport {
    event_loop: Py<Loop>,
    fd: RawFd,
    extra: Py<PyDict>,
    /// The context in which the protocol hears of datagrams.
    context: Py<PyAny>,
    /// The only peer, if the endpoint was made with one.
    address: Option<Py<PyAny>>,
    /// The kernel knows the only peer.
    is_connected: bool,
    /// Set if the driver can be used.
    ip_family: Option<IpFamily>,
    state: GilCell<State>,
    made: Made,
}

/// A datagram that waits, and where it goes.
type Waiting = (Py<PyBytes>, Option<Py<PyAny>>);

/// What changes in the life of a transport.
#[derive(Default)]
struct State {
    /// The socket, until the connection is lost.
    sock: Option<Py<PyAny>>,
    protocol: Option<Py<PyAny>>,
    key: Option<SourceKey>,
    /// `connection_made` was called, so reading may begin.
    is_started: bool,
    /// `close()` or `abort()` was called, or the transport failed.
    is_closing: bool,
    is_reading_paused: bool,
    is_protocol_paused: bool,
    /// Counts datagrams sent after the end; not 0 means `connection_lost` is scheduled or was called.
    lost: u32,
    queue: VecDeque<Waiting>,
    /// The size of what waits, with so many bytes more for each datagram as this Python counts.
    queue_bytes: usize,
    high_water_bytes: usize,
    low_water_bytes: usize,
    peers: PeerTuples,
}

impl State {
    fn interest(&self) -> Interest {
        Interest {
            readable: self.is_started && !self.is_closing && !self.is_reading_paused,
            writable: !self.queue.is_empty(),
        }
    }
}

impl Watching for DatagramTransport {
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

impl DatagramTransport {
    /// Acts on readiness. What goes wrong ends this endpoint, and never the loop's run.
    pub fn on_ready(slf: &Bound<'_, Self>, readiness: Readiness) -> PyResult<()> {
        let read = if readiness.readable { Self::read_ready(slf) } else { Ok(()) };
        let done = match read {
            Ok(()) if readiness.writable => raw::in_context(slf.py(), &slf.get().context, || Self::write_ready(slf)),
            other => other,
        };
        done.or_else(|error| Self::fatal_error(slf, error, "Fatal error on datagram transport"))
    }

    /// What the reactor watches for this transport.
    pub fn interest(&self, py: Python<'_>) -> Interest {
        self.state.borrow(py).interest()
    }

    fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.borrow(py).protocol.as_ref().map(|protocol| protocol.bind(py).clone())
    }

    fn sock<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.borrow(py).sock.as_ref().map(|sock| sock.bind(py).clone())
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.made.is_made() {
            return Ok(());
        }
        visit.call(&self.event_loop)?;
        visit.call(&self.extra)?;
        visit.call(&self.context)?;
        visit.call(&self.address)?;
        let Some(state) = self.state.try_borrow_in_gc() else { return Ok(()) };
        for (_, address) in &state.queue {
            visit.call(address)?;
        }
        visit.call(&state.sock)?;
        visit.call(&state.protocol)
    }
}
