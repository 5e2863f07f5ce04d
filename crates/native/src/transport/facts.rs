//! What `get_extra_info` answers from. Most connections are never asked: it is kept as the kernel gave it until one is.

use std::net::SocketAddr;

use aioxide::driver::socket;
use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::address;
use crate::gil_cell::GilCell;
use crate::sock::{Peer, is_named_alike, is_plain};

/// The facts of a connection: its socket, its own address and its peer's, and what else it was given.
pub struct Facts(GilCell<Known>);

enum Known {
    /// Nobody has asked.
    Unasked {
        sock: Py<PyAny>,
        own: SocketAddr,
        peer: SocketAddr,
    },
    Told(Py<PyDict>),
}

impl Facts {
    /// Those of a connected socket, besides what its maker says.
    pub fn of(sock: &Bound<'_, PyAny>, extra: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        if extra.is_none_or(|extra| extra.is_empty()) && is_plain(sock)? {
            let fd = sock.call_method0(intern!(sock.py(), "fileno"))?.extract()?;
            let peer = socket::peer_addr(fd).ok().filter(is_named_alike);
            if let (Some(own), Some(peer)) = (own_address(fd), peer) {
                return Ok(Self::unasked(sock, own, peer));
            }
        }
        Ok(Self(GilCell::new(Known::Told(describe(sock, extra)?.unbind()))))
    }

    /// Those of an accepted socket.
    pub fn of_accepted(sock: &Bound<'_, PyAny>, peer: Peer<'_>) -> PyResult<Self> {
        let py = sock.py();
        if let Peer::Ip(peer) = peer {
            let fd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
            if let Some(own) = own_address(fd) {
                return Ok(Self::unasked(sock, own, peer));
            }
        }
        let extra = PyDict::new(py);
        extra.set_item(intern!(py, "peername"), peer.into_object(py)?)?;
        Self::of(sock, Some(&extra))
    }

    fn unasked(sock: &Bound<'_, PyAny>, own: SocketAddr, peer: SocketAddr) -> Self {
        Self(GilCell::new(Known::Unasked { sock: sock.clone().unbind(), own, peer }))
    }

    /// All of them, in the dict that is theirs from now on.
    pub fn dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (sock, own, peer) = match &*self.0.borrow(py) {
            Known::Told(dict) => return Ok(dict.bind(py).clone()),
            Known::Unasked { sock, own, peer } => (sock.bind(py).clone(), *own, *peer),
        };
        let dict = PyDict::new(py);
        dict.set_item(intern!(py, "socket"), shown_socket(&sock)?)?;
        dict.set_item(intern!(py, "sockname"), address::to_tuple(py, own)?)?;
        dict.set_item(intern!(py, "peername"), address::to_tuple(py, peer)?)?;
        // Another thread may have asked meanwhile; both go on with its dict.
        let mut known = self.0.borrow_mut(py);
        if let Known::Told(dict) = &*known {
            return Ok(dict.bind(py).clone());
        }
        let unasked = std::mem::replace(&mut *known, Known::Told(dict.clone().unbind()));
        drop(known);
        drop(unasked);
        Ok(dict)
    }

    /// What can be shown in the transport's place when it cannot be shown itself any more.
    pub fn shown(&self, py: Python<'_>) -> Py<PyAny> {
        match &*self.0.borrow(py) {
            Known::Unasked { sock, .. } => sock.clone_ref(py),
            Known::Told(dict) => shown_of(dict.bind(py)),
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_borrow_in_gc().as_deref() {
            Some(Known::Unasked { sock, .. }) => visit.call(sock),
            Some(Known::Told(dict)) => visit.call(dict),
            None => Ok(()),
        }
    }
}

/// The socket that a transport's facts show, or the facts.
pub fn shown_of(facts: &Bound<'_, PyDict>) -> Py<PyAny> {
    let socket = facts.get_item(intern!(facts.py(), "socket")).ok().flatten();
    socket.unwrap_or_else(|| facts.clone().into_any()).unbind()
}

/// The socket as users see it, who may ask it but not use it.
fn shown_socket<'py>(sock: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static TRANSPORT_SOCKET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = sock.py();
    let class = TRANSPORT_SOCKET
        .get_or_try_init(py, || PyResult::Ok(py.import("asyncio.trsock")?.getattr("TransportSocket")?.unbind()))?;
    class.bind(py).call1((sock,))
}

/// The facts of any socket, besides what its maker says.
pub fn describe<'py>(sock: &Bound<'py, PyAny>, extra: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyDict>> {
    let py = sock.py();
    let described = extra.map_or_else(|| Ok(PyDict::new(py)), PyDictMethods::copy)?;
    described.set_item(intern!(py, "socket"), shown_socket(sock)?)?;
    for (key, method) in
        [(intern!(py, "sockname"), intern!(py, "getsockname")), (intern!(py, "peername"), intern!(py, "getpeername"))]
    {
        if key == "sockname" || !described.contains(key)? {
            let address = match sock.call_method0(method) {
                Err(error) if error.is_instance_of::<PyOSError>(py) => py.None().into_bound(py),
                other => other?,
            };
            described.set_item(key, address)?;
        }
    }
    Ok(described)
}

/// A socket's own address, if it is an IP address that is written without asking the system.
fn own_address(fd: std::os::fd::RawFd) -> Option<SocketAddr> {
    socket::local_addr(fd).ok().filter(is_named_alike)
}
