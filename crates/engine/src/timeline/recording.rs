//! From records to the picture: slices, wakes and marks.

use super::{Buffer, Kind, LaneKind, NO_LANE};
use std::collections::HashMap;

/// A lane as it is drawn.
#[derive(Clone, Debug)]
pub struct LaneInfo {
    /// Its number, by which slices name it.
    pub id: u32,
    /// What it is called.
    pub name: String,
    /// What it stands for.
    pub kind: LaneKind,
    /// The kernel's number of the thread in which it was made.
    pub thread: u64,
}

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

/// Everything recorded, ready for drawing. Times are nanoseconds since [`Recording::start_ns`].
#[derive(Clone, Debug)]
pub struct Recording {
    /// `CLOCK_MONOTONIC` at the start.
    pub start_ns: u64,
    /// `CLOCK_MONOTONIC` at the end.
    pub end_ns: u64,
    /// What reading the clock costs, measured at the end: no time here is more exact.
    pub clock_error_ns: u64,
    /// Events that did not fit into the buffers.
    pub dropped: u64,
    /// The interned names.
    pub names: Vec<String>,
    /// The lanes, by number.
    pub lanes: Vec<LaneInfo>,
    /// The slices, by start.
    pub slices: Vec<Slice>,
    /// When which lane made which other runnable: `(at, from, to)`.
    pub wakes: Vec<(u64, u32, u32)>,
    /// Words in lanes: `(at, lane, text)`.
    pub marks: Vec<(u64, u32, String)>,
}

/// What is known of one lane while the records are read.
#[derive(Default)]
struct Progress {
    /// The wait that [`Kind::Wait`] began: its start and name.
    waiting: Option<(u64, u32)>,
    /// When it last stopped running, if it is a task that may run again.
    suspended: Option<u64>,
    /// When it was made runnable.
    woken: Option<u64>,
    /// A thread's lane: since when it is neither waiting nor over.
    running: Option<u64>,
}

struct Builder {
    start: u64,
    names: Vec<String>,
    kinds: Vec<LaneKind>,
    progress: HashMap<u32, Progress>,
    slices: Vec<Slice>,
    wakes: Vec<(u64, u32, u32)>,
    marks: Vec<(u64, u32, String)>,
    waits_name: u32,
    ready_name: u32,
    runs_name: u32,
    park_name: u32,
}

pub(super) fn build(
    start: u64,
    end: u64,
    dropped: u64,
    mut names: Vec<String>,
    lanes: Vec<LaneInfo>,
    threads: &[Buffer],
) -> Recording {
    let mut fixed = |text: &str| {
        names.push(text.to_owned());
        u32::try_from(names.len() - 1).unwrap_or(u32::MAX)
    };
    let (waits_name, ready_name) = (fixed("waiting"), fixed("ready, but something else ran"));
    let (runs_name, park_name) = (fixed("running"), fixed("waiting for events"));
    let kinds = lanes.iter().map(|lane| lane.kind).collect();
    let mut builder = Builder {
        start,
        names,
        kinds,
        progress: HashMap::new(),
        slices: Vec::new(),
        wakes: Vec::new(),
        marks: Vec::new(),
        waits_name,
        ready_name,
        runs_name,
        park_name,
    };
    // One merged pass in time: a lane may wait on one thread and be woken from another.
    let mut records: Vec<_> = threads
        .iter()
        .enumerate()
        .flat_map(|(thread, buffer)| buffer.records.iter().map(move |record| (record.at, thread, *record)))
        .collect();
    records.sort_by_key(|(at, _, _)| *at);
    let mut running = vec![None; threads.len()];
    for (at, thread, record) in records {
        builder.step(at, record, &mut running[thread], threads[thread].loop_lane);
    }
    for (thread, slot) in running.iter_mut().enumerate() {
        builder.stop_running(end, slot, threads[thread].loop_lane);
    }
    builder.finish(end);
    builder.slices.sort_by_key(|slice| (slice.start, slice.lane));
    let Builder { names, slices, wakes, marks, .. } = builder;
    Recording {
        start_ns: start,
        end_ns: end,
        clock_error_ns: clock_error(),
        dropped,
        names,
        lanes,
        slices,
        wakes,
        marks,
    }
}

/// What the thread runs: since when, which lane, under which name; a parked loop runs no lane.
type Running = Option<(u64, u32, u32)>;

