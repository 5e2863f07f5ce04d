//! From the transport below to the protocol above.

use std::mem::MaybeUninit;

use aioxide::transport::tls::{self, FlowChange, Phase, Received, Session as _};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::session::Session;
use super::{TlsTransport, Told};
use crate::raw::{self, BytesBuilder};
use crate::streams;
use crate::transport::Receiver;

const FATAL: &str = "Fatal error on SSL protocol";
/// Plaintext up to this size is decrypted on the stack and copied: cheaper than a large `bytes` that is cut down.
const COPIED_BYTES: usize = 16 * 1024;

/// Room on the stack.
type ShortRoom = [MaybeUninit<u8>; COPIED_BYTES];

/// What was decrypted.
enum Plaintext<'py> {
    /// So many bytes, on the stack.
    Short(usize),
    Long(Bound<'py, PyBytes>),
}

impl TlsTransport {
    /// Acts on ciphertext from the transport below.
    pub fn receive(slf: &Bound<'_, Self>, ciphertext: &[u8]) -> PyResult<()> {
        match slf.get().phase(slf.py()) {
            Phase::Handshaking => Self::handshake(slf, ciphertext),
            Phase::Open => Self::read(slf, ciphertext),
            Phase::Flushing => Self::flush(slf, ciphertext),
            Phase::ShuttingDown => Self::shutdown(slf, ciphertext),
            Phase::Idle | Phase::Closed => Ok(()),
        }
    }

    /// Decrypts and tells the protocol, unless it pauses.
    pub(super) fn read(slf: &Bound<'_, Self>, ciphertext: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (protocol, receiver) = {
            let state = this.state.borrow(py);
            let protocol = state.protocol.as_ref().filter(|_| state.connection.may_read());
            (protocol.map(|protocol| protocol.bind(py).clone()), state.receiver.clone_ref(py))
        };
        let Some(protocol) = protocol else { return Self::keep_ciphertext(slf, ciphertext) };
        let received = match receiver {
            Receiver::Buffer => Self::read_into_buffer(slf, &protocol, ciphertext),
            receiver => Self::read_bytes(slf, &protocol, &receiver, ciphertext),
        };
        let result = match received {
            Err(error) => Self::fatal_error(slf, error, FATAL),
            Ok(Received { error: Some(error), .. }) => Self::fatal_error(slf, error, FATAL),
            Ok(Received { is_closed: true, .. }) => {
                Self::call_eof_received(slf)?;
                Self::close_gently(slf)
            }
            Ok(_) => Ok(()),
        };
        result?;
        // Reading may have made output too: key updates, tickets.
        if this.has_more_to_send(py) {
            Self::pump(slf)?;
        }
        Self::control_lower_reading(slf)
    }

    /// Keeps ciphertext for later.
    fn keep_ciphertext(slf: &Bound<'_, Self>, ciphertext: &[u8]) -> PyResult<()> {
        let _kept = slf.get().with_session(slf.py(), |session| session.feed(ciphertext, |_| ()));
        Self::control_lower_reading(slf)
    }

    fn read_bytes(
        slf: &Bound<'_, Self>,
        protocol: &Bound<'_, PyAny>,
        receiver: &Receiver,
        ciphertext: &[u8],
    ) -> PyResult<Received<PyErr>> {
        let py = slf.py();
        let mut room = [MaybeUninit::uninit(); COPIED_BYTES];
        let read =
            slf.get().with_session(py, |session| session.feed(ciphertext, |session| plaintext(py, session, &mut room)));
        let Some(read) = read else { return Err(in_use()) };
        let (plaintext, received) = read?;
        let data = match &plaintext {
            // SAFETY: the session wrote that many bytes.
            Plaintext::Short(count) => unsafe { written(&room, *count) },
            Plaintext::Long(bytes) => bytes.as_bytes(),
        };
        if data.is_empty() {
            return Ok(received);
        }
        match receiver {
            Receiver::Stream => streams::feed(protocol, data)?,
            // TLS in TLS.
            Receiver::Tls(inner) => Self::receive(inner.bind(py), data)?,
            Receiver::Bytes | Receiver::Buffer => {
                let data = match plaintext {
                    Plaintext::Short(_) => PyBytes::new(py, data),
                    Plaintext::Long(bytes) => bytes,
                };
                protocol.call_method1(intern!(py, "data_received"), (data,))?;
            }
        }
        Ok(received)
    }

    fn read_into_buffer(
        slf: &Bound<'_, Self>,
        protocol: &Bound<'_, PyAny>,
        ciphertext: &[u8],
    ) -> PyResult<Received<PyErr>> {
        let py = slf.py();
        let this = slf.get();
        let nothing = Received { count: 0, is_closed: false, error: None };
        let waiting = this.with_session(py, |session| (session.input_len(), session.may_have_more()));
        let Some((waiting, may_have_more)) = waiting else { return Err(in_use()) };
        if ciphertext.is_empty() && !may_have_more {
            return Ok(nothing);
        }
        let buffer = protocol.call_method1(intern!(py, "get_buffer"), (waiting + ciphertext.len(),));
        let fits = buffer.and_then(|buffer| if buffer.len()? == 0 { Err(empty_buffer()) } else { Ok(buffer) });
        let buffer = fits.inspect_err(|_| {
            let _kept = this.with_session(py, |session| session.feed(ciphertext, |_| ()));
        })?;
        let read = this.with_session(py, |session| {
            session.feed(ciphertext, |session| {
                raw::with_writable(&buffer, |room| (tls::receive(session, room), room.len()))
                    .map(|(received, room)| (received, room, session.may_have_more()))
            })
        });
        drop(buffer);
        let Some(read) = read else { return Err(in_use()) };
        let (received, room, may_have_more) = read?;
        if received.count > 0 {
            protocol.call_method1(intern!(py, "buffer_updated"), (received.count,))?;
        }
        if received.count == room && may_have_more {
            Self::call_soon(slf, "_read_on")?;
        }
        Ok(received)
    }

    /// Tells the protocol, once, that the peer sends no more.
    pub(super) fn call_eof_received(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let protocol = {
            let mut state = this.state.borrow_mut(py);
            if state.told != Told::Made {
                return Ok(());
            }
            state.told = Told::Eof;
            state.protocol.as_ref().map(|protocol| protocol.clone_ref(py))
        };
        let Some(protocol) = protocol else { return Ok(()) };
        match protocol.bind(py).call_method0(intern!(py, "eof_received")).and_then(|answer| answer.is_truthy()) {
            Ok(false) => Ok(()),
            Ok(true) => {
                let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
                let words = "returning true from eof_received() has no effect when using ssl";
                logger.call_method1(intern!(py, "warning"), (words,)).map(drop)
            }
            Err(error) => Self::fatal_error(slf, error, "Error calling eof_received()"),
        }
    }

    /// Goes on after a pause, or after a buffer that was too small.
    pub(super) fn read_on(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().phase(slf.py()) {
            Phase::Handshaking => Ok(()),
            _ => Self::receive(slf, &[]),
        }
    }

    /// Holds the transport below back while the protocol does not read.
    pub(super) fn control_lower_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(waiting) = this.with_session(py, |session| session.input_len()) else { return Ok(()) };
        let change = this.state.borrow_mut(py).connection.read_marks.update(waiting);
        match change {
            None => Ok(()),
            Some(FlowChange::Pause) => this.tell_lower(py, "pause_reading"),
            Some(FlowChange::Resume) => this.tell_lower(py, "resume_reading"),
        }
    }

    /// The number of bytes that came and were not decrypted.
    pub(super) fn read_buffer_size(&self, py: Python<'_>) -> usize {
        self.with_session(py, |session| session.input_len()).unwrap_or(0)
    }
}

