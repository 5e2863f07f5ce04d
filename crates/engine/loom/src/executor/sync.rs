//! Loom's atomics, and a queue that promises no more than an injector may expect.

pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub use loom::thread::yield_now;

use loom::cell::UnsafeCell;

loom::thread_local! {
    static THIS_THREAD: std::cell::Cell<usize> = std::cell::Cell::new(usize::MAX);
}

/// Loom's threads share one thread of the system, so they are told who they are.
pub fn this_thread() -> usize {
    THIS_THREAD.with(std::cell::Cell::get)
}

pub fn set_this_thread(id: usize) {
    THIS_THREAD.with(|this| this.set(id));
}

const ROOM: usize = 4;

/// A queue of many producers and one consumer that orders nothing besides its items: whether it is empty is a relaxed
/// question.
#[derive(Debug)]
pub struct SegQueue<T> {
    slots: [(AtomicBool, UnsafeCell<Option<T>>); ROOM],
    head: AtomicUsize,
    tail: AtomicUsize,
}

// SAFETY: a slot is written by the one producer that counted it, and read by the consumer once it is marked as full.
unsafe impl<T: Send> Sync for SegQueue<T> {}

impl<T> SegQueue<T> {
    pub fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| (AtomicBool::new(false), UnsafeCell::new(None))),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        }
    }

    pub fn push(&self, item: T) {
        let (is_full, place) = &self.slots[self.tail.fetch_add(1, Ordering::Relaxed)];
        // SAFETY: nobody else got this slot, and nobody reads it before it is full.
        place.with_mut(|place| unsafe { *place = Some(item) });
        is_full.store(true, Ordering::Release);
    }

    pub fn pop(&self) -> Option<T> {
        let head = self.head.load(Ordering::Relaxed);
        if head == self.tail.load(Ordering::Relaxed) {
            return None;
        }
        let (is_full, place) = &self.slots[head];
        while !is_full.load(Ordering::Acquire) {
            yield_now();
        }
        self.head.store(head + 1, Ordering::Relaxed);
        // SAFETY: its producer is done with it, and there is one consumer.
        place.with_mut(|place| unsafe { (*place).take() })
    }

    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == self.tail.load(Ordering::Relaxed)
    }
}
