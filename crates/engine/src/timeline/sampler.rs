//! A thread that looks at short intervals at what no hook tells: which thread has the host's lock, or which threads run.
//!
//! What is seen twice in a row is taken to have lasted: a slice may be wrong by one interval at either end, and what
//! came and went in between was not seen. How long the intervals really were is measured, and told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::book::{push, thread_number};
use super::clock::{Clock, ticks};
use super::lanes::{LaneId, LaneKind, NameId, name};
use super::record::{Record, SliceRecord, Woken};
use super::threads::named_lane;
use crate::driver::thread::{spawn_precise, thread_state, threads};

/// The host's lock is looked at so often.
const LOCK_EVERY: Duration = Duration::from_micros(100);
/// Threads are looked at so often: that costs a few system calls for each, and the kernel counts no finer.
const THREADS_EVERY: Duration = Duration::from_millis(5);
/// So many threads are looked at.
const THREADS_MAX: usize = 64;
/// Of so many intervals the lengths are remembered.
const INTERVALS_MAX: usize = 1 << 20;

/// Tells which thread has the host's lock, without waiting for it.
pub trait LockProbe: Send + 'static {
    /// The kernel's number of the thread that has it.
    fn holder(&mut self) -> Option<u64>;
}

/// A sampler under way.
#[derive(Debug)]
pub struct Sampler {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Sampled>,
}

/// How exact a sampler was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// How often it looked.
    pub samples: u64,
    /// Half of the intervals were no longer, in nanoseconds.
    pub median_ns: u64,
    /// 95 % of the intervals were no longer, in nanoseconds.
    pub p95_ns: u64,
}

/// Draws which thread has the host's lock into a lane of its own, until [`Sampler::finish`].
///
/// # Errors
/// `WouldBlock` when there can be no more threads.
pub fn sample_lock(lane: &str, mut probe: impl LockProbe) -> std::io::Result<Sampler> {
    let lane = lane.to_owned();
    sampler(LOCK_EVERY, move || {
        let mut drawn = Drawn::new(named_lane(&lane, NameId::NONE, NameId::NONE, LaneKind::Lock));
        move |now| drawn.see(now, probe.holder())
    })
}

/// Draws when each thread of the process was on a CPU, each into a lane of its own, until [`Sampler::finish`].
///
/// # Errors
/// `WouldBlock` when there can be no more threads.
pub fn sample_threads() -> std::io::Result<Sampler> {
    sampler(THREADS_EVERY, || {
        let own = thread_number();
        let mut known: HashMap<u64, (u64, Drawn)> = HashMap::new();
        move |now| {
            for tid in threads().into_iter().filter(|tid| *tid != own).take(THREADS_MAX) {
                // One that has ended meanwhile is not seen any more.
                let Ok(state) = thread_state(tid) else { continue };
                let (cpu_ns, drawn) = known.entry(tid).or_insert_with(|| {
                    let lane = named_lane(&thread_name(tid), NameId::NONE, NameId::NONE, LaneKind::Cpu);
                    (state.cpu_ns, Drawn::new(lane))
                });
                let has_run = state.cpu_ns > *cpu_ns;
                *cpu_ns = state.cpu_ns;
                drawn.see(now, has_run.then_some(tid));
            }
        }
    })
}

/// How the lanes and slices of a sampler call a thread: whoever knows its real name puts that in its place.
#[must_use]
pub fn thread_name(tid: u64) -> String {
    format!("thread {tid}")
}

fn sampler<S: FnMut(u64)>(every: Duration, begin: impl FnOnce() -> S + Send + 'static) -> std::io::Result<Sampler> {
    let is_over = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_over);
    let thread = spawn_precise("aioxide-sampler", move || {
        let mut see = begin();
        let mut intervals: Vec<u32> = Vec::new();
        let mut last = ticks();
        while !asked.load(Ordering::Relaxed) {
            std::thread::sleep(every);
            let now = ticks();
            see(now);
            if intervals.len() < INTERVALS_MAX {
                intervals.push(u32::try_from(now.saturating_sub(last)).unwrap_or(u32::MAX));
            }
            last = now;
        }
        Sampled::of(intervals)
    })?;
    Ok(Sampler { is_over, thread })
}

impl Sampler {
    /// Ends it, and tells how exact it was. It waits for its thread, which needs nothing of the host.
    #[must_use]
    pub fn finish(self) -> Sampled {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

impl Sampled {
    fn of(mut intervals: Vec<u32>) -> Self {
        intervals.sort_unstable();
        let clock = Clock::read();
        let at = |share: usize| {
            let place = intervals.len().saturating_sub(1) * share / 100;
            intervals.get(place).map_or(0, |ticks| clock.span_ns(u64::from(*ticks)))
        };
        Self { samples: intervals.len() as u64, median_ns: at(50), p95_ns: at(95) }
    }
}

/// One lane of a sampler: what was seen last, and since when.
struct Drawn {
    lane: Option<LaneId>,
    names: HashMap<u64, NameId>,
    seen: Option<u64>,
    since: u64,
    /// When it was last looked at.
    last: u64,
}

impl Drawn {
    fn new(lane: Option<LaneId>) -> Self {
        let now = ticks();
        Self { lane, names: HashMap::new(), seen: None, since: now, last: now }
    }

    /// At `now` the thread is `seen` there, or none.
    fn see(&mut self, now: u64, seen: Option<u64>) {
        if seen != self.seen {
            self.close();
            self.since = self.last;
            self.seen = seen;
        }
        self.last = now;
    }

    fn close(&mut self) {
        let (Some(lane), Some(tid)) = (self.lane, self.seen) else { return };
        let name = *self.names.entry(tid).or_insert_with(|| name(&thread_name(tid)));
        push(Record::Slice(SliceRecord {
            start: self.since,
            end: self.last,
            lane: lane.0,
            name: name.0,
            woken_by: Woken::UNKNOWN.by,
            woken_at: 0,
            then_waits: None,
        }));
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.close();
    }
}
