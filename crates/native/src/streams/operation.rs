//! `StreamOperation`: `StreamReader.read()` and its kin, as coroutines without a frame.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyByteArray, PyBytes};

use super::reader::Reader;
use crate::coroutine::{check_first_send, stop_iteration, to_throw, warn_never_awaited};
use crate::event_loop::Loop;
use crate::gil_cell::GilCell;

/// What is asked of a reader.
pub enum Request {
    /// What is there, at most `n` bytes.
    Read { n: usize, has_waited: bool },
    /// All of `n` bytes.
    ReadExactly { n: usize },
    /// Up to and with a separator, which is not in the first `offset` bytes. A `line` is given even if it is not whole.
    ReadUntil { separator: Py<PyBytes>, offset: usize, is_line: bool },
}

impl Request {
    /// The method that asks, as asyncio names it in errors.
    fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::ReadExactly { .. } => "readexactly",
            Self::ReadUntil { .. } => "readuntil",
        }
    }
}

/// How far an operation is.
#[derive(Default)]
enum State {
    /// Nobody has awaited it yet.
    Created(Request),
    /// There is not enough data; the future is resolved when more comes.
    Waiting(Request, Py<PyAny>),
    /// It has ended, or is being tried right now.
    #[default]
    Finished,
}

/// A read from a stream that was asked for: a coroutine to whoever awaits it.
#[pyclass(module = "aioxide", name = "StreamOperation", frozen, weakref)]
pub struct StreamOperation {
    reader: Py<PyAny>,
    state: GilCell<State>,
}

impl StreamOperation {
    pub(super) fn new(reader: &Bound<'_, PyAny>, request: Request) -> Self {
        Self { reader: reader.clone().unbind(), state: GilCell::new(State::Created(request)) }
    }

    /// Goes on until the data is there, which comes as `Err(StopIteration)`, or must be waited for.
    fn resume(&self, py: Python<'_>, sent: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let reader = Reader(self.reader.bind(py));
        let mut request = match self.state.replace(py, State::Finished) {
            State::Created(request) => {
                if let Err(error) = check_first_send(sent) {
                    let _created = self.state.replace(py, State::Created(request));
                    return Err(error);
                }
                if let Some(exception) = reader.exception()? {
                    return Err(PyErr::from_value(exception));
                }
                request
            }
            State::Waiting(request, future) => {
                reader.set_waiter(None)?;
                let future = future.bind(py);
                if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                    return Err(PyRuntimeError::new_err("await wasn't used with future"));
                }
                future.call_method0(intern!(py, "result"))?;
                request
            }
            State::Finished => return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        };
        match attempt(&reader, &mut request)? {
            Some(data) => Err(stop_iteration(py, data.into_any().unbind())),
            None => self.wait(py, &reader, request),
        }
    }

    /// Leaves a future with the reader, which whoever feeds it resolves.
    fn wait(&self, py: Python<'_>, reader: &Reader<'_, '_>, request: Request) -> PyResult<Py<PyAny>> {
        if reader.waiter()?.is_some() {
            let name = request.name();
            return Err(PyRuntimeError::new_err(format!(
                "{name}() called while another coroutine is already waiting for incoming data"
            )));
        }
        if reader.is_paused()? {
            // Or it would wait forever for more than the limit.
            reader.resume_transport()?;
        }
        let event_loop = reader.0.getattr(intern!(py, "_loop"))?;
        let future = match event_loop.cast::<Loop>() {
            Ok(event_loop) => Loop::new_future(event_loop)?,
            Err(_) => event_loop.call_method0(intern!(py, "create_future"))?,
        };
        reader.set_waiter(Some(&future))?;
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        let _taken = self.state.replace(py, State::Waiting(request, future.clone().unbind()));
        Ok(future.unbind())
    }

    /// Ends the operation for good.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        match self.state.replace(py, State::Finished) {
            State::Waiting(..) => Reader(self.reader.bind(py)).set_waiter(None),
            State::Created(_) | State::Finished => Ok(()),
        }
    }
}

/// The data that was asked for; `None` if more must come first.
fn attempt<'py>(reader: &Reader<'_, 'py>, request: &mut Request) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = reader.0.py();
    let buffer = reader.buffer()?;
    match request {
        Request::Read { n: 0, .. } => Ok(Some(PyBytes::new(py, b""))),
        Request::Read { n, has_waited } => {
            if buffer.is_empty() && !*has_waited && !reader.is_eof()? {
                *has_waited = true;
                return Ok(None);
            }
            reader.take(&buffer, *n).map(Some)
        }
        Request::ReadExactly { n } => {
            if buffer.len() >= *n {
                return reader.take(&buffer, *n).map(Some);
            }
            if reader.is_eof()? {
                return Err(incomplete(&drain(&buffer)?, Some(*n)));
            }
            Ok(None)
        }
        Request::ReadUntil { separator, offset, is_line } => {
            until(reader, &buffer, separator.bind(py), offset, *is_line)
        }
    }
}

