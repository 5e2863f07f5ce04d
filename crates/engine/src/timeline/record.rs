//! What a record says, and how it fits into 32 bytes.

use super::lanes::{LaneId, NO_LANE, NameId};
use super::ring::Words;

/// Durations are kept in units of so many ticks (2^3: about 3 ns), in 32 bits: at most about 14 s.
const UNIT_SHIFT: u32 = 3;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A lane ran on the thread.
    Slice(SliceRecord),
    /// So many short steps ran one after the other, too fast to be told apart at the recorder's price.
    Group { start: u64, end: u64, steps: u32 },
    /// The thread's loop waited in the kernel.
    Park { start: u64, end: u64 },
    /// A lane waits from now on for what the name says.
    Wait { at: u64, lane: u32, what: u32 },
    /// A lane waits no longer.
    WaitEnd { at: u64, lane: u32 },
    /// A word in a lane; `text` is a number in the ring's texts.
    Mark { at: u64, lane: u32, text: u32 },
    /// A lane has begun.
    Begin { at: u64, lane: u32 },
    /// A lane is over.
    End { at: u64, lane: u32 },
    /// One lane has made another runnable.
    Wake { at: u64, from: u32, to: u32 },
    /// A step froze the loop; `text` is a number in the ring's texts.
    Freeze { start: u64, end: u64, lane: u32, text: u32 },
}

/// A stretch of time in which one lane ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceRecord {
    pub start: u64,
    pub end: u64,
    pub lane: u32,
    pub name: u32,
    /// Who made it runnable, or [`NO_LANE`].
    pub woken_by: u32,
    /// When that was; 0 if that is not known.
    pub woken_at: u64,
    /// What the lane waits for after it, if it does.
    pub then_waits: Option<NameId>,
}

const SLICE: u64 = 0;
const LONG_SLICE: u64 = 1;
const GROUP: u64 = 2;
const PARK: u64 = 3;
const WAIT: u64 = 4;
const WAIT_END: u64 = 5;
const MARK: u64 = 6;
const BEGIN: u64 = 7;
const END: u64 = 8;
const WAKE: u64 = 9;
const FREEZE: u64 = 10;

const NO_WAIT: u64 = (1 << 24) - 1;

impl Record {
    /// The record's words: times, lanes and names, and at last the kind in the lowest eight bits.
    #[inline]
    pub fn encode(self) -> Words {
        match self {
            Self::Slice(slice) => slice.encode(),
            Self::Group { start, end, steps } => [start, end, pack(NO_LANE, steps), GROUP],
            Self::Park { start, end } => [start, end, pack(NO_LANE, 0), PARK],
            Self::Wait { at, lane, what } => [at, at, pack(lane, what), WAIT],
            Self::WaitEnd { at, lane } => [at, at, pack(lane, 0), WAIT_END],
            Self::Mark { at, lane, text } => [at, at, pack(lane, text), MARK],
            Self::Begin { at, lane } => [at, at, pack(lane, 0), BEGIN],
            Self::End { at, lane } => [at, at, pack(lane, 0), END],
            Self::Wake { at, from, to } => [at, at, pack(from, to), WAKE],
            Self::Freeze { start, end, lane, text } => [start, end, pack(lane, text), FREEZE],
        }
    }

    pub fn decode(words: Words) -> Self {
        let [start, second, third, last] = words;
        let (lane, other) = unpack(third);
        match last & 0xff {
            SLICE | LONG_SLICE => Self::Slice(SliceRecord::decode(words)),
            GROUP => Self::Group { start, end: second, steps: other },
            PARK => Self::Park { start, end: second },
            WAIT => Self::Wait { at: start, lane, what: other },
            WAIT_END => Self::WaitEnd { at: start, lane },
            MARK => Self::Mark { at: start, lane, text: other },
            BEGIN => Self::Begin { at: start, lane },
            END => Self::End { at: start, lane },
            WAKE => Self::Wake { at: start, from: lane, to: other },
            _ => Self::Freeze { start, end: second, lane, text: other },
        }
    }

    /// When it began.
    pub fn at(self) -> u64 {
        self.encode()[0]
    }

