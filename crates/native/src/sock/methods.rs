//! The `sock_*` methods of the loop.

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::attempt::Request;
use super::{SocketOperation, accept};
use crate::event_loop::Loop;
use crate::raw::{self, FastArgs};

impl Loop {
    fn operation(
        slf: &Bound<'_, Self>,
        name: &'static str,
        sock: Option<Bound<'_, PyAny>>,
        request: Request,
    ) -> PyResult<Py<PyAny>> {
        let sock = sock.unwrap_or_else(|| slf.py().None().into_bound(slf.py()));
        Ok(Bound::new(slf.py(), SocketOperation::new(slf, sock, name, request))?.into_any().unbind())
    }

    fn sock_recv(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let [sock, n] = args.bind("sock_recv", ["sock", "n"], 2)?;
        Self::operation(slf, "sock_recv", sock, Request::Recv { size: owned(slf, n) })
    }

    fn sock_recv_into(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let [sock, buf] = args.bind("sock_recv_into", ["sock", "buf"], 2)?;
        Self::operation(slf, "sock_recv_into", sock, Request::RecvInto { buffer: owned(slf, buf) })
    }

    fn sock_recvfrom(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let [sock, bufsize] = args.bind("sock_recvfrom", ["sock", "bufsize"], 2)?;
        Self::operation(slf, "sock_recvfrom", sock, Request::RecvFrom { size: owned(slf, bufsize) })
    }

    fn sock_recvfrom_into(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let [sock, buf, nbytes] = args.bind("sock_recvfrom_into", ["sock", "buf", "nbytes"], 2)?;
        let request = Request::RecvFromInto { buffer: owned(slf, buf), size: nbytes.map(Bound::unbind) };
        Self::operation(slf, "sock_recvfrom_into", sock, request)
    }

    fn sock_sendall(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let [sock, data] = args.bind("sock_sendall", ["sock", "data"], 2)?;
        Self::operation(slf, "sock_sendall", sock, Request::send_all(owned(slf, data)))
    }

    fn sock_sendto(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let [sock, data, address] = args.bind("sock_sendto", ["sock", "data", "address"], 3)?;
        let request = Request::SendTo { data: owned(slf, data), address: owned(slf, address) };
        Self::operation(slf, "sock_sendto", sock, request)
    }

    fn sock_accept(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let [sock] = args.bind("sock_accept", ["sock"], 1)?;
        Self::operation(slf, "sock_accept", sock, Request::Accept)
    }

    fn accept(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let [sock] = args.bind("_accept", ["sock"], 1)?;
        let accepted = accept::accept(owned(slf, sock).bind(slf.py()))?;
        Ok(accepted.map_or_else(|| slf.py().None(), Bound::unbind))
    }

    fn sock_connect(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let [sock, address] = args.bind("sock_connect", ["sock", "address"], 2)?;
        Self::operation(slf, "sock_connect", sock, Request::connect(owned(slf, address)))
    }
}

/// A required argument, which `FastArgs::bind` has found.
fn owned(slf: &Bound<'_, Loop>, argument: Option<Bound<'_, PyAny>>) -> Py<PyAny> {
    argument.map_or_else(|| slf.py().None(), Bound::unbind)
}

raw::fast_methods!(
    Loop;
    sock_recv => Loop::sock_recv,
    sock_recv_into => Loop::sock_recv_into,
    sock_recvfrom => Loop::sock_recvfrom,
    sock_recvfrom_into => Loop::sock_recvfrom_into,
    sock_sendall => Loop::sock_sendall,
    sock_sendto => Loop::sock_sendto,
    sock_accept => Loop::sock_accept,
    sock_connect => Loop::sock_connect,
    accept_now => Loop::accept,
);

/// Adds the methods to `Loop`.
pub fn add_methods(py: Python<'_>) -> PyResult<()> {
    let class: Bound<'_, PyType> = py.get_type::<Loop>();
    let methods: [(&std::ffi::CStr, &std::ffi::CStr, raw::FastMethod); 9] = [
        (
            c"sock_recv",
            c"sock_recv($self, sock, n)\n--\n\nReceive at most n bytes; b\"\" is the peer's end-of-file.",
            sock_recv,
        ),
        (
            c"sock_recv_into",
            c"sock_recv_into($self, sock, buf)\n--\n\nReceive into a writable buffer; the result is the number of bytes.",
            sock_recv_into,
        ),
        (
            c"sock_recvfrom",
            c"sock_recvfrom($self, sock, bufsize)\n--\n\nReceive a datagram; the result is (bytes, address).",
            sock_recvfrom,
        ),
        (
            c"sock_recvfrom_into",
            c"sock_recvfrom_into($self, sock, buf, nbytes=0)\n--\n\nReceive a datagram into a writable buffer; the result is (number of bytes, address).",
            sock_recvfrom_into,
        ),
        (
            c"sock_sendall",
            c"sock_sendall($self, sock, data)\n--\n\nSend all of data. After an error nobody knows how much was sent.",
            sock_sendall,
        ),
        (
            c"sock_sendto",
            c"sock_sendto($self, sock, data, address)\n--\n\nSend a datagram; the result is the number of bytes.",
            sock_sendto,
        ),
        (
            c"sock_accept",
            c"sock_accept($self, sock)\n--\n\nAccept a connection; the result is (socket, address).",
            sock_accept,
        ),
        (
            c"sock_connect",
            c"sock_connect($self, sock, address)\n--\n\nConnect to an address, whose host name is looked up first.",
            sock_connect,
        ),
        (
            c"_accept",
            c"_accept($self, sock)\n--\n\nAccept a connection that waits; the result is (socket, address), or None.",
            accept_now,
        ),
    ];
    for (name, doc, method) in methods {
        raw::add_fast_method(&class, name, doc, method)?;
    }
    Ok(())
}
