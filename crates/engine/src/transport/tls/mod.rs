//! TLS without sockets: what to do next, and what waits.
//!
//! A [`Session`] is one connection of a TLS library: ciphertext goes in and out of it on one side, plaintext on the
//! other. A [`Connection`] is the policy around it: in which phase it is, when reading and writing pause, what the end
//! of the input means. Neither touches a socket. Their owner moves the bytes and calls whoever wants to know:
//!
//! ```text
//!            feed ──▶ ┌─────────┐ ──▶ receive       plaintext for the protocol
//!  ciphertext         │ Session │
//!     take_output ◀── └─────────┘ ◀── encrypt ◀──   WriteBuffer: plaintext that the protocol wrote
//!                          ▲
//!                          │ handshake, read, write, shutdown, as the phase asks
//!                     Connection
//! ```
//!
//! ```text
//!  Idle ─▶ Handshaking ─▶ Open ─▶ Flushing ─▶ ShuttingDown ─▶ Closed
//!               └───────────┴─────────┴────────────┴────────────▲   a failure, or abort
//! ```
//!
//! For Rust futures, [`TlsStream`] is such an owner: a [`ByteStream`](super::ByteStream) over another. A [`Connector`] is
//! how a host gives a client sessions of its library.
//!
//! While a session works it may run the user's code (certificate and key log callbacks), so an owner must not hold its
//! [`Connection`] borrowed meanwhile; that is why the two are apart.

mod connection;
mod flow;
#[cfg(feature = "tls-rustls")]
mod rustls;
mod session;
mod stream;

pub use connection::{AtEnd, Closing, Connection, Phase, READ_HIGH_WATER_BYTES, WRITE_HIGH_WATER_BYTES};
pub use flow::{FlowChange, Watermarks};
#[cfg(feature = "tls-rustls")]
pub use rustls::{RustlsConnector, RustlsSession};
pub use session::{Input, Progress, Received, Session, encrypt, receive};
pub use stream::{Connector, SessionHost, TlsByteStream, TlsFailure, TlsStream};
