//! From `connection_made` to `connection_lost`.

use aioxide::driver::socket;
use pyo3::exceptions::{PyAttributeError, PyConnectionError, PyOSError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::writing::DEFAULT_HIGH_WATER_BYTES;
use super::{Receiver, SocketTransport, State};
use crate::address;
use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::host::Job;
use crate::raw::{self, Made, SocketLayout};
use crate::sock::{is_named_alike, is_plain};
use crate::watches::{Owner, Watches, Watching, wake};

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

/// Whether `asyncio.Server` wants to know which transport comes and goes (3.13), not only how many.
fn server_knows_transports(py: Python<'_>) -> bool {
    py.version_info() >= (3, 13)
}

impl SocketTransport {
    /// A transport for a connected socket; `connection_made` is scheduled.
    pub(super) fn open<'py>(
        event_loop: &Bound<'py, Loop>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
        server: Option<Bound<'py, PyAny>>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        // Nothing is begun in a wrong thread, or on a closed loop.
        let _engine = event_loop.get().engine(py)?;
        let context = raw::given_context(context)?;
        let fd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
        // Unix sockets know no such option, and have no such delay.
        let _not_tcp = socket::set_nodelay(fd);
        let this = Self {
            event_loop: event_loop.clone().unbind(),
            fd,
            layout: SocketLayout::of(sock, fd)?,
            extra: describe(sock, extra)?.unbind(),
            owns_context: context.is_some(),
            context: context.map_or_else(|| raw::copy_context(py), |context| Ok(context.unbind()))?,
            state: GilCell::new(State {
                sock: Some(sock.clone().unbind()),
                server: server.as_ref().map(|server| server.clone().unbind()),
                high_water_bytes: DEFAULT_HIGH_WATER_BYTES,
                low_water_bytes: DEFAULT_HIGH_WATER_BYTES / 4,
                ..State::default()
            }),
            made: Made::MADE,
        };
        let slf = Bound::new(py, this)?;
        let this = slf.get();
        this.replace_protocol(protocol)?;
        if let Some(server) = server {
            let attached = if server_knows_transports(py) {
                server.call_method1(intern!(py, "_attach"), (&slf,))
            } else {
                server.call_method0(intern!(py, "_attach"))
            };
            if let Err(error) = attached {
                // A closed server takes no more connections. The socket is still its giver's.
                let state = this.state.replace(py, State::default());
                drop(state);
                return Err(error);
            }
        }
        let key = Watches::add_transport(event_loop, fd, Owner::Stream(slf.clone().unbind()))?;
        this.state.borrow_mut(py).key = Some(key);
        let start = TransportJob::Start { waiter: waiter.map(Bound::unbind), context: this.job_context(py)? };
        event_loop.get().schedule(py, Job::Transport(Owner::Stream(slf.clone().unbind()), start))?;
        Ok(slf)
    }

    /// The context of a step that is scheduled now: as of every callback, the current one, unless the connection has
    /// its own.
    fn job_context(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.owns_context { Ok(self.context.clone_ref(py)) } else { raw::copy_context(py) }
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
        done.or_else(|error| Self::report(slf, error, "Exception in a step of a socket transport"))
    }

    fn start(slf: &Bound<'_, Self>, waiter: Option<Py<PyAny>>, context: &Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let protocol = this.state.borrow(py).protocol.as_ref().map(|protocol| protocol.clone_ref(py));
        let made = match protocol {
            Some(protocol) => raw::in_context(py, context, || {
                protocol.bind(py).call_method1(intern!(py, "connection_made"), (slf,)).map(drop)
            }),
            None => Ok(()),
        };
        // Reading begins only after connection_made, and whoever waits for the connection hears of it last.
        this.state.borrow_mut(py).is_started = true;
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

    /// Closes the socket of a TLS connection whose handshake was not done when the loop was closed: nobody else could.
    pub fn abandon_unknown(&self, py: Python<'_>) {
        let Receiver::Tls(tls) = self.state.borrow(py).receiver.clone_ref(py) else { return };
        if !tls.get().is_unknown(py) {
            return;
        }
        let sock = self.state.borrow_mut(py).sock.take();
        if let Some(Err(error)) = sock.map(|sock| sock.bind(py).call_method0(intern!(py, "close"))) {
            error.write_unraisable(py, None);
        }
    }

    pub(super) fn replace_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let receiver = Receiver::of(protocol)?;
        let old = {
            let mut state = self.state.borrow_mut(protocol.py());
            (std::mem::replace(&mut state.receiver, receiver), state.protocol.replace(protocol.clone().unbind()))
        };
        drop(old);
        Ok(())
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
            let lose_now = state.buffer.is_empty();
            if lose_now {
                state.lost += 1;
            }
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
            state.buffer.take()
        };
        drop(discarded);
        Self::update_interest(slf)?;
        Self::schedule_lost(slf, exception)
    }

    fn schedule_lost(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let job = TransportJob::ConnectionLost { exception, context: slf.get().job_context(py)? };
        slf.get().event_loop.get().schedule(py, Job::Transport(Owner::Stream(slf.clone().unbind()), job))
    }

    /// Tells the protocol, then closes the socket, whatever the protocol says to it.
    pub(super) fn connection_lost(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let protocol = this.state.borrow(py).protocol.as_ref().map(|protocol| protocol.clone_ref(py));
        let told = match protocol {
            Some(protocol) => protocol.bind(py).call_method1(intern!(py, "connection_lost"), (exception,)).map(drop),
            None => Ok(()),
        };
        let (key, sock, protocol, server, waiter) = {
            let mut state = this.state.borrow_mut(py);
            let protocol = (std::mem::take(&mut state.receiver), state.protocol.take());
            (state.key.take(), state.sock.take(), protocol, state.server.take(), state.empty_waiter.take())
        };
        if let Some(key) = key {
            Watches::remove_transport(this.event_loop.bind(py), this.fd, key);
        }
        let closed = match sock {
            Some(sock) => sock.bind(py).call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        };
        drop(protocol);
        if let Some(waiter) = waiter {
            settle(waiter.bind(py), &Err(PyConnectionError::new_err("Connection is closed by peer")))?;
        }
        if let Some(server) = server {
            if server_knows_transports(py) {
                server.bind(py).call_method1(intern!(py, "_detach"), (slf,))?;
            } else {
                server.bind(py).call_method0(intern!(py, "_detach"))?;
            }
        }
        if let Err(error) = closed {
            Self::report(slf, error, "Exception while the socket was closed")?;
        }
        told.or_else(|error| Self::report(slf, error, "Exception in protocol.connection_lost()"))
    }

    /// The value of a call, or `None` after its failure has ended the connection.
    pub(super) fn check<T>(slf: &Bound<'_, Self>, result: PyResult<T>, message: &str) -> PyResult<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => Self::fatal_error(slf, error, message).map(|()| None),
        }
    }

    /// Ends the connection because of `error`. Network errors are the protocol's business alone; others are bugs, and
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

    /// Tells the loop's exception handler of a failure that does not end the connection.
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
        context.set_item(intern!(py, "protocol"), this.state.borrow(py).protocol.as_ref())?;
        this.event_loop.bind(py).call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
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

