//! BYTES: what flows through a socket.
//!
//! [`TcpStream`], [`UnixStream`] and [`TcpListener`] are for Rust futures, as is every [`ByteStream`]; [`WriteBuffer`] is the sending half of callback-style
//! transports, whose receiving half goes straight into the host's own buffers. [`tls`] is the policy of a TLS connection.

mod resolver;
mod stream;
mod tcp;
pub mod tls;
mod unix;
mod write_buffer;

pub use resolver::{forget, resolve};
pub use stream::{Addresses, ByteStream};
pub use tcp::{Socket, TcpListener, TcpStream};
pub use unix::UnixStream;

pub use crate::driver::socket::{SocketOption, SocketSetup};
pub use write_buffer::{Flush, WriteBuffer};
