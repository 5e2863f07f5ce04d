//! BYTES: what flows through a socket.
//!
//! [`TcpStream`] and [`TcpListener`] are for Rust futures, as is every [`ByteStream`]; [`WriteBuffer`] is the sending half of callback-style
//! transports, whose receiving half goes straight into the host's own buffers. [`tls`] is the policy of a TLS connection.

mod resolver;
mod stream;
mod tcp;
pub mod tls;
mod write_buffer;

pub use resolver::{forget, resolve};
pub use stream::ByteStream;
pub use tcp::{TcpListener, TcpStream};
pub use write_buffer::{Flush, WriteBuffer};