/// What `get_extra_info` answers from.
pub fn describe<'py>(sock: &Bound<'py, PyAny>, extra: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyDict>> {
    static TRANSPORT_SOCKET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = sock.py();
    let described = extra.map_or_else(|| Ok(PyDict::new(py)), PyDictMethods::copy)?;
    let class = TRANSPORT_SOCKET
        .get_or_try_init(py, || PyResult::Ok(py.import("asyncio.trsock")?.getattr("TransportSocket")?.unbind()))?;
    described.set_item(intern!(py, "socket"), class.bind(py).call1((sock,))?)?;
    for (key, method) in
        [(intern!(py, "sockname"), intern!(py, "getsockname")), (intern!(py, "peername"), intern!(py, "getpeername"))]
    {
        if key == "sockname" || !described.contains(key)? {
            let known = if key == "sockname" && is_plain(sock)? { own_address(sock)? } else { None };
            let address = match known.map_or_else(|| sock.call_method0(method), Ok) {
                Err(error) if error.is_instance_of::<PyOSError>(py) => py.None().into_bound(py),
                other => other?,
            };
            described.set_item(key, address)?;
        }
    }
    Ok(described)
}

/// A plain socket's own address, if it is an IP address that is written without asking the system.
fn own_address<'py>(sock: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let fd = sock.call_method0(intern!(sock.py(), "fileno"))?.extract()?;
    match socket::local_addr(fd).ok().filter(is_named_alike) {
        Some(address) => Ok(Some(address::to_tuple(sock.py(), address)?.into_any())),
        None => Ok(None),
    }
}

impl Drop for SocketTransport {
    fn drop(&mut self) {
        let Some(sock) = self.state.take_in_gc().and_then(|state| state.sock) else { return };
        close_unclosed(&sock, &self.extra, &format!("unclosed transport <SocketTransport fd={}>", self.fd));
    }
}

/// Closes the socket of a transport that nobody closed, and says so.
pub fn close_unclosed(sock: &Py<PyAny>, extra: &Py<PyDict>, message: &str) {
    Python::attach(|py| {
        // Finalizers must leave the exception that is being handled alone.
        let pending = PyErr::take(py);
        // A transport that is being freed cannot be named as the warning's source. The socket that it shows can: it was
        // allocated at the same place, which is what tracemalloc is asked for.
        let shown = extra.bind(py).get_item(intern!(py, "socket")).ok().flatten();
        let source = shown.unwrap_or_else(|| extra.bind(py).clone().into_any());
        if let Err(error) = raw::warn_of_resource(&source, message) {
            error.write_unraisable(py, None);
        }
        // The collector may have emptied the object already; what the descriptor belongs to is left.
        let sock = sock.bind(py);
        let closed = match sock.call_method0(intern!(py, "close")) {
            Err(error) if error.is_instance_of::<PyAttributeError>(py) => sock.call_method0(intern!(py, "_real_close")),
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
