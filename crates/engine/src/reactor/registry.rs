//! The table of watched descriptors.
//!
//! There are two kinds of source. The readiness of a *host* source (a Python transport, an `add_reader`) is handed to
//! the host, which acts on it at once; the host says whether it wants to hear of it at every wait or once. An *async*
//! source belongs to Rust futures: it is registered once, edge-triggered, remembers what it was last ready for, and
//! wakes whoever waits.
//!
//! A token carries the generation of its slot, so an event that was already on its way when its source was removed
//! is recognised as stale, even if the descriptor's number and the slot were used again meanwhile.

use std::io;
use std::os::fd::RawFd;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::driver::{Epoll, Interest, Readiness, Trigger};

/// Names one registered source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceKey {
    slot: u32,
    generation: u32,
}

impl SourceKey {
    /// The slot's index: small, dense, and free for the host to key a table of its own with.
    #[must_use]
    pub fn index(self) -> usize {
        self.slot as usize
    }

    fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    fn from_token(token: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a token")]
        Self { slot: token as u32, generation: (token >> 32) as u32 }
    }
}

struct Source {
    fd: RawFd,
    generation: u32,
    kind: Kind,
}

enum Kind {
    Host { interest: Interest, trigger: Trigger },
    Async(AsyncState),
}

#[derive(Default)]
struct AsyncState {
    ready: Readiness,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What an event means.
#[derive(Debug)]
pub enum Dispatch {
    /// The source is gone, or watches nothing any more: the kernel should not report it again.
    Stale,
    /// The source is ready for something that it does not watch.
    Unwanted,
    /// A host source is ready for something it watches.
    Host(SourceKey, Readiness),
    /// Futures wait for it: wake them, once the registry is no longer borrowed.
    Wake([Option<Waker>; 2]),
}

/// All sources of one loop.
#[derive(Default)]
pub struct Registry {
    sources: Slab<Source>,
    generation: u32,
}

impl Registry {
    /// The number of registered sources.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether nothing is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Registers a host source; [`Interest::NONE`] registers it without watching it yet.
    ///
    /// # Errors
    /// As [`Epoll::add`]; then nothing is registered.
    pub fn add_host(
        &mut self,
        epoll: &Epoll,
        fd: RawFd,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<SourceKey> {
        let key = self.next_key();
        if interest != Interest::NONE {
            epoll.add(fd, key.token(), interest, trigger)?;
        }
        self.insert(key, fd, Kind::Host { interest, trigger });
        Ok(key)
    }

    /// Changes what a host source watches.
    ///
    /// # Errors
    /// As [`Epoll::modify`]. A key of a removed source is an error of kind `NotFound`. Without an `epoll` the change
    /// is only noted, for [`Registry::register_all`].
    pub fn set_interest(&mut self, epoll: Option<&Epoll>, key: SourceKey, wanted: Interest) -> io::Result<()> {
        let source = self.get_mut(key).ok_or(io::ErrorKind::NotFound)?;
        let fd = source.fd;
        let Kind::Host { interest, trigger } = &mut source.kind else { return Err(io::ErrorKind::NotFound.into()) };
        if *interest == wanted {
            return Ok(());
        }
        let Some(epoll) = epoll else {
            *interest = wanted;
            return Ok(());
        };
        if wanted == Interest::NONE {
            // The kernel reports hang-ups whatever is watched; a source that watches nothing must leave, or a dead
            // peer would keep the loop spinning.
            epoll.remove(fd);
        } else if *interest == Interest::NONE {
            epoll.add(fd, key.token(), wanted, *trigger)?;
        } else {
            epoll.modify(fd, key.token(), wanted, *trigger)?;
        }
        *interest = wanted;
        Ok(())
    }

    /// What a host source watches now.
    #[must_use]
    pub fn interest(&self, key: SourceKey) -> Option<Interest> {
        match &self.get(key)?.kind {
            Kind::Host { interest, .. } => Some(*interest),
            Kind::Async(_) => None,
        }
    }

    /// Registers a source for futures.
    ///
    /// # Errors
    /// As [`Epoll::add`].
    pub fn add_async(&mut self, epoll: &Epoll, fd: RawFd) -> io::Result<SourceKey> {
        let key = self.next_key();
        epoll.add(fd, key.token(), Interest::BOTH, Trigger::Edge)?;
        self.insert(key, fd, Kind::Async(AsyncState::default()));
        Ok(key)
    }

    /// Has a new `epoll` watch what the last one did. What was closed meanwhile is passed over; where its number is in
    /// use again, the youngest source has it.
    pub fn register_all(&self, epoll: &Epoll) {
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort_unstable_by_key(|(_, source)| std::cmp::Reverse(self.generation.wrapping_sub(source.generation)));
        for (slot, source) in sources {
            let slot = u32::try_from(slot).expect("slots are made from 32 bits");
            let token = SourceKey { slot, generation: source.generation }.token();
            let _closed = match source.kind {
                Kind::Host { interest: Interest::NONE, .. } => Ok(()),
                Kind::Host { interest, trigger } => epoll.add(source.fd, token, interest, trigger),
                Kind::Async(_) => epoll.add(source.fd, token, Interest::BOTH, Trigger::Edge),
            };
        }
    }

    /// Forgets a source; must come before its descriptor is closed. The returned wakers, if any, are for dropping
    /// when the registry is no longer borrowed. Without an `epoll` the kernel is not told.
    #[must_use]
    pub fn remove(&mut self, epoll: Option<&Epoll>, key: SourceKey) -> [Option<Waker>; 2] {
        if let (Some(epoll), Some(source)) = (epoll, self.get(key)) {
            if !matches!(source.kind, Kind::Host { interest: Interest::NONE, .. }) {
                epoll.remove(source.fd);
            }
        }
        self.forget(key)
    }

    /// As [`Registry::remove`], for a source whose descriptor was closed already: the kernel has forgotten it by itself,
    /// and its number may be somebody else's now, whose watch must not be touched.
    #[must_use]
    pub fn forget(&mut self, key: SourceKey) -> [Option<Waker>; 2] {
        if self.get(key).is_none() {
            return [None, None];
        }
        match self.sources.remove(key.index()).kind {
            Kind::Host { .. } => [None, None],
            Kind::Async(state) => [state.reader, state.writer],
        }
    }

    /// What the event with this token means.
    pub fn dispatch(&mut self, token: u64, readiness: Readiness) -> Dispatch {
        let key = SourceKey::from_token(token);
        let Some(source) = self.get_mut(key) else { return Dispatch::Stale };
        match &mut source.kind {
            Kind::Host { interest, .. } => {
                let readiness = Readiness {
                    readable: readiness.readable && interest.readable,
                    writable: readiness.writable && interest.writable,
                    closed: readiness.closed,
                };
                match *interest {
                    Interest::NONE => Dispatch::Stale,
                    _ if readiness.readable || readiness.writable => Dispatch::Host(key, readiness),
                    _ => Dispatch::Unwanted,
                }
            }
            Kind::Async(state) => {
                state.ready.readable |= readiness.readable;
                state.ready.writable |= readiness.writable;
                state.ready.closed |= readiness.closed;
                let reader = if readiness.readable { state.reader.take() } else { None };
                let writer = if readiness.writable { state.writer.take() } else { None };
                Dispatch::Wake([reader, writer])
            }
        }
    }

    /// Ready when a read may make progress. Otherwise the waker is kept, in place of an earlier one, which comes back
    /// for dropping outside the borrow.
    pub fn poll_readable(&mut self, key: SourceKey, context: &Context<'_>) -> (Poll<()>, Option<Waker>) {
        match self.async_state(key) {
            Some(state) if !state.ready.readable => (Poll::Pending, keep(&mut state.reader, context)),
            _ => (Poll::Ready(()), None),
        }
    }

    /// Ready when a write may make progress; else as [`Registry::poll_readable`].
    pub fn poll_writable(&mut self, key: SourceKey, context: &Context<'_>) -> (Poll<()>, Option<Waker>) {
        match self.async_state(key) {
            Some(state) if !state.ready.writable => (Poll::Pending, keep(&mut state.writer, context)),
            _ => (Poll::Ready(()), None),
        }
    }

    /// Says that a read came back short, so that more data will make a new edge; the end of the stream, once seen,
    /// makes none, so a closed source stays readable.
    pub fn drained(&mut self, key: SourceKey) {
        if let Some(state) = self.async_state(key) {
            state.ready.readable = state.ready.closed;
        }
    }

    /// Says that a read would block now, so that the next edge is waited for.
    pub fn clear_readable(&mut self, key: SourceKey) {
        if let Some(state) = self.async_state(key) {
            state.ready.readable = false;
        }
    }

    /// Says that a write would block now.
    pub fn clear_writable(&mut self, key: SourceKey) {
        if let Some(state) = self.async_state(key) {
            state.ready.writable = false;
        }
    }

    fn async_state(&mut self, key: SourceKey) -> Option<&mut AsyncState> {
        match &mut self.get_mut(key)?.kind {
            Kind::Async(state) => Some(state),
            Kind::Host { .. } => None,
        }
    }

    fn get(&self, key: SourceKey) -> Option<&Source> {
        self.sources.get(key.index()).filter(|source| source.generation == key.generation)
    }

    fn get_mut(&mut self, key: SourceKey) -> Option<&mut Source> {
        self.sources.get_mut(key.index()).filter(|source| source.generation == key.generation)
    }

    fn next_key(&mut self) -> SourceKey {
        self.generation = self.generation.wrapping_add(1);
        let slot = u32::try_from(self.sources.vacant_key()).expect("fewer than 2^32 descriptors exist");
        SourceKey { slot, generation: self.generation }
    }

    fn insert(&mut self, key: SourceKey, fd: RawFd, kind: Kind) {
        let slot = self.sources.insert(Source { fd, generation: key.generation, kind });
        debug_assert_eq!(slot, key.index());
    }
}

/// Stores the waker of `context` unless the stored one wakes the same task; gives back what it replaced.
fn keep(place: &mut Option<Waker>, context: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(context.waker()) => None,
        _ => place.replace(context.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use super::{Dispatch, Registry};
    use crate::driver::{Epoll, EventBuffer, Interest, Notifier, Readiness, Trigger};

    #[test]
    fn an_event_of_a_removed_source_is_stale_even_if_its_slot_lives_again() {
        let epoll = Epoll::new().unwrap();
        let notifier = Notifier::new().unwrap();
        let mut registry = Registry::default();
        let old = registry.add_host(&epoll, notifier.as_raw_fd(), Interest::READABLE, Trigger::Level).unwrap();
        notifier.notify();
        let mut events = EventBuffer::with_capacity(8);
        epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
        let event = events.get(0);
        let _ = registry.remove(Some(&epoll), old);
        let new = registry.add_host(&epoll, notifier.as_raw_fd(), Interest::READABLE, Trigger::Level).unwrap();
        assert_eq!(old.index(), new.index());
        assert!(matches!(registry.dispatch(event.token, event.readiness), Dispatch::Stale));
    }

    #[test]
    fn a_host_source_hears_only_what_it_watches() {
        let epoll = Epoll::new().unwrap();
        let notifier = Notifier::new().unwrap();
        let mut registry = Registry::default();
        let key = registry.add_host(&epoll, notifier.as_raw_fd(), Interest::WRITABLE, Trigger::Level).unwrap();
        let both = Readiness { readable: true, writable: true, closed: false };
        let Dispatch::Host(_, readiness) = registry.dispatch(key.token(), both) else { panic!("a host event") };
        assert_eq!(readiness, Readiness { readable: false, writable: true, closed: false });
        let readable = Readiness { writable: false, ..both };
        assert!(matches!(registry.dispatch(key.token(), readable), Dispatch::Unwanted));
        registry.set_interest(Some(&epoll), key, Interest::NONE).unwrap();
        assert!(matches!(registry.dispatch(key.token(), both), Dispatch::Stale));
    }
}
