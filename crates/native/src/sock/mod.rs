//! `loop.sock_recv` and its kin: operations on sockets, awaited like coroutines.
//!
//! A call makes a [`SocketOperation`] and does nothing else. Its first `send` tries the operation ([`attempt`]): mostly
//! that succeeds, and the awaiting task goes on without a future, a callback or a turn of the loop. Only when the kernel
//! says "would block" is the socket watched; the operation then yields a future, which its readiness resolves, and tries
//! again when it is resumed. So nothing is received before somebody is there to take it, and a cancelled operation
//! loses no data.

mod accept;
mod attempt;
mod datagrams;
mod methods;
mod operation;

pub use accept::{Peer, accept_socket, is_named_alike};
pub use attempt::is_plain;
pub use methods::add_methods;
pub use operation::SocketOperation;
