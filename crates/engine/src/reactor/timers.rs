//! A timer store in which setting and cancelling cost next to nothing.
//!
//! Most timers are timeouts that are cancelled before they are due. A binary heap orders deadlines; cancelling only
//! frees the slot, and the stale heap entry is dropped when it surfaces, or all at once when stale entries outnumber
//! the live ones. So cancel is O(1), and the heap never holds more than twice what is pending (plus a small constant).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Stale entries are not worth a sweep below this number.
const SWEEP_THRESHOLD: usize = 64;

/// Names one pending timer; a key of a timer that fired or was cancelled names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    slot: u32,
    serial: u64,
}

/// A deadline in the heap; timers of equal deadline are due in the order in which they were set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline: u64,
    serial: u64,
    slot: u32,
}

struct Slot<T> {
    serial: u64,
    payload: Option<T>,
}

/// Payloads ordered by deadline, in nanoseconds of the loop's clock.
pub struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry>>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    serial: u64,
    stale: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), serial: 0, stale: 0 }
    }
}

impl<T> Timers<T> {
    /// Adds a timer due at `deadline` nanoseconds.
    pub fn insert(&mut self, deadline: u64, payload: T) -> TimerKey {
        self.serial += 1;
        let serial = self.serial;
        let filled = Slot { serial, payload: Some(payload) };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = filled;
            slot
        } else {
            self.slots.push(filled);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 timers fit into memory")
        };
        self.heap.push(Reverse(Entry { deadline, serial, slot }));
        TimerKey { slot, serial }
    }

    /// Removes a timer; `None` when it fired or was cancelled before.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let payload = self.take(key.slot, key.serial)?;
        self.stale += 1;
        if self.stale > SWEEP_THRESHOLD && self.stale * 2 > self.heap.len() {
            self.sweep();
        }
        Some(payload)
    }

    /// The payload of a pending timer, to be changed in place.
    pub fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.serial == key.serial { slot.payload.as_mut() } else { None }
    }

    /// When the earliest timer is due.
    pub fn next_deadline(&mut self) -> Option<u64> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if self.is_live(entry) {
                return Some(entry.deadline);
            }
            self.heap.pop();
            self.stale -= 1;
        }
        None
    }

    /// Takes the earliest timer that is due at `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<T> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.take(entry.slot, entry.serial)
    }

    /// The number of pending timers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len() - self.stale
    }

    /// Whether no timer is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payloads of all pending timers, in no order.
    pub fn payloads(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.payload.as_ref())
    }

    /// Drops all timers and hands out their payloads, so that the caller frees them when no borrow is held.
    #[must_use]
    pub fn clear(&mut self) -> Vec<T> {
        self.heap.clear();
        self.free.clear();
        self.stale = 0;
        std::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.payload).collect()
    }

    fn is_live(&self, entry: &Entry) -> bool {
        let slot = &self.slots[entry.slot as usize];
        slot.serial == entry.serial && slot.payload.is_some()
    }

    fn take(&mut self, slot: u32, serial: u64) -> Option<T> {
        let found = self.slots.get_mut(slot as usize)?;
        if found.serial != serial {
            return None;
        }
        let payload = found.payload.take()?;
        self.free.push(slot);
        Some(payload)
    }

    fn sweep(&mut self) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        entries.retain(|Reverse(entry)| self.is_live(entry));
        self.heap = BinaryHeap::from(entries);
        self.stale = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Timers;

    #[test]
    fn due_in_order_of_deadline_then_of_setting() {
        let mut timers = Timers::default();
        for (deadline, name) in [(30, "c"), (10, "a"), (20, "b1"), (20, "b2")] {
            timers.insert(deadline, name);
        }
        assert_eq!(timers.next_deadline(), Some(10));
        assert_eq!(timers.pop_due(9), None);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(25)).collect();
        assert_eq!(due, ["a", "b1", "b2"]);
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn a_cancelled_timer_is_gone_and_its_key_names_nothing_new() {
        let mut timers = Timers::default();
        let key = timers.insert(10, 1);
        assert_eq!(timers.cancel(key), Some(1));
        let _other = timers.insert(10, 2);
        assert_eq!(timers.cancel(key), None);
        assert_eq!(timers.pop_due(10), Some(2));
        assert!(timers.is_empty());
    }

    #[test]
    fn set_and_cancel_keeps_the_heap_small() {
        let mut timers = Timers::default();
        let pending: Vec<_> = (0..1000).map(|i| timers.insert(1_000_000 + i, i)).collect();
        for i in 0..100_000 {
            let key = timers.insert(500_000 + i, i);
            timers.cancel(key);
        }
        assert_eq!(timers.len(), pending.len());
        assert!(timers.heap.len() < 3 * pending.len() + 3 * super::SWEEP_THRESHOLD);
        assert_eq!(timers.next_deadline(), Some(1_000_000));
    }
}
