//! From the handshake to `connection_lost`.

use aioxide::transport::tls::{AtEnd, Closing, Progress, Session as _};
use pyo3::exceptions::{PyConnectionAbortedError, PyConnectionResetError, PyOSError, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Lower, TlsTransport, Told};
use crate::raw;
use crate::transport::SocketTransport;

impl TlsTransport {
    /// The transport below is connected: the handshake begins.
    pub(super) fn begin(slf: &Bound<'_, Self>, lower: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        {
            let mut state = this.state.borrow_mut(py);
            state.lower = Some(match lower.cast_exact::<SocketTransport>() {
                Ok(native) => Lower::Native(native.clone().unbind()),
                Err(_) => Lower::Foreign(lower.clone().unbind()),
            });
            if !state.connection.begin_handshake() {
                return Ok(());
            }
        }
        Self::log_debug(slf, "%r starts SSL handshake")?;
        let timer = Self::call_later(slf, this.handshake_timeout, "_handshake_overdue")?;
        this.state.borrow_mut(py).handshake_timer = Some(timer);
        // The client speaks first.
        if this.is_server { Ok(()) } else { Self::handshake(slf, &[]) }
    }

    /// Goes on with the handshake.
    pub(super) fn handshake(slf: &Bound<'_, Self>, ciphertext: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let result = slf.get().with_session(py, |session| session.feed(ciphertext, |session| session.handshake()));
        match result {
            // Somebody up the stack is at it.
            None => Ok(()),
            Some(Ok(Progress::Waiting)) => Self::flush_output(slf),
            Some(Ok(Progress::Done)) => Self::handshake_done(slf),
            Some(Err(error)) => Self::handshake_failed(slf, error),
        }
    }

    fn handshake_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (timer, was_wanted) = {
            let mut state = this.state.borrow_mut(py);
            (state.handshake_timer.take(), state.connection.handshake_done())
        };
        cancel(py, timer)?;
        if !was_wanted {
            return Ok(());
        }
        if let Err(error) = this.describe(py) {
            return Self::handshake_failed(slf, error);
        }
        Self::log_debug(slf, "%r: SSL handshake is done")?;
        let (protocol, is_first) = {
            let mut state = this.state.borrow_mut(py);
            let is_first = state.told == Told::Nothing;
            if is_first {
                state.told = Told::Made;
            }
            (state.protocol.as_ref().map(|protocol| protocol.clone_ref(py)), is_first)
        };
        let made = match protocol.filter(|_| is_first) {
            Some(protocol) => protocol.bind(py).call_method1(intern!(py, "connection_made"), (slf,)).map(drop),
            None => Ok(()),
        };
        // The peer's first data may have come with its last handshake message.
        let received = made.and_then(|()| this.wake_waiter(py, None)).and_then(|()| Self::receive(slf, &[]));
        // The peer's handshake ends with these bytes, whatever the protocol did; mostly they went with its first answer.
        Self::flush_output(slf)?;
        received
    }

    /// Notes what the handshake has settled.
    fn describe(&self, py: Python<'_>) -> PyResult<()> {
        let object = self.state.borrow(py).session.as_ref().map(|session| session.object().clone_ref(py));
        let Some(object) = object else { return Ok(()) };
        let object = object.bind(py);
        let extra = self.extra.bind(py);
        extra.set_item(intern!(py, "peercert"), object.call_method0(intern!(py, "getpeercert"))?)?;
        extra.set_item(intern!(py, "cipher"), object.call_method0(intern!(py, "cipher"))?)?;
        extra.set_item(intern!(py, "compression"), object.call_method0(intern!(py, "compression"))?)?;
        extra.set_item(intern!(py, "ssl_object"), object)
    }

    fn handshake_failed(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if raw::ends_run(py, &error) {
            return Err(error);
        }
        let timer = {
            let mut state = this.state.borrow_mut(py);
            state.connection.abort();
            state.handshake_timer.take()
        };
        cancel(py, timer)?;
        let is_certificate = error
            .get_type(py)
            .is_subclass(&py.import(intern!(py, "ssl"))?.getattr(intern!(py, "CertificateError"))?)?;
        let message =
            if is_certificate { "SSL handshake failed on verifying the certificate" } else { "SSL handshake failed" };
        let exception = raw::exception(py, error);
        // The waiter hears of it even where the transport below is gone already.
        Self::fatal_error(slf, PyErr::from_value(exception.clone().into_any()), message)?;
        this.wake_waiter(py, Some(exception.as_any()))
    }

    /// The handshake's time is up.
    pub(super) fn handshake_overdue(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if !this.state.borrow(slf.py()).connection.handshake_overdue() {
            return Ok(());
        }
        let message = format!(
            "SSL handshake is taking longer than {} seconds: aborting the connection",
            this.handshake_timeout.into_pyobject(slf.py())?
        );
        Self::fatal_error(slf, PyConnectionAbortedError::new_err(message), "Fatal error on transport")
    }

    /// Closes: what was written goes out, then close_notify.
    pub(super) fn close_gently(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let closing = {
            let mut state = this.state.borrow_mut(py);
            state.is_forgotten = std::mem::replace(&mut state.is_closed, true);
            state.connection.close()
        };
        match closing {
            Closing::Already => this.forget(py),
            Closing::Abort => Self::close_hard(slf, None),
            Closing::Flush => {
                this.start_shutdown_timer(slf)?;
                Self::flush(slf, &[])
            }
        }
    }

    /// Closes at once; the protocol hears `connection_lost(exception)`.
    pub(super) fn close_hard(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        {
            let mut state = this.state.borrow_mut(py);
            state.is_closed = true;
            state.connection.abort();
        }
        this.force_lower(py, exception)
    }

    /// Lets go of the context once the connection is lost and was closed twice: the protocol, which mostly keeps its
    /// transport, would keep it alive.
    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        let forgets = {
            let state = self.state.borrow(py);
            state.is_forgotten && state.told == Told::Lost
        };
        if forgets {
            let extra = self.extra.bind(py);
            for name in [intern!(py, "sslcontext"), intern!(py, "ssl_object")] {
                if extra.contains(name)? {
                    extra.del_item(name)?;
                }
            }
        }
        Ok(())
    }

    fn force_lower(&self, py: Python<'_>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(lower) = self.lower(py) else { return Ok(()) };
        lower.as_any().bind(py).call_method1(intern!(py, "_force_close"), (exception,)).map(drop)
    }

    fn start_shutdown_timer(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        if self.state.borrow(slf.py()).shutdown_timer.is_none() {
            let timer = Self::call_later(slf, self.shutdown_timeout, "_shutdown_overdue")?;
            self.state.borrow_mut(slf.py()).shutdown_timer = Some(timer);
        }
        Ok(())
    }

    /// Reads and writes what is left, and begins to shut down once nothing is.
    pub(super) fn flush(slf: &Bound<'_, Self>, ciphertext: &[u8]) -> PyResult<()> {
        Self::read(slf, ciphertext)?;
        if slf.get().state.borrow_mut(slf.py()).connection.begin_shutdown() { Self::shutdown(slf, &[]) } else { Ok(()) }
    }

    /// Goes on with the shutdown.
    pub(super) fn shutdown(slf: &Bound<'_, Self>, ciphertext: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let is_input_ended = this.state.borrow(py).connection.is_input_ended();
        let result = if is_input_ended {
            // Nobody will answer a close_notify, and asyncio sends none then.
            Some(Ok(Progress::Done))
        } else {
            this.with_session(py, |session| session.feed(ciphertext, |session| session.shutdown()))
        };
        match result {
            None => Ok(()),
            Some(Ok(Progress::Waiting)) => Self::flush_output(slf),
            Some(Ok(Progress::Done)) => {
                Self::flush_output(slf)?;
                Self::call_eof_received(slf)?;
                this.state.borrow_mut(py).connection.abort();
                // What the transport below has still to send may take for ever, if the peer does not read.
                this.start_shutdown_timer(slf)?;
                Self::call_soon(slf, "_close_lower")
            }
            Some(Err(error)) => Self::fatal_error(slf, error, "Fatal error on transport"),
        }
    }

    /// The shutdown's time is up.
    pub(super) fn shutdown_overdue(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let error = raw::exception(py, PyTimeoutError::new_err("SSL shutdown timed out"));
        Self::close_hard(slf, Some(error.into_any()))
    }

    /// The transport below has received the end of the peer's bytes. Whether it must stay open.
    pub(super) fn input_ended(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        Self::log_debug(slf, "%r received EOF")?;
        let at_end = this.state.borrow_mut(py).connection.input_ended();
        match at_end {
            AtEnd::HandshakeFails => {
                let error = PyConnectionResetError::new_err("the peer ended the connection in the TLS handshake");
                Self::handshake_failed(slf, error)?;
                Ok(false)
            }
            AtEnd::WaitForReader => Ok(true),
            AtEnd::Flush => {
                this.state.borrow_mut(py).is_closed = true;
                this.start_shutdown_timer(slf)?;
                Self::flush(slf, &[])?;
                // Where it still flushes, it closes the transport below by itself.
                Ok(this.state.borrow(py).connection.shutdown_overdue())
            }
            AtEnd::Nothing => Ok(false),
        }
    }

    /// The transport below is closed.
    pub(super) fn lost(slf: &Bound<'_, Self>, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (was_handshaking, was_told, protocol, dropped, timers) = {
            let mut state = this.state.borrow_mut(py);
            state.is_closed = true;
            state.lost_writes += 1;
            let was_handshaking = state.connection.handshake_overdue();
            state.connection.abort();
            let was_told = matches!(state.told, Told::Made | Told::Eof);
            state.told = Told::Lost;
            let dropped = (state.session.take(), state.lower.take(), state.connection.backlog.take());
            let timers = (state.handshake_timer.take(), state.shutdown_timer.take());
            let receiver = std::mem::take(&mut state.receiver);
            (was_handshaking, was_told, state.protocol.take(), (dropped, receiver), timers)
        };
        drop(dropped);
        this.forget(py)?;
        cancel(py, timers.0)?;
        cancel(py, timers.1)?;
        if was_told && !was_handshaking {
            if let Some(protocol) = protocol {
                let callback = protocol.bind(py).getattr(intern!(py, "connection_lost"))?;
                let event_loop = this.event_loop.bind(py);
                event_loop.call_method1(intern!(py, "call_soon"), (callback, exception.as_ref()))?;
            }
        }
        // Who still waits, waits for the handshake; that it did not end is no success, whoever closed the transport.
        let exception = exception.unwrap_or_else(|| {
            let error = PyConnectionResetError::new_err("the connection was closed in the TLS handshake");
            raw::exception(py, error).into_any()
        });
        this.wake_waiter(py, Some(&exception))
    }

    fn wake_waiter(&self, py: Python<'_>, exception: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(waiter) = self.state.borrow_mut(py).waiter.take() else { return Ok(()) };
        let waiter = waiter.bind(py);
        if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match exception {
            Some(exception) => waiter.call_method1(intern!(py, "set_exception"), (exception,)).map(drop),
            None => waiter.call_method1(intern!(py, "set_result"), (py.None(),)).map(drop),
        }
    }

    /// Ends the connection because of `error`. Network errors are the protocol's business alone; others go to the
    /// loop's exception handler too.
    pub(super) fn fatal_error(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if raw::ends_run(py, &error) {
            return Err(error);
        }
        // An alert that tells the peer why.
        Self::flush_output(slf)?;
        let exception = raw::exception(py, error);
        let lower = this.lower(py);
        this.force_lower(py, Some(exception.clone().into_any()))?;
        if exception.is_instance_of::<PyOSError>() {
            if this.event_loop.get().is_debug() {
                let helpers = py.import(intern!(py, "aioxide._debug"))?;
                helpers.call_method1(intern!(py, "log_transport_error"), (slf, message, &exception))?;
            }
            return Ok(());
        }
        let cancelled = py.import(intern!(py, "asyncio"))?.getattr(intern!(py, "CancelledError"))?;
        if exception.is_instance(&cancelled)? {
            return Ok(());
        }
        let context = PyDict::new(py);
        context.set_item(intern!(py, "message"), message)?;
        context.set_item(intern!(py, "exception"), exception)?;
        context.set_item(intern!(py, "transport"), lower.as_ref().map(Lower::as_any))?;
        context.set_item(intern!(py, "protocol"), slf)?;
        this.event_loop.bind(py).call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
    }

    fn call_later(slf: &Bound<'_, Self>, seconds: f64, method: &str) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let callback = slf.getattr(method)?;
        Ok(slf.get().event_loop.bind(py).call_method1(intern!(py, "call_later"), (seconds, callback))?.unbind())
    }

    fn log_debug(slf: &Bound<'_, Self>, message: &str) -> PyResult<()> {
        let py = slf.py();
        if !slf.get().event_loop.get().is_debug() {
            return Ok(());
        }
        let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
        logger.call_method1(intern!(py, "debug"), (message, slf)).map(drop)
    }
}

fn cancel(py: Python<'_>, timer: Option<Py<PyAny>>) -> PyResult<()> {
    match timer {
        Some(timer) => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
        None => Ok(()),
    }
}
