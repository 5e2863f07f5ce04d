//! Notices that the process is a fork's child.
//!
//! A child shares its parent's epoll instances and notifiers: what it watches, forgets or drains there, it does to the
//! parent. Whoever holds one compares [`count`] with what it was, and makes its own before it waits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// So many forks lie between this process and the one that first asked.
pub fn count() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Begins to count forks.
pub(super) fn watch() {
    static WATCH: Once = Once::new();

    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    WATCH.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is allowed in a fork's child.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert_eq!(failed, 0, "pthread_atfork() is out of memory");
    });
}

/// Puts `new` in the place of `old` under its number.
pub(super) fn replace(old: BorrowedFd<'_>, new: &OwnedFd) -> io::Result<()> {
    // SAFETY: both are open; whoever holds `old` gets an open descriptor of the same kind.
    if unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
