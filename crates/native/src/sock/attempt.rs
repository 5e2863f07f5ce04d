//! One try of an operation.
//!
//! What is hot goes straight to the driver: receiving and sending on a plain `socket.socket`, whatever its family, and
//! with IP addresses ([`datagrams`]). What is cold or has other addresses asks the socket object's own methods, and so
//! does every socket that is not plainly a `socket.socket`: a subclass may have methods of its own.

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;

use aioxide::driver::socket;
use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PySlice};

use super::{accept, datagrams};
use crate::errors::{os_error, would_block};
use crate::event_loop::{Loop, SCRATCH_BYTES};
use crate::raw::{self, BytesBuilder};
use crate::receive;

/// So many pieces are sent without a pause, however fast the peer takes them.
const SENDS_PER_TURN: usize = 16;

/// What is to be done.
pub enum Request {
    Recv { size: Py<PyAny> },
    RecvInto { buffer: Py<PyAny> },
    RecvFrom { size: Py<PyAny> },
    RecvFromInto { buffer: Py<PyAny>, size: Option<Py<PyAny>> },
    SendAll(Outgoing),
    SendTo { data: Py<PyAny>, address: Py<PyAny> },
    Accept,
    Connect { address: Py<PyAny>, phase: ConnectPhase },
}

/// Data of which a part is sent.
pub struct Outgoing {
    data: Py<PyAny>,
    sent_bytes: usize,
    /// The data is a view of our own, which keeps its owner from resizing it.
    is_held: bool,
}

/// How far a connect is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ConnectPhase {
    /// The address may name a host.
    Named,
    /// The address is the kernel's.
    Resolved,
    /// The kernel is at it; readiness to write tells of its end.
    InProgress,
}

/// Which readiness a blocked operation waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

/// How a try ended.
pub enum Attempt {
    Done(Py<PyAny>),
    Blocked(Direction),
    /// It can go on, but others should have their turn first.
    GiveWay,
    /// This coroutine gives `getaddrinfo`'s answer.
    Resolve(Py<PyAny>),
}

impl Request {
    pub fn send_all(data: Py<PyAny>) -> Self {
        Self::SendAll(Outgoing { data, sent_bytes: 0, is_held: false })
    }

    pub fn connect(address: Py<PyAny>) -> Self {
        Self::Connect { address, phase: ConnectPhase::Named }
    }

    /// Takes the address out of what `getaddrinfo` found.
    pub fn set_address(&mut self, found: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Self::Connect { address, phase } = self {
            *address = found.get_item(0)?.get_item(4)?.unbind();
            *phase = ConnectPhase::Resolved;
        }
        Ok(())
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Recv { size } | Self::RecvFrom { size } => visit.call(size),
            Self::RecvInto { buffer } => visit.call(buffer),
            Self::RecvFromInto { buffer, size } => {
                visit.call(buffer)?;
                visit.call(size)
            }
            Self::SendAll(outgoing) => visit.call(&outgoing.data),
            Self::SendTo { data, address } => {
                visit.call(data)?;
                visit.call(address)
            }
            Self::Accept => Ok(()),
            Self::Connect { address, .. } => visit.call(address),
        }
    }
}

/// Tries `request` once.
pub fn attempt(event_loop: &Bound<'_, Loop>, sock: &Bound<'_, PyAny>, request: &mut Request) -> PyResult<Attempt> {
    let py = sock.py();
    match request {
        Request::Recv { size } => recv(event_loop, sock, size.bind(py)),
        Request::RecvInto { buffer } => recv_into(event_loop, sock, buffer.bind(py)),
        Request::RecvFrom { size } => datagrams::recv_from(event_loop, sock, size.bind(py)),
        Request::RecvFromInto { buffer, size } => {
            datagrams::recv_from_into(event_loop, sock, buffer.bind(py), size.as_ref().map(|size| size.bind(py)))
        }
        Request::SendAll(outgoing) => send_all(event_loop, sock, outgoing),
        Request::SendTo { data, address } => datagrams::send_to(event_loop, sock, data.bind(py), address.bind(py)),
        Request::Accept => accept(sock),
        Request::Connect { address, phase } => connect(event_loop, sock, address, phase),
    }
}

