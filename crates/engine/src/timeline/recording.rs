//! From records to the picture: slices, wakes and marks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::clock::Clock;
use super::lanes::{LaneInfo, LaneKind, NO_LANE, NameId, all_names, name};
use super::record::{Record, SliceRecord};
use super::ring::Ring;

/// What a lane did for the time of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It ran.
    Run,
    /// It was runnable, but something else ran.
    Ready,
    /// It waited; the slice's name says for what.
    Wait,
    /// A loop waited in the kernel.
    Park,
}

impl State {
    const ALL: [Self; 4] = [Self::Run, Self::Ready, Self::Wait, Self::Park];

    /// The state that exports call so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// The state's name in exports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Ready => "ready",
            Self::Wait => "wait",
            Self::Park => "park",
        }
    }
}

/// A stretch of one lane's time; nanoseconds since the recording's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The lane.
    pub lane: u32,
    /// When it began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// Index into [`Recording::names`].
    pub name: u32,
    /// What the lane did.
    pub state: State,
}

/// A step that froze its loop.
#[derive(Clone, Debug)]
pub struct Freeze {
    /// The lane of the step, or of the loop.
    pub lane: u32,
    /// When the step began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// What is known of it, as the host has written it down.
    pub text: String,
}

/// Everything recorded, ready for drawing. Times are nanoseconds since [`Recording::start_ns`].
#[derive(Clone, Debug)]
pub struct Recording {
    /// `CLOCK_MONOTONIC` at the start.
    pub start_ns: u64,
    /// `CLOCK_MONOTONIC` at the end.
    pub end_ns: u64,
    /// What reading the clock costs, measured at the end: no time here is more exact.
    pub clock_error_ns: u64,
    /// Records that were overwritten by newer ones, or had no place.
    pub dropped: u64,
    /// Steps that came too fast to be told apart, and are in slices named "n short steps".
    pub grouped_steps: u64,
    /// The interned names.
    pub names: Vec<String>,
    /// The lanes that anything refers to, by number.
    pub lanes: Vec<LaneInfo>,
    /// The slices, by start.
    pub slices: Vec<Slice>,
    /// When which lane made which other runnable, and when that then ran: `(at, from, to, ran)`; `ran` is `at` where
    /// that is not known.
    pub wakes: Vec<(u64, u32, u32, u64)>,
    /// Words in lanes: `(at, lane, text)`.
    pub marks: Vec<(u64, u32, String)>,
    /// Steps that froze a loop.
    pub freezes: Vec<Freeze>,
}

/// What is known of one lane while the records are read.
#[derive(Default)]
struct Progress {
    /// The wait that [`Record::Wait`] began: its start and name.
    waiting: Option<(u64, u32)>,
    /// When it last stopped running, if it is a task that may run again, and what it waits for, if it said so.
    suspended: Option<(u64, Option<NameId>)>,
    /// When it was made runnable.
    woken: Option<u64>,
    /// A thread's lane: since when it is neither waiting nor over.
    running: Option<u64>,
}

/// The names of what lanes do without saying so.
struct Fixed {
    waits: u32,
    ready: u32,
    runs: u32,
    park: u32,
}

/// Reads the records in the order of time, which are in nanoseconds since the start from here on.
struct Builder<'a> {
    ring: Option<&'a Ring>,
    kinds: HashMap<u32, LaneKind>,
    progress: HashMap<u32, Progress>,
    fixed: Fixed,
    grouped_steps: u64,
    slices: Vec<Slice>,
    wakes: Vec<(u64, u32, u32, u64)>,
    marks: Vec<(u64, u32, String)>,
    freezes: Vec<Freeze>,
}

pub(super) fn build(start: u64, end: u64, homeless: u64, rings: &[Arc<Ring>]) -> Recording {
    let clock = Clock::read();
    let mut dropped = homeless;
    let mut records: Vec<(u64, usize, Record)> = Vec::new();
    for (place, ring) in rings.iter().enumerate() {
        let (words, lost) = ring.read();
        dropped += lost;
        records.extend(words.into_iter().map(Record::decode).map(|record| (record.at(), place, record)));
    }
    // One merged pass in time: a lane may wait on one thread and be woken from another. What has overwritten older
    // records has a later beginning.
    records.sort_by_key(|(at, _, _)| *at);
    let start = records.first().filter(|_| dropped > homeless).map_or(start, |(at, _, _)| start.max(*at));
    let start_ns = clock.ns(start);
    let lanes: Vec<LaneInfo> =
        rings.iter().flat_map(|ring| ring.lanes().known(&all_names()).collect::<Vec<_>>()).collect();
    let mut builder = Builder {
        ring: None,
        kinds: lanes.iter().map(|lane| (lane.id, lane.kind)).collect(),
        progress: HashMap::new(),
        fixed: Fixed {
            waits: name("waiting").0,
            ready: name("ready, but something else ran").0,
            runs: name("running").0,
            park: name("waiting for events").0,
        },
        grouped_steps: 0,
        slices: Vec::new(),
        wakes: Vec::new(),
        marks: Vec::new(),
        freezes: Vec::new(),
    };
    let since = |ticks: u64| clock.ns(ticks.max(start)).saturating_sub(start_ns);
    for (_, place, record) in records {
        builder.ring = Some(&rings[place]);
        builder.step(record.map_times(since));
    }
    let end_ns = clock.ns(end).max(start_ns);
    builder.finish(end_ns - start_ns);
    builder.finished(start_ns, end_ns, &clock, dropped, lanes)
}

