//! The one way across threads: a lock-free queue, and a notifier that is written only when the loop is parked.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;

use crate::driver::Notifier;

thread_local! {
    /// Its address tells this thread from every other living thread.
    static THREAD_MARK: u8 = const { 0 };
}

fn this_thread() -> usize {
    THREAD_MARK.with(|mark| std::ptr::from_ref(mark) as usize)
}

/// What other threads may know of a loop: who runs it, whether it is parked, and how to wake it.
#[derive(Debug)]
pub struct Remote {
    notifier: Notifier,
    /// The thread that runs the loop now; 0 while nobody does.
    owner: AtomicUsize,
    /// Set before the loop blocks; whoever clears it writes the notifier.
    parked: AtomicBool,
}

impl Remote {
    /// Makes the remote side of a new loop.
    ///
    /// # Errors
    /// `EMFILE`/`ENFILE` when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { notifier: Notifier::new()?, owner: AtomicUsize::new(0), parked: AtomicBool::new(false) })
    }

    /// The notifier, for the driver to watch.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Whether the calling thread runs the loop now.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == this_thread()
    }

    /// Takes the loop for the calling thread; false when a thread runs it already.
    pub fn try_own(&self) -> bool {
        self.owner.compare_exchange(0, this_thread(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives the loop back.
    pub fn disown(&self) {
        self.owner.store(0, Ordering::Release);
    }

    /// Says that the loop is about to block. What was injected before is seen by whoever looks after this call.
    pub fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
    }

    /// Says that the loop is awake.
    pub fn unpark(&self) {
        self.parked.store(false, Ordering::SeqCst);
    }

    /// Wakes the loop if it is parked. To be called after something was injected.
    pub fn wake(&self) {
        // The queue's push and this swap are both sequentially consistent, as are the loop's `park` and its look into
        // the queue afterwards: either the loop sees the push, or we see that it parked.
        if self.parked.load(Ordering::SeqCst) && self.parked.swap(false, Ordering::SeqCst) {
            self.notifier.notify();
        }
    }
}

/// A first-in-first-out queue into a loop, from any number of threads.
#[derive(Debug)]
pub struct Injector<T> {
    queue: SegQueue<T>,
}

impl<T> Default for Injector<T> {
    fn default() -> Self {
        Self { queue: SegQueue::new() }
    }
}

impl<T> Injector<T> {
    /// Adds `item`; then call [`Remote::wake`].
    pub fn push(&self, item: T) {
        self.queue.push(item);
        std::sync::atomic::fence(Ordering::SeqCst);
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
