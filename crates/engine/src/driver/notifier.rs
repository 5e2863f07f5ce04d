//! Ends a wait from another thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::fork;

/// An eventfd that the driver watches beside the sources.
///
/// Its lock is taken only where a system call is made anyway. It keeps a late `notify` from writing to whatever file has
/// the number next, once the notifier is closed.
#[derive(Debug)]
pub struct Notifier {
    fd: Mutex<Option<OwnedFd>>,
}

fn open() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

impl Notifier {
    /// Opens the notifier.
    ///
    /// # Errors
    /// `EMFILE`/`ENFILE` when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: Mutex::new(Some(open()?)) })
    }

    /// Makes a new notifier in the place of one that is shared with a parent process.
    ///
    /// # Errors
    /// As [`Notifier::new`]; `WouldBlock` if a thread that the child does not have was amid a `notify`.
    pub fn renew(&self) -> io::Result<()> {
        match self.fd.try_lock() {
            Ok(fd) => fd.as_ref().map_or(Ok(()), |fd| fork::replace(fd.as_fd(), &open()?)),
            Err(_held) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Ends the current wait, or the next one if none is under way. Any thread may call it.
    pub fn notify(&self) {
        if let Some(fd) = &*self.lock() {
            // EAGAIN means that the counter is full: a wake-up is pending already.
            while rustix::io::write(fd, &1u64.to_ne_bytes()) == Err(Errno::INTR) {}
        }
    }

    /// Takes back what [`Notifier::notify`] left, so that the next wait blocks again.
    pub fn drain(&self) {
        if let Some(fd) = &*self.lock() {
            let mut count = [0u8; 8];
            while rustix::io::read(fd, &mut count) == Err(Errno::INTR) {}
        }
    }

    /// Closes the descriptor; what notifies from now on does nothing. If somebody is amid a `notify`, the descriptor
    /// goes with the notifier itself.
    pub fn close(&self) {
        match self.fd.try_lock() {
            Ok(mut fd) => drop(fd.take()),
            // Waiting for a thread that a fork's child does not have would never end.
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRawFd for Notifier {
    /// The descriptor; -1 once it is closed.
    fn as_raw_fd(&self) -> RawFd {
        self.lock().as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}
