//! A pool as other threads see it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

/// Counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Connections, in use or idle, and those being made.
    pub open: usize,
    /// Connections that wait for their next request.
    pub idle: usize,
    /// Requests that have begun and not ended, the waiting ones too.
    pub in_flight: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
}

/// What other threads see of a pool, and do to it.
#[derive(Default)]
pub(super) struct Remote {
    closed: AtomicBool,
    /// Of the keeper, which closes the idle connections.
    waker: Mutex<Option<Waker>>,
    pub open: AtomicUsize,
    pub idle: AtomicUsize,
    pub in_flight: AtomicUsize,
    pub waiting: AtomicUsize,
}

impl Remote {
    /// Refuses new requests from now on, and has the pool's loop close the idle connections.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake_keeper();
    }

    /// Has the keeper look again.
    pub fn wake_keeper(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub fn statistics(&self) -> Statistics {
        Statistics {
            open: self.open.load(Ordering::Relaxed),
            idle: self.idle.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// Has the keeper's task woken from now on.
    pub fn watch(&self, context: &Context<'_>) {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }
}
