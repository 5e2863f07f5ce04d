//! From the protocol to the socket, with flow control.

use std::io::ErrorKind;

use aioxide::driver::socket;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::DatagramTransport;
use crate::address::from_tuple;
use crate::errors::{os_error, would_block};
use crate::raw;
use crate::transport::Transport;
use crate::watches::Watching;

/// So many datagrams into an ended transport pass before a warning is logged.
const LOST_DATAGRAMS_BEFORE_WARNING: u32 = 5;

/// Whether empty datagrams are sent (3.13) or ignored.
const SENDS_EMPTY: bool = cfg!(Py_3_13);
/// What a datagram that waits counts for beside its data: since 3.13, so that empty ones have an end, too.
const HEADER_BYTES: usize = if SENDS_EMPTY { 8 } else { 0 };

impl DatagramTransport {
    /// Sends a datagram, or keeps it if there is no room now.
    pub(super) fn send_to(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        address: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        check_data(data)?;
        if !SENDS_EMPTY && !data.is_truthy()? {
            return Ok(());
        }
        let address = this.checked_address(address)?;
        let (lost, is_open, is_queue_empty) = {
            let mut state = this.state.borrow_mut(py);
            if state.life.lost > 0 && (this.address.is_some() || state.life.sock.is_none()) {
                state.life.lost += 1;
            }
            (state.life.lost, state.life.sock.is_some(), state.queue.is_empty())
        };
        if lost > 0 && (this.address.is_some() || !is_open) {
            return warn_of_loss(py, lost);
        }
        if is_queue_empty {
            match this.transmit(data, address.as_ref()) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.is_instance_of::<PyOSError>(py) => {
                    return this.protocol(py).map_or(Ok(()), |protocol| Self::tell_error(&protocol, error));
                }
                Err(error) => return Self::fatal_error(slf, error, "Fatal write error on datagram transport"),
            }
        }
        let data = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_) => raw::with_bytes(data, |bytes| PyBytes::new(py, bytes))?,
        };
        {
            let mut state = this.state.borrow_mut(py);
            state.queue_bytes += data.as_bytes().len() + HEADER_BYTES;
            state.queue.push_back((data.unbind(), address.map(Bound::unbind)));
        }
        Self::update_interest(slf)?;
        Self::maybe_pause_protocol(slf)
    }

    /// Where a datagram goes, which of an endpoint with one peer can only be that.
    fn checked_address<'py>(&self, address: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let address = address.filter(|address| !address.is_none());
        match (&self.address, address) {
            (None, address) => Ok(address.cloned()),
            (Some(_), None) => Ok(None),
            (Some(only), Some(address)) => {
                let only = only.bind(address.py());
                if address.eq(only)? {
                    return Ok(None);
                }
                Err(PyValueError::new_err(format!("Invalid address: must be None or {}", only.str()?)))
            }
        }
    }

    /// Gives a datagram to the kernel; `false` when there is no room for it.
    fn transmit(&self, data: &Bound<'_, PyAny>, address: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = data.py();
        let address = address.or_else(|| self.address.as_ref().map(|address| address.bind(py)));
        if let Some(family) = self.ip_family {
            let destination = match address {
                Some(address) if !self.is_connected => {
                    let kept = self.state.borrow(py).peers.find(address);
                    kept.or_else(|| from_tuple(address, family))
                }
                _ => None,
            };
            let sent = match destination {
                Some(destination) => Some(raw::with_bytes(data, |data| socket::send_to(self.fd, data, destination))?),
                None if self.is_connected => Some(raw::with_bytes(data, |data| socket::send(self.fd, data))?),
                None => None,
            };
            match sent {
                Some(Ok(_)) => return Ok(true),
                Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Some(Err(error)) => return Err(os_error(error)),
                // An address that needs Python's own understanding.
                None => {}
            }
        }
        let Some(sock) = self.sock(py) else { return Ok(true) };
        let sent = if self.is_connected {
            sock.call_method1(intern!(py, "send"), (data,))
        } else {
            sock.call_method1(intern!(py, "sendto"), (data, address))
        };
        match sent {
            Ok(_) => Ok(true),
            Err(error) if would_block(py, &error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The socket has room again.
    pub(super) fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        loop {
            let next = {
                let state = this.state.borrow(py);
                if state.life.lost > 0 {
                    return Ok(());
                }
                state.queue.front().map(|(data, address)| {
                    (data.bind(py).clone().into_any(), address.as_ref().map(|address| address.bind(py).clone()))
                })
            };
            let Some((data, address)) = next else { break };
            let sent = this.transmit(&data, address.as_ref());
            if let Ok(false) = sent {
                break;
            }
            let sent_datagram = {
                let mut state = this.state.borrow_mut(py);
                let first = state.queue.pop_front();
                if let Some((data, _)) = &first {
                    state.queue_bytes -= data.as_bytes(py).len() + HEADER_BYTES;
                }
                first
            };
            drop(sent_datagram);
            match sent {
                Ok(_) => {}
                Err(error) if error.is_instance_of::<PyOSError>(py) => {
                    let told = this.protocol(py).map_or(Ok(()), |protocol| Self::tell_error(&protocol, error));
                    if let Err(error) = told {
                        Self::report(slf, error, "Exception in protocol.error_received()")?;
                    }
                }
                Err(error) => return Self::fatal_error(slf, error, "Fatal write error on datagram transport"),
            }
        }
        // May send or close.
        Self::maybe_resume_protocol(slf)?;
        Self::update_interest(slf)?;
        Self::drained(slf)
    }

    /// Nothing waits any more: a transport that is closing ends now.
    fn drained(slf: &Bound<'_, Self>) -> PyResult<()> {
        let is_over = {
            let mut state = slf.get().state.borrow_mut(slf.py());
            let is_over = state.life.is_closing && state.life.lost == 0 && state.queue.is_empty();
            if is_over {
                state.life.lost += 1;
            }
            is_over
        };
        if is_over { Self::connection_lost(slf, None) } else { Ok(()) }
    }
}

fn check_data(data: &Bound<'_, PyAny>) -> PyResult<()> {
    let is_data = data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>();
    if is_data {
        return Ok(());
    }
    let kind = data.get_type().name()?;
    Err(PyTypeError::new_err(format!("data argument must be a bytes-like object, not {}", kind.repr()?)))
}

fn warn_of_loss(py: Python<'_>, lost: u32) -> PyResult<()> {
    if lost > LOST_DATAGRAMS_BEFORE_WARNING {
        let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
        logger.call_method1(intern!(py, "warning"), ("socket.send() raised exception.",))?;
    }
    Ok(())
}
