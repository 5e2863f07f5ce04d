//! What ran when: fixed records in one buffer per thread, read out when the recording ends.
//!
//! Recording is off until [`start`]; then every hook in the loop costs one relaxed load. While it is on, a hook reads
//! the clock once and appends 32 bytes to its own thread's buffer. The end of a slice is the start of the next, so a
//! callback costs one record. Buffers are bounded: what does not fit is counted, not kept.
//!
//! A *lane* is a line of the picture: a loop, a task, a callback, a thread, a request. *Names* are interned once.

mod recording;

pub use recording::{LaneInfo, Recording, Slice, State};

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::handle::now_ns;

/// One line of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneId(pub u32);

/// An interned name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameId(pub u32);

/// What a lane stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// A loop: parked, or running something.
    Loop,
    /// A task of the host.
    Task,
    /// Callbacks that belong to no task.
    Callback,
    /// A thread that runs no loop.
    Thread,
    /// An HTTP request.
    Request,
}

/// What happened. `lane` and `other` are explained at each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The thread's loop waits in the kernel.
    Park,
    /// The wait is over.
    Unpark,
    /// `lane` runs on this thread from now on; `other` is the name.
    Run,
    /// Nothing runs on this thread from now on.
    Idle,
    /// `lane` made `other` runnable.
    Wake,
    /// `lane` waits from now on; `other` is the name of what for.
    Wait,
    /// `lane` waits no longer.
    WaitEnd,
    /// Something worth a word in `lane`; `other` is the text.
    Mark,
    /// `lane` has begun.
    Begin,
    /// `lane` is over.
    End,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub at: u64,
    pub kind: Kind,
    pub lane: u32,
    pub other: u32,
}

const _: () = assert!(size_of::<Record>() <= 32);

/// No lane: what a thread without one wakes or marks belongs to nobody.
const NO_LANE: u32 = u32::MAX;

static RECORDING: AtomicBool = AtomicBool::new(false);
/// Counts recordings, so that what a thread remembers of an old one is not taken for the new one's.
static EPOCH: AtomicU32 = AtomicU32::new(0);
static STATE: Mutex<Option<Book>> = Mutex::new(None);

struct Book {
    start: u64,
    capacity: usize,
    names: Vec<String>,
    name_ids: HashMap<String, u32>,
    lanes: Vec<LaneInfo>,
    buffers: Vec<Arc<Mutex<Buffer>>>,
}

#[derive(Default)]
pub(crate) struct Buffer {
    pub records: Vec<Record>,
    pub loop_lane: Option<u32>,
    capacity: usize,
    dropped: u64,
}

impl Buffer {
    fn push(&mut self, record: Record) {
        if self.records.len() < self.capacity {
            self.records.push(record);
        } else {
            self.dropped += 1;
        }
    }
}

thread_local! {
    static CURRENT_LANE: Cell<(u32, u32)> = const { Cell::new((0, NO_LANE)) };
    static BUFFER: RefCell<Option<(u32, Arc<Mutex<Buffer>>)>> = const { RefCell::new(None) };
}

/// Ignores poisoning: a panic elsewhere leaves plain data, which stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a recording is under way. The one branch that a hook costs when none is.
#[inline]
#[must_use]
pub fn is_recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// Starts recording, with room for `records_per_thread` events in each thread; false if one is under way already.
pub fn start(records_per_thread: usize) -> bool {
    let mut state = lock(&STATE);
    if state.is_some() {
        return false;
    }
    EPOCH.fetch_add(1, Ordering::Relaxed);
    *state = Some(Book {
        start: now_ns(),
        capacity: records_per_thread,
        names: Vec::new(),
        name_ids: HashMap::new(),
        lanes: Vec::new(),
        buffers: Vec::new(),
    });
    RECORDING.store(true, Ordering::Release);
    true
}

/// Ends the recording and gives what was recorded; `None` if none was under way.
#[must_use]
pub fn stop() -> Option<Recording> {
    let book = {
        let mut state = lock(&STATE);
        RECORDING.store(false, Ordering::Release);
        state.take()?
    };
    let end = now_ns();
    let mut dropped = 0;
    let mut threads = Vec::new();
    for buffer in &book.buffers {
        let mut buffer = lock(buffer);
        dropped += buffer.dropped;
        threads.push(std::mem::take(&mut *buffer));
    }
    Some(recording::build(book.start, end, dropped, book.names, book.lanes, &threads))
}

/// Makes a lane for this recording, or `None` when there is none.
#[must_use]
pub fn lane(name: &str, kind: LaneKind) -> Option<LaneId> {
    let mut state = lock(&STATE);
    let book = state.as_mut()?;
    let id = u32::try_from(book.lanes.len()).ok()?;
    book.lanes.push(LaneInfo { id, name: name.to_owned(), kind, thread: thread_number() });
    Some(LaneId(id))
}

/// Gives a lane another name, as when a task is renamed.
pub fn rename(lane: LaneId, name: &str) {
    if let Some(info) = lock(&STATE).as_mut().and_then(|book| book.lanes.get_mut(lane.0 as usize)) {
        name.clone_into(&mut info.name);
    }
}

