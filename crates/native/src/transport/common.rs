//! What transports of streams and of datagrams have in common: their life from `connection_made` to `connection_lost`,
//! flow control, and whom they tell of what goes wrong.

use std::os::fd::RawFd;

use aioxide::driver::Interest;
use aioxide::reactor::SourceKey;
use pyo3::exceptions::{PyAttributeError, PyOSError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use crate::host::Job;
use crate::raw;
use crate::watches::{Owner, Watches, Watching, wake};

/// asyncio's default high-water mark.
const DEFAULT_HIGH_WATER_BYTES: usize = 64 * 1024;

/// A scheduled step in a transport's life.
pub enum TransportJob {
    /// Call `connection_made`, begin to read, and resolve the waiter.
    Start { waiter: Option<Py<PyAny>>, context: Py<PyAny> },
    /// Call `connection_lost` and close the socket.
    ConnectionLost { exception: Option<Py<PyAny>>, context: Py<PyAny> },
}

impl TransportJob {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Start { waiter, context } => {
                visit.call(waiter)?;
                visit.call(context)
            }
            Self::ConnectionLost { exception, context } => {
                visit.call(exception)?;
                visit.call(context)
            }
        }
    }
}

/// What changes in the life of every transport.
#[derive(Default)]
pub struct Life {
    /// The socket, until the connection is lost.
    pub sock: Option<Py<PyAny>>,
    pub protocol: Option<Py<PyAny>>,
    pub key: Option<SourceKey>,
    /// `connection_made` was called, so reading may begin.
    pub is_started: bool,
    /// `close()` or `abort()` was called, or the transport failed.
    pub is_closing: bool,
    pub is_reading_paused: bool,
    pub is_protocol_paused: bool,
    /// Counts writes after the end; not 0 means `connection_lost` is scheduled or was called.
    pub lost: u32,
    pub high_water_bytes: usize,
    pub low_water_bytes: usize,
}

impl Life {
    /// Of a transport that begins.
    pub fn new(sock: &Bound<'_, PyAny>) -> Self {
        Self {
            sock: Some(sock.clone().unbind()),
            high_water_bytes: DEFAULT_HIGH_WATER_BYTES,
            low_water_bytes: DEFAULT_HIGH_WATER_BYTES / 4,
            ..Self::default()
        }
    }

    /// What the cycle collector leaves: the socket, so that the finalizer can close it and say so.
    pub fn cleared(self) -> Self {
        Self { sock: self.sock, ..Self::default() }
    }

    /// What is watched while `waiting_bytes` wait to be sent.
    pub fn interest(&self, waiting_bytes: usize) -> Interest {
        Interest {
            readable: self.is_started && !self.is_closing && !self.is_reading_paused,
            writable: waiting_bytes > 0,
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sock)?;
        visit.call(&self.protocol)
    }
}

/// A transport over a socket.
pub trait Transport: Watching {
    /// The name of its class.
    const CLASS: &'static str;

    fn fd(&self) -> RawFd;

