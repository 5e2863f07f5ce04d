//! `SocketOperation`: a coroutine without a frame.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::attempt::{self, Attempt, Direction, Request};
use crate::coroutine::{check_first_send, stop_iteration, to_throw, warn_never_awaited};
use crate::event_loop::Loop;
use crate::gil_cell::GilCell;
use crate::watches::Watches;

/// An operation on a socket that was asked for: a coroutine to whoever awaits it.
///
/// It begins when it is first resumed, and belongs to the loop whose method made it.
#[pyclass(module = "aioxide", name = "SocketOperation", frozen, weakref)]
pub struct SocketOperation {
    event_loop: Py<Loop>,
    sock: Py<PyAny>,
    name: &'static str,
    state: GilCell<State>,
}

/// How far an operation is.
#[derive(Default)]
enum State {
    /// Nobody has awaited it yet.
    Created(Request),
    /// It would block; the future is resolved when the socket is ready.
    Waiting(Request, Wait),
    /// It gave way to others of its own accord.
    Yielded(Request),
    /// A coroutine must finish first: the look-up of a connect's address.
    Resolving(Request, Py<PyAny>),
    /// It has ended, or is being tried right now.
    #[default]
    Finished,
}

/// What a blocked operation waits for.
struct Wait {
    fd: RawFd,
    direction: Direction,
    future: Py<PyAny>,
}

impl SocketOperation {
    pub(super) fn new(
        event_loop: &Bound<'_, Loop>,
        sock: Bound<'_, PyAny>,
        name: &'static str,
        request: Request,
    ) -> Self {
        Self {
            event_loop: event_loop.clone().unbind(),
            sock: sock.unbind(),
            name,
            state: GilCell::new(State::Created(request)),
        }
    }

    /// Goes on until the operation is done (then its result comes as `Err(StopIteration)`, or as `None` for a result of
    /// `None`), or something must be waited for, which is given to the task that drives us.
    fn resume(&self, py: Python<'_>, sent: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let state = self.state.replace(py, State::Finished);
        let mut request = match state {
            State::Created(request) => {
                if let Err(error) = check_first_send(sent) {
                    let _created = self.state.replace(py, State::Created(request));
                    return Err(error);
                }
                self.check(py)?;
                request
            }
            State::Yielded(request) => request,
            State::Waiting(request, wait) => {
                // Resumed by somebody else than the future: what waited for it must not be woken for nothing.
                self.stop_waiting(py, &wait)?;
                request
            }
            State::Resolving(request, inner) => {
                let step = inner.bind(py).call_method1(intern!(py, "send"), (sent,));
                return self.resolved(py, request, inner, step);
            }
            State::Finished => return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        };
        let event_loop = self.event_loop.bind(py);
        match attempt::attempt(event_loop, self.sock.bind(py), &mut request)? {
            Attempt::Done(value) if value.is_none(py) => Ok(None),
            Attempt::Done(value) => Err(stop_iteration(py, value)),
            Attempt::Blocked(direction) => self.wait(py, request, direction).map(Some),
            Attempt::GiveWay => {
                let _taken = self.state.replace(py, State::Yielded(request));
                Ok(Some(py.None()))
            }
            Attempt::Resolve(inner) => {
                let step = inner.bind(py).call_method1(intern!(py, "send"), (py.None(),));
                self.resolved(py, request, inner, step)
            }
        }
    }

