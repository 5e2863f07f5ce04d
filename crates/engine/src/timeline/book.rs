//! The rings of all threads: which level is on, when a recording began, and where a thread's records go.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::ticks;
use super::lanes::{LaneId, Lanes, RINGS_MAX, ring_of};
use super::record::Record;
use super::recorder;
use super::recording::{self, Recording};
use super::ring::Ring;

/// How much is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only numbers are counted.
    Counters = 0,
    /// The last records of each thread are kept; what comes too fast is kept in groups.
    Flight = 1,
    /// Everything is recorded; see [`start`].
    Full = 2,
}

/// In flight: 3 MiB for each of 16 threads, and about 1 MiB for the names of their lanes: 64 MiB at most.
const FLIGHT_RINGS: u32 = 16;
const FLIGHT_RECORDS: usize = 96 * 1024;
const FLIGHT_LANES: usize = 6 * 1024;
const FULL_LANES: usize = 1 << 22;

static LEVEL: AtomicU8 = AtomicU8::new(Level::Flight as u8);
/// Counts changes of the level, so that what a thread remembers of an old one is not taken for the new one's.
static EPOCH: AtomicU32 = AtomicU32::new(1);
/// Records of threads that got no ring.
static HOMELESS: AtomicU64 = AtomicU64::new(0);
static BOOK: Mutex<Book> = Mutex::new(Book { start: 0, ring_records: 0, before: None, rings: Vec::new() });

struct Book {
    /// When this level was set, in ticks.
    start: u64,
    /// Room for records in each ring, if not that of flight.
    ring_records: usize,
    /// During a recording: the level before it.
    before: Option<Level>,
    rings: Vec<Arc<Ring>>,
}

/// The level.
#[inline]
#[must_use]
pub fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        0 => Level::Counters,
        1 => Level::Flight,
        _ => Level::Full,
    }
}

/// Whether records are kept. The one branch that a hook costs when they are not.
#[inline]
#[must_use]
pub fn is_recording() -> bool {
    level() >= Level::Flight
}

/// Whether everything is recorded, however fast it comes.
#[inline]
#[must_use]
pub fn records_all() -> bool {
    level() == Level::Full
}

/// The number of the current level: what is remembered under another number is outdated.
#[inline]
#[must_use]
pub fn epoch() -> u32 {
    EPOCH.load(Ordering::Relaxed)
}

fn book() -> MutexGuard<'static, Book> {
    BOOK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins a level with empty rings.
fn begin(book: &mut Book, level: Level, ring_records: usize) {
    book.rings.clear();
    book.ring_records = ring_records;
    book.start = ticks();
    HOMELESS.store(0, Ordering::Relaxed);
    EPOCH.fetch_add(1, Ordering::Relaxed);
    LEVEL.store(level as u8, Ordering::Release);
    recorder::level_changed();
}

/// Sets the level to counters or flight; what was recorded is forgotten. False, and nothing is done, if a recording is
/// under way, and for [`Level::Full`], which is what [`start`] is for.
pub fn set_level(level: Level) -> bool {
    let mut book = book();
    if book.before.is_some() || level == Level::Full {
        return false;
    }
    begin(&mut book, level, FLIGHT_RECORDS);
    true
}

/// Starts recording everything, with room for `records_per_thread` records of 32 bytes in each thread; false if a
/// recording is under way already.
pub fn start(records_per_thread: usize) -> bool {
    let mut book = book();
    if book.before.is_some() {
        return false;
    }
    book.before = Some(level());
    begin(&mut book, Level::Full, records_per_thread);
    true
}

/// Ends the recording and gives what was recorded; `None` if none was under way.
#[must_use]
pub fn stop() -> Option<Recording> {
    let (start, rings, homeless) = {
        let mut book = book();
        let before = book.before.take()?;
        let taken = (book.start, std::mem::take(&mut book.rings), HOMELESS.load(Ordering::Relaxed));
        begin(&mut book, before, FLIGHT_RECORDS);
        taken
    };
    Some(recording::build(start, ticks(), homeless, &rings))
}

/// What is recorded so far: of a recording under way everything, else what the rings still have.
#[must_use]
pub fn snapshot() -> Recording {
    let (start, rings) = {
        let book = book();
        (book.start, book.rings.clone())
    };
    recording::build(start, ticks(), HOMELESS.load(Ordering::Relaxed), &rings)
}

/// The rings of all threads.
pub(super) fn rings() -> Vec<Arc<Ring>> {
    book().rings.clone()
}

/// A thread's ring of one epoch; none if there was no room for it.
struct ThreadRing {
    epoch: u32,
    ring: Option<Arc<Ring>>,
}

impl Drop for ThreadRing {
    fn drop(&mut self) {
        if let Some(ring) = &self.ring {
            ring.end();
        }
    }
}

thread_local! {
    static RING: RefCell<ThreadRing> = const { RefCell::new(ThreadRing { epoch: 0, ring: None }) };
}

/// This thread's ring of the current epoch, for `use_it`; `None` if nothing is recorded here.
pub(crate) fn with_ring<R>(use_it: impl FnOnce(&Arc<Ring>) -> R) -> Option<R> {
    RING.try_with(|place| {
        let mut place = place.try_borrow_mut().ok()?;
        let now = epoch();
        if place.epoch != now {
            *place = ThreadRing { epoch: now, ring: open_ring() };
        }
        let result = place.ring.as_ref().map(use_it);
        if result.is_none() && is_recording() {
            HOMELESS.fetch_add(1, Ordering::Relaxed);
        }
        result
    })
    .ok()
    .flatten()
}

/// Appends a record to this thread's ring.
pub(crate) fn push(record: Record) {
    let words = record.encode();
    let _homeless = with_ring(|ring| ring.push(words));
}

/// Shows the ring in which a lane was made.
pub(crate) fn ring_of_lane(lane: LaneId) -> Option<Arc<Ring>> {
    book().rings.get(ring_of(lane)).cloned()
}

/// Opens a ring for this thread: a new one, or in place of that of a thread that has ended.
fn open_ring() -> Option<Arc<Ring>> {
    if !is_recording() {
        return None;
    }
    let mut book = book();
    let (rings_max, lanes_max) = if records_all() { (RINGS_MAX, FULL_LANES) } else { (FLIGHT_RINGS, FLIGHT_LANES) };
    let records = if book.ring_records == 0 { FLIGHT_RECORDS } else { book.ring_records };
    let number = u32::try_from(book.rings.len()).unwrap_or(u32::MAX);
    if number < rings_max {
        let ring = Arc::new(Ring::new(records, Lanes::new(number, lanes_max)));
        book.rings.push(Arc::clone(&ring));
        return Some(ring);
    }
    let ended = if records_all() { None } else { book.rings.iter_mut().find(|ring| ring.has_ended()) };
    let place = ended?;
    let lanes = place.lanes().successor();
    HOMELESS.fetch_add(place.read().0.len() as u64, Ordering::Relaxed);
    let ring = Arc::new(Ring::new(records, lanes));
    *place = Arc::clone(&ring);
    Some(ring)
}

/// The kernel's number of this thread.
pub(crate) fn thread_number() -> u64 {
    u64::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap_or(0)
}
