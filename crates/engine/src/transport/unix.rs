//! Unix domain sockets for Rust futures.

use std::io;
use std::path::PathBuf;

use super::tcp::Socket;
use crate::driver::socket::{self, SocketOption};
use crate::handle::LoopHandle;

/// A connection by a Unix domain socket, known by the listener's path.
pub type UnixStream = Socket<PathBuf>;

impl UnixStream {
    /// Connects to the listener at `path`. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// `NotFound`, `ConnectionRefused` and what else `connect(2)` and `setsockopt(2)` report; `WouldBlock` when too many
    /// wait for the listener already.
    pub async fn connect(handle: &LoopHandle, path: PathBuf, options: &[SocketOption]) -> io::Result<Self> {
        Self::connected(handle, socket::start_connect_unix(&path, options)?, path).await
    }
}
