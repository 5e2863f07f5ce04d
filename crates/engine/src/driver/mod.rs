//! KERNEL: the only place that makes system calls.
//!
//! The contract every driver keeps, so that the layers above never assume one of them:
//!
//! * a source is an open descriptor with a 64-bit token; the token of an event is the one last given for its source;
//! * [`Interest`] says which directions are watched, [`Trigger`] whether an event repeats while the condition holds;
//! * [`Epoll::wait`] returns at once when events are there, else blocks until an event, the timeout or a signal;
//!   a signal ends the wait with no events and no error;
//! * sources may be added, changed and removed while a wait is under way: a host with one lock for all its threads (a GIL)
//!   has given it up meanwhile, and another thread may hold it;
//! * an error or hang-up is reported as readable *and* writable, so whoever waits for either finds it by trying;
//! * [`Notifier::notify`] ends a wait from any thread, and is remembered if no wait is under way;
//! * a fork's child leaves its parent's driver alone: when [`fork_count`] has changed, `renew` comes before a wait.

mod epoll;
mod fork;
mod notifier;
pub mod socket;
pub mod thread;
mod traffic;
mod usage;

pub use epoll::{Epoll, Event, EventBuffer, Interest, Readiness, Trigger};
pub use fork::count as fork_count;
pub use notifier::Notifier;
pub use traffic::thread_traffic;
pub use usage::thread_cpu_time;

use std::os::fd::{BorrowedFd, RawFd};

/// Borrows a descriptor that the host named by its number.
///
/// A host such as Python hands out bare numbers and may close them behind our back. The kernel answers a stale
/// number with `EBADF` (or acts on the new owner of the number, as it does for every event loop), so nothing here
/// depends on the number still being open.
pub(crate) fn borrow(fd: RawFd) -> std::io::Result<BorrowedFd<'static>> {
    if fd < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: `fd` is not -1. The borrow is used for one system call only; should the number have been closed
    // meanwhile, that call fails with EBADF, which callers handle.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}
