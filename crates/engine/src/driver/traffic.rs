//! How many bytes the calling thread has received and sent through sockets.

use std::cell::Cell;
use std::io;

thread_local! {
    static RECEIVED: Cell<u64> = const { Cell::new(0) };
    static SENT: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that this thread has received and sent so far.
#[must_use]
pub fn thread_traffic() -> (u64, u64) {
    (RECEIVED.get(), SENT.get())
}

pub(super) fn received(bytes: usize) {
    RECEIVED.set(RECEIVED.get() + bytes as u64);
}

pub(super) fn sent(result: io::Result<usize>) -> io::Result<usize> {
    if let Ok(bytes) = result {
        SENT.set(SENT.get() + bytes as u64);
    }
    result
}