/// Whether a socket is an instance of `socket.socket` itself, whose methods are known.
pub fn is_plain(sock: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = sock.py();
    let class = CLASS.get_or_try_init(py, || PyResult::Ok(py.import("socket")?.getattr("socket")?.unbind()))?;
    Ok(sock.get_type().is(class))
}

/// The descriptor of a socket that may be used without asking its object. One of an open transport is refused before
/// anything is taken from it.
pub(super) fn plain_descriptor(event_loop: &Bound<'_, Loop>, sock: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    if !is_plain(sock)? {
        return Ok(None);
    }
    let py = sock.py();
    let fd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
    let is_transports = event_loop.get().watches.borrow(py).has_transport(fd);
    if is_transports {
        event_loop.call_method1(intern!(py, "_ensure_fd_no_transport"), (fd,))?;
    }
    Ok(Some(fd))
}

/// The outcome of a method of the socket.
pub(super) fn outcome(py: Python<'_>, result: PyResult<Bound<'_, PyAny>>, direction: Direction) -> PyResult<Attempt> {
    match result {
        Ok(value) => Ok(Attempt::Done(value.unbind())),
        Err(error) if would_block(py, &error) => Ok(Attempt::Blocked(direction)),
        Err(error) => Err(error),
    }
}

fn recv(event_loop: &Bound<'_, Loop>, sock: &Bound<'_, PyAny>, size: &Bound<'_, PyAny>) -> PyResult<Attempt> {
    let py = sock.py();
    let (Some(fd), Ok(wanted)) = (plain_descriptor(event_loop, sock)?, size.extract::<usize>()) else {
        // A size that is none is the method's business to complain of, too.
        return outcome(py, sock.call_method1(intern!(py, "recv"), (size,)), Direction::Read);
    };
    if wanted == 0 {
        return Ok(Attempt::Done(PyBytes::new(py, b"").into_any().unbind()));
    }
    let received = if wanted > SCRATCH_BYTES {
        let mut builder = BytesBuilder::new(py, wanted)?;
        match socket::recv(fd, builder.buffer()) {
            // SAFETY: the kernel wrote that many bytes.
            Ok(received) => Ok(unsafe { builder.finish(received) }?),
            Err(error) => Err(error),
        }
    } else {
        receive::recv(event_loop, fd, wanted)
    };
    match received {
        Ok(data) => Ok(Attempt::Done(data.into_any().unbind())),
        Err(error) => failed(error, Direction::Read),
    }
}

fn recv_into(event_loop: &Bound<'_, Loop>, sock: &Bound<'_, PyAny>, buffer: &Bound<'_, PyAny>) -> PyResult<Attempt> {
    let py = sock.py();
    if let Some(fd) = plain_descriptor(event_loop, sock)? {
        let received = raw::with_writable(buffer, |bytes| {
            // As in Python's own: no room, nothing is asked for.
            if bytes.is_empty() { Ok(0) } else { socket::recv(fd, bytes) }
        });
        match received {
            Ok(Ok(received)) => return Ok(Attempt::Done(received.into_pyobject(py)?.into_any().unbind())),
            Ok(Err(error)) => return failed(error, Direction::Read),
            // No writable buffer: the method says so in its own words.
            Err(_) => {}
        }
    }
    outcome(py, sock.call_method1(intern!(py, "recv_into"), (buffer,)), Direction::Read)
}

pub(super) fn failed(error: io::Error, direction: Direction) -> PyResult<Attempt> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(Attempt::Blocked(direction)),
        _ => Err(os_error(error)),
    }
}

fn send_all(event_loop: &Bound<'_, Loop>, sock: &Bound<'_, PyAny>, outgoing: &mut Outgoing) -> PyResult<Attempt> {
    let py = sock.py();
    let fd = plain_descriptor(event_loop, sock)?;
    for _ in 0..SENDS_PER_TURN {
        match outgoing.send_some(sock, fd)? {
            Some(length) if outgoing.sent_bytes >= length => return Ok(Attempt::Done(py.None())),
            Some(_) => {}
            None => {
                outgoing.hold(py)?;
                return Ok(Attempt::Blocked(Direction::Write));
            }
        }
    }
    outgoing.hold(py)?;
    Ok(Attempt::GiveWay)
}