/// Decrypts everything that is there, into `room` if it fits.
fn plaintext<'py>(
    py: Python<'py>,
    session: &mut Session,
    room: &mut ShortRoom,
) -> PyResult<(Plaintext<'py>, Received<PyErr>)> {
    let bound = session.input_len();
    if bound > COPIED_BYTES {
        return long_plaintext(py, session, &[], bound + COPIED_BYTES);
    }
    let received = tls::receive(session, room);
    if received.count < room.len() || received.is_closed || received.error.is_some() {
        return Ok((Plaintext::Short(received.count), received));
    }
    // More than came now: part of a record was inside of the session.
    // SAFETY: the session wrote that many bytes.
    long_plaintext(py, session, unsafe { written(room, received.count) }, 2 * COPIED_BYTES)
}

/// Decrypts everything that is there after `first`, into a `bytes` of `capacity` at first.
fn long_plaintext<'py>(
    py: Python<'py>,
    session: &mut Session,
    first: &[u8],
    capacity: usize,
) -> PyResult<(Plaintext<'py>, Received<PyErr>)> {
    let mut builder = BytesBuilder::new(py, capacity)?;
    for (place, byte) in builder.buffer().iter_mut().zip(first) {
        place.write(*byte);
    }
    // Plaintext is shorter than its ciphertext, of which a record at most is inside of the session: it fits.
    let mut received = tls::receive(session, &mut builder.buffer()[first.len()..]);
    received.count += first.len();
    if received.count == 0 {
        return Ok((Plaintext::Short(0), received));
    }
    // SAFETY: that many bytes were written.
    Ok((Plaintext::Long(unsafe { builder.finish(received.count) }?), received))
}

/// The first `count` bytes of `room`.
///
/// # Safety
/// They were written.
unsafe fn written(room: &ShortRoom, count: usize) -> &[u8] {
    // SAFETY: the caller's promise; a byte is a byte.
    unsafe { std::slice::from_raw_parts(room[..count].as_ptr().cast::<u8>(), count) }
}

fn in_use() -> PyErr {
    PyRuntimeError::new_err("the TLS session is in use: data came while a callback of its own runs")
}

fn empty_buffer() -> PyErr {
    PyRuntimeError::new_err("get_buffer() returned an empty buffer")
}
