//! When the host's garbage collector ran.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::clock::ticks;

/// Shorter collections froze nothing: a million ticks are less than a millisecond.
const NOTED_TICKS: u64 = 1_000_000;
/// So many are remembered.
const NOTED_MAX: usize = 64;

thread_local! {
    static BEGAN: Cell<u64> = const { Cell::new(0) };
}
static COLLECTIONS: Mutex<VecDeque<(u64, u64)>> = Mutex::new(VecDeque::new());

fn collections() -> MutexGuard<'static, VecDeque<(u64, u64)>> {
    COLLECTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A collection begins on this thread.
pub fn collection_begins() {
    BEGAN.set(ticks());
}

/// The collection is over.
pub fn collection_ends() {
    let (began, now) = (BEGAN.replace(0), ticks());
    if began == 0 || now.saturating_sub(began) < NOTED_TICKS {
        return;
    }
    let mut collections = collections();
    if collections.len() >= NOTED_MAX {
        collections.pop_front();
    }
    collections.push_back((began, now));
}

/// How much of the time from `start` to `end` collections took, in ticks.
pub(super) fn collected(start: u64, end: u64) -> u64 {
    let overlap = |(began, ended): &(u64, u64)| (*ended).min(end).saturating_sub((*began).max(start));
    collections().iter().map(overlap).sum::<u64>().min(end.saturating_sub(start))
}