impl Builder<'_> {
    fn step(&mut self, record: Record) {
        match record {
            Record::Slice(slice) => self.slice(slice),
            Record::Group { start, end, steps } => {
                self.grouped_steps += u64::from(steps);
                let text = if steps == 1 { "a short step".to_owned() } else { format!("{steps} short steps") };
                self.push_to_loop(start, end, name(&text).0, State::Run);
            }
            Record::Park { start, end } => self.push_to_loop(start, end, self.fixed.park, State::Park),
            Record::Wake { at, from, to } => {
                self.wake(at, from, to, at);
                self.progress.entry(to).or_default().woken.get_or_insert(at);
            }
            Record::Wait { at, lane, what } => {
                let progress = self.progress.entry(lane).or_default();
                let ran = progress.running.take();
                let waited = progress.waiting.replace((at, what));
                self.push_some(lane, ran.map(|since| (since, self.fixed.runs)), at, State::Run);
                self.push_some(lane, waited, at, State::Wait);
            }
            Record::WaitEnd { at, lane } => {
                let is_thread = self.kinds.get(&lane) == Some(&LaneKind::Thread);
                let progress = self.progress.entry(lane).or_default();
                let waited = progress.waiting.take();
                if is_thread {
                    progress.running.get_or_insert(at);
                }
                self.push_some(lane, waited, at, State::Wait);
            }
            Record::Mark { at, lane, text } => {
                let text = self.text(text);
                self.marks.push((at, lane, text));
            }
            Record::Begin { at, lane } => self.progress.entry(lane).or_default().running = Some(at),
            Record::End { at, lane } => self.end_lane(at, lane),
            Record::Freeze { start, end, lane, text } => {
                let text = self.text(text);
                self.freezes.push(Freeze { lane, start, end, text });
            }
        }
    }

    fn text(&self, number: u32) -> String {
        let text = self.ring.and_then(|ring| ring.lanes().text(number).map(str::to_owned));
        text.unwrap_or_else(|| "(forgotten)".to_owned())
    }

    fn wake(&mut self, at: u64, from: u32, to: u32, ran: u64) {
        if from != NO_LANE {
            self.wakes.push((at, from, to, ran));
        }
    }

    /// A lane ran: in its own line, and in its loop's.
    fn slice(&mut self, slice: SliceRecord) {
        let SliceRecord { start, end, lane, name, .. } = slice;
        let is_task = self.kinds.get(&lane) == Some(&LaneKind::Task);
        let woken = (slice.woken_at != 0).then_some(slice.woken_at.min(start));
        if let Some(woken) = woken {
            self.wake(woken, slice.woken_by, lane, start);
        }
        if is_task {
            self.resume(start, lane, woken);
        }
        self.push(lane, start, end, name, State::Run);
        if self.loop_lane() != lane && self.kinds.get(&lane) != Some(&LaneKind::Thread) {
            self.push_to_loop(start, end, name, State::Run);
        }
        if is_task {
            self.progress.entry(lane).or_default().suspended = Some((end, slice.then_waits));
        }
    }

    fn loop_lane(&self) -> u32 {
        self.ring.map_or(NO_LANE, |ring| ring.loop_lane.load(Ordering::Relaxed))
    }

    fn push_to_loop(&mut self, start: u64, end: u64, name: u32, state: State) {
        let lane = self.loop_lane();
        if lane != NO_LANE {
            self.push(lane, start, end, name, state);
        }
    }

    /// A lane runs again: what was it doing since it last ran?
    fn resume(&mut self, at: u64, lane: u32, woken: Option<u64>) {
        let progress = self.progress.entry(lane).or_default();
        let woken = woken.or(progress.woken.take());
        progress.woken = None;
        if let Some((suspended, waits)) = progress.suspended.take() {
            let woken = woken.map_or(at, |woken| woken.max(suspended));
            self.push(lane, suspended, woken, waits.map_or(self.fixed.waits, |name| name.0), State::Wait);
            self.push(lane, woken, at, self.fixed.ready, State::Ready);
        } else if let Some(woken) = woken {
            self.push(lane, woken, at, self.fixed.ready, State::Ready);
        }
    }

    fn end_lane(&mut self, at: u64, lane: u32) {
        let progress = self.progress.entry(lane).or_default();
        let (waited, ran) = (progress.waiting.take(), progress.running.take());
        self.push_some(lane, waited, at, State::Wait);
        self.push_some(lane, ran.map(|since| (since, self.fixed.runs)), at, State::Run);
    }

    /// Ends what was still going on when the recording ended.
    fn finish(&mut self, end: u64) {
        let lanes: Vec<u32> = self.progress.keys().copied().collect();
        for lane in lanes {
            let suspended = self.progress.get_mut(&lane).and_then(|progress| progress.suspended.take());
            // A task that does not say what it waits for may be over.
            let still_waits = suspended.and_then(|(since, waits)| Some((since, waits?.0)));
            self.push_some(lane, still_waits, end, State::Wait);
            self.end_lane(end, lane);
        }
    }

    fn push_some(&mut self, lane: u32, since: Option<(u64, u32)>, end: u64, state: State) {
        if let Some((start, name)) = since {
            self.push(lane, start, end, name, state);
        }
    }

    fn push(&mut self, lane: u32, start: u64, end: u64, name: u32, state: State) {
        if end > start {
            self.slices.push(Slice { lane, start, end, name, state });
        }
    }

    /// The recording, without lanes in which nothing happened.
    fn finished(mut self, start_ns: u64, end_ns: u64, clock: &Clock, dropped: u64, lanes: Vec<LaneInfo>) -> Recording {
        self.slices.sort_by_key(|slice| (slice.start, slice.lane));
        self.wakes.sort_unstable();
        Recording {
            start_ns,
            end_ns,
            clock_error_ns: clock.error_ns(),
            dropped,
            grouped_steps: self.grouped_steps,
            names: all_names(),
            lanes,
            slices: self.slices,
            wakes: self.wakes,
            marks: self.marks,
            freezes: self.freezes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        LaneKind, Recorder, Step, Woken, begin, end, lane, mark, name, start, stop, ticks, wait, wait_end,
    };
    use super::State;

    #[test]
    fn a_recorded_story_reads_back_as_it_happened() {
        assert!(start(1000));
        assert!(!start(1000), "one recording at a time");
        let recorder = Recorder::new(true);
        recorder.run_begins();
        let task = lane("task", LaneKind::Task).unwrap();
        let other = lane("other", LaneKind::Task).unwrap();
        let thread = lane("thread", LaneKind::Thread).unwrap();
        let step = |lane, woken| Some(Step { lane, name: name("step"), woken });
        let pause = || std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(recorder.begin(step(task, Woken::UNKNOWN)).is_none());
        pause();
        let woken = Woken::by(Some(task), ticks());
        pause();
        mark(task, "hello");
        assert!(recorder.end(Some(name("a lock"))).is_none());
        assert!(recorder.begin(step(other, woken)).is_none());
        let woken = Woken::by(Some(other), ticks());
        pause();
        assert!(recorder.end(None).is_none());
        assert!(recorder.begin(step(task, woken)).is_none());
        pause();
        assert!(recorder.end(None).is_none());
        recorder.run_ends();
        begin(thread);
        pause();
        wait(thread, name("connect"));
        pause();
        wait_end(thread);
        pause();
        end(thread, None);
        let recording = stop().unwrap();
        assert!(stop().is_none());
        let states = |lane: super::super::LaneId| -> Vec<State> {
            recording.slices.iter().filter(|slice| slice.lane == lane.0).map(|slice| slice.state).collect()
        };
        assert_eq!(states(task), [State::Run, State::Wait, State::Ready, State::Run]);
        assert_eq!(states(other), [State::Ready, State::Run]);
        assert_eq!(states(thread), [State::Run, State::Wait, State::Run]);
        let wakes = recording.wakes.iter().map(|wake| (wake.1, wake.2)).collect::<Vec<_>>();
        assert_eq!(wakes, [(task.0, other.0), (other.0, task.0)]);
        let waits: Vec<_> = recording.slices.iter().filter(|slice| slice.state == State::Wait).collect();
        assert_eq!(recording.names[waits[0].name as usize], "a lock");
        assert_eq!(recording.marks[0].2, "hello");
        assert!(recording.slices.iter().all(|slice| slice.start < slice.end));
    }
}