    /// Goes on after a step of the address look-up: it waits too, or has given the address.
    fn resolved(
        &self,
        py: Python<'_>,
        mut request: Request,
        inner: Py<PyAny>,
        step: PyResult<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        match step {
            Ok(awaited) => {
                let _taken = self.state.replace(py, State::Resolving(request, inner));
                Ok(Some(awaited.unbind()))
            }
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                request.set_address(&error.value(py).getattr(intern!(py, "value"))?)?;
                let _taken = self.state.replace(py, State::Yielded(request));
                self.resume(py, None)
            }
            Err(error) => Err(error),
        }
    }

    /// What asyncio checks before it tries.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        let sock = self.sock.bind(py);
        if !attempt::is_plain(sock)? {
            static CHECK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let check = CHECK.get_or_try_init(py, || {
                PyResult::Ok(py.import("asyncio.base_events")?.getattr("_check_ssl_socket")?.unbind())
            })?;
            check.bind(py).call1((sock,))?;
        }
        if self.event_loop.get().is_debug() && !sock.call_method0(intern!(py, "gettimeout"))?.eq(0)? {
            return Err(PyValueError::new_err("the socket must be non-blocking"));
        }
        Ok(())
    }

    /// Watches the socket, and gives the future that its readiness resolves.
    fn wait(&self, py: Python<'_>, request: Request, direction: Direction) -> PyResult<Py<PyAny>> {
        let event_loop = self.event_loop.bind(py);
        let sock = self.sock.bind(py);
        let fd: RawFd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
        let future = Loop::new_future(event_loop)?;
        if let Request::Connect { .. } = request {
            // An edge from before the attempt says nothing about it.
            Watches::settle(event_loop, fd)?;
        }
        let for_reading = direction == Direction::Read;
        if !Watches::put_future(event_loop, sock, fd, for_reading, &future)? {
            event_loop.call_method1(intern!(py, "_ensure_fd_no_transport"), (fd,))?;
            Watches::add_future(event_loop, sock, fd, for_reading, &future)?;
        }
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        let wait = Wait { fd, direction, future: future.clone().unbind() };
        let _taken = self.state.replace(py, State::Waiting(request, wait));
        Ok(future.unbind())
    }

    fn stop_waiting(&self, py: Python<'_>, wait: &Wait) -> PyResult<()> {
        let for_reading = wait.direction == Direction::Read;
        Watches::remove_future(self.event_loop.bind(py), self.sock.bind(py), wait.fd, for_reading, &wait.future)
    }

    /// Ends the operation for good, whatever it waits for.
    fn abandon(&self, py: Python<'_>) -> PyResult<Option<(Request, Py<PyAny>)>> {
        match self.state.replace(py, State::Finished) {
            State::Waiting(_, wait) => self.stop_waiting(py, &wait).map(|()| None),
            State::Resolving(request, inner) => Ok(Some((request, inner))),
            State::Created(_) | State::Yielded(_) | State::Finished => Ok(None),
        }
    }
}

#[pymethods]
impl SocketOperation {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.resume(py, None)
    }

    /// Goes on; gives what is waited for, or raises `StopIteration` with the result.
    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match self.resume(value.py(), Some(value))? {
            Some(awaited) => Ok(awaited),
            None => Err(PyStopIteration::new_err(())),
        }
    }

    /// Ends the operation with an exception, such as `CancelledError`. What was not received yet is not lost.
    #[pyo3(signature = (typ, val=None, tb=None))]
    fn throw(
        &self,
        py: Python<'_>,
        typ: Bound<'_, PyAny>,
        val: Option<Bound<'_, PyAny>>,
        tb: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = to_throw(&typ, val.as_ref(), tb.as_ref())?;
        let Some((request, inner)) = self.abandon(py)? else { return Err(error) };
        let step = inner.bind(py).call_method1(intern!(py, "throw"), (error.into_value(py),));
        match self.resolved(py, request, inner, step)? {
            Some(awaited) => Ok(awaited),
            None => Err(PyStopIteration::new_err(())),
        }
    }

    /// Ends the operation.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.abandon(py)? {
            Some((_, inner)) => inner.bind(py).call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    #[getter(__name__)]
    fn name(&self) -> &'static str {
        self.name
    }

    #[getter(__qualname__)]
    fn qualified_name(&self) -> String {
        format!("EventLoop.{}", self.name)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let sock = this.sock.bind(slf.py()).repr()?;
        let state = match &*this.state.borrow(slf.py()) {
            State::Created(_) => "created",
            State::Waiting(..) | State::Yielded(_) => "waiting",
            State::Resolving(..) => "resolving",
            State::Finished => "finished",
        };
        Ok(format!("<SocketOperation {} {state} {sock}>", this.name))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.sock)?;
        let Some(state) = self.state.try_borrow_in_gc() else { return Ok(()) };
        match &*state {
            State::Created(request) | State::Yielded(request) => request.traverse(&visit),
            State::Waiting(request, wait) => {
                visit.call(&wait.future)?;
                request.traverse(&visit)
            }
            State::Resolving(request, inner) => {
                visit.call(inner)?;
                request.traverse(&visit)
            }
            State::Finished => Ok(()),
        }
    }

    fn __clear__(&self) {
        drop(self.state.take_in_gc());
    }
}

impl Drop for SocketOperation {
    fn drop(&mut self) {
        if let Some(State::Created(_)) = self.state.take_in_gc() {
            warn_never_awaited(&self.qualified_name());
        }
    }
}
