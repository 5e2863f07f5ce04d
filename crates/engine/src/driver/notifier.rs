//! Ends a wait from another thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::fork;

/// An eventfd that the driver watches beside the sources.
#[derive(Debug)]
pub struct Notifier {
    fd: OwnedFd,
}

impl Notifier {
    /// Opens the notifier.
    ///
    /// # Errors
    /// `EMFILE`/`ENFILE` when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Makes a new notifier in the place of one that is shared with a parent process.
    ///
    /// # Errors
    /// As [`Notifier::new`].
    pub fn renew(&self) -> io::Result<()> {
        fork::replace(self.fd.as_fd(), &Self::new()?.fd)
    }

    /// Ends the current wait, or the next one if none is under way. Any thread may call it.
    pub fn notify(&self) {
        // EAGAIN means that the counter is full: a wake-up is pending already.
        while rustix::io::write(&self.fd, &1u64.to_ne_bytes()) == Err(Errno::INTR) {}
    }

    /// Takes back what [`Notifier::notify`] left, so that the next wait blocks again.
    pub fn drain(&self) {
        let mut count = [0u8; 8];
        while rustix::io::read(&self.fd, &mut count) == Err(Errno::INTR) {}
    }
}

impl AsRawFd for Notifier {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
