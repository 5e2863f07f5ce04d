//! What threads and requests say of themselves: it happens seldom, beside the steps of a loop.

use std::cell::Cell;

use super::book::{epoch, push, ring_of_lane, thread_number, with_ring};
use super::clock::ticks;
use super::lanes::{LaneId, LaneKind, NO_LANE, NameId};
use super::record::{Record, SliceRecord, Woken};

thread_local! {
    static CURRENT_LANE: Cell<(u32, u32)> = const { Cell::new((0, NO_LANE)) };
}

/// The lane that runs on this thread now.
#[must_use]
pub fn current_lane() -> Option<LaneId> {
    let (epoch_then, lane) = CURRENT_LANE.get();
    (epoch_then == epoch() && lane != NO_LANE).then_some(LaneId(lane))
}

/// From now on this thread runs a lane, or none.
pub(crate) fn set_current_lane(lane: u32) {
    CURRENT_LANE.set((epoch(), lane));
}

/// Makes a lane, or `None` when nothing is recorded.
#[must_use]
pub fn lane(name: &str, kind: LaneKind) -> Option<LaneId> {
    named_lane(name, NameId::NONE, NameId::NONE, kind)
}

/// As [`lane`], with the group and the source of [`super::LaneInfo`].
#[must_use]
pub fn named_lane(name: &str, group: NameId, source: NameId, kind: LaneKind) -> Option<LaneId> {
    with_ring(|ring| ring.lanes().add(name, group, source, kind, thread_number()))
}

/// Gives a lane another name, as when a task is renamed.
pub fn rename(lane: LaneId, name: &str) {
    if let Some(ring) = ring_of_lane(lane) {
        ring.lanes().rename(lane, name);
    }
}

/// Whatever runs on this thread made `lane` runnable.
pub fn wake(lane: LaneId) {
    push(Record::Wake { at: ticks(), from: current_lane().map_or(NO_LANE, |from| from.0), to: lane.0 });
}

/// `lane` waits from now on for what `what` says.
pub fn wait(lane: LaneId, what: NameId) {
    push(Record::Wait { at: ticks(), lane: lane.0, what: what.0 });
}

/// `lane` waits no longer.
pub fn wait_end(lane: LaneId) {
    push(Record::WaitEnd { at: ticks(), lane: lane.0 });
}

/// Writes `text` into `lane`.
pub fn mark(lane: LaneId, text: &str) {
    let Some(text) = with_ring(|ring| ring.lanes().add_text(text)) else { return };
    push(Record::Mark { at: ticks(), lane: lane.0, text });
}

/// This thread is `lane` from now on, until [`end`].
pub fn begin(lane: LaneId) {
    set_current_lane(lane.0);
    push(Record::Begin { at: ticks(), lane: lane.0 });
}

/// `lane` is over; the thread goes on as `previous`.
pub fn end(lane: LaneId, previous: Option<LaneId>) {
    set_current_lane(previous.map_or(NO_LANE, |lane| lane.0));
    push(Record::End { at: ticks(), lane: lane.0 });
}

/// Begins a piece of work of `lane` on this thread, which `woken` has made runnable.
#[must_use]
pub fn work(lane: LaneId, name: NameId, woken: Woken) -> Work {
    let previous = current_lane();
    set_current_lane(lane.0);
    Work { start: ticks(), lane, name, woken, previous }
}

/// A piece of work under way, see [`work`]; it ends when this is dropped.
pub struct Work {
    start: u64,
    lane: LaneId,
    name: NameId,
    woken: Woken,
    previous: Option<LaneId>,
}

impl Drop for Work {
    fn drop(&mut self) {
        set_current_lane(self.previous.map_or(NO_LANE, |lane| lane.0));
        push(Record::Slice(SliceRecord {
            start: self.start,
            end: ticks(),
            lane: self.lane.0,
            name: self.name.0,
            woken_by: self.woken.by,
            woken_at: self.woken.at,
            then_waits: None,
        }));
    }
}
