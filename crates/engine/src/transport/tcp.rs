//! TCP for Rust futures.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::{Context, Poll, ready};

use crate::driver::socket::{self, SocketSetup};
use crate::handle::LoopHandle;
use crate::reactor::SourceKey;

/// A descriptor that is watched for futures, and forgotten before it is closed.
struct Watched {
    handle: LoopHandle,
    key: SourceKey,
    fd: OwnedFd,
}

impl Watched {
    fn new(handle: &LoopHandle, fd: OwnedFd) -> io::Result<Self> {
        let key = handle.add_async_source(fd.as_raw_fd())?;
        Ok(Self { handle: handle.clone(), key, fd })
    }

    /// Tries `operation` as soon as a read may make progress, until it does.
    fn poll_read<T>(
        &self,
        context: &Context<'_>,
        mut operation: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.handle.poll_readable(self.key, context));
            match operation(&self.fd) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.handle.clear_readable(self.key),
                result => return Poll::Ready(result),
            }
        }
    }

    /// Tries `operation` as soon as a write may make progress, until it does.
    fn poll_write<T>(
        &self,
        context: &Context<'_>,
        mut operation: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.handle.poll_writable(self.key, context));
            match operation(&self.fd) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.handle.clear_writable(self.key),
                result => return Poll::Ready(result),
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.handle.remove_source(self.key);
    }
}

/// A connected socket that carries a stream of bytes, known by its peer; dropping it closes it.
pub struct Socket<P> {
    watched: Watched,
    peer: P,
}

/// A TCP connection.
pub type TcpStream = Socket<SocketAddr>;

impl<P> Socket<P> {
    /// Waits until a socket that was told to connect has done so.
    pub(super) async fn connected(handle: &LoopHandle, fd: OwnedFd, peer: P) -> io::Result<Self> {
        let watched = Watched::new(handle, fd)?;
        // A socket that is still connecting is not writable; a fresh edge says that it is decided.
        std::future::poll_fn(|context| watched.handle.poll_writable(watched.key, context)).await;
        socket::take_error(&watched.fd)?;
        Ok(Self { watched, peer })
    }
}

impl TcpStream {
    /// Connects to `address`. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// `ConnectionRefused`, `HostUnreachable`, `TimedOut` and what else `connect(2)` reports; for a `setup` that asks for
    /// something, what `bind(2)` and `setsockopt(2)` report.
    pub async fn connect(handle: &LoopHandle, address: SocketAddr, setup: &SocketSetup) -> io::Result<Self> {
        Self::connected(handle, socket::start_connect(address, setup)?, address).await
    }

    /// The peer's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// This end's address.
    ///
    /// # Errors
    /// What `getsockname(2)` says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_addr(self.watched.fd.as_raw_fd())
    }
}

impl<P> Socket<P> {
    /// Receives into `buffer` what is there; `WouldBlock` when nothing is. Nobody is woken.
    ///
    /// # Errors
    /// `WouldBlock`, and what ended the connection.
    pub fn try_read(&self, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        socket::recv(self.watched.fd.as_raw_fd(), buffer)
    }

    /// Whether something is there to be received, the end included.
    #[must_use]
    pub fn has_input(&self) -> bool {
        socket::has_input(&self.watched.fd)
    }

    /// Receives into `buffer`; 0 is end-of-file.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn poll_read(&self, context: &Context<'_>, buffer: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        let wanted = buffer.len();
        let result = ready!(self.watched.poll_read(context, |fd| socket::recv(fd.as_raw_fd(), buffer)));
        if let Ok(received) = result {
            if received > 0 && received < wanted {
                self.watched.handle.drained(self.watched.key);
            }
        }
        Poll::Ready(result)
    }

    /// Sends as much of `data` as fits.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn poll_write(&self, context: &Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.watched.poll_write(context, |fd| socket::send(fd.as_raw_fd(), data))
    }

    /// Sends as much of `slices` as fits.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn poll_write_vectored(&self, context: &Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.watched.poll_write(context, |fd| socket::send_vectored(fd.as_raw_fd(), slices))
    }

    /// Says that no more will be sent.
    ///
    /// # Errors
    /// `NotConnected` when the peer is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        socket::shutdown_write(self.watched.fd.as_raw_fd())
    }

    /// Whether the peer has closed, or sent something that nobody asked for: such a connection must not be reused.
    /// Nothing is taken from the socket unless something is there.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        match self.try_read(&mut byte) {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

/// A listening TCP socket; dropping it closes it.
pub struct TcpListener {
    watched: Watched,
}

impl TcpListener {
    /// Listens on `address`; port 0 picks a free one.
    ///
    /// # Errors
    /// `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`.
    pub fn bind(handle: &LoopHandle, address: SocketAddr) -> io::Result<Self> {
        const BACKLOG: i32 = 4096;
        Ok(Self { watched: Watched::new(handle, socket::listen(address, BACKLOG)?)? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What `getsockname(2)` says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_addr(self.watched.fd.as_raw_fd())
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// `EMFILE` and the like: the connection stays in the backlog, so pause before the next try.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        let accepted =
            std::future::poll_fn(|context| self.watched.poll_read(context, |fd| socket::accept(fd.as_raw_fd()))).await;
        let (fd, peer) = accepted?;
        socket::set_nodelay(fd.as_raw_fd())?;
        let peer = peer.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Socket { watched: Watched::new(&self.watched.handle, fd)?, peer })
    }
}
