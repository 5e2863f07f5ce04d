//! From `connection_made` to `connection_lost`.

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::writing::DEFAULT_HIGH_WATER_BYTES;
use super::{DatagramTransport, State};
use crate::address::IpFamily;
use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::host::Job;
use crate::raw::{self, Made};
use crate::sock::is_plain;
use crate::transport::{TransportJob, close_unclosed, describe, settle};
use crate::watches::{Owner, Watches, Watching};

impl DatagramTransport {
    /// A transport for a datagram socket; `connection_made` is scheduled.
    pub(super) fn open<'py>(
        event_loop: &Bound<'py, Loop>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        address: Option<Bound<'py, PyAny>>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        // Nothing is begun in a wrong thread, or on a closed loop.
        let _engine = event_loop.get().engine(py)?;
        let fd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
        let extra = describe(sock, extra)?;
        let address = match address {
            Some(address) if address.is_truthy()? => Some(address.unbind()),
            _ => None,
        };
        let this = Self {
            event_loop: event_loop.clone().unbind(),
            fd,
            // Of an unnamed unix socket the name is empty, and yet it is a peer.
            is_connected: extra.get_item(intern!(py, "peername"))?.is_some_and(|peer| !peer.is_none()),
            extra: extra.unbind(),
            context: raw::copy_context(py)?,
            address,
            ip_family: if is_plain(sock)? { IpFamily::of(sock)? } else { None },
            state: GilCell::new(State {
                sock: Some(sock.clone().unbind()),
                protocol: Some(protocol.clone().unbind()),
                high_water_bytes: DEFAULT_HIGH_WATER_BYTES,
                low_water_bytes: DEFAULT_HIGH_WATER_BYTES / 4,
                ..State::default()
            }),
            made: Made::MADE,
        };
        let slf = Bound::new(py, this)?;
        let key = Watches::add_transport(event_loop, fd, Owner::Datagram(slf.clone().unbind()))?;
        slf.get().state.borrow_mut(py).key = Some(key);
        let start = TransportJob::Start { waiter: waiter.map(Bound::unbind), context: raw::copy_context(py)? };
        Self::schedule(&slf, start)?;
        Ok(slf)
    }

    fn schedule(slf: &Bound<'_, Self>, job: TransportJob) -> PyResult<()> {
        slf.get().event_loop.get().schedule(slf.py(), Job::Transport(Owner::Datagram(slf.clone().unbind()), job))
    }

    /// Runs a step that was scheduled. What goes wrong is reported, and never ends the loop's run.
    pub fn run_job(slf: &Bound<'_, Self>, job: TransportJob) -> PyResult<()> {
        let py = slf.py();
        let done = match job {
            TransportJob::Start { waiter, context } => Self::start(slf, waiter, &context),
            TransportJob::ConnectionLost { exception, context } => {
                raw::in_context(py, &context, || Self::connection_lost(slf, exception))
            }
        };
        done.or_else(|error| Self::report(slf, error, "Exception in a step of a datagram transport"))
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
        // Reading begins only after connection_made, and whoever waits for the endpoint hears of it last.
        this.state.borrow_mut(py).is_started = true;
        let watched = Self::update_interest(slf);
        if let Some(waiter) = waiter {
            settle(waiter.bind(py), &watched)?;
        }
        if let Err(error) = made {
            Self::report(slf, error, "Exception in protocol.connection_made()")?;
        }
        watched.or_else(|error| Self::fatal_error(slf, error, "Fatal error: the socket cannot be watched"))
    }

    /// Closes once what waits is sent.
    pub(super) fn close_gently(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let lose_now = {
            let mut state = this.state.borrow_mut(py);
            if state.is_closing {
                return Ok(());
            }
            state.is_closing = true;
            let lose_now = state.queue.is_empty();
            state.lost += u32::from(lose_now);
            lose_now
        };
        Self::update_interest(slf)?;
        if lose_now { Self::schedule_lost(slf, None) } else { Ok(()) }
    }

    /// Closes at once; what waits is thrown away.
    pub(super) fn close_hard(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let discarded = {
            let mut state = this.state.borrow_mut(py);
            if state.lost > 0 {
                return Ok(());
            }
            state.is_closing = true;
            state.lost += 1;
            state.queue_bytes = 0;
            std::mem::take(&mut state.queue)
        };
        drop(discarded);
        Self::update_interest(slf)?;
        Self::schedule_lost(slf, exception)
    }

    fn schedule_lost(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        Self::schedule(slf, TransportJob::ConnectionLost { exception, context: raw::copy_context(slf.py())? })
    }

    /// Tells the protocol, then closes the socket, whatever the protocol says to it.
    pub(super) fn connection_lost(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let told = match this.protocol(py) {
            Some(protocol) => protocol.call_method1(intern!(py, "connection_lost"), (exception,)).map(drop),
            None => Ok(()),
        };
        let (key, sock, protocol) = {
            let mut state = this.state.borrow_mut(py);
            (state.key.take(), state.sock.take(), state.protocol.take())
        };
        if let Some(key) = key {
            Watches::remove_transport(this.event_loop.bind(py), this.fd, key);
        }
        drop(protocol);
        let closed = match sock {
            Some(sock) => sock.bind(py).call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        };
        if let Err(error) = closed {
            Self::report(slf, error, "Exception while the socket was closed")?;
        }
        told.or_else(|error| Self::report(slf, error, "Exception in protocol.connection_lost()"))
    }

    /// Ends the transport because of `error`. Network errors are the protocol's business alone; others are bugs, and
    /// go to the loop's exception handler too.
    pub(super) fn fatal_error(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if raw::ends_run(py, &error) {
            return Err(error);
        }
        let exception = raw::exception(py, error);
        if exception.is_instance_of::<PyOSError>() {
            if slf.get().event_loop.get().is_debug() {
                let helpers = py.import(intern!(py, "aioxide._debug"))?;
                helpers.call_method1(intern!(py, "log_transport_error"), (slf, message, &exception))?;
            }
        } else {
            Self::call_exception_handler(slf, exception.as_any(), message)?;
        }
        Self::close_hard(slf, Some(exception.into_any().unbind()))
    }

    /// Tells the loop's exception handler of a failure that does not end the transport.
    pub(super) fn report(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
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
        this.event_loop.bind(py).call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
    }
}

impl DatagramTransport {
    /// Warns of a socket that nobody closed, and closes it.
    pub(super) fn finalize(&self, sock: Option<Py<PyAny>>) {
        if let Some(sock) = sock {
            close_unclosed(&sock, &self.extra, &format!("unclosed transport <DatagramTransport fd={}>", self.fd));
        }
    }
}

impl Drop for DatagramTransport {
    fn drop(&mut self) {
        self.finalize(self.state.take_in_gc().and_then(|state| state.sock));
    }
}
