//! From the protocol above to the transport below, with flow control.

use aioxide::transport::tls::{self, FlowChange, Phase, Session as _};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};

use super::pipes::keep_spare;
use super::{Lower, OUTPUT_BYTES_MAX, TlsTransport};
use crate::raw;
use crate::transport::{Held, SocketTransport};

/// Pieces of `bytes` from this size on wait by reference where others wait too.
const HELD_BYTES: usize = 4096;
/// So many writes into a closed connection pass before each is warned of.
const LOST_WRITES_BEFORE_WARNING: u32 = 5;

/// What encrypting gave.
struct Step {
    /// So many bytes are encrypted.
    count: usize,
    /// Whether more can be encrypted now.
    goes_on: bool,
}

impl TlsTransport {
    /// Encrypts and sends `data`, or keeps what the transport below cannot take.
    pub(super) fn write_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.check_open(py)? {
            return check_bytes(data);
        }
        let Ok(bytes) = data.cast_exact::<PyBytes>() else {
            check_bytes(data)?;
            this.keep_copy(py, data)?;
            return Self::pump(slf);
        };
        let length = bytes.as_bytes().len();
        let mut encrypted = 0;
        // Nothing waits before it: neither need it.
        while encrypted < length && this.may_encrypt_at_once(py) {
            let step = Self::encrypt(slf, &bytes.as_bytes()[encrypted..])?;
            encrypted += step.count;
            if !step.goes_on {
                break;
            }
        }
        if encrypted == 0 {
            this.keep(py, data)?;
        } else if encrypted < length {
            // Whoever wrote meanwhile, below or up the stack, wrote after it.
            this.state.borrow_mut(py).connection.backlog.push_first(Held::new(bytes.clone()), encrypted);
        }
        Self::flush_output(slf)?;
        Self::control_writing(slf)
    }

    fn may_encrypt_at_once(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.connection.backlog.is_empty() && state.connection.may_encrypt()
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
                self.state.borrow_mut(py).connection.backlog.push_held(Held::new(bytes.clone()), 0);
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
            let step = Self::encrypt(slf, front.bytes());
            let count = step.as_ref().map_or(0, |step| step.count);
            let spent = this.state.borrow_mut(py).connection.backlog.put_back(front, count);
            drop(spent);
            if !step?.goes_on {
                break;
            }
        }
        Self::flush_output(slf)?;
        Self::control_writing(slf)
    }

    /// Encrypts some of `data`, and hands it down if it has become much.
    fn encrypt(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<Step> {
        let encrypted = slf.get().with_session(slf.py(), |session| {
            tls::encrypt(session, data, OUTPUT_BYTES_MAX).map(|count| (count, session.output_len()))
        });
        match encrypted {
            // Somebody up the stack has the session, and will see to what waits.
            None => Ok(Step { count: 0, goes_on: false }),
            Some(Err(error)) => {
                Self::fatal_error(slf, error, "Fatal error on SSL protocol")?;
                Ok(Step { count: 0, goes_on: false })
            }
            Some(Ok((count, output))) if output >= OUTPUT_BYTES_MAX => {
                Self::flush_output(slf)?;
                Ok(Step { count, goes_on: true })
            }
            // What is not all waits for the peer: a renegotiation.
            Some(Ok((count, _))) => Ok(Step { count, goes_on: count == data.len() }),
        }
    }

    /// Hands the session's output down, unless the transport below takes no more.
    pub(super) fn flush_output(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let lower = {
            let state = this.state.borrow(py);
            if state.connection.is_lower_paused {
                return Ok(());
            }
            state.lower.as_ref().map(|lower| lower.clone_ref(py))
        };
        let Some(mut output) = this.with_session(py, |session| session.take_output()) else { return Ok(()) };
        if output.is_empty() {
            return Ok(());
        }
        let sent = match lower {
            None => Ok(()),
            Some(Lower::Native(transport)) => SocketTransport::send_lent(transport.bind(py), &mut output),
            Some(Lower::Foreign(transport)) => {
                transport.bind(py).call_method1(intern!(py, "write"), (PyBytes::new(py, &output),)).map(drop)
            }
        };
        keep_spare(output);
        sent
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

    /// Whether something waits that might go now.
    pub(super) fn has_more_to_send(&self, py: Python<'_>) -> bool {
        !self.state.borrow(py).connection.backlog.is_empty()
            || self.with_session(py, |session| session.output_len()).is_some_and(|output| output > 0)
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
