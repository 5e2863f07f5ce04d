//! Perfetto's trace format, written as protobuf by hand: of its hundreds of messages a handful is needed.
//!
//! The numbers are those of `perfetto/trace/trace_packet.proto`, `track_event.proto` and `track_descriptor.proto`.

use std::collections::HashMap;

use super::lanes::LaneKind;
use super::recording::{Recording, Slice, State};

/// Fields of `TracePacket`.
mod packet {
    pub const TIMESTAMP: u32 = 8;
    pub const SEQUENCE: u32 = 10;
    pub const TRACK_EVENT: u32 = 11;
    pub const CLOCK: u32 = 58;
    pub const TRACK_DESCRIPTOR: u32 = 60;
}
/// Fields of `TrackEvent`.
mod event {
    pub const TYPE: u32 = 9;
    pub const TRACK: u32 = 11;
    pub const CATEGORY: u32 = 22;
    pub const NAME: u32 = 23;
    pub const COUNTER_VALUE: u32 = 30;
    pub const FLOW: u32 = 47;
    pub const FLOW_END: u32 = 48;
    pub const BEGIN: u64 = 1;
    pub const END: u64 = 2;
    pub const INSTANT: u64 = 3;
    pub const COUNTER: u64 = 4;
}
/// Fields of `TrackDescriptor` and what it holds.
mod track {
    pub const UUID: u32 = 1;
    pub const NAME: u32 = 2;
    pub const PROCESS: u32 = 3;
    pub const THREAD: u32 = 4;
    pub const PARENT: u32 = 5;
    pub const COUNTER: u32 = 8;
    pub const PID: u32 = 1;
    pub const TID: u32 = 2;
    pub const PROCESS_NAME: u32 = 6;
    pub const THREAD_NAME: u32 = 5;
}
/// `BUILTIN_CLOCK_MONOTONIC`
const MONOTONIC: u64 = 3;
/// All packets are of one writer.
const SEQUENCE_ID: u64 = 1;
const TRACE_PACKET: u32 = 1;

/// Uuids of tracks that are not lanes.
const PROCESS_TRACK: u64 = 1 << 40;
const THREAD_TRACKS: u64 = 2 << 40;
const READY_TRACK: u64 = 3 << 40;
const WAITING_TRACK: u64 = (3 << 40) + 1;
const FREEZE_TRACK: u64 = 4 << 40;

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    fn fixed(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.bytes(field, &value.0)
    }
}

/// The recording as a trace that the Perfetto UI and its trace processor read: a track for each lane, flows for
/// wakes, counters of lanes that are ready and that wait, and a track of freezes.
#[must_use]
pub fn perfetto(recording: &Recording, pid: u32, process: &str) -> Vec<u8> {
    let mut trace = Trace { out: Message::default(), start: recording.start_ns };
    trace.describe(recording, pid, process);
    let flows = Flows::of(recording);
    for (index, slice) in recording.slices.iter().enumerate() {
        trace.slice(recording, slice, &flows, index);
    }
    for (at, lane, text) in &recording.marks {
        let mut mark = Message::default();
        mark.number(event::TYPE, event::INSTANT).number(event::TRACK, u64::from(*lane)).text(event::NAME, text);
        trace.event(*at, &mark);
    }
    for freeze in &recording.freezes {
        trace.span(FREEZE_TRACK, freeze.start, freeze.end, &freeze.text, "freeze");
    }
    trace.count(recording, State::Ready, READY_TRACK);
    trace.count(recording, State::Wait, WAITING_TRACK);
    trace.out.0
}

struct Trace {
    out: Message,
    start: u64,
}

impl Trace {
    fn describe(&mut self, recording: &Recording, pid: u32, process: &str) {
        let mut described = Message::default();
        described.number(track::PID, u64::from(pid)).text(track::PROCESS_NAME, process);
        let mut track = Message::default();
        track.number(track::UUID, PROCESS_TRACK).message(track::PROCESS, &described);
        self.track(&track);
        let mut threads: Vec<u64> = recording.lanes.iter().map(|lane| lane.thread).collect();
        threads.sort_unstable();
        threads.dedup();
        for tid in threads {
            let named = |kind: LaneKind| recording.lanes.iter().find(|lane| lane.thread == tid && lane.kind == kind);
            let name = named(LaneKind::Thread).or_else(|| named(LaneKind::Loop)).map_or("thread", |lane| &lane.name);
            let mut thread = Message::default();
            thread.number(track::PID, u64::from(pid)).number(track::TID, tid).text(track::THREAD_NAME, name);
            let mut track = Message::default();
            track.number(track::UUID, THREAD_TRACKS + tid).message(track::THREAD, &thread);
            self.track(&track);
        }
        for lane in &recording.lanes {
            self.named_track(u64::from(lane.id), &lane.name, THREAD_TRACKS + lane.thread, false);
        }
        self.named_track(FREEZE_TRACK, "freezes", PROCESS_TRACK, false);
        self.named_track(READY_TRACK, "ready lanes", PROCESS_TRACK, true);
        self.named_track(WAITING_TRACK, "waiting lanes", PROCESS_TRACK, true);
    }

