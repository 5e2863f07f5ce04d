//! From the protocol to the socket, with flow control.

use std::io::{self, ErrorKind};

use aioxide::driver::socket;
use aioxide::transport::Flush;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::common::{Transport, settle};
use super::{Held, SocketTransport};
use crate::errors::os_error;
use crate::raw;
use crate::watches::{Watching, wake};

/// Pieces of `bytes` from this size on wait by reference instead of as copies.
const HELD_BYTES: usize = 4096;
/// So many writes into a lost connection pass before a warning is logged.
const LOST_WRITES_BEFORE_WARNING: u32 = 5;

impl SocketTransport {
    /// Sends `data`, or keeps what does not fit.
    pub(super) fn write_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_writable(py)?;
        let sent = raw::with_bytes(data, |bytes| {
            let mut state = this.state.borrow_mut(py);
            if bytes.is_empty() {
                return Ok(());
            }
            if state.life.lost > 0 {
                state.life.lost += 1;
                return Ok(());
            }
            let mut sent = 0;
            if state.buffer.is_empty() {
                match this.open_fd(py, &state).and_then(|fd| socket::send(fd, bytes)) {
                    Ok(count) if count == bytes.len() => return Ok(()),
                    Ok(count) => sent = count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            match data.cast_exact::<PyBytes>() {
                Ok(held) if bytes.len() - sent >= HELD_BYTES => {
                    state.buffer.push_held(Held(held.clone().unbind()), sent);
                }
                _ => state.buffer.push_copy(&bytes[sent..]),
            }
            Ok(())
        })
        .map_err(|error| not_bytes(data, error))?;
        Self::after_write(slf, sent)
    }

    /// Sends `data`, for TLS, which has its own flow control. What does not fit is kept, with the room that it is in
    /// unless that is far too large.
    pub fn send_lent(slf: &Bound<'_, Self>, data: &mut Vec<u8>) -> PyResult<()> {
        let this = slf.get();
        let sent = {
            let mut state = this.state.borrow_mut(slf.py());
            if state.life.lost > 0 {
                state.life.lost += 1;
                return Ok(());
            }
            let sent = if state.buffer.is_empty() {
                this.open_fd(slf.py(), &state).and_then(|fd| socket::send(fd, data))
            } else {
                Ok(0)
            };
            let sent = match sent {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
                other => other,
            };
            sent.map(|sent| {
                if sent == data.len() {
                } else if data.len() < data.capacity() / 2 {
                    state.buffer.push_copy(&data[sent..]);
                } else {
                    state.buffer.push_owned(std::mem::take(data), sent);
                }
            })
        };
        Self::after_write(slf, sent)
    }

    /// Sends all pieces with one system call, or keeps what does not fit.
    pub(super) fn write_pieces(slf: &Bound<'_, Self>, pieces: &Bound<'_, PyTuple>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_writable(py)?;
        let was_empty = this.state.borrow(py).buffer.is_empty();
        for piece in pieces {
            raw::with_bytes(&piece, |bytes| {
                let mut state = this.state.borrow_mut(py);
                if state.life.lost > 0 {
                    return;
                }
                match piece.cast_exact::<PyBytes>() {
                    Ok(held) if bytes.len() >= HELD_BYTES => state.buffer.push_held(Held(held.clone().unbind()), 0),
                    _ => state.buffer.push_copy(bytes),
                }
            })
            .map_err(|error| not_bytes(&piece, error))?;
        }
        let sent = {
            let mut state = this.state.borrow_mut(py);
            if state.life.lost > 0 {
                state.life.lost += 1;
                Ok(())
            } else if was_empty {
                this.open_fd(py, &state).and_then(|fd| state.buffer.flush(fd)).map(drop)
            } else {
                Ok(())
            }
        };
        Self::after_write(slf, sent)
    }

    /// What every write ends with: watch for room if something waits, hold the protocol back if too much does.
    fn after_write(slf: &Bound<'_, Self>, sent: io::Result<()>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let Err(error) = sent {
            return Self::fatal_error(slf, os_error(error), "Fatal write error on socket transport");
        }
        let (is_empty, lost) = {
            let state = this.state.borrow(py);
            (state.buffer.is_empty(), state.life.lost)
        };
        if lost > LOST_WRITES_BEFORE_WARNING {
            let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
            logger.call_method1(intern!(py, "warning"), ("socket.send() raised exception.",))?;
        }
        if is_empty {
            return Ok(());
        }
        Self::update_interest(slf)?;
        Self::maybe_pause_protocol(slf)
    }

    /// The socket has room again.
    pub(super) fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let flushed = {
            let mut state = this.state.borrow_mut(py);
            if state.life.lost > 0 || state.buffer.is_empty() {
                return Ok(());
            }
            this.open_fd(py, &state).and_then(|fd| state.buffer.flush(fd))
        };
        match flushed {
            Err(error) => {
                let failed = Err(os_error(error));
                let waiter = this.state.borrow(py).empty_waiter.as_ref().map(|waiter| waiter.clone_ref(py));
                if let Some(waiter) = waiter {
                    settle(waiter.bind(py), &failed)?;
                }
                failed.or_else(|error| Self::fatal_error(slf, error, "Fatal write error on socket transport"))
            }
            Ok(Flush::Blocked) => Self::maybe_resume_protocol(slf),
            Ok(Flush::Complete) => {
                Self::update_interest(slf)?;
                // May write or close.
                Self::maybe_resume_protocol(slf)?;
                Self::drained(slf)
            }
        }
    }

    /// The buffer has become empty: whoever waited for that goes on.
    fn drained(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (waiter, is_closing, is_eof_written) = {
            let mut state = this.state.borrow_mut(py);
            if !state.buffer.is_empty() || state.life.lost > 0 {
                return Ok(());
            }
            let is_closing = state.life.is_closing;
            if is_closing {
                state.life.lost += 1;
            }
            let waiter = state.empty_waiter.as_ref().map(|waiter| waiter.clone_ref(py));
            (waiter, is_closing, state.is_eof_written)
        };
        if let Some(waiter) = waiter {
            wake(waiter.bind(py))?;
        }
        if is_closing {
            return Self::connection_lost(slf, None);
        }
        if is_eof_written {
            // A peer that is gone already needs no farewell.
            let _gone = this.open_fd(py, &this.state.borrow(py)).and_then(socket::shutdown_write);
        }
        Ok(())
    }

    fn check_writable(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state.borrow(py);
        if state.is_eof_written {
            return Err(PyRuntimeError::new_err("Cannot call write() after write_eof()"));
        }
        if state.empty_waiter.is_some() {
            return Err(PyRuntimeError::new_err("unable to write; sendfile is in progress"));
        }
        Ok(())
    }
}

/// asyncio's words for data that is no data.
fn not_bytes(data: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = data.py();
    if !error.is_instance_of::<PyTypeError>(py) {
        return error;
    }
    match data.get_type().name() {
        Ok(name) => PyTypeError::new_err(format!("data argument must be a bytes-like object, not '{name}'")),
        Err(error) => error,
    }
}
