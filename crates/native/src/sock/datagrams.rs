//! Tries of operations with addresses. IP goes straight to the driver; the addresses of other families, and what only
//! Python understands, go through the socket object's methods.

use std::os::fd::RawFd;

use aioxide::driver::socket;
use pyo3::intern;
use pyo3::prelude::*;

use super::attempt::{Attempt, Direction, failed, outcome, plain_descriptor};
use crate::address::{IpFamily, from_tuple, to_tuple};
use crate::event_loop::{Loop, SCRATCH_BYTES};
use crate::{raw, receive};

pub fn recv_from(event_loop: &Bound<'_, Loop>, sock: &Bound<'_, PyAny>, size: &Bound<'_, PyAny>) -> PyResult<Attempt> {
    let py = sock.py();
    if let (Some((fd, _)), Ok(wanted @ 0..=SCRATCH_BYTES)) = (ip_descriptor(event_loop, sock)?, size.extract()) {
        return match receive::recv_from(event_loop, fd, wanted) {
            Ok((data, peer)) => {
                let peer = peer.map(|peer| to_tuple(py, peer)).transpose()?;
                Ok(Attempt::Done((data, peer).into_pyobject(py)?.into_any().unbind()))
            }
            Err(error) => failed(error, Direction::Read),
        };
    }
    outcome(py, sock.call_method1(intern!(py, "recvfrom"), (size,)), Direction::Read)
}

pub fn recv_from_into(
    event_loop: &Bound<'_, Loop>,
    sock: &Bound<'_, PyAny>,
    buffer: &Bound<'_, PyAny>,
    size: Option<&Bound<'_, PyAny>>,
) -> PyResult<Attempt> {
    let py = sock.py();
    let size = match size {
        Some(size) if size.is_truthy()? => size.clone(),
        _ => buffer.len()?.into_pyobject(py)?.into_any(),
    };
    if let (Some((fd, _)), Ok(wanted)) = (ip_descriptor(event_loop, sock)?, size.extract::<usize>()) {
        let received =
            raw::with_writable(buffer, |bytes| bytes.get_mut(..wanted).map(|room| socket::recv_from(fd, room)));
        match received {
            Ok(Some(Ok((count, peer)))) => {
                let peer = peer.map(|peer| to_tuple(py, peer)).transpose()?;
                return Ok(Attempt::Done((count, peer).into_pyobject(py)?.into_any().unbind()));
            }
            Ok(Some(Err(error))) => return failed(error, Direction::Read),
            // No writable buffer, or too small a one: the method says so in its own words.
            Ok(None) | Err(_) => {}
        }
    }
    outcome(py, sock.call_method1(intern!(py, "recvfrom_into"), (buffer, size)), Direction::Read)
}

pub fn send_to(
    event_loop: &Bound<'_, Loop>,
    sock: &Bound<'_, PyAny>,
    data: &Bound<'_, PyAny>,
    address: &Bound<'_, PyAny>,
) -> PyResult<Attempt> {
    let py = sock.py();
    if let Some((fd, family)) = ip_descriptor(event_loop, sock)? {
        if let Some(address) = from_tuple(address, family) {
            match raw::with_bytes(data, |data| socket::send_to(fd, data, address)) {
                Ok(Ok(sent)) => return Ok(Attempt::Done(sent.into_pyobject(py)?.into_any().unbind())),
                Ok(Err(error)) => return failed(error, Direction::Write),
                // No buffer: the method says so in its own words.
                Err(_) => {}
            }
        }
    }
    outcome(py, sock.call_method1(intern!(py, "sendto"), (data, address)), Direction::Write)
}

fn ip_descriptor(event_loop: &Bound<'_, Loop>, sock: &Bound<'_, PyAny>) -> PyResult<Option<(RawFd, IpFamily)>> {
    match plain_descriptor(event_loop, sock)? {
        Some(fd) => Ok(IpFamily::of(sock)?.map(|family| (fd, family))),
        None => Ok(None),
    }
}
