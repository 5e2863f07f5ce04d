//! The begin of a connection, and what is left to do at its end.

use aioxide::driver::socket;
use pyo3::exceptions::PyConnectionError;
use pyo3::intern;
use pyo3::prelude::*;

use super::common::{Life, Transport, settle};
use super::{Facts, Receiver, SocketTransport, State};
use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::raw::{self, Made, SocketLayout};

/// Whether `asyncio.Server` wants to know which transport comes and goes (3.13), not only how many.
fn server_knows_transports(py: Python<'_>) -> bool {
    py.version_info() >= (3, 13)
}

impl SocketTransport {
    /// A transport for a connected socket; `connection_made` is scheduled.
    pub(super) fn open<'py>(
        event_loop: &Bound<'py, Loop>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        facts: Facts,
        server: Option<Bound<'py, PyAny>>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        // Nothing is begun in a wrong thread, or on a closed loop.
        let _engine = event_loop.get().engine(py)?;
        let context = context.map(raw::given_context).transpose()?.flatten();
        let fd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
        // Unix sockets know no such option, and have no such delay.
        let _not_tcp = socket::set_nodelay(fd);
        let this = Self {
            event_loop: event_loop.clone().unbind(),
            fd,
            layout: SocketLayout::of(sock, fd)?,
            facts,
            owns_context: context.is_some(),
            context: context.map_or_else(|| raw::copy_context(py), |context| Ok(context.unbind()))?,
            state: GilCell::new(State {
                life: Life::new(sock),
                server: server.as_ref().map(|server| server.clone().unbind()),
                ..State::default()
            }),
            made: Made::MADE,
        };
        let slf = Bound::new(py, this)?;
        let this = slf.get();
        this.replace_protocol(protocol)?;
        if let Some(server) = server {
            let attached = if server_knows_transports(py) {
                server.call_method1(intern!(py, "_attach"), (&slf,))
            } else {
                server.call_method0(intern!(py, "_attach"))
            };
            if let Err(error) = attached {
                // A closed server takes no more connections. The socket is still its giver's.
                let state = this.state.replace(py, State::default());
                drop(state);
                return Err(error);
            }
        }
        Self::schedule_start(&slf, waiter)?;
        Ok(slf)
    }

    /// Closes the socket of a TLS connection whose handshake was not done when the loop was closed: nobody else could.
    pub fn abandon_unknown(&self, py: Python<'_>) {
        let Receiver::Tls(tls) = self.state.borrow(py).receiver.clone_ref(py) else { return };
        if !tls.get().is_unknown(py) {
            return;
        }
        let sock = self.state.borrow_mut(py).life.sock.take();
        if let Some(Err(error)) = sock.map(|sock| sock.bind(py).call_method0(intern!(py, "close"))) {
            error.write_unraisable(py, None);
        }
    }

    pub(super) fn replace_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let receiver = Receiver::of(protocol)?;
        let old = {
            let mut state = self.state.borrow_mut(protocol.py());
            (std::mem::replace(&mut state.receiver, receiver), state.life.protocol.replace(protocol.clone().unbind()))
        };
        drop(old);
        Ok(())
    }

    /// Wakes whoever waits for an empty buffer, and has the server forget the connection.
    pub(super) fn leave_others(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (receiver, server, waiter) = {
            let mut state = slf.get().state.borrow_mut(py);
            (std::mem::take(&mut state.receiver), state.server.take(), state.empty_waiter.take())
        };
        drop(receiver);
        if let Some(waiter) = waiter {
            settle(waiter.bind(py), &Err(PyConnectionError::new_err("Connection is closed by peer")))?;
        }
        if let Some(server) = server {
            if server_knows_transports(py) {
                server.bind(py).call_method1(intern!(py, "_detach"), (slf,))?;
            } else {
                server.bind(py).call_method0(intern!(py, "_detach"))?;
            }
        }
        Ok(())
    }
}

impl Drop for SocketTransport {
    fn drop(&mut self) {
        let Some(sock) = self.state.take_in_gc().and_then(|state| state.life.sock) else { return };
        self.close_unclosed(&sock);
    }
}