/// Interns a name for this recording.
#[must_use]
pub fn name(text: &str) -> NameId {
    let mut state = lock(&STATE);
    let Some(book) = state.as_mut() else { return NameId(0) };
    if let Some(&id) = book.name_ids.get(text) {
        return NameId(id);
    }
    let id = u32::try_from(book.names.len()).unwrap_or(u32::MAX);
    book.names.push(text.to_owned());
    book.name_ids.insert(text.to_owned(), id);
    NameId(id)
}

/// The number of the current recording: what is remembered under another number is outdated.
#[must_use]
pub fn epoch() -> u32 {
    EPOCH.load(Ordering::Relaxed)
}

/// The lane that runs on this thread now.
#[must_use]
pub fn current_lane() -> Option<LaneId> {
    let (epoch_then, lane) = CURRENT_LANE.get();
    (epoch_then == epoch() && lane != NO_LANE).then_some(LaneId(lane))
}

/// `lane` runs on this thread from now on.
pub fn run(lane: LaneId, name: NameId) {
    CURRENT_LANE.set((epoch(), lane.0));
    push(Kind::Run, lane.0, name.0);
}

/// Nothing runs on this thread from now on.
pub fn idle() {
    CURRENT_LANE.set((epoch(), NO_LANE));
    push(Kind::Idle, NO_LANE, 0);
}

/// Whatever runs on this thread made `lane` runnable.
pub fn wake(lane: LaneId) {
    push(Kind::Wake, current_lane().map_or(NO_LANE, |from| from.0), lane.0);
}

/// `lane` waits from now on for what `what` says.
pub fn wait(lane: LaneId, what: &str) {
    push(Kind::Wait, lane.0, name(what).0);
}

/// `lane` waits no longer.
pub fn wait_end(lane: LaneId) {
    push(Kind::WaitEnd, lane.0, 0);
}

/// Writes `text` into `lane`.
pub fn mark(lane: LaneId, text: &str) {
    push(Kind::Mark, lane.0, name(text).0);
}

/// This thread is `lane` from now on, until [`end`].
pub fn begin(lane: LaneId) {
    CURRENT_LANE.set((epoch(), lane.0));
    push(Kind::Begin, lane.0, 0);
}

/// `lane` is over; the thread goes on as `previous`.
pub fn end(lane: LaneId, previous: Option<LaneId>) {
    CURRENT_LANE.set((epoch(), previous.map_or(NO_LANE, |lane| lane.0)));
    push(Kind::End, lane.0, 0);
}

/// The lane of this thread's loop, made when it is first asked for.
#[must_use]
pub fn loop_lane() -> Option<LaneId> {
    if let Some(lane) = with_buffer(|buffer| buffer.loop_lane).flatten() {
        return Some(LaneId(lane));
    }
    let lane = lane("event loop", LaneKind::Loop)?;
    let _ = with_buffer(|buffer| buffer.loop_lane = Some(lane.0));
    Some(lane)
}

/// The loop of this thread goes to wait in the kernel.
pub(crate) fn parked() {
    if is_recording() && loop_lane().is_some() {
        push(Kind::Park, NO_LANE, 0);
    }
}

/// The loop of this thread is back.
pub(crate) fn unparked() {
    if is_recording() {
        push(Kind::Unpark, NO_LANE, 0);
    }
}

/// The loop of this thread polls Rust tasks until the returned guard is dropped.
pub(crate) fn polling_tasks() -> Option<PollingTasks> {
    if !is_recording() {
        return None;
    }
    let previous = current_lane();
    run(loop_lane()?, name("Rust tasks"));
    Some(PollingTasks { previous })
}

pub(crate) struct PollingTasks {
    previous: Option<LaneId>,
}

impl Drop for PollingTasks {
    fn drop(&mut self) {
        idle();
        CURRENT_LANE.set((epoch(), self.previous.map_or(NO_LANE, |lane| lane.0)));
    }
}

fn thread_number() -> u64 {
    u64::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap_or(0)
}

fn push(kind: Kind, lane: u32, other: u32) {
    let at = now_ns();
    let _ = with_buffer(|buffer| buffer.push(Record { at, kind, lane, other }));
}

/// This thread's buffer of the current recording.
fn with_buffer<R>(use_it: impl FnOnce(&mut Buffer) -> R) -> Option<R> {
    let now = epoch();
    BUFFER.with(|place| {
        let mut place = place.borrow_mut();
        if place.as_ref().is_none_or(|(then, _)| *then != now) {
            let mut state = lock(&STATE);
            let book = state.as_mut()?;
            let buffer = Arc::new(Mutex::new(Buffer { capacity: book.capacity, ..Buffer::default() }));
            book.buffers.push(Arc::clone(&buffer));
            *place = Some((now, buffer));
        }
        let (_, buffer) = place.as_ref()?;
        Some(use_it(&mut lock(buffer)))
    })
}
