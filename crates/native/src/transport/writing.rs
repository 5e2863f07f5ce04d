//! From the protocol to the socket, with flow control.

use std::io::{self, ErrorKind};

use aioxide::driver::socket;
use aioxide::transport::Flush;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::lifecycle::settle;
use super::{Held, SocketTransport};
use crate::errors::os_error;
use crate::raw;
use crate::watches::{Watching, wake};

/// Pieces of `bytes` from this size on wait by reference instead of as copies.
const HELD_BYTES: usize = 4096;
/// asyncio's default high-water mark.
pub const DEFAULT_HIGH_WATER_BYTES: usize = 64 * 1024;
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
            if state.lost > 0 {
                state.lost += 1;
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
            if state.lost > 0 {
                state.lost += 1;
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
                if state.lost > 0 {
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
            if state.lost > 0 {
                state.lost += 1;
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
            (state.buffer.is_empty(), state.lost)
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
            if state.lost > 0 || state.buffer.is_empty() {
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
            if !state.buffer.is_empty() || state.lost > 0 {
                return Ok(());
            }
            let is_closing = state.is_closing;
            if is_closing {
                state.lost += 1;
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

    /// Sets the marks as asyncio does: each may be left to be derived from the other.
    pub(super) fn set_limits(slf: &Bound<'_, Self>, high: Option<isize>, low: Option<isize>) -> PyResult<()> {
        let marks = marks(high, low, DEFAULT_HIGH_WATER_BYTES)?;
        {
            let mut state = slf.get().state.borrow_mut(slf.py());
            (state.high_water_bytes, state.low_water_bytes) = marks;
        }
        Self::maybe_pause_protocol(slf)
    }

    fn maybe_pause_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let protocol = {
            let mut state = slf.get().state.borrow_mut(py);
            if state.is_protocol_paused || state.buffer.len() <= state.high_water_bytes {
                return Ok(());
            }
            state.is_protocol_paused = true;
            state.protocol.as_ref().map(|protocol| protocol.clone_ref(py))
        };
        Self::tell(slf, protocol, intern!(py, "pause_writing"), "protocol.pause_writing() failed")
    }

    fn maybe_resume_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let protocol = {
            let mut state = slf.get().state.borrow_mut(py);
            if !state.is_protocol_paused || state.buffer.len() > state.low_water_bytes {
                return Ok(());
            }
            state.is_protocol_paused = false;
            state.protocol.as_ref().map(|protocol| protocol.clone_ref(py))
        };
        Self::tell(slf, protocol, intern!(py, "resume_writing"), "protocol.resume_writing() failed")
    }

    /// Calls a method of the protocol whose failure does not end the connection.
    fn tell(
        slf: &Bound<'_, Self>,
        protocol: Option<Py<PyAny>>,
        method: &Bound<'_, pyo3::types::PyString>,
        message: &str,
    ) -> PyResult<()> {
        let py = slf.py();
        let Some(protocol) = protocol else { return Ok(()) };
        match protocol.bind(py).call_method0(method) {
            Ok(_) => Ok(()),
            Err(error) => Self::report(slf, error, message),
        }
    }
}

/// Marks of flow control, high and low, as asyncio derives them: each may be left to be derived from the other.
pub fn marks(high: Option<isize>, low: Option<isize>, default_high_bytes: usize) -> PyResult<(usize, usize)> {
    let high = high.unwrap_or_else(|| match low {
        Some(low) => low.saturating_mul(4),
        None => isize::try_from(default_high_bytes).unwrap_or(isize::MAX),
    });
    let low = low.unwrap_or(high / 4);
    match (usize::try_from(high), usize::try_from(low)) {
        (Ok(high), Ok(low)) if high >= low => Ok((high, low)),
        _ => Err(PyValueError::new_err(format!("high ({high}) must be >= low ({low}) must be >= 0"))),
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
