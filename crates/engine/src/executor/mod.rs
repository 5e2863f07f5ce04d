//! STEPS: what runs next on the loop's thread.
//!
//! Two kinds of step share a turn: the host's *handles* (scheduled callbacks) and Rust *tasks*. Both may be
//! scheduled by their own loop's thread without any synchronisation, and by other threads through the injector.

mod injector;
mod sync;
mod tasks;

pub use injector::{Injector, Remote};
pub use sync::this_thread;
pub use tasks::{JoinHandle, Tasks};