/// One look for a separator.
fn until<'py>(
    reader: &Reader<'_, 'py>,
    buffer: &Bound<'py, PyByteArray>,
    separator: &Bound<'py, PyBytes>,
    offset: &mut usize,
    is_line: bool,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let limit = reader.limit()?;
    let wanted = separator.as_bytes();
    let (found, length) = with_critical_section(buffer, || {
        // SAFETY: attached, in the buffer's critical section, and no code of others runs meanwhile.
        let bytes = unsafe { buffer.as_bytes() };
        let found = bytes.get(*offset..).and_then(|rest| memchr::memmem::find(rest, wanted));
        (found.map(|place| place + *offset), bytes.len())
    });
    if let Some(start) = found {
        if start > limit {
            let message = "Separator is found, but chunk is longer than limit";
            return Err(overrun(reader, buffer, message, start, wanted, is_line)?);
        }
        return reader.take(buffer, start + wanted.len()).map(Some);
    }
    if length >= *offset + wanted.len() {
        // The last bytes may be the begin of a separator.
        *offset = length + 1 - wanted.len();
        if *offset > limit {
            let message = "Separator is not found, and chunk exceed the limit";
            return Err(overrun(reader, buffer, message, *offset, wanted, is_line)?);
        }
    }
    if !reader.is_eof()? {
        return Ok(None);
    }
    let partial = drain(buffer)?;
    if is_line { Ok(Some(partial)) } else { Err(incomplete(&partial, None)) }
}

/// The error of too much data without a separator. A line's data is dropped, so that reading can go on behind it.
fn overrun(
    reader: &Reader<'_, '_>,
    buffer: &Bound<'_, PyByteArray>,
    message: &'static str,
    consumed: usize,
    separator: &[u8],
    is_line: bool,
) -> PyResult<PyErr> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = buffer.py();
    if !is_line {
        let class = exception_class(py, &CLASS, "LimitOverrunError")?;
        return Ok(PyErr::from_value(class.call1((message, consumed))?));
    }
    let (is_separator, length) = with_critical_section(buffer, || {
        // SAFETY: as in `until`.
        let bytes = unsafe { buffer.as_bytes() };
        (bytes.get(consumed..).is_some_and(|rest| rest.starts_with(separator)), bytes.len())
    });
    let dropped = if is_separator { consumed + separator.len() } else { length };
    reader.discard(buffer, dropped, length - dropped)?;
    Ok(PyValueError::new_err(message))
}

/// Takes everything out of the buffer.
fn drain<'py>(buffer: &Bound<'py, PyByteArray>) -> PyResult<Bound<'py, PyBytes>> {
    let data = PyBytes::new(buffer.py(), &buffer.to_vec());
    buffer.resize(0)?;
    Ok(data)
}

/// The error of a stream that ended too early.
fn incomplete(partial: &Bound<'_, PyBytes>, expected: Option<usize>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    exception_class(partial.py(), &CLASS, "IncompleteReadError")
        .and_then(|class| class.call1((partial, expected)))
        .map_or_else(|error| error, PyErr::from_value)
}

fn exception_class<'py>(
    py: Python<'py>,
    place: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let class = place.get_or_try_init(py, || PyResult::Ok(py.import("asyncio")?.getattr(name)?.unbind()))?;
    Ok(class.bind(py))
}

#[pymethods]
impl StreamOperation {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.resume(py, None)
    }

    /// Goes on; gives what is waited for, or raises `StopIteration` with the result.
    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.resume(value.py(), Some(value))
    }

    /// Ends the operation with an exception, such as `CancelledError`. What was received stays with the reader.
    #[pyo3(signature = (typ, val=None, tb=None))]
    fn throw(
        &self,
        py: Python<'_>,
        typ: Bound<'_, PyAny>,
        val: Option<Bound<'_, PyAny>>,
        tb: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = to_throw(&typ, val.as_ref(), tb.as_ref())?;
        self.abandon(py)?;
        Err(error)
    }

    /// Ends the operation.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.abandon(py)
    }

    #[getter(__name__)]
    fn name(&self, py: Python<'_>) -> &'static str {
        match &*self.state.borrow(py) {
            State::Created(request) | State::Waiting(request, _) => request.name(),
            State::Finished => "read",
        }
    }

    #[getter(__qualname__)]
    fn qualified_name(&self, py: Python<'_>) -> String {
        format!("StreamReader.{}", self.name(py))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let reader = this.reader.bind(slf.py()).repr()?;
        let state = match &*this.state.borrow(slf.py()) {
            State::Created(_) => "created",
            State::Waiting(..) => "waiting",
            State::Finished => "finished",
        };
        Ok(format!("<StreamOperation {} {state} {reader}>", this.name(slf.py())))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        let Some(state) = self.state.try_borrow_in_gc() else { return Ok(()) };
        match &*state {
            State::Waiting(_, future) => visit.call(future),
            State::Created(_) | State::Finished => Ok(()),
        }
    }

    fn __clear__(&self) {
        drop(self.state.take_in_gc());
    }
}

impl Drop for StreamOperation {
    fn drop(&mut self) {
        if let Some(State::Created(request)) = self.state.take_in_gc() {
            warn_never_awaited(&format!("StreamReader.{}", request.name()));
        }
    }
}