    /// What a warning shows in the place of a transport that is being freed.
    fn shown(&self, py: Python<'_>) -> Py<PyAny>;

    /// The transport, as jobs and watches hold it.
    fn owner(slf: &Bound<'_, Self>) -> Owner;

    /// Opens the state; `act` is given the number of bytes that wait to be sent, too, and runs no Python.
    fn with_life<R>(&self, py: Python<'_>, act: impl FnOnce(&mut Life, usize) -> R) -> R;

    /// Throws away what waits to be sent.
    fn discard(&self, py: Python<'_>);

    /// The context of a step that is scheduled now: as of every callback, the current one.
    fn job_context(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        raw::copy_context(py)
    }

    /// Lets go of what only this kind has, at the end.
    fn let_go(_slf: &Bound<'_, Self>) -> PyResult<()> {
        Ok(())
    }

    fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with_life(py, |life, _| life.protocol.as_ref().map(|protocol| protocol.bind(py).clone()))
    }

    fn sock<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with_life(py, |life, _| life.sock.as_ref().map(|sock| sock.bind(py).clone()))
    }

    /// Has the descriptor watched for a new transport, and schedules its `connection_made`.
    fn schedule_start(slf: &Bound<'_, Self>, waiter: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let key = Watches::add_transport(this.event_loop().bind(py), this.fd(), Self::owner(slf))?;
        this.with_life(py, |life, _| life.key = Some(key));
        let start = TransportJob::Start { waiter: waiter.map(Bound::unbind), context: this.job_context(py)? };
        Self::schedule(slf, start)
    }

    fn schedule(slf: &Bound<'_, Self>, job: TransportJob) -> PyResult<()> {
        slf.get().event_loop().get().schedule(slf.py(), Job::Transport(Self::owner(slf), job))
    }

    /// Runs a step that was scheduled. What goes wrong is reported, and never ends the loop's run.
    fn run_job(slf: &Bound<'_, Self>, job: TransportJob) -> PyResult<()> {
        let py = slf.py();
        let done = match job {
            TransportJob::Start { waiter, context } => Self::start(slf, waiter, &context),
            TransportJob::ConnectionLost { exception, context } => {
                raw::in_context(py, &context, || Self::connection_lost(slf, exception))
            }
        };
        done.or_else(|error| Self::report(slf, error, "Exception in a step of a transport"))
    }

    fn start(slf: &Bound<'_, Self>, waiter: Option<Py<PyAny>>, context: &Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let made = match this.protocol(py) {
            Some(protocol) => {
                raw::in_context(py, context, || protocol.call_method1(intern!(py, "connection_made"), (slf,)).map(drop))
            }
            None => Ok(()),
        };
        // Reading begins only after connection_made, and whoever waits for the connection hears of it last.
        this.with_life(py, |life, _| life.is_started = true);
        let watched = Self::update_interest(slf);
        if let Some(waiter) = waiter {
            settle(waiter.bind(py), &watched)?;
        }
        if let Err(error) = made {
            Self::report(slf, error, "Exception in protocol.connection_made()")?;
        }
        // Not everything can be watched: epoll refuses regular files.
        watched.or_else(|error| Self::fatal_error(slf, error, "Fatal error: the socket cannot be watched"))
    }

    fn is_reading(&self, py: Python<'_>) -> bool {
        self.with_life(py, |life, _| !life.is_closing && !life.is_reading_paused)
    }

    /// Begins or ends a pause of reading, unless there is nothing to change.
    fn set_reading_paused(slf: &Bound<'_, Self>, is_paused: bool) -> PyResult<()> {
        let is_changed = slf.get().with_life(slf.py(), |life, _| {
            let is_changed = !life.is_closing && life.is_reading_paused != is_paused;
            life.is_reading_paused ^= is_changed;
            is_changed
        });
        if is_changed { Self::update_interest(slf) } else { Ok(()) }
    }

    /// Closes once what waits is sent.
    fn close_gently(slf: &Bound<'_, Self>) -> PyResult<()> {
        let lose_now = slf.get().with_life(slf.py(), |life, waiting_bytes| {
            if std::mem::replace(&mut life.is_closing, true) {
                return None;
            }
            let lose_now = waiting_bytes == 0;
            life.lost += u32::from(lose_now);
            Some(lose_now)
        });
        let Some(lose_now) = lose_now else { return Ok(()) };
        Self::update_interest(slf)?;
        if lose_now { Self::schedule_lost(slf, None) } else { Ok(()) }
    }

    /// Closes at once; what waits is thrown away.
    fn close_hard(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let was_lost = this.with_life(py, |life, _| {
            let was_lost = life.lost > 0;
            if !was_lost {
                life.is_closing = true;
                life.lost = 1;
            }
            was_lost
        });
        if was_lost {
            return Ok(());
        }
        this.discard(py);
        Self::update_interest(slf)?;
        Self::schedule_lost(slf, exception)
    }

    fn schedule_lost(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        let context = slf.get().job_context(slf.py())?;
        Self::schedule(slf, TransportJob::ConnectionLost { exception, context })
    }

    /// Tells the protocol, then closes the socket, whatever the protocol says to it.
    fn connection_lost(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let told = match this.protocol(py) {
            Some(protocol) => protocol.call_method1(intern!(py, "connection_lost"), (exception,)).map(drop),
            None => Ok(()),
        };
        let (key, sock, protocol) =
            this.with_life(py, |life, _| (life.key.take(), life.sock.take(), life.protocol.take()));
        if let Some(key) = key {
            Watches::remove_transport(this.event_loop().bind(py), this.fd(), key);
        }
        let closed = match sock {
            Some(sock) => sock.bind(py).call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        };
        drop(protocol);
        Self::let_go(slf)?;
        if let Err(error) = closed {
            Self::report(slf, error, "Exception while the socket was closed")?;
        }
        told.or_else(|error| Self::report(slf, error, "Exception in protocol.connection_lost()"))
    }

    /// The value of a call, or `None` after its failure has ended the transport.
    fn check<T>(slf: &Bound<'_, Self>, result: PyResult<T>, message: &str) -> PyResult<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => Self::fatal_error(slf, error, message).map(|()| None),
        }
    }

    /// Ends the transport because of `error`. Network errors are the protocol's business alone; others are bugs, and
    /// go to the loop's exception handler too.
    fn fatal_error(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if raw::ends_run(py, &error) {
            return Err(error);
        }
        let exception = raw::exception(py, error);
        if exception.is_instance_of::<PyOSError>() {
            if slf.get().event_loop().get().is_debug() {
                let helpers = py.import(intern!(py, "aioxide._debug"))?;
                helpers.call_method1(intern!(py, "log_transport_error"), (slf, message, &exception))?;
            }
        } else {
            Self::call_exception_handler(slf, exception.as_any(), message)?;
        }
        Self::close_hard(slf, Some(exception.into_any().unbind()))
    }

    /// Tells the loop's exception handler of a failure that does not end the transport.
    fn report(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if raw::ends_run(py, &error) {
            return Err(error);
        }
        Self::call_exception_handler(slf, raw::exception(py, error).as_any(), message)
    }

