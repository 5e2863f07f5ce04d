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

use crate::address::{IpFamily, PeerTuples};
use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::raw::{self, Made};
use crate::transport::{Life, Transport, shown_of};
use crate::watches::{Owner, Watching};

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
    life: Life,
    queue: VecDeque<Waiting>,
    /// The size of what waits, with so many bytes more for each datagram as this Python counts. Not 0 where any waits:
    /// a Python that counts no more ignores empty ones.
    queue_bytes: usize,
    peers: PeerTuples,
}

impl Watching for DatagramTransport {
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

impl Transport for DatagramTransport {
    const CLASS: &'static str = "DatagramTransport";

    fn fd(&self) -> RawFd {
        self.fd
    }

    fn shown(&self, py: Python<'_>) -> Py<PyAny> {
        shown_of(self.extra.bind(py))
    }

    fn owner(slf: &Bound<'_, Self>) -> Owner {
        Owner::Datagram(slf.clone().unbind())
    }

    fn with_life<R>(&self, py: Python<'_>, act: impl FnOnce(&mut Life, usize) -> R) -> R {
        let mut state = self.state.borrow_mut(py);
        let waiting_bytes = state.queue_bytes;
        act(&mut state.life, waiting_bytes)
    }

    fn discard(&self, py: Python<'_>) {
        let discarded = {
            let mut state = self.state.borrow_mut(py);
            state.queue_bytes = 0;
            std::mem::take(&mut state.queue)
        };
        drop(discarded);
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
        state.life.traverse(visit)
    }
}
