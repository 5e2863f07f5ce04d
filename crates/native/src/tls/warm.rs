//! Which sessions keep the library's buffers.
//!
//! CPython asks libssl to free a connection's two buffers, 17 KiB each, whenever they are empty, so that an idle
//! connection costs little. A busy one then allocates and frees both for every message. So the few busiest sessions of
//! a thread keep theirs: whoever wants to join them when all places are taken gets the place of one that was not used
//! since it was last looked at (the second-chance rule), whose buffers are freed.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::libssl::{Libssl, SslRef};

/// So many sessions of a thread keep their buffers: some 2 MiB.
const PLACES: usize = 64;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { entries: Vec::new(), hand: 0 }) };
}

/// The sessions of a thread that keep their buffers.
struct Kept {
    entries: Vec<Arc<Entry>>,
    /// Who is looked at next.
    hand: usize,
}

// What a session does at the moment. Whoever frees its buffers, on the thread where it got its place, must have it idle,
// and so must whoever uses or drops it, maybe on another.
const IDLE: u8 = 0;
const BUSY: u8 = 1;
const GONE: u8 = 2;

struct Entry {
    ssl: SslRef,
    state: AtomicU8,
    /// Since it was last looked at.
    is_used: AtomicBool,
    /// Whether it has a place.
    keeps: AtomicBool,
}

// SAFETY: the address in it is used only by whoever has taken the entry from IDLE to BUSY.
unsafe impl Sync for Entry {}

/// A session's share in this: held by the session, which keeps the `SSL` alive.
pub struct Warmth(Arc<Entry>);

impl Warmth {
    pub fn new(ssl: SslRef) -> Self {
        let entry = Entry { ssl, state: IDLE.into(), is_used: AtomicBool::new(false), keeps: AtomicBool::new(false) };
        Self(Arc::new(entry))
    }

    /// Runs `work`, which uses the `SSL`.
    pub fn while_busy<R>(&self, work: impl FnOnce() -> R) -> R {
        struct Busy<'a>(&'a Entry);
        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                self.0.state.store(IDLE, Ordering::Release);
            }
        }
        self.0.take(BUSY);
        let _until_the_end = Busy(&self.0);
        work()
    }

    /// A message came: the session wants to keep its buffers, or has used them again.
    pub fn used(&self, libssl: &Libssl) {
        // A second message in a row: many connections have but one.
        if self.0.is_used.swap(true, Ordering::Relaxed) && !self.0.keeps.load(Ordering::Relaxed) {
            KEPT.with_borrow_mut(|kept| kept.admit(libssl, &self.0));
        }
    }
}

impl Drop for Warmth {
    fn drop(&mut self) {
        self.0.take(GONE);
    }
}

impl Entry {
    fn try_take(&self, state: u8) -> bool {
        self.state.compare_exchange(IDLE, state, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn take(&self, state: u8) {
        // Another thread has it only while it frees two buffers.
        while !self.try_take(state) {
            std::hint::spin_loop();
        }
    }
}

impl Kept {
    fn admit(&mut self, libssl: &Libssl, entry: &Arc<Entry>) {
        if self.entries.len() < PLACES {
            self.entries.push(entry.clone());
        } else {
            let place = self.hand;
            self.hand = (self.hand + 1) % PLACES;
            if !self.entries[place].gives_way(libssl) {
                return;
            }
            self.entries[place] = entry.clone();
        }
        // SAFETY: the caller's session is idle, and its own `SSL` alive.
        unsafe { libssl.keep_buffers(entry.ssl, true) };
        entry.keeps.store(true, Ordering::Relaxed);
    }
}

impl Entry {
    /// Whether it has not been used lately; then its buffers are freed.
    fn gives_way(&self, libssl: &Libssl) -> bool {
        if self.state.load(Ordering::Acquire) == GONE {
            return true;
        }
        if self.is_used.swap(false, Ordering::Relaxed) || !self.try_take(BUSY) {
            return false;
        }
        // SAFETY: a session that is not gone keeps its `SSL` alive, and nobody uses it before it is idle again.
        unsafe { libssl.keep_buffers(self.ssl, false) };
        self.keeps.store(false, Ordering::Relaxed);
        self.state.store(IDLE, Ordering::Release);
        true
    }
}
