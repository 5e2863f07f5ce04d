//! From the socket to the protocol.

use std::io::{self, ErrorKind};

use aioxide::driver::socket;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Receiver, SocketTransport, Transport};
use crate::errors::os_error;
use crate::event_loop::SCRATCH_BYTES;
use crate::raw::{self, BytesBuilder};
use crate::streams;
use crate::tls::TlsTransport;
use crate::watches::Watching;

/// Up to this size a message is received into the shared scratch buffer and copied: cheaper than a large `bytes`
/// object that is cut down. A connection that fills more gets objects of its own size.
const COPIED_BYTES: usize = 16 * 1024;

impl SocketTransport {
    /// Receives once and tells the protocol. Level-triggered: what is left makes another event.
    pub(super) fn read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (protocol, receiver, receive_bytes, fd) = {
            let state = this.state.borrow(py);
            if state.life.lost > 0 || !state.life.interest(state.buffer.len()).readable {
                return Ok(());
            }
            let Some(protocol) = &state.life.protocol else { return Ok(()) };
            let fd = this.open_fd(py, &state);
            (protocol.bind(py).clone(), state.receiver.clone_ref(py), state.receive_bytes, fd)
        };
        if let Err(error) = fd {
            return Self::fatal_error(slf, os_error(error), "Fatal read error on socket transport");
        }
        let is_stream = match receiver {
            Receiver::Bytes => false,
            Receiver::Stream => true,
            Receiver::Buffer => return Self::read_into_buffer(slf, &protocol),
            Receiver::Tls(tls) => return Self::read_ciphertext(slf, &protocol, tls.bind(py)),
        };
        match this.receive(py, receive_bytes)? {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Self::fatal_error(slf, os_error(error), "Fatal read error on socket transport"),
            Ok(None) => Self::received_eof(slf, &protocol),
            Ok(Some(data)) => {
                let result = if is_stream {
                    streams::feed(&protocol, data.as_bytes())
                } else {
                    protocol.call_method1(intern!(py, "data_received"), (data,)).map(drop)
                };
                Self::check(slf, result, "Fatal error: protocol.data_received() call failed.").map(drop)
            }
        }
    }

    /// One receive into the shared scratch buffer, which TLS decrypts from.
    fn read_ciphertext(
        slf: &Bound<'_, Self>,
        protocol: &Bound<'_, PyAny>,
        tls: &Bound<'_, TlsTransport>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let shared = &this.event_loop.get().scratch;
        // Taken out of its cell: decrypting ends in the protocol, which may do anything.
        let mut scratch = std::mem::take(&mut *shared.borrow_mut(py));
        scratch.clear();
        scratch.reserve(SCRATCH_BYTES);
        let result = match socket::recv(this.fd, &mut scratch.spare_capacity_mut()[..SCRATCH_BYTES]) {
            Ok(0) => Self::received_eof(slf, protocol),
            Ok(received) => {
                // SAFETY: the kernel wrote that many bytes.
                unsafe { scratch.set_len(received) };
                let result = TlsTransport::receive(tls, &scratch);
                Self::check(slf, result, "Fatal error: protocol.data_received() call failed.").map(drop)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Self::fatal_error(slf, os_error(error), "Fatal read error on socket transport"),
        };
        let replaced = shared.replace(py, scratch);
        drop(replaced);
        result
    }

    /// One receive; `None` is end-of-file.
    fn receive<'py>(&self, py: Python<'py>, wanted: usize) -> PyResult<io::Result<Option<Bound<'py, PyBytes>>>> {
        if wanted > COPIED_BYTES {
            let mut builder = BytesBuilder::new(py, wanted)?;
            return match socket::recv(self.fd, builder.buffer()) {
                Ok(0) => Ok(Ok(None)),
                Ok(received) => {
                    self.adapt(py, received, wanted);
                    // SAFETY: the kernel wrote that many bytes.
                    Ok(Ok(Some(unsafe { builder.finish(received) }?)))
                }
                Err(error) => Ok(Err(error)),
            };
        }
        let mut scratch = self.event_loop.get().scratch.borrow_mut(py);
        scratch.clear();
        scratch.reserve(SCRATCH_BYTES);
        match socket::recv(self.fd, &mut scratch.spare_capacity_mut()[..SCRATCH_BYTES]) {
            Ok(0) => Ok(Ok(None)),
            Ok(received) => {
                // SAFETY: the kernel wrote that many bytes.
                unsafe { scratch.set_len(received) };
                let data = PyBytes::new(py, &scratch);
                drop(scratch);
                self.adapt(py, received, wanted);
                Ok(Ok(Some(data)))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Learns from one receive how large the next one should be.
    fn adapt(&self, py: Python<'_>, received: usize, wanted: usize) {
        let next = if received > wanted.max(COPIED_BYTES) || received == wanted {
            received.max(wanted * 2).next_power_of_two()
        } else if received < wanted / 4 {
            wanted / 2
        } else {
            return;
        };
        self.state.borrow_mut(py).receive_bytes = next.clamp(COPIED_BYTES, SCRATCH_BYTES);
    }

    fn read_into_buffer(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let buffer = protocol.call_method1(intern!(py, "get_buffer"), (-1,)).and_then(|buffer| match buffer.len()? {
            0 => Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer")),
            _ => Ok(buffer),
        });
        let Some(buffer) = Self::check(slf, buffer, "Fatal error: protocol.get_buffer() call failed.")? else {
            return Ok(());
        };
        let received =
            raw::with_writable(&buffer, |bytes| socket::recv(this.fd, bytes)).and_then(|result| match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                other => other.map(Some).map_err(os_error),
            });
        drop(buffer);
        match Self::check(slf, received, "Fatal read error on socket transport")?.flatten() {
            None => Ok(()),
            Some(0) => Self::received_eof(slf, protocol),
            Some(received) => {
                let result = protocol.call_method1(intern!(py, "buffer_updated"), (received,));
                Self::check(slf, result, "Fatal error: protocol.buffer_updated() call failed.").map(drop)
            }
        }
    }

    /// The peer sends no more; the protocol says whether we may still write.
    fn received_eof(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let keep_open = protocol.call_method0(intern!(py, "eof_received")).and_then(|answer| answer.is_truthy());
        match Self::check(slf, keep_open, "Fatal error: protocol.eof_received() call failed.")? {
            Some(true) => {
                // Nothing will come any more: do not watch for it. A second read would only find the same end.
                this.state.borrow_mut(py).life.is_started = false;
                Self::update_interest(slf)
            }
            Some(false) => Self::close_gently(slf),
            None => Ok(()),
        }
    }
}
