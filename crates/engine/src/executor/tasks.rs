//! Rust futures as tasks of one loop.
//!
//! A task is polled only by the thread that runs its loop, so it need not be `Send`. Its waker may go anywhere: on
//! the loop's own thread it pushes to a plain queue; from elsewhere it goes through the injector.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_task::Runnable;
use slab::Slab;

use super::{Injector, Remote};

/// So long may a thread take from marking a task as woken to pushing it.
const LATE_WAKER: Duration = Duration::from_secs(1);

/// A spawned task's result to come. Dropping it cancels the task; [`JoinHandle::detach`] lets it run by itself.
pub type JoinHandle<T> = async_task::Task<T>;

/// The part of the queue that wakers reach from any thread.
struct Shared {
    remote: Arc<Remote>,
    injected: Injector<Runnable>,
    /// Only the owner of the loop touches it (`Remote::is_owner`).
    local: UnsafeCell<VecDeque<Runnable>>,
}

// SAFETY: `local` is touched only by the thread that owns the loop (checked by `Remote::is_owner` or by `Tasks`, which
// is neither Send nor Sync and lives where the loop is); the rest is Sync by itself. A `Runnable` may be *held* by any
// thread; it is run and dropped only by the loop.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn schedule(&self, runnable: Runnable) {
        if self.remote.is_owner() {
            // SAFETY: this thread owns the loop, and no reference into the queue outlives a single push or pop.
            unsafe { (*self.local.get()).push_back(runnable) };
        } else {
            self.injected.push(runnable);
            self.remote.wake();
        }
    }
}

/// The tasks of one loop.
pub struct Tasks {
    shared: Arc<Shared>,
    active: Rc<Active>,
    closed: Cell<bool>,
    /// How many tasks are being polled: one at most, unless a task turns the loop of its own.
    polling: Cell<usize>,
}

/// The tasks whose future was not dropped yet.
#[derive(Default)]
struct Active {
    /// A waker for each, so that closing the loop can reach and drop them all.
    wakers: RefCell<Slab<Waker>>,
    count: Cell<usize>,
}

impl Tasks {
    /// An empty set of tasks.
    #[must_use]
    pub fn new(remote: Arc<Remote>) -> Self {
        let shared = Shared { remote, injected: Injector::default(), local: UnsafeCell::default() };
        Self { shared: Arc::new(shared), active: Rc::default(), closed: Cell::new(false), polling: Cell::new(0) }
    }

    /// Starts `future` as a task; it is first polled by the next turn, not by this call.
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output>
    where
        F::Output: 'static,
    {
        let slot = self.active.wakers.borrow().vacant_key();
        self.active.count.set(self.active.count.get() + 1);
        let tracked = Tracked { future, slot, active: Rc::clone(&self.active) };
        let shared = Arc::clone(&self.shared);
        let schedule = move |runnable| shared.schedule(runnable);
        // SAFETY: the future is 'static, so is the schedule function, which is also Send and Sync. The future need
        // not be Send: a Runnable is run or dropped only by `run_one` and `close`, on the thread where the loop is.
        let (runnable, task) = unsafe { async_task::spawn_unchecked(tracked, schedule) };
        let inserted = self.active.wakers.borrow_mut().insert(runnable.waker());
        debug_assert_eq!(inserted, slot);
        if self.closed.get() {
            drop(runnable);
        } else {
            runnable.schedule();
        }
        task
    }

    /// The number of unfinished tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.active.count.get()
    }

    /// Whether every task has finished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a task waits to be polled.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.ready_len() > 0 || !self.shared.injected.is_empty()
    }

    /// Takes over what other threads woke, and gives the number of tasks to poll.
    #[must_use]
    pub fn collect_ready(&self) -> usize {
        while let Some(runnable) = self.shared.injected.pop() {
            self.push_local(runnable);
        }
        self.ready_len()
    }

    /// Polls the task that has waited longest; false when none waits.
    pub fn run_one(&self) -> bool {
        match self.pop_local() {
            Some(runnable) => {
                let _polling = Polling::begin(&self.polling);
                runnable.run();
                true
            }
            None => false,
        }
    }

    /// Drops every task. What is spawned or woken later is dropped at once.
    pub fn close(&self) {
        self.closed.set(true);
        let mut give_up = None;
        loop {
            let wakers: Vec<Waker> = self.active.wakers.borrow_mut().drain().collect();
            for waker in &wakers {
                waker.wake_by_ref();
            }
            drop(wakers);
            let mut dropped = false;
            let _ = self.collect_ready();
            while let Some(runnable) = self.pop_local() {
                drop(runnable);
                dropped = true;
            }
            if self.active.count.get() <= self.polling.get() {
                break;
            }
            if !dropped {
                // Another thread has woken one and is about to push it, unless this is a forked child without it.
                if Instant::now() > *give_up.get_or_insert_with(|| Instant::now() + LATE_WAKER) {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }

    fn ready_len(&self) -> usize {
        // SAFETY: `Tasks` is not Send, so this thread is where the loop is; the reference ends here.
        unsafe { (*self.shared.local.get()).len() }
    }

    fn push_local(&self, runnable: Runnable) {
        // SAFETY: as in `ready_len`.
        unsafe { (*self.shared.local.get()).push_back(runnable) };
    }

    fn pop_local(&self) -> Option<Runnable> {
        // SAFETY: as in `ready_len`.
        unsafe { (*self.shared.local.get()).pop_front() }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.close();
    }
}

/// A future that leaves the table of active tasks when it is dropped.
struct Tracked<F> {
    future: F,
    slot: usize,
    active: Rc<Active>,
}

impl<F: Future> Future for Tracked<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is structurally pinned: it is never moved out, and `Drop` does not touch it.
        unsafe { self.map_unchecked_mut(|tracked| &mut tracked.future) }.poll(context)
    }
}

impl<F> Drop for Tracked<F> {
    fn drop(&mut self) {
        // The slot is empty already when the loop is being closed; the waker is dropped outside the borrow.
        let waker = self.active.wakers.borrow_mut().try_remove(self.slot);
        drop(waker);
        self.active.count.set(self.active.count.get() - 1);
    }
}

/// Counts a poll while it lasts.
struct Polling<'a>(&'a Cell<usize>);

impl<'a> Polling<'a> {
    fn begin(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
