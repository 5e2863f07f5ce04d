//! A thread's records: a ring of fixed size that its thread alone writes, and anybody may read meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::lanes::{Lanes, NO_LANE};

/// One record is four words; what they mean is [`super::record`]'s business.
pub(crate) type Words = [u64; 4];

/// What one record takes.
pub(crate) const RECORD_BYTES: usize = size_of::<Words>();
const _: () = assert!(RECORD_BYTES == 32);

/// Memory is taken in pieces of so many records, when they are first written.
const SEGMENT_RECORDS: usize = 4096;

type Segment = Box<[[AtomicU64; 4]]>;

/// The records of one thread.
pub(crate) struct Ring {
    segments: Box<[OnceLock<Segment>]>,
    capacity: u64,
    /// How many records were ever written.
    written: AtomicU64,
    /// Where the next one goes: `written % capacity`, without a division for each record. For the ring's own thread.
    place: AtomicUsize,
    /// The thread has ended: nobody writes any more.
    ended: AtomicBool,
    /// The lane of the thread's loop, or [`NO_LANE`].
    pub loop_lane: AtomicU32,
    pub lanes: Mutex<Lanes>,
}

impl Ring {
    pub fn new(records: usize, lanes: Lanes) -> Self {
        let segments = records.div_ceil(SEGMENT_RECORDS).max(1);
        Self {
            segments: (0..segments).map(|_| OnceLock::new()).collect(),
            capacity: (segments * SEGMENT_RECORDS) as u64,
            written: AtomicU64::new(0),
            place: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            loop_lane: AtomicU32::new(NO_LANE),
            lanes: Mutex::new(lanes),
        }
    }

    /// Appends a record; the oldest is overwritten when the ring is full. For the ring's own thread.
    #[inline]
    pub fn push(&self, words: Words) {
        let written = self.written.load(Ordering::Relaxed);
        let place = self.place.load(Ordering::Relaxed);
        let slot = self.slot(place);
        let next = if place + 1 == self.segments.len() * SEGMENT_RECORDS { 0 } else { place + 1 };
        self.place.store(next, Ordering::Relaxed);
        // Whoever reads one of the new words, reads this record's number afterwards, and knows what is amid a change.
        fence(Ordering::Release);
        for (place, word) in slot.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.written.store(written + 1, Ordering::Release);
    }

    #[inline]
    fn slot(&self, index: usize) -> &[AtomicU64; 4] {
        let segment = self.segments[index / SEGMENT_RECORDS].get_or_init(|| {
            std::iter::repeat_with(Default::default).take(SEGMENT_RECORDS).collect::<Vec<_>>().into_boxed_slice()
        });
        &segment[index % SEGMENT_RECORDS]
    }

    /// The records that are there, oldest first, and how many have been overwritten.
    pub fn read(&self) -> (Vec<Words>, u64) {
        let before = self.written.load(Ordering::Acquire);
        let first = before.saturating_sub(self.capacity);
        let mut records: Vec<Words> = (first..before)
            .map(|index| {
                #[expect(clippy::cast_possible_truncation, reason = "below the capacity, which is a usize")]
                let slot = self.slot((index % self.capacity) as usize);
                std::array::from_fn(|word| slot[word].load(Ordering::Relaxed))
            })
            .collect();
        fence(Ordering::Acquire);
        // What the thread has overwritten meanwhile, and what it may be amid overwriting, is not what it was.
        let after = self.written.load(Ordering::Relaxed);
        let intact =
            if after == before && self.has_ended() { first } else { (after + 1).saturating_sub(self.capacity) };
        let lost = intact.max(first);
        records.drain(..usize::try_from(lost - first).unwrap_or(usize::MAX).min(records.len()));
        (records, lost)
    }

    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Lanes, Ring, SEGMENT_RECORDS};

    #[test]
    fn the_newest_records_stay_and_the_rest_is_counted() {
        let ring = Ring::new(SEGMENT_RECORDS, Lanes::new(0, 16));
        let total = SEGMENT_RECORDS as u64 * 2 + 10;
        for index in 0..total {
            ring.push([index; 4]);
        }
        ring.end();
        let (records, lost) = ring.read();
        assert_eq!(records.len(), SEGMENT_RECORDS);
        assert_eq!(lost + records.len() as u64, total);
        assert_eq!(records.first(), Some(&[lost; 4]));
        assert_eq!(records.last(), Some(&[total - 1; 4]));
    }

    #[test]
    fn a_reader_never_sees_half_a_record() {
        let ring = Arc::new(Ring::new(SEGMENT_RECORDS, Lanes::new(0, 16)));
        let writer = {
            let ring = Arc::clone(&ring);
            std::thread::spawn(move || (0..400_000).for_each(|index| ring.push([index; 4])))
        };
        while !writer.is_finished() {
            let (records, lost) = ring.read();
            for (record, index) in records.iter().zip(lost..) {
                assert_eq!(*record, [index; 4]);
            }
        }
        writer.join().unwrap();
    }
}
