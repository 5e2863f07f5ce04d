//! Socket calls that never block and never raise SIGPIPE.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};

use super::{borrow, traffic};

/// At most this many pieces go into one vectored write (the kernel's limit is 1024).
pub const MAX_IO_SLICES: usize = 64;

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

/// Receives into `buffer`; 0 is the peer's end-of-file.
///
/// # Errors
/// `WouldBlock` when nothing is there; else what the connection ended with.
pub fn recv(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let fd = borrow(fd)?;
    let received = retry(|| {
        rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT).map(|((filled, _rest), _length)| filled.len())
    })?;
    traffic::received(received);
    Ok(received)
}

/// Whether something is there to be received, the peer's end-of-file or an error included.
pub fn has_input(fd: impl AsFd) -> bool {
    let mut byte = [MaybeUninit::<u8>::uninit()];
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    !matches!(retry(|| rustix::net::recv(fd.as_fd(), &mut byte, flags).map(drop)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Receives a datagram into `buffer`, which cuts it off; the address is `None` where it is not an IP address.
///
/// # Errors
/// `WouldBlock` when none is there; else what went wrong, such as `ConnectionRefused` for one that was sent before.
pub fn recv_from(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<(usize, Option<SocketAddr>)> {
    let fd = borrow(fd)?;
    let (received, peer) = retry(|| {
        let ((filled, _rest), _length, peer) = rustix::net::recvfrom(fd, &mut *buffer, RecvFlags::DONTWAIT)?;
        Ok((filled.len(), peer.and_then(to_std)))
    })?;
    traffic::received(received);
    Ok((received, peer))
}

/// Sends `data` as one datagram.
///
/// # Errors
/// `WouldBlock` when there is no room for it; else why it cannot be sent.
pub fn send_to(fd: RawFd, data: &[u8], address: SocketAddr) -> io::Result<usize> {
    let fd = borrow(fd)?;
    traffic::sent(retry(|| rustix::net::sendto(fd, data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT, &address)))
}

/// Sends as much of `data` as fits.
///
/// # Errors
/// `WouldBlock` when nothing fits; else what the connection ended with.
pub fn send(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    let fd = borrow(fd)?;
    traffic::sent(retry(|| rustix::net::send(fd, data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)))
}

/// Sends as much of `slices` (at most [`MAX_IO_SLICES`]) as fits, in one call.
///
/// # Errors
/// As [`send`].
pub fn send_vectored(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let fd = borrow(fd)?;
    let slices = &slices[..slices.len().min(MAX_IO_SLICES)];
    traffic::sent(retry(|| {
        let mut control = SendAncillaryBuffer::default();
        rustix::net::sendmsg(fd, slices, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }))
}

/// Says that no more will be sent.
///
/// # Errors
/// `NotConnected` when the peer is gone already.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(borrow(fd)?, rustix::net::Shutdown::Write)?)
}

/// Sends small writes at once instead of waiting for more.
///
/// # Errors
/// `ENOPROTOOPT`/`EOPNOTSUPP` for what is not TCP.
pub fn set_nodelay(fd: RawFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(borrow(fd)?, true)?)
}

/// An option of a socket by its numbers, see `setsockopt(2)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOption {
    /// The protocol that it belongs to, such as `SOL_SOCKET`.
    pub level: i32,
    /// Which of that protocol's options.
    pub name: i32,
    /// What it is set to, as the kernel reads it.
    pub value: Vec<u8>,
}

/// How the socket of a connection is set up before it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketSetup {
    /// The address that it connects from; `None` leaves the choice to the kernel.
    pub local: Option<IpAddr>,
    /// Options that are set on it.
    pub options: Vec<SocketOption>,
}

/// Starts connecting a new TCP socket, which sends without delay; readiness to write, then [`take_error`], tells how it
/// ended.
///
/// # Errors
/// What `socket(2)`, `bind(2)`, `setsockopt(2)` or `connect(2)` say at once.
pub fn start_connect(address: SocketAddr, setup: &SocketSetup) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = new_stream(family)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    set_options(&socket, &setup.options)?;
    if let Some(local) = setup.local {
        rustix::net::bind(&socket, &SocketAddr::new(local, 0))?;
    }
    begun(rustix::net::connect(&socket, &address), socket)
}

/// As [`start_connect`], to the Unix domain socket at `path`.
///
/// # Errors
/// What `socket(2)`, `setsockopt(2)` or `connect(2)` say at once; `WouldBlock` where the listener's queue is full.
pub fn start_connect_unix(path: &Path, options: &[SocketOption]) -> io::Result<OwnedFd> {
    let socket = new_stream(AddressFamily::UNIX)?;
    set_options(&socket, options)?;
    begun(rustix::net::connect(&socket, &SocketAddrUnix::new(path)?), socket)
}

fn new_stream(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

fn begun(connect: Result<(), Errno>, socket: OwnedFd) -> io::Result<OwnedFd> {
    match connect {
        // After EINTR the connect goes on by itself, exactly like EINPROGRESS.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn set_options(socket: &OwnedFd, options: &[SocketOption]) -> io::Result<()> {
    for SocketOption { level, name, value } in options {
        let length = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel reads `length` bytes from the value, which is that long, and keeps no pointer to it.
        let result = unsafe { libc::setsockopt(socket.as_raw_fd(), *level, *name, value.as_ptr().cast(), length) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Takes the pending error of a socket, such as the outcome of a connect.
///
/// # Errors
/// The pending error, or why it could not be asked.
pub fn take_error(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::socket_error(socket)??)
}

/// Opens a TCP listener that does not block.
///
/// # Errors
/// `AddrInUse` and the like.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// Accepts one connection; the new socket does not block.
///
/// # Errors
/// `WouldBlock` when none waits; `EMFILE` and friends when it cannot be taken.
pub fn accept(listener: RawFd) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let listener = borrow(listener)?;
    let (socket, peer) =
        retry(|| rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC))?;
    Ok((socket, peer.and_then(to_std)))
}

/// The local address of a socket.
///
/// # Errors
/// What `getsockname(2)` says, or `Unsupported` for a socket that is not IP.
pub fn local_addr(socket: RawFd) -> io::Result<SocketAddr> {
    to_std(rustix::net::getsockname(borrow(socket)?)?).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// The address of a connected socket's peer.
///
/// # Errors
/// What `getpeername(2)` says, or `Unsupported` for a socket that is not IP.
pub fn peer_addr(socket: RawFd) -> io::Result<SocketAddr> {
    rustix::net::getpeername(borrow(socket)?)?.and_then(to_std).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn to_std(address: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(address).ok()
}
