//! The begin and the end of a transport; what is between them is [`crate::transport::Transport`]'s.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{DatagramTransport, State};
use crate::address::IpFamily;
use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::raw::{self, Made};
use crate::sock::is_plain;
use crate::transport::{Life, Transport, describe};

impl DatagramTransport {
    /// A transport for a datagram socket; `connection_made` is scheduled.
    pub(super) fn open<'py>(
        event_loop: &Bound<'py, Loop>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        address: Option<Bound<'py, PyAny>>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        // Nothing is begun in a wrong thread, or on a closed loop.
        let _engine = event_loop.get().engine(py)?;
        let fd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
        let extra = describe(sock, extra)?;
        let address = match address {
            Some(address) if address.is_truthy()? => Some(address.unbind()),
            _ => None,
        };
        let this = Self {
            event_loop: event_loop.clone().unbind(),
            fd,
            // Of an unnamed unix socket the name is empty, and yet it is a peer.
            is_connected: extra.get_item(intern!(py, "peername"))?.is_some_and(|peer| !peer.is_none()),
            extra: extra.unbind(),
            context: raw::copy_context(py)?,
            address,
            ip_family: if is_plain(sock)? { IpFamily::of(sock)? } else { None },
            state: GilCell::new(State {
                life: Life { protocol: Some(protocol.clone().unbind()), ..Life::new(sock) },
                ..State::default()
            }),
            made: Made::MADE,
        };
        let slf = Bound::new(py, this)?;
        Self::schedule_start(&slf, waiter)?;
        Ok(slf)
    }
}

impl Drop for DatagramTransport {
    fn drop(&mut self) {
        let Some(sock) = self.state.take_in_gc().and_then(|state| state.life.sock) else { return };
        self.close_unclosed(&sock);
    }
}