    fn call_exception_handler(slf: &Bound<'_, Self>, exception: &Bound<'_, PyAny>, message: &str) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let context = PyDict::new(py);
        context.set_item(intern!(py, "message"), message)?;
        context.set_item(intern!(py, "exception"), exception)?;
        context.set_item(intern!(py, "transport"), slf)?;
        context.set_item(intern!(py, "protocol"), this.protocol(py))?;
        this.event_loop().bind(py).call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
    }

    /// Sets the marks of flow control, see [`marks`].
    fn set_limits(slf: &Bound<'_, Self>, high: Option<isize>, low: Option<isize>) -> PyResult<()> {
        let marks = marks(high, low, DEFAULT_HIGH_WATER_BYTES)?;
        slf.get().with_life(slf.py(), |life, _| (life.high_water_bytes, life.low_water_bytes) = marks);
        Self::maybe_pause_protocol(slf)
    }

    fn maybe_pause_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let is_pause = slf.get().with_life(py, |life, waiting_bytes| {
            let is_pause = !life.is_protocol_paused && waiting_bytes > life.high_water_bytes;
            life.is_protocol_paused |= is_pause;
            is_pause
        });
        if !is_pause {
            return Ok(());
        }
        Self::tell(slf, intern!(py, "pause_writing"), "protocol.pause_writing() failed")
    }

    fn maybe_resume_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let is_resume = slf.get().with_life(py, |life, waiting_bytes| {
            let is_resume = life.is_protocol_paused && waiting_bytes <= life.low_water_bytes;
            life.is_protocol_paused &= !is_resume;
            is_resume
        });
        if !is_resume {
            return Ok(());
        }
        Self::tell(slf, intern!(py, "resume_writing"), "protocol.resume_writing() failed")
    }

    /// Calls a method of the protocol whose failure does not end the transport.
    fn tell(slf: &Bound<'_, Self>, method: &Bound<'_, PyString>, message: &str) -> PyResult<()> {
        let Some(protocol) = slf.get().protocol(slf.py()) else { return Ok(()) };
        match protocol.call_method0(method) {
            Ok(_) => Ok(()),
            Err(error) => Self::report(slf, error, message),
        }
    }

    fn text(&self, py: Python<'_>) -> String {
        let polling = |is_watched: bool| if is_watched { "polling" } else { "idle" };
        self.with_life(py, |life, waiting_bytes| {
            let phase = match life.sock {
                None => " closed",
                Some(_) if life.is_closing => " closing",
                Some(_) => "",
            };
            let interest = life.interest(waiting_bytes);
            format!(
                "<{}{phase} fd={} read={} write=<{}, bufsize={waiting_bytes}>>",
                Self::CLASS,
                self.fd(),
                polling(interest.readable),
                polling(interest.writable),
            )
        })
    }

    /// The class that the transport says it is of, which has asyncio's above it.
    fn python_class(py: Python<'_>, place: &PyOnceLock<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let class = place
            .get_or_try_init(py, || PyResult::Ok(py.import("aioxide._transports")?.getattr(Self::CLASS)?.unbind()))?;
        Ok(class.clone_ref(py))
    }

    /// For the cycle collector, before it takes the socket and whatever else is in the cycle apart: closes the socket
    /// of a transport that nobody closed, and says so.
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let text = format!("unclosed transport {}", slf.as_any().repr()?);
        let Some(sock) = slf.get().with_life(py, |life, _| life.sock.take()) else { return Ok(()) };
        let warned = raw::warn_of_resource(slf.as_any(), &text);
        sock.bind(py).call_method0(intern!(py, "close"))?;
        warned
    }

    /// The same for `Drop`, where the object itself cannot be shown any more.
    fn close_unclosed(&self, sock: &Py<PyAny>) {
        Python::attach(|py| {
            // Finalizers must leave the exception that is being handled alone.
            let pending = PyErr::take(py);
            // A transport that is being freed cannot be named as the warning's source. Its socket can: it was allocated
            // for it, and where that was is what tracemalloc is asked for.
            let source = self.shown(py).into_bound(py);
            let message = format!("unclosed transport <{} fd={}>", Self::CLASS, self.fd());
            if let Err(error) = raw::warn_of_resource(&source, &message) {
                error.write_unraisable(py, None);
            }
            // The collector may have emptied the object already; what the descriptor belongs to is left.
            let sock = sock.bind(py);
            let closed = match sock.call_method0(intern!(py, "close")) {
                Err(error) if error.is_instance_of::<PyAttributeError>(py) => {
                    sock.call_method0(intern!(py, "_real_close"))
                }
                other => other,
            };
            if let Err(error) = closed {
                error.write_unraisable(py, None);
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
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

/// Tells a future what came of what it waits for, unless it is done already.
pub fn settle(future: &Bound<'_, PyAny>, outcome: &PyResult<()>) -> PyResult<()> {
    let py = future.py();
    let Err(error) = outcome else { return wake(future) };
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    future.call_method1(intern!(py, "set_exception"), (error.value(py),)).map(drop)
}