impl Builder {
    fn step(&mut self, at: u64, record: super::Record, running: &mut Running, loop_lane: Option<u32>) {
        match record.kind {
            Kind::Park => {
                self.stop_running(at, running, loop_lane);
                *running = Some((at, NO_LANE, self.park_name));
            }
            Kind::Unpark | Kind::Idle => self.stop_running(at, running, loop_lane),
            Kind::Run => {
                self.stop_running(at, running, loop_lane);
                self.resume(at, record.lane);
                *running = Some((at, record.lane, record.other));
            }
            Kind::Wake => {
                if record.lane != NO_LANE {
                    self.wakes.push((at - self.start, record.lane, record.other));
                }
                self.progress.entry(record.other).or_default().woken.get_or_insert(at);
            }
            Kind::Wait => {
                let progress = self.progress.entry(record.lane).or_default();
                let ran = progress.running.take();
                let waited = progress.waiting.replace((at, record.other));
                self.push_some(record.lane, ran.map(|since| (since, self.runs_name)), at, State::Run);
                self.push_some(record.lane, waited, at, State::Wait);
            }
            Kind::WaitEnd => {
                let is_thread = self.kinds.get(record.lane as usize) == Some(&LaneKind::Thread);
                let progress = self.progress.entry(record.lane).or_default();
                let waited = progress.waiting.take();
                if is_thread {
                    progress.running.get_or_insert(at);
                }
                self.push_some(record.lane, waited, at, State::Wait);
            }
            Kind::Mark => {
                let text = self.names.get(record.other as usize).cloned().unwrap_or_default();
                self.marks.push((at - self.start, record.lane, text));
            }
            Kind::Begin => {
                self.progress.entry(record.lane).or_default().running = Some(at);
            }
            Kind::End => self.end_lane(at, record.lane),
        }
    }

    /// Ends the slice that the thread runs, in its own lane and in its loop's.
    fn stop_running(&mut self, at: u64, running: &mut Running, loop_lane: Option<u32>) {
        let Some((since, lane, name)) = running.take() else { return };
        if lane == NO_LANE {
            if let Some(loop_lane) = loop_lane {
                self.push(loop_lane, since, at, name, State::Park);
            }
            return;
        }
        self.push(lane, since, at, name, State::Run);
        if loop_lane.is_some_and(|loop_lane| loop_lane != lane) {
            self.push(loop_lane.unwrap_or(lane), since, at, name, State::Run);
        }
        if self.kinds.get(lane as usize) == Some(&LaneKind::Task) {
            self.progress.entry(lane).or_default().suspended = Some(at);
        }
    }

    /// A lane runs again: what was it doing since it last ran?
    fn resume(&mut self, at: u64, lane: u32) {
        let progress = self.progress.entry(lane).or_default();
        let (suspended, woken) = (progress.suspended.take(), progress.woken.take());
        if let Some(suspended) = suspended {
            let woken = woken.map_or(at, |woken| woken.max(suspended));
            self.push(lane, suspended, woken, self.waits_name, State::Wait);
            self.push(lane, woken, at, self.ready_name, State::Ready);
        } else if let Some(woken) = woken {
            if self.kinds.get(lane as usize) == Some(&LaneKind::Task) {
                self.push(lane, woken, at, self.ready_name, State::Ready);
            }
        }
    }

    fn end_lane(&mut self, at: u64, lane: u32) {
        let progress = self.progress.entry(lane).or_default();
        let (waited, ran) = (progress.waiting.take(), progress.running.take());
        self.push_some(lane, waited, at, State::Wait);
        self.push_some(lane, ran.map(|since| (since, self.runs_name)), at, State::Run);
    }

    /// Ends what was still going on when the recording ended.
    fn finish(&mut self, end: u64) {
        let lanes: Vec<u32> = self.progress.keys().copied().collect();
        for lane in lanes {
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
            self.slices.push(Slice { lane, start: start - self.start, end: end - self.start, name, state });
        }
    }
}

/// The median cost of a clock read.
fn clock_error() -> u64 {
    let mut costs: Vec<u64> = (0..101)
        .map(|_| {
            let before = super::now_ns();
            super::now_ns() - before
        })
        .collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::super::{LaneKind, begin, end, idle, lane, mark, name, run, start, stop, wait, wait_end, wake};
    use super::State;

    #[test]
    fn a_recorded_story_reads_back_as_it_happened() {
        assert!(start(1000));
        assert!(!start(1000), "one recording at a time");
        let task = lane("task", LaneKind::Task).unwrap();
        let other = lane("other", LaneKind::Task).unwrap();
        let thread = lane("thread", LaneKind::Thread).unwrap();
        run(task, name("step"));
        wake(other);
        mark(task, "hello");
        run(other, name("step"));
        wake(task);
        idle();
        run(task, name("step"));
        idle();
        begin(thread);
        wait(thread, "connect");
        wait_end(thread);
        end(thread, None);
        let recording = stop().unwrap();
        assert!(stop().is_none());
        let states = |lane: super::super::LaneId| -> Vec<State> {
            recording.slices.iter().filter(|slice| slice.lane == lane.0).map(|slice| slice.state).collect()
        };
        assert_eq!(states(task), [State::Run, State::Wait, State::Ready, State::Run]);
        assert_eq!(states(other), [State::Ready, State::Run]);
        assert_eq!(states(thread), [State::Run, State::Wait, State::Run]);
        assert_eq!(recording.wakes.iter().map(|wake| (wake.1, wake.2)).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
        assert_eq!(recording.marks[0].2, "hello");
        assert!(recording.slices.iter().all(|slice| slice.start < slice.end));
    }
}
