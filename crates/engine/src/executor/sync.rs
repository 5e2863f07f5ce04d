//! What the injector is made of. The models in `crates/engine/loom` have other things of these names.

pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub use std::thread::yield_now;

pub use crossbeam_queue::SegQueue;

thread_local! {
    /// Its address tells this thread from every other living thread.
    static THREAD_MARK: u8 = const { 0 };
}

/// A number that is the calling thread's own for as long as it lives; never 0.
#[must_use]
pub fn this_thread() -> usize {
    THREAD_MARK.with(|mark| std::ptr::from_ref(mark) as usize)
}
