//! The one way across threads: a lock-free queue, and a notifier that is written only when the loop is parked.

use std::io;

use super::sync::{AtomicBool, AtomicUsize, Ordering, SegQueue, fence, this_thread, yield_now};
use crate::driver::Notifier;

/// What other threads may know of a loop: who runs it, whether it is parked, and how to wake it.
#[derive(Debug)]
pub struct Remote {
    notifier: Notifier,
    /// The thread that runs the loop now; 0 while nobody does.
    owner: AtomicUsize,
    /// Whether its owner runs it; an owner that does not is soon done.
    running: AtomicBool,
    /// Set before the loop blocks; whoever clears it writes the notifier.
    parked: AtomicBool,
}

impl Remote {
    /// Makes the remote side of a new loop.
    ///
    /// # Errors
    /// `EMFILE`/`ENFILE` when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            notifier: Notifier::new()?,
            owner: AtomicUsize::new(0),
            running: AtomicBool::new(false),
            parked: AtomicBool::new(false),
        })
    }

    /// The notifier, for the driver to watch.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Whether the calling thread owns the loop now: it runs it, or has taken it by [`Remote::try_own`].
    #[must_use]
    pub fn is_owner(&self) -> bool {
        // Only this thread ever stores its own mark, so nothing has to be ordered to see it.
        self.owner.load(Ordering::Relaxed) == this_thread()
    }

    /// Whether a thread runs the loop.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }

    /// Takes the loop for the calling thread; false when a thread has it already.
    pub fn try_own(&self) -> bool {
        self.owner.compare_exchange(0, this_thread(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives the loop back.
    pub fn disown(&self) {
        self.owner.store(0, Ordering::Release);
    }

    /// Says that the loop is about to block. What was injected before is seen by whoever looks after this call.
    pub fn park(&self) {
        // A swap, as every change of `parked`: each is then seen by the next, whoever makes it.
        self.parked.swap(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Says that the loop is awake.
    pub fn unpark(&self) {
        self.parked.swap(false, Ordering::SeqCst);
    }

    /// Wakes the loop if it is parked. To be called after something was injected.
    pub fn wake(&self) {
        // Between the push and this look lies a fence (in `Injector::push`), and one between the loop's `park` and its
        // look into the queue: whichever fence comes first, either the loop sees the push, or we see that it parked.
        if self.parked.load(Ordering::SeqCst) && self.parked.swap(false, Ordering::SeqCst) {
            self.notifier.notify();
        }
    }
}

/// A first-in-first-out queue into a loop, from any number of threads.
#[derive(Debug)]
pub struct Injector<T> {
    queue: SegQueue<T>,
    /// `CLOSED`, and how many threads are amid a `push_if_open`, in units of `PUSHING`.
    gate: AtomicUsize,
}

const CLOSED: usize = 1;
const PUSHING: usize = 2;

impl<T> Default for Injector<T> {
    fn default() -> Self {
        Self { queue: SegQueue::new(), gate: AtomicUsize::new(0) }
    }
}

impl<T> Injector<T> {
    /// Adds `item`; then call [`Remote::wake`].
    pub fn push(&self, item: T) {
        self.queue.push(item);
        fence(Ordering::SeqCst);
    }

    /// As [`Injector::push`], unless the queue is closed.
    ///
    /// # Errors
    /// Gives the item back if the queue is closed.
    pub fn push_if_open(&self, item: T) -> Result<(), T> {
        let before = self.gate.fetch_add(PUSHING, Ordering::Acquire);
        let result = if before & CLOSED == 0 {
            self.push(item);
            Ok(())
        } else {
            Err(item)
        };
        self.gate.fetch_sub(PUSHING, Ordering::Release);
        result
    }

    /// Whether the queue is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.gate.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Refuses what comes from now on. What was not refused is in the queue when this returns.
    pub fn close(&self) {
        self.gate.fetch_or(CLOSED, Ordering::AcqRel);
        while self.gate.load(Ordering::Acquire) >= PUSHING {
            yield_now();
        }
    }

    /// Takes the oldest item.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Whether nothing waits in the queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
