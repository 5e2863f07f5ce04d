//! From the protocol above to the transport below, with flow control.

use aioxide::transport::tls::{self, FlowChange, Phase, Session as _};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};

use super::{Lower, OUTPUT_BYTES_MAX, TlsTransport};
use crate::raw;
use crate::transport::{Held, SocketTransport};

/// Pieces of `bytes` from this size on wait by reference where others wait too.
const HELD_BYTES: usize = 4096;
/// So many writes into a closed connection pass before each is warned of.
const LOST_WRITES_BEFORE_WARNING: u32 = 5;

impl TlsTransport {
    /// Encrypts and sends `data`, or keeps what the transport below cannot take.
    pub(super) fn write_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.check_open(py)? {
            return check_bytes(data);
        }
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let held = Held::new(bytes.clone());
            let mut state = this.state.borrow_mut(py);
            // Alone it makes records of its own, and need not be copied.
            if state.connection.backlog.is_empty() || bytes.as_bytes().len() >= HELD_BYTES {
                state.connection.backlog.push_held(held);
            } else {
                state.connection.backlog.push_copy(bytes.as_bytes());
            }
        } else {
            check_bytes(data)?;
            this.keep_copy(py, data)?;
        }
        Self::pump(slf)
    }

    /// Encrypts and sends all pieces; small ones share records.
    pub(super) fn write_pieces(slf: &Bound<'_, Self>, pieces: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.check_open(py)? {
            return Ok(());
        }
        for piece in pieces.try_iter()? {
            this.keep(py, &piece?)?;
        }
        Self::pump(slf)
    }

    /// Appends a piece to what waits.
    pub(super) fn keep(&self, py: Python<'_>, piece: &Bound<'_, PyAny>) -> PyResult<()> {
        match piece.cast_exact::<PyBytes>() {
            Ok(bytes) if bytes.as_bytes().len() >= HELD_BYTES => {
                self.state.borrow_mut(py).connection.backlog.push_held(Held::new(bytes.clone()));
                Ok(())
            }
            _ => self.keep_copy(py, piece),
        }
    }

    fn keep_copy(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        raw::with_bytes(data, |bytes| self.state.borrow_mut(py).connection.backlog.push_copy(bytes))
    }

    /// Whether writes still lead anywhere; one that does not is counted.
    fn check_open(&self, py: Python<'_>) -> PyResult<bool> {
        let lost = {
            let mut state = self.state.borrow_mut(py);
            if state.connection.accepts_writes() {
                return Ok(true);
            }
            state.lost_writes += 1;
            state.lost_writes
        };
        if lost > LOST_WRITES_BEFORE_WARNING {
            let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
            logger.call_method1(intern!(py, "warning"), ("SSL connection is closed",))?;
        }
        Ok(false)
    }

    /// Encrypts what waits and hands it down, as long as the transport below takes it.
    pub(super) fn pump(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        loop {
            let front = {
                let mut state = this.state.borrow_mut(py);
                if state.connection.may_encrypt() { state.connection.backlog.take_front() } else { None }
            };
            let Some(front) = front else { break };
            let length = front.bytes().len();
            let encrypted = this.with_session(py, |session| {
                tls::encrypt(session, front.bytes(), OUTPUT_BYTES_MAX).map(|count| (count, session.output_len()))
            });
            let count = encrypted.as_ref().map_or(0, |result| result.as_ref().map_or(0, |(count, _)| *count));
            let spent = this.state.borrow_mut(py).connection.backlog.put_back(front, count);
            drop(spent);
            match encrypted {
                // Somebody up the stack has the session, and will come here.
                None => return Ok(()),
                Some(Err(error)) => return Self::fatal_error(slf, error, "Fatal error on SSL protocol"),
                Some(Ok((_, output))) if output >= OUTPUT_BYTES_MAX => Self::flush_output(slf)?,
                // It waits for the peer: a renegotiation.
                Some(Ok((count, _))) if count < length => break,
                Some(Ok(_)) => {}
            }
        }
        Self::flush_output(slf)?;
        Self::control_writing(slf)
    }

    /// Hands the session's output down, unless the transport below takes no more.
    pub(super) fn flush_output(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.state.borrow(py).connection.is_lower_paused {
            return Ok(());
        }
        let Some(output) = this.with_session(py, |session| session.take_output()) else { return Ok(()) };
        if output.is_empty() {
            return Ok(());
        }
        match this.lower(py) {
            None => Ok(()),
            Some(Lower::Native(transport)) => SocketTransport::send_owned(transport.bind(py), output),
            Some(Lower::Foreign(transport)) => {
                transport.bind(py).call_method1(intern!(py, "write"), (PyBytes::new(py, &output),)).map(drop)
            }
        }
    }

    /// The transport below takes no more, or takes more again.
    pub(super) fn lower_paused(slf: &Bound<'_, Self>, is_paused: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.state.borrow_mut(py).connection.is_lower_paused = is_paused;
        if is_paused {
            return Ok(());
        }
        Self::pump(slf)?;
        // Closing waits until everything is written; the session may have output of its own to send.
        let shuts_down = this.phase(py) == Phase::Flushing && this.state.borrow_mut(py).connection.begin_shutdown();
        if shuts_down { Self::shutdown(slf, &[]) } else { Ok(()) }
    }

    /// Holds the protocol back while too much waits.
    pub(super) fn control_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let waiting = this.write_buffer_size(py);
        let (change, protocol) = {
            let mut state = this.state.borrow_mut(py);
            let Some(change) = state.connection.write_marks.update(waiting) else { return Ok(()) };
            (change, state.protocol.as_ref().map(|protocol| protocol.clone_ref(py)))
        };
        let Some(protocol) = protocol else { return Ok(()) };
        let (method, message) = match change {
            FlowChange::Pause => (intern!(py, "pause_writing"), "protocol.pause_writing() failed"),
            FlowChange::Resume => (intern!(py, "resume_writing"), "protocol.resume_writing() failed"),
        };
        match protocol.bind(py).call_method0(method) {
            Ok(_) => Ok(()),
            Err(error) if raw::ends_run(py, &error) => Err(error),
            Err(error) => {
                let context = PyDict::new(py);
                context.set_item(intern!(py, "message"), message)?;
                context.set_item(intern!(py, "exception"), raw::exception(py, error))?;
                context.set_item(intern!(py, "transport"), slf)?;
                context.set_item(intern!(py, "protocol"), slf)?;
                this.event_loop.bind(py).call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
            }
        }
    }

    /// Plaintext and ciphertext that wait here; what the transport below holds is its own.
    pub(super) fn write_buffer_size(&self, py: Python<'_>) -> usize {
        let (waiting, is_lower_paused) = {
            let state = self.state.borrow(py);
            (state.connection.backlog.len(), state.connection.is_lower_paused)
        };
        // Output is handed down at once unless the transport below is full.
        let output = if is_lower_paused { self.with_session(py, |session| session.output_len()) } else { None };
        waiting + output.unwrap_or(0)
    }
}

/// asyncio's words for data that is no data.
fn check_bytes(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if data.is_instance_of::<PyBytes>() || data.is_instance_of::<PyByteArray>() || data.is_instance_of::<PyMemoryView>()
    {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("data: expecting a bytes-like instance, got {}", data.get_type().name()?)))
}
