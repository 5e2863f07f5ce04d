//! The epoll driver: Linux, always there.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::{borrow, fork};

/// Which directions of a source are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Report when a read would not block.
    pub readable: bool,
    /// Report when a write would not block.
    pub writable: bool,
}

impl Interest {
    /// Watch reads only.
    pub const READABLE: Self = Self { readable: true, writable: false };
    /// Watch writes only.
    pub const WRITABLE: Self = Self { readable: false, writable: true };
    /// Watch both directions.
    pub const BOTH: Self = Self { readable: true, writable: true };
    /// Watch nothing; errors and hang-ups are still reported by the kernel.
    pub const NONE: Self = Self { readable: false, writable: false };

    fn flags(self, trigger: Trigger) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::empty();
        if self.readable {
            flags |= epoll::EventFlags::IN;
        }
        if self.writable {
            flags |= epoll::EventFlags::OUT;
        }
        if trigger == Trigger::Edge {
            flags |= epoll::EventFlags::ET | epoll::EventFlags::RDHUP;
        }
        flags
    }
}

/// Whether an event is reported again while its condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// At every wait while the condition holds.
    Level,
    /// Once each time the condition comes to hold.
    Edge,
}

/// What a source is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read will not block (it may fail or return end-of-file).
    pub readable: bool,
    /// A write will not block (it may fail).
    pub writable: bool,
    /// The peer has closed, or the source failed: a read will find the end without another event.
    pub closed: bool,
}

/// One event of a wait.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The token of the source.
    pub token: u64,
    /// What it is ready for.
    pub readiness: Readiness,
}

/// Room for the events of one wait.
pub struct EventBuffer(Vec<epoll::Event>);

impl EventBuffer {
    /// Room for `capacity` events; what does not fit is reported by the next wait.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The number of events of the last wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the last wait brought nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The event at `index` of the last wait.
    #[must_use]
    pub fn get(&self, index: usize) -> Event {
        let event = self.0[index];
        let flags = event.flags;
        Event {
            token: event.data.u64(),
            // Anything but pure "out" may concern a reader, anything but pure "in" a writer: errors reach both.
            readiness: Readiness {
                readable: flags.intersects(!epoll::EventFlags::OUT),
                writable: flags.intersects(!(epoll::EventFlags::IN | epoll::EventFlags::RDHUP)),
                closed: flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR),
            },
        }
    }
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// Opens an epoll instance, closed on `exec`.
    ///
    /// # Errors
    /// `EMFILE`/`ENFILE` when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        fork::watch();
        Ok(Self { fd: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Makes a new instance, which watches nothing yet, in the place of one that is shared with a parent process.
    ///
    /// # Errors
    /// As [`Epoll::new`].
    pub fn renew(&self) -> io::Result<()> {
        fork::replace(self.fd.as_fd(), &epoll::create(epoll::CreateFlags::CLOEXEC)?)
    }

    /// Starts watching `fd`. A number that is still registered (its old file lives on in a duplicate) is taken over.
    ///
    /// # Errors
    /// `EBADF` for a closed descriptor, `EPERM` for one that cannot be polled (a regular file).
    pub fn add(&self, fd: RawFd, token: u64, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        let flags = interest.flags(trigger);
        match epoll::add(&self.fd, borrow(fd)?, data, flags) {
            Err(Errno::EXIST) => Ok(epoll::modify(&self.fd, borrow(fd)?, data, flags)?),
            other => Ok(other?),
        }
    }

    /// Changes what is watched. A number that was closed and opened anew meanwhile is registered again.
    ///
    /// # Errors
    /// As [`Epoll::add`].
    pub fn modify(&self, fd: RawFd, token: u64, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        let flags = interest.flags(trigger);
        match epoll::modify(&self.fd, borrow(fd)?, data, flags) {
            Err(Errno::NOENT) => Ok(epoll::add(&self.fd, borrow(fd)?, data, flags)?),
            other => Ok(other?),
        }
    }

    /// Stops watching `fd`; a descriptor that is closed already is none of our concern.
    pub fn remove(&self, fd: RawFd) {
        if let Ok(fd) = borrow(fd) {
            let _gone_already = epoll::delete(&self.fd, fd);
        }
    }

    /// Waits for events; `None` waits without limit, zero only looks.
    ///
    /// # Errors
    /// Only what the kernel cannot report otherwise (`EBADF` after a foreign close of our descriptor).
    pub fn wait(&self, events: &mut EventBuffer, timeout: Option<Duration>) -> io::Result<()> {
        events.0.clear();
        let timespec = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let capacity = rustix::buffer::spare_capacity(&mut events.0);
        match epoll::wait(&self.fd, capacity, timespec.as_ref()) {
            Ok(_) => Ok(()),
            Err(Errno::INTR) => Ok(()),
            // A kernel before 5.11 knows no nanoseconds: round up, so that no timer comes early.
            Err(Errno::NOSYS) => {
                let millis = timeout.unwrap_or_default().as_nanos().div_ceil(1_000_000);
                let millis = u64::try_from(millis).unwrap_or(u64::MAX).min(i32::MAX as u64);
                self.wait(events, Some(Duration::from_millis(millis)))
            }
            Err(error) => Err(error.into()),
        }
    }
}
