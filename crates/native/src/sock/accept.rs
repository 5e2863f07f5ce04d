//! Accepting one connection.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

use aioxide::driver::socket;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::attempt::is_plain;
use crate::address::{self, IpFamily};
use crate::errors::{os_error, would_block};

/// The address of an accepted connection's peer.
pub enum Peer<'py> {
    /// An IP address that is written without asking the system.
    Ip(SocketAddr),
    /// As the socket gave it.
    Other(Bound<'py, PyAny>),
}

impl<'py> Peer<'py> {
    /// The address as Python has it.
    pub fn into_object(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Ip(address) => Ok(address::to_tuple(py, address)?.into_any()),
            Self::Other(address) => Ok(address),
        }
    }
}

/// As `socket.accept()`: `(socket, address)`, but the socket does not block. `None` when no connection waits.
pub fn accept<'py>(listener: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = listener.py();
    let Some((sock, peer)) = accept_socket(listener)? else { return Ok(None) };
    Ok(Some((sock, peer.into_object(py)?).into_pyobject(py)?.into_any()))
}

/// Takes the connection that has waited longest: its socket, which does not block. `None` when none waits.
///
/// A plain `socket.socket` is not asked, which would make two enums of numbers, and an exception where none waits.
pub fn accept_socket<'py>(listener: &Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyAny>, Peer<'py>)>> {
    let py = listener.py();
    let Some((family, kind, proto)) = numbers(listener)? else { return accept_by_method(listener) };
    let fd: RawFd = listener.call_method0(intern!(py, "fileno"))?.extract()?;
    let (accepted, peer) = match socket::accept(fd) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
        other => other.map_err(os_error)?,
    };
    // Told by its type, as socket(2) is, that it does not block.
    let sock = listener.get_type().call1((family, kind | libc::SOCK_NONBLOCK, proto, accepted.as_raw_fd()))?;
    let _now_its = accepted.into_raw_fd();
    let peer = match peer.filter(is_named_alike) {
        Some(peer) => Peer::Ip(peer),
        None => Peer::Other(sock.call_method0(intern!(py, "getpeername"))?),
    };
    Ok(Some((sock, peer)))
}

/// Whether an address is written without asking the system, which knows the names of scopes.
pub fn is_named_alike(address: &SocketAddr) -> bool {
    !matches!(address, SocketAddr::V6(address) if address.scope_id() != 0)
}

fn accept_by_method<'py>(listener: &Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyAny>, Peer<'py>)>> {
    let py = listener.py();
    match listener.call_method0(intern!(py, "accept")) {
        Ok(accepted) => {
            let sock = accepted.get_item(0)?;
            sock.call_method1(intern!(py, "setblocking"), (false,))?;
            Ok(Some((sock, Peer::Other(accepted.get_item(1)?))))
        }
        Err(error) if would_block(py, &error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a plain `socket.socket` with IP addresses was made with: family, type and protocol.
fn numbers(sock: &Bound<'_, PyAny>) -> PyResult<Option<(i32, i32, i32)>> {
    static GETTERS: PyOnceLock<[Py<PyAny>; 2]> = PyOnceLock::new();
    let py = sock.py();
    if !is_plain(sock)? {
        return Ok(None);
    }
    let family = match IpFamily::of(sock)? {
        None => return Ok(None),
        Some(IpFamily::V4) => libc::AF_INET,
        Some(IpFamily::V6) => libc::AF_INET6,
    };
    let [kind, proto] = GETTERS.get_or_try_init(py, || {
        let class = py.import("_socket")?.getattr("socket")?;
        let getter = |name| PyResult::Ok(class.getattr(name)?.getattr("__get__")?.unbind());
        PyResult::Ok([getter("type")?, getter("proto")?])
    })?;
    let get = |getter: &Py<PyAny>| getter.bind(py).call1((sock,))?.extract::<i32>();
    Ok(Some((family, get(kind)?, get(proto)?)))
}
