//! What HTTP is spoken over: bytes in both directions, whether a socket carries them or TLS does.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use super::tcp::Socket;
use super::{TcpStream, UnixStream};

/// Bytes in both directions, for Rust futures. Dropping it closes it.
pub trait ByteStream {
    /// Receives into `room`; 0 is the end.
    ///
    /// # Errors
    /// What ended the connection.
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>>;

    /// As `poll_read`, but nobody is woken: `WouldBlock` says that nothing is there.
    ///
    /// # Errors
    /// `WouldBlock`, and what ended the connection.
    fn try_read(&self, room: &mut [MaybeUninit<u8>]) -> io::Result<usize>;

    /// Takes as much of `data` as fits, and sends it or keeps it for [`ByteStream::poll_flush`].
    ///
    /// # Errors
    /// What ended the connection.
    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;

    /// As `poll_write`, from the `slices` in their order.
    ///
    /// # Errors
    /// What ended the connection.
    fn poll_write_vectored(&self, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Sends what was kept.
    ///
    /// # Errors
    /// What ended the connection.
    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Says that no more will be sent.
    ///
    /// # Errors
    /// What ended the connection, unless the peer did.
    fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Tells the peer that this end closes now, where more than closing the socket belongs to that, as far as it goes
    /// without waiting.
    fn say_goodbye(&self) {}

    /// Whether the peer has closed, or sent something that nobody asked for: such a connection must not be reused.
    fn is_stale(&self) -> bool;

    /// Whether something came that was not read yet, the end included. Takes nothing.
    fn has_input(&self) -> bool;

    /// This end's IP address and the peer's; none where there are no such.
    fn addresses(&self) -> Addresses;
}

/// This end's IP address and the peer's.
pub type Addresses = (Option<SocketAddr>, Option<SocketAddr>);

/// A socket that knows its addresses.
pub trait Addressed {
    /// As [`ByteStream::addresses`].
    fn addresses(&self) -> Addresses;
}

impl Addressed for TcpStream {
    fn addresses(&self) -> Addresses {
        (self.local_addr().ok(), Some(self.peer_addr()))
    }
}

impl Addressed for UnixStream {
    fn addresses(&self) -> Addresses {
        (None, None)
    }
}

impl<P> ByteStream for Socket<P>
where
    Self: Addressed,
{
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        Self::poll_read(self, context, room)
    }

    fn try_read(&self, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        Self::try_read(self, room)
    }

    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(self, context, data)
    }

    fn poll_write_vectored(&self, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        // A lone piece is sent by the cheaper system call.
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        match (filled.next(), filled.next()) {
            (Some(only), None) => Self::poll_write(self, context, only),
            _ => Self::poll_write_vectored(self, context, slices),
        }
    }

    fn poll_flush(&self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.shutdown_write() {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        })
    }

    fn is_stale(&self) -> bool {
        Self::is_stale(self)
    }

    fn has_input(&self) -> bool {
        Self::has_input(self)
    }

    fn addresses(&self) -> Addresses {
        Addressed::addresses(self)
    }
}
