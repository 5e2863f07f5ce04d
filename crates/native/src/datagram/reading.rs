//! From the socket to the protocol.

use std::io::ErrorKind;

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;

use super::DatagramTransport;
use crate::address::to_tuple;
use crate::errors::{os_error, would_block};
use crate::event_loop::SCRATCH_BYTES;
use crate::transport::Transport;
use crate::{raw, receive};

/// So many datagrams are received at one readiness; more make another event.
const DATAGRAMS_PER_EVENT: usize = 16;

/// A datagram and where it came from.
type Received<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

impl DatagramTransport {
    /// Receives what is there, and tells the protocol.
    pub(super) fn read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let context = &slf.get().context;
        raw::in_context(slf.py(), context, || {
            for _ in 0..DATAGRAMS_PER_EVENT {
                if !Self::read_one(slf)? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Receives a datagram and tells the protocol; whether there may be another for it.
    fn read_one(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let protocol = {
            let state = this.state.borrow(py);
            if state.life.lost > 0 || !state.life.interest(state.queue_bytes).readable {
                return Ok(false);
            }
            let Some(protocol) = &state.life.protocol else { return Ok(false) };
            protocol.bind(py).clone()
        };
        match this.receive(py) {
            Ok(None) => Ok(false),
            Ok(Some(received)) => {
                // As in asyncio, a failure is no reason to end the transport.
                if let Err(error) = protocol.call_method1(intern!(py, "datagram_received"), received) {
                    Self::report(slf, error, "Exception in protocol.datagram_received()")?;
                }
                Ok(true)
            }
            Err(error) if error.is_instance_of::<PyOSError>(py) => {
                if let Err(error) = Self::tell_error(&protocol, error) {
                    Self::report(slf, error, "Exception in protocol.error_received()")?;
                }
                Ok(false)
            }
            Err(error) => {
                Self::fatal_error(slf, error, "Fatal read error on datagram transport")?;
                Ok(false)
            }
        }
    }

    /// One datagram, or `None` when there is none.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Option<Received<'py>>> {
        if self.ip_family.is_none() {
            let Some(sock) = self.sock(py) else { return Ok(None) };
            return match sock.call_method1(intern!(py, "recvfrom"), (SCRATCH_BYTES,)) {
                Ok(received) => received.extract().map(Some),
                Err(error) if would_block(py, &error) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let (data, peer) = match receive::recv_from(self.event_loop.bind(py), self.fd, SCRATCH_BYTES) {
            Ok((data, peer)) => (data.into_any(), peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(os_error(error)),
        };
        let Some(peer) = peer else { return Ok(Some((data, py.None().into_bound(py)))) };
        let kept = self.state.borrow(py).peers.get(py, peer);
        if let Some(tuple) = kept {
            return Ok(Some((data, tuple.into_any())));
        }
        let tuple = to_tuple(py, peer)?;
        let replaced = self.state.borrow_mut(py).peers.put(peer, tuple.clone().unbind());
        drop(replaced);
        Ok(Some((data, tuple.into_any())))
    }

    /// Tells the protocol of an error that concerns one datagram.
    pub(super) fn tell_error(protocol: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let py = protocol.py();
        protocol.call_method1(intern!(py, "error_received"), (raw::exception(py, error),)).map(drop)
    }
}