    fn named_track(&mut self, uuid: u64, name: &str, parent: u64, is_counter: bool) {
        let mut track = Message::default();
        track.number(track::UUID, uuid).text(track::NAME, name).number(track::PARENT, parent);
        if is_counter {
            track.message(track::COUNTER, &Message::default());
        }
        self.track(&track);
    }

    fn track(&mut self, descriptor: &Message) {
        let mut packet = Message::default();
        packet.number(packet::SEQUENCE, SEQUENCE_ID).message(packet::TRACK_DESCRIPTOR, descriptor);
        self.out.message(TRACE_PACKET, &packet);
    }

    fn event(&mut self, at: u64, event: &Message) {
        let mut packet = Message::default();
        packet
            .number(packet::TIMESTAMP, self.start + at)
            .number(packet::CLOCK, MONOTONIC)
            .number(packet::SEQUENCE, SEQUENCE_ID)
            .message(packet::TRACK_EVENT, event);
        self.out.message(TRACE_PACKET, &packet);
    }

    fn slice(&mut self, recording: &Recording, slice: &Slice, flows: &Flows, index: usize) {
        let name = recording.names.get(slice.name as usize).map_or("", String::as_str);
        let mut begin = Message::default();
        begin
            .number(event::TYPE, event::BEGIN)
            .number(event::TRACK, u64::from(slice.lane))
            .text(event::CATEGORY, slice.state.as_str())
            .text(event::NAME, name);
        for flow in flows.from.get(&index).into_iter().flatten() {
            begin.fixed(event::FLOW, *flow);
        }
        for flow in flows.to.get(&index).into_iter().flatten() {
            begin.fixed(event::FLOW_END, *flow);
        }
        self.event(slice.start, &begin);
        self.end(u64::from(slice.lane), slice.end);
    }

    fn span(&mut self, track: u64, start: u64, end: u64, name: &str, category: &str) {
        let mut begin = Message::default();
        begin.number(event::TYPE, event::BEGIN).number(event::TRACK, track);
        begin.text(event::CATEGORY, category).text(event::NAME, name);
        self.event(start, &begin);
        self.end(track, end);
    }

    fn end(&mut self, track: u64, at: u64) {
        let mut end = Message::default();
        end.number(event::TYPE, event::END).number(event::TRACK, track);
        self.event(at, &end);
    }

    /// How many lanes were in a state, at each change.
    fn count(&mut self, recording: &Recording, state: State, track: u64) {
        let counted = recording.slices.iter().filter(|slice| slice.state == state);
        let mut changes: Vec<(u64, i64)> = counted.flat_map(|slice| [(slice.start, 1), (slice.end, -1)]).collect();
        changes.sort_unstable();
        let mut count = 0;
        for (place, (at, change)) in changes.iter().enumerate() {
            count += change;
            if changes.get(place + 1).is_some_and(|(next, _)| next == at) {
                continue;
            }
            let mut value = Message::default();
            value.number(event::TYPE, event::COUNTER).number(event::TRACK, track);
            value.number(event::COUNTER_VALUE, u64::try_from(count).unwrap_or(0));
            self.event(*at, &value);
        }
    }
}

/// The flows that begin and end at each slice, by its place: a flow begins at the slice in which one lane woke
/// another, and ends at the slice in which that one then ran.
#[derive(Default)]
struct Flows {
    from: HashMap<usize, Vec<u64>>,
    to: HashMap<usize, Vec<u64>>,
}

impl Flows {
    fn of(recording: &Recording) -> Self {
        let mut runs: HashMap<u32, Vec<(u64, u64, usize)>> = HashMap::new();
        for (index, slice) in recording.slices.iter().enumerate() {
            if slice.state == State::Run {
                runs.entry(slice.lane).or_default().push((slice.start, slice.end, index));
            }
        }
        let mut flows = Self::default();
        for (flow, (at, from, to, _)) in (1..).zip(&recording.wakes) {
            let around = |lane: &u32| {
                let runs = runs.get(lane)?;
                let place = runs.partition_point(|(start, _, _)| start <= at).checked_sub(1)?;
                runs.get(place).filter(|(_, end, _)| at <= end).map(|(_, _, index)| *index)
            };
            let after = |lane: &u32| {
                let runs = runs.get(lane)?;
                runs.get(runs.partition_point(|(start, _, _)| start < at)).map(|(_, _, index)| *index)
            };
            if let (Some(source), Some(target)) = (around(from), after(to)) {
                flows.from.entry(source).or_default().push(flow);
                flows.to.entry(target).or_default().push(flow);
            }
        }
        flows
    }
}
