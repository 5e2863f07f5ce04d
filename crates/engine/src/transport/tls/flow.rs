//! When to hold a writer or a reader back.

/// What a new size means for whoever fills the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowChange {
    /// Too much waits: stop.
    Pause,
    /// Little enough waits: go on.
    Resume,
}

/// A high and a low mark in bytes, and whether the filler is held back now.
#[derive(Clone, Copy, Debug)]
pub struct Watermarks {
    high_bytes: usize,
    low_bytes: usize,
    is_paused: bool,
}

impl Watermarks {
    /// Marks of `high_bytes` and a quarter of it.
    #[must_use]
    pub const fn new(high_bytes: usize) -> Self {
        Self { high_bytes, low_bytes: high_bytes / 4, is_paused: false }
    }

    /// Sets both marks; `high_bytes` must not be below `low_bytes`.
    pub fn set(&mut self, high_bytes: usize, low_bytes: usize) {
        debug_assert!(high_bytes >= low_bytes);
        (self.high_bytes, self.low_bytes) = (high_bytes, low_bytes);
    }

    /// The low and the high mark.
    #[must_use]
    pub fn marks(&self) -> (usize, usize) {
        (self.low_bytes, self.high_bytes)
    }

    /// Whether the filler is held back.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Takes note of how much waits now. An empty buffer never holds anybody back, even with a high mark of 0.
    pub fn update(&mut self, waiting_bytes: usize) -> Option<FlowChange> {
        if !self.is_paused && waiting_bytes > 0 && waiting_bytes >= self.high_bytes {
            self.is_paused = true;
            return Some(FlowChange::Pause);
        }
        if self.is_paused && waiting_bytes <= self.low_bytes {
            self.is_paused = false;
            return Some(FlowChange::Resume);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{FlowChange, Watermarks};

    #[test]
    fn pauses_at_the_high_mark_and_resumes_at_the_low_one() {
        let mut marks = Watermarks::new(100);
        assert_eq!(marks.update(99), None);
        assert_eq!(marks.update(100), Some(FlowChange::Pause));
        assert_eq!(marks.update(200), None);
        assert_eq!(marks.update(26), None);
        assert_eq!(marks.update(25), Some(FlowChange::Resume));
    }

    #[test]
    fn a_high_mark_of_zero_pauses_whenever_something_waits() {
        let mut marks = Watermarks::new(0);
        assert_eq!(marks.update(0), None);
        assert_eq!(marks.update(1), Some(FlowChange::Pause));
        assert_eq!(marks.update(0), Some(FlowChange::Resume));
    }
}
