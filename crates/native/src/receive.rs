//! Receiving `bytes` by way of the buffer that all sockets of a loop share: cheaper than a large object cut down.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use aioxide::driver::socket;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::event_loop::{Loop, SCRATCH_BYTES};

/// What is there, at most `limit_bytes` and [`SCRATCH_BYTES`].
///
/// # Errors
/// As [`socket::recv`].
pub fn recv<'py>(event_loop: &Bound<'py, Loop>, fd: RawFd, limit_bytes: usize) -> io::Result<Bound<'py, PyBytes>> {
    through_scratch(event_loop, limit_bytes, |room| Ok((socket::recv(fd, room)?, ()))).map(|(data, ())| data)
}

/// A datagram, cut off at `limit_bytes` and [`SCRATCH_BYTES`], and the IP address it came from.
///
/// # Errors
/// As [`socket::recv_from`].
pub fn recv_from<'py>(
    event_loop: &Bound<'py, Loop>,
    fd: RawFd,
    limit_bytes: usize,
) -> io::Result<(Bound<'py, PyBytes>, Option<SocketAddr>)> {
    through_scratch(event_loop, limit_bytes, |room| socket::recv_from(fd, room))
}

/// `receive` is a call of the driver, which says how many bytes the kernel wrote.
fn through_scratch<'py, T>(
    event_loop: &Bound<'py, Loop>,
    limit_bytes: usize,
    receive: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<(usize, T)>,
) -> io::Result<(Bound<'py, PyBytes>, T)> {
    let py = event_loop.py();
    let mut scratch = event_loop.get().scratch.borrow_mut(py);
    scratch.clear();
    scratch.reserve(SCRATCH_BYTES);
    let (received, rest) = receive(&mut scratch.spare_capacity_mut()[..limit_bytes.min(SCRATCH_BYTES)])?;
    // SAFETY: the kernel wrote that many bytes.
    unsafe { scratch.set_len(received) };
    Ok((PyBytes::new(py, &scratch), rest))
}
