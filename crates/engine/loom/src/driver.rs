//! A notifier without a descriptor.

use std::io;

use loom::sync::{Condvar, Mutex};

#[derive(Debug)]
pub struct Notifier {
    notified: Mutex<bool>,
    changed: Condvar,
}

impl Notifier {
    #[expect(clippy::unnecessary_wraps, reason = "as the real one, which opens a descriptor")]
    pub fn new() -> io::Result<Self> {
        Ok(Self { notified: Mutex::new(false), changed: Condvar::new() })
    }

    pub fn notify(&self) {
        *self.notified.lock().unwrap() = true;
        self.changed.notify_one();
    }

    pub fn drain(&self) {
        *self.notified.lock().unwrap() = false;
    }

    /// What the driver does with it: blocks until it was notified.
    pub fn wait(&self) {
        let mut notified = self.notified.lock().unwrap();
        while !*notified {
            notified = self.changed.wait(notified).unwrap();
        }
    }
}