    /// The same, of another clock.
    pub fn map_times(self, map: impl Fn(u64) -> u64) -> Self {
        match self {
            Self::Slice(slice) => Self::Slice(SliceRecord {
                start: map(slice.start),
                end: map(slice.end),
                woken_at: if slice.woken_at == 0 { 0 } else { map(slice.woken_at).max(1) },
                ..slice
            }),
            Self::Group { start, end, steps } => Self::Group { start: map(start), end: map(end), steps },
            Self::Park { start, end } => Self::Park { start: map(start), end: map(end) },
            Self::Wait { at, lane, what } => Self::Wait { at: map(at), lane, what },
            Self::WaitEnd { at, lane } => Self::WaitEnd { at: map(at), lane },
            Self::Mark { at, lane, text } => Self::Mark { at: map(at), lane, text },
            Self::Begin { at, lane } => Self::Begin { at: map(at), lane },
            Self::End { at, lane } => Self::End { at: map(at), lane },
            Self::Wake { at, from, to } => Self::Wake { at: map(at), from, to },
            Self::Freeze { start, end, lane, text } => Self::Freeze { start: map(start), end: map(end), lane, text },
        }
    }
}

impl SliceRecord {
    #[inline]
    fn encode(self) -> Words {
        let lasted = self.end.saturating_sub(self.start);
        let ready = if self.woken_at == 0 { 0 } else { self.start.saturating_sub(self.woken_at).max(1 << UNIT_SHIFT) };
        let waits = self.then_waits.map_or(NO_WAIT, |name| u64::from(name.0)) << 8;
        let third = pack(self.lane, self.name);
        let last = u64::from(self.woken_by) << 32 | waits;
        match u32::try_from(lasted >> UNIT_SHIFT) {
            Ok(lasted) => [self.start, pack(lasted, in_units(ready)), third, last | SLICE],
            Err(_) => [self.start, self.end, third, last | LONG_SLICE],
        }
    }

    fn decode([start, second, third, last]: Words) -> Self {
        let (lane, name) = unpack(third);
        let is_long = last & 0xff == LONG_SLICE;
        let (lasted, ready) = unpack(second);
        let waits = last >> 8 & NO_WAIT;
        let (woken_by, _) = unpack(last);
        let (_, waits) = unpack(waits);
        Self {
            start,
            end: if is_long { second } else { start + (u64::from(lasted) << UNIT_SHIFT) },
            lane,
            name,
            woken_by,
            woken_at: if is_long || ready == 0 { 0 } else { start.saturating_sub(u64::from(ready) << UNIT_SHIFT) },
            then_waits: (u64::from(waits) != NO_WAIT).then_some(NameId(waits)),
        }
    }
}

fn in_units(ticks: u64) -> u32 {
    u32::try_from(ticks >> UNIT_SHIFT).unwrap_or(u32::MAX)
}

#[inline]
fn pack(upper: u32, lower: u32) -> u64 {
    u64::from(upper) << 32 | u64::from(lower)
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// Who made something runnable, and when: what a handle remembers from the moment it is scheduled.
#[derive(Clone, Copy, Debug)]
pub struct Woken {
    pub(crate) by: u32,
    pub(crate) at: u64,
}

impl Woken {
    /// It is not known.
    pub const UNKNOWN: Self = Self { by: NO_LANE, at: 0 };

    /// By `lane` at this moment of the recorder's clock.
    #[must_use]
    pub fn by(lane: Option<LaneId>, at: u64) -> Self {
        Self { by: lane.map_or(NO_LANE, |lane| lane.0), at }
    }

    /// The same, but at another moment, as when a timer has waited for its time first.
    #[must_use]
    pub fn not_before(self, at: u64) -> Self {
        Self { at: at.max(self.at), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::{NO_LANE, NameId, Record, SliceRecord};

    #[test]
    fn records_read_back_as_they_were_written() {
        let slice = SliceRecord {
            start: 1 << 40,
            end: (1 << 40) + 800,
            lane: 0x0100_0007,
            name: 5,
            woken_by: 0x0100_0003,
            woken_at: (1 << 40) - 80,
            then_waits: Some(NameId(9)),
        };
        let records = [
            Record::Slice(slice),
            Record::Slice(SliceRecord { end: 1 << 50, woken_at: 0, then_waits: None, ..slice }),
            Record::Slice(SliceRecord { woken_by: NO_LANE, woken_at: 0, ..slice }),
            Record::Group { start: 5, end: 10, steps: 3 },
            Record::Park { start: 5, end: 9 },
            Record::Wait { at: 5, lane: 2, what: 3 },
            Record::WaitEnd { at: 5, lane: 2 },
            Record::Mark { at: 5, lane: 2, text: 4 },
            Record::Begin { at: 5, lane: 2 },
            Record::End { at: 5, lane: 2 },
            Record::Wake { at: 5, from: NO_LANE, to: 4 },
            Record::Freeze { start: 5, end: 7, lane: 2, text: 4 },
        ];
        for record in records {
            assert_eq!(Record::decode(record.encode()), record);
        }
    }
}
