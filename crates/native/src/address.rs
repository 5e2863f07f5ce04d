//! IP addresses as Python has them: `(host, port)`, and `(host, port, flowinfo, scope_id)`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};

/// The tuple that Python's own sockets give for `address`.
pub fn to_tuple(py: Python<'_>, address: SocketAddr) -> PyResult<Bound<'_, PyTuple>> {
    match address {
        SocketAddr::V4(address) => (address.ip().to_string(), address.port()).into_pyobject(py),
        SocketAddr::V6(address) => {
            (v6_text(*address.ip()), address.port(), address.flowinfo(), address.scope_id()).into_pyobject(py)
        }
    }
}

/// As the C library writes it, which for addresses like `::192.0.2.1` is not as Rust does.
fn v6_text(ip: Ipv6Addr) -> String {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => {
            let [.., a, b, c, d] = ip.octets();
            format!("::{}", Ipv4Addr::new(a, b, c, d))
        }
        _ => ip.to_string(),
    }
}

/// The address that a tuple means to a socket of `family`, if its host is numeric. What else Python understands (host
/// names, services, scopes by name) and what it refuses is for its own sockets to say.
pub fn from_tuple(address: &Bound<'_, PyAny>, family: IpFamily) -> Option<SocketAddr> {
    let address = address.cast_exact::<PyTuple>().ok()?;
    let host = address.get_item(0).ok()?;
    let ip: IpAddr = host.cast::<PyString>().ok()?.to_str().ok()?.parse().ok()?;
    let port = address.get_item(1).ok()?.extract::<u16>().ok()?;
    let number = |index| address.get_item(index).ok()?.extract::<u32>().ok();
    match (family, ip, address.len()) {
        (IpFamily::V4, IpAddr::V4(ip), 2) => Some(SocketAddrV4::new(ip, port).into()),
        (IpFamily::V6, IpAddr::V6(ip), 2) => Some(SocketAddrV6::new(ip, port, 0, 0).into()),
        (IpFamily::V6, IpAddr::V6(ip), 4) => match number(2)? {
            // Python refuses larger ones.
            flowinfo @ 0..=0xf_ffff => Some(SocketAddrV6::new(ip, port, flowinfo, number(3)?).into()),
            _ => None,
        },
        _ => None,
    }
}

/// The address family of a socket whose addresses are IP addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    /// The family of a `socket.socket`; `None` if its addresses are others.
    pub fn of(sock: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        static FAMILIES: PyOnceLock<(Py<PyAny>, i32, i32)> = PyOnceLock::new();
        let py = sock.py();
        let (getter, v4, v6) = FAMILIES.get_or_try_init(py, || {
            let module = py.import("_socket")?;
            // `socket.socket.family` would make an enum of it each time.
            let getter = module.getattr("socket")?.getattr("family")?.getattr("__get__")?;
            let number = |name| module.getattr(name)?.extract::<i32>();
            PyResult::Ok((getter.unbind(), number("AF_INET")?, number("AF_INET6")?))
        })?;
        let family: i32 = getter.bind(py).call1((sock,))?.extract()?;
        Ok(if family == *v4 {
            Some(Self::V4)
        } else if family == *v6 {
            Some(Self::V6)
        } else {
            None
        })
    }
}

/// The tuples of the peers that were heard of last, so that a busy one's need not be made for each datagram.
#[derive(Default)]
pub struct PeerTuples(Vec<Option<(SocketAddr, Py<PyTuple>)>>);

/// The number of peers whose tuples are kept.
const KEPT_PEERS: usize = 64;

impl PeerTuples {
    /// The tuple of `peer`, if it is kept.
    pub fn get<'py>(&self, py: Python<'py>, peer: SocketAddr) -> Option<Bound<'py, PyTuple>> {
        let (kept, tuple) = self.0.get(place(peer.port()))?.as_ref()?;
        (*kept == peer).then(|| tuple.bind(py).clone())
    }

    /// Keeps a tuple; gives back the one whose place it took.
    #[must_use]
    pub fn put(&mut self, peer: SocketAddr, tuple: Py<PyTuple>) -> Option<(SocketAddr, Py<PyTuple>)> {
        self.0.resize_with(KEPT_PEERS, || None);
        self.0[place(peer.port())].replace((peer, tuple))
    }

    /// The address of a tuple that was given out by us.
    pub fn find(&self, tuple: &Bound<'_, PyAny>) -> Option<SocketAddr> {
        if self.0.is_empty() {
            return None;
        }
        let port = tuple.cast_exact::<PyTuple>().ok()?.get_item(1).ok()?.extract().ok()?;
        let (peer, kept) = self.0[place(port)].as_ref()?;
        kept.is(tuple).then_some(*peer)
    }
}

fn place(port: u16) -> usize {
    usize::from(port) % KEPT_PEERS
}