impl Outgoing {
    /// Sends what fits; gives the length of the whole, or `None` when nothing fits.
    fn send_some(&mut self, sock: &Bound<'_, PyAny>, fd: Option<RawFd>) -> PyResult<Option<usize>> {
        let py = sock.py();
        let data = self.data.bind(py);
        if let Some(fd) = fd {
            let sent = raw::with_bytes(data, |bytes| (socket::send(fd, &bytes[self.sent_bytes..]), bytes.len()));
            match sent {
                Ok((Ok(sent), length)) => {
                    self.sent_bytes += sent;
                    return Ok(Some(length));
                }
                Ok((Err(error), _)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Ok((Err(error), _)) => return Err(os_error(error)),
                // No buffer: the method says so in its own words.
                Err(_) => {}
            }
        }
        let sent = if self.sent_bytes == 0 {
            sock.call_method1(intern!(py, "send"), (data,))
        } else {
            self.hold(py)?;
            let view = self.data.bind(py);
            let rest = PySlice::new(py, isize::try_from(self.sent_bytes)?, isize::MAX, 1);
            sock.call_method1(intern!(py, "send"), (view.get_item(rest)?,))
        };
        match sent {
            Ok(sent) => {
                self.sent_bytes += sent.extract::<usize>()?;
                Ok(Some(raw::with_bytes(self.data.bind(py), <[u8]>::len)?))
            }
            Err(error) if would_block(py, &error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the data in place, and its owner from changing its size, until all of it is sent.
    fn hold(&mut self, py: Python<'_>) -> PyResult<()> {
        if !self.is_held {
            let view = PyMemoryView::from(self.data.bind(py))?;
            self.data = view.call_method1(intern!(py, "cast"), ("B",))?.unbind();
            self.is_held = true;
        }
        Ok(())
    }
}

fn accept(sock: &Bound<'_, PyAny>) -> PyResult<Attempt> {
    let accepted = accept::accept(sock)?;
    Ok(accepted.map_or(Attempt::Blocked(Direction::Read), |accepted| Attempt::Done(accepted.unbind())))
}

fn connect(
    event_loop: &Bound<'_, Loop>,
    sock: &Bound<'_, PyAny>,
    address: &Py<PyAny>,
    phase: &mut ConnectPhase,
) -> PyResult<Attempt> {
    let py = sock.py();
    match phase {
        ConnectPhase::Named => {
            *phase = ConnectPhase::Resolved;
            let family = sock.getattr(intern!(py, "family"))?;
            let constants = py.import(intern!(py, "socket"))?;
            if family.eq(constants.getattr(intern!(py, "AF_INET"))?)?
                || family.eq(constants.getattr(intern!(py, "AF_INET6"))?)?
            {
                return resolve(event_loop, sock, address, &family);
            }
            connect(event_loop, sock, address, phase)
        }
        ConnectPhase::Resolved => {
            *phase = ConnectPhase::InProgress;
            outcome(py, sock.call_method1(intern!(py, "connect"), (address,)), Direction::Write)
        }
        ConnectPhase::InProgress => {
            let constants = py.import(intern!(py, "socket"))?;
            let option = (constants.getattr(intern!(py, "SOL_SOCKET"))?, constants.getattr(intern!(py, "SO_ERROR"))?);
            let code: i32 = sock.call_method1(intern!(py, "getsockopt"), option)?.extract()?;
            if code == 0 {
                return Ok(Attempt::Done(py.None()));
            }
            let text = format!("Connect call failed {}", address.bind(py).str()?);
            outcome(py, Err(PyOSError::new_err((code, text))), Direction::Write)
        }
    }
}

/// Asks for the addresses of a host; numeric ones come at once.
fn resolve(
    event_loop: &Bound<'_, Loop>,
    sock: &Bound<'_, PyAny>,
    address: &Py<PyAny>,
    family: &Bound<'_, PyAny>,
) -> PyResult<Attempt> {
    let py = sock.py();
    let wanted = PyDict::new(py);
    wanted.set_item(intern!(py, "family"), family)?;
    wanted.set_item(intern!(py, "type"), sock.getattr(intern!(py, "type"))?)?;
    wanted.set_item(intern!(py, "proto"), sock.getattr(intern!(py, "proto"))?)?;
    wanted.set_item(intern!(py, "loop"), event_loop)?;
    let found = event_loop.call_method(intern!(py, "_ensure_resolved"), (address,), Some(&wanted))?;
    Ok(Attempt::Resolve(found.call_method0(intern!(py, "__await__"))?.unbind()))
}
