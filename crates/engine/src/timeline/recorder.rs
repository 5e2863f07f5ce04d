//! What a loop says of itself: each step, each wait, and numbers that are always counted.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::book::{Level, epoch, level, thread_number, with_ring};
use super::clock::{Clock, ticks};
use super::collector::collected;
use super::freeze::{Case, Ended, Judgement};
use super::lanes::{LaneId, LaneKind, NO_LANE, NameId};
use super::record::{Record, SliceRecord, Woken};
use super::ring::{Ring, Words};
use super::statistics::Statistics;
use super::threads::set_current_lane;
use super::watchdog;
use crate::driver::thread::thread_state;
use crate::driver::thread_traffic;

/// So many steps make a group, and so many are watched before the way of recording changes.
const GROUP_STEPS: u32 = 16;
/// Steps that come faster than one in so many nanoseconds are recorded in groups: what a single one costs to record
/// (400 ns for an event of a Python transport) would be more than 2 % of the time.
const DENSE_NS: u64 = 20_000;
/// Until the length of a tick is known, it is taken for that of a 2.5 GHz counter.
const DENSE_TICKS_GUESSED: u64 = DENSE_NS * 5 / 2;
/// A counter of 500 MHz or more: what may be slow is looked at more closely.
const TICKS_PER_NS_MIN: (u64, u64) = (1, 2);
/// The clock is read anew after so long, since the two clocks drift apart.
const CLOCK_AGE_NS: u64 = 1_000_000_000;

static SLOW_NS: AtomicU64 = AtomicU64::new(100_000_000);
static PULSES: Mutex<Vec<Weak<Pulse>>> = Mutex::new(Vec::new());

/// What a step is, as the host describes it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Where it is drawn.
    pub lane: LaneId,
    /// What it is.
    pub name: NameId,
    /// Who scheduled it, and when.
    pub woken: Woken,
}

/// A step, or a group of short ones, that took longer than the threshold.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// When it began, in ticks.
    pub start: u64,
    /// When it ended, in ticks.
    pub end: u64,
    /// Its lane, if the step was recorded by itself.
    pub lane: Option<LaneId>,
    /// Its name, likewise.
    pub name: NameId,
}

/// What other threads may know of a running loop.
#[derive(Debug)]
pub struct Pulse {
    /// Steps are recorded in groups, or not at all. Others may clear it, never set it.
    dense: AtomicBool,
    /// When the current step (or group) began, in ticks; 0 while the loop waits or does not run.
    since: AtomicU64,
    /// The kernel's number of the thread that runs the loop.
    thread: AtomicU64,
    /// The lane and name of the current step, if known.
    lane: AtomicU32,
    name: AtomicU32,
    /// A step of so many ticks may be slow.
    maybe_slow: AtomicU64,
    /// What was seen of the current step, if it takes long.
    case: Mutex<Option<Case>>,
}

impl Pulse {
    fn new(is_dense: bool) -> Self {
        let pulse = Self {
            dense: AtomicBool::new(is_dense),
            since: AtomicU64::new(0),
            thread: AtomicU64::new(0),
            lane: AtomicU32::new(NO_LANE),
            name: AtomicU32::new(0),
            maybe_slow: AtomicU64::new(u64::MAX),
            case: Mutex::new(None),
        };
        pulse.set_slow(SLOW_NS.load(Ordering::Relaxed));
        pulse
    }

    fn set_slow(&self, slow_ns: u64) {
        let (ticks, ns) = TICKS_PER_NS_MIN;
        let maybe = if slow_ns == u64::MAX { u64::MAX } else { slow_ns / ns * ticks };
        self.maybe_slow.store(maybe, Ordering::Relaxed);
    }

    /// Whether each step is recorded by itself, so that who schedules something should say so.
    #[inline]
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.dense.load(Ordering::Relaxed)
    }

    /// Has the loop record each step by itself from its next one on.
    pub fn make_exact(&self) {
        if level() >= Level::Flight {
            self.dense.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn case(&self) -> MutexGuard<'_, Option<Case>> {
        self.case.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the current step began, in ticks; `None` while the loop waits or does not run.
    #[must_use]
    pub fn since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    /// The kernel's number of the thread that runs the loop; 0 if none does.
    #[must_use]
    pub fn thread(&self) -> u64 {
        self.thread.load(Ordering::Relaxed)
    }
}

/// Steps that take so long are reported to [`crate::Host::slow`]; `None` turns that off. The default is 100 ms.
pub fn set_slow_threshold(threshold_ns: Option<u64>) {
    let slow_ns = threshold_ns.unwrap_or(u64::MAX);
    SLOW_NS.store(slow_ns, Ordering::Relaxed);
    for_each_pulse(|pulse| pulse.set_slow(slow_ns));
}

/// See [`set_slow_threshold`].
#[must_use]
pub fn slow_threshold() -> Option<u64> {
    Some(SLOW_NS.load(Ordering::Relaxed)).filter(|ns| *ns != u64::MAX)
}

pub(super) fn for_each_pulse(act: impl FnMut(Arc<Pulse>)) {
    let pulses = PULSES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    pulses.iter().filter_map(Weak::upgrade).for_each(act);
}

/// Every loop begins anew to find out how to record.
pub(super) fn level_changed() {
    let is_dense = level() == Level::Counters;
    for_each_pulse(|pulse| pulse.dense.store(is_dense, Ordering::Relaxed));
}

/// The recorder of one loop, used by the thread that runs it.
pub struct Recorder {
    pulse: Arc<Pulse>,
    /// A loop that only serves blocking calls of another lane records nothing.
    has_lane: bool,
    epoch: Cell<u32>,
    ring: RefCell<Option<Arc<Ring>>>,
    lane: Cell<LaneId>,
    /// When the last thing ended: the next has begun then.
    last: Cell<u64>,
    /// When the loop last came from the kernel.
    turn_start: Cell<u64>,
    /// Steps since `last` that were only counted.
    group: Cell<u32>,
    /// Steps since `window_start`.
    window: Cell<u32>,
    window_start: Cell<u64>,
    current: Cell<Option<Step>>,
    clock: Cell<Option<Clock>>,
    /// What the thread had received and sent when that was last looked at.
    traffic: Cell<(u64, u64)>,
    statistics: RefCell<Statistics>,
}

impl Recorder {
    pub(crate) fn new(has_lane: bool) -> Self {
        let pulse = Arc::new(Pulse::new(!has_lane || level() == Level::Counters));
        if has_lane {
            let mut pulses = PULSES.lock().unwrap_or_else(PoisonError::into_inner);
            pulses.retain(|pulse| pulse.strong_count() > 0);
            pulses.push(Arc::downgrade(&pulse));
        }
        Self {
            pulse,
            has_lane,
            epoch: Cell::new(0),
            ring: RefCell::default(),
            lane: Cell::new(LaneId(NO_LANE)),
            last: Cell::new(0),
            turn_start: Cell::new(0),
            group: Cell::new(0),
            window: Cell::new(0),
            window_start: Cell::new(0),
            current: Cell::new(None),
            clock: Cell::new(None),
            traffic: Cell::new((0, 0)),
            statistics: RefCell::default(),
        }
    }

    /// What other threads may know of the loop.
    #[must_use]
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// What the loop has done so far. For another thread than the one that runs it, without the bytes since its last
    /// wait.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        if self.pulse.thread() == thread_number() {
            self.note_traffic();
        }
        let mut statistics = self.statistics.borrow().clone();
        if self.pulse.thread() != 0 {
            statistics.running += ticks().saturating_sub(self.last.get());
        }
        statistics
    }

    /// Whether the next step is recorded by itself.
    #[inline]
    pub(crate) fn is_exact(&self) -> bool {
        self.pulse.is_exact()
    }

    /// The moment of `CLOCK_MONOTONIC` in ticks, if the length of a tick is known.
    #[must_use]
    pub fn moment(&self, ns: u64) -> Option<u64> {
        self.clock.get().map(|clock| clock.ticks(ns))
    }

    // -- running -------------------------------------------------------------------------------------------------

    pub(crate) fn run_begins(&self) {
        let now = ticks();
        self.traffic.set(thread_traffic());
        self.last.set(now);
        self.turn_start.set(now);
        self.window.set(0);
        self.window_start.set(now);
        self.refresh_clock(now);
        if self.has_lane {
            self.pulse.thread.store(thread_number(), Ordering::Relaxed);
            self.pulse.since.store(now, Ordering::Relaxed);
            watchdog::stir();
        }
    }

    pub(crate) fn run_ends(&self) {
        self.pulse.since.store(0, Ordering::Relaxed);
        self.pulse.thread.store(0, Ordering::Relaxed);
        self.note_traffic();
        let _slow_by_the_end_of_the_run = self.settle();
    }

    // -- waiting -------------------------------------------------------------------------------------------------

    /// The loop looks at the kernel: the turn is over.
    #[inline]
    pub(crate) fn turn_ends(&self) -> Option<Slow> {
        let slow = if self.group.get() > 0 { self.close_group() } else { None };
        let last = self.last.get();
        let mut statistics = self.statistics.borrow_mut();
        statistics.polls += 1;
        statistics.lag.add(last.saturating_sub(self.turn_start.get()), 1);
        drop(statistics);
        self.turn_start.set(last);
        slow
    }

    /// The loop goes to wait in the kernel, with nothing to do.
    pub(crate) fn parks(&self) {
        self.pulse.since.store(0, Ordering::Relaxed);
    }

    /// The loop is back from waiting.
    pub(crate) fn unparked(&self) {
        let (start, now) = (self.last.get(), ticks());
        self.advance(now);
        watchdog::stir();
        self.turn_start.set(now);
        let mut statistics = self.statistics.borrow_mut();
        statistics.parks += 1;
        statistics.parked += now.saturating_sub(start);
        drop(statistics);
        self.push(Record::Park { start, end: now }.encode());
        self.refresh_clock(now);
        if now.saturating_sub(self.window_start.get()) >= self.dense_ticks() * u64::from(GROUP_STEPS) {
            // Whatever comes now, the last sixteen steps do not come too fast any more.
            self.window.set(0);
            self.window_start.set(now);
            if self.has_lane {
                self.pulse.make_exact();
            }
        }
    }

    fn refresh_clock(&self, now: u64) {
        let is_new = |clock: Clock| clock.span_ns(now.saturating_sub(clock.at())) < CLOCK_AGE_NS;
        if !self.clock.get().is_some_and(is_new) && self.has_lane {
            self.clock.set(Clock::read_if_known());
        }
    }

    // -- steps ---------------------------------------------------------------------------------------------------

    /// Counts a step that is not recorded by itself; true if its group is full, and [`Recorder::settle`] is due.
    #[inline]
    pub(crate) fn count(&self) -> bool {
        let steps = self.group.get() + 1;
        self.group.set(steps);
        steps >= GROUP_STEPS
    }

    /// A step begins that is recorded by itself. One without a description belongs to the loop.
    pub(crate) fn begin(&self, step: Option<Step>) -> Option<Slow> {
        let slow = self.settle();
        let step = step.or_else(|| Some(Step { lane: self.loop_lane()?, name: NameId::NONE, woken: Woken::UNKNOWN }));
        let lane = step.map_or(NO_LANE, |step| step.lane.0);
        set_current_lane(lane);
        self.pulse.lane.store(lane, Ordering::Relaxed);
        self.pulse.name.store(step.map_or(0, |step| step.name.0), Ordering::Relaxed);
        self.current.set(step);
        slow
    }

    /// The step is over; its lane waits for what `then_waits` says.
    pub(crate) fn end(&self, then_waits: Option<NameId>) -> Option<Slow> {
        let (start, now) = (self.last.get(), ticks());
        self.advance(now);
        set_current_lane(NO_LANE);
        let step = self.current.take();
        if let Some(step) = step {
            let slice = SliceRecord {
                start,
                end: now,
                lane: step.lane.0,
                name: step.name.0,
                woken_by: step.woken.by,
                woken_at: step.woken.at,
                then_waits,
            };
            self.push(Record::Slice(slice).encode());
        }
        self.statistics.borrow_mut().steps.add(now.saturating_sub(start), 1);
        self.watch_pace(1, now);
        self.slow(start, now, step)
    }

    /// Records the steps that were only counted.
    pub(crate) fn settle(&self) -> Option<Slow> {
        if self.group.get() > 0 { self.close_group() } else { None }
    }

    fn close_group(&self) -> Option<Slow> {
        let (start, now) = (self.last.get(), ticks());
        self.advance(now);
        let steps = self.group.replace(0);
        let lasted = now.saturating_sub(start);
        self.statistics.borrow_mut().steps.add(lasted / u64::from(steps.max(1)), u64::from(steps));
        self.push(Record::Group { start, end: now, steps }.encode());
        self.watch_pace(steps, now);
        self.slow(start, now, None)
    }

    #[inline]
    fn advance(&self, now: u64) {
        self.statistics.borrow_mut().running += now.saturating_sub(self.last.get());
        self.last.set(now);
        if self.has_lane {
            self.pulse.since.store(now, Ordering::Relaxed);
        }
    }

    /// Decides whether the next steps are recorded one by one.
    fn watch_pace(&self, steps: u32, now: u64) {
        let window = self.window.get() + steps;
        self.window.set(window);
        if window < GROUP_STEPS {
            return;
        }
        let lasted = now.saturating_sub(self.window_start.replace(now));
        self.window.set(0);
        let is_dense = match level() {
            _ if !self.has_lane => true,
            Level::Counters => true,
            Level::Full => false,
            Level::Flight => lasted < self.dense_ticks() * u64::from(window),
        };
        self.pulse.dense.store(is_dense, Ordering::Relaxed);
    }

    fn dense_ticks(&self) -> u64 {
        self.clock.get().map_or(DENSE_TICKS_GUESSED, |clock| clock.span_ticks(DENSE_NS))
    }

    #[inline]
    fn slow(&self, start: u64, end: u64, step: Option<Step>) -> Option<Slow> {
        if end.saturating_sub(start) < self.pulse.maybe_slow.load(Ordering::Relaxed) || !self.has_lane {
            return None;
        }
        self.check_slow(start, end, step)
    }

    #[cold]
    fn check_slow(&self, start: u64, end: u64, step: Option<Step>) -> Option<Slow> {
        if Clock::read().span_ns(end.saturating_sub(start)) < slow_threshold()? {
            return None;
        }
        self.statistics.borrow_mut().slow_steps += 1;
        let name = step.map_or(NameId::NONE, |step| step.name);
        Some(Slow { start, end, lane: step.map(|step| step.lane), name })
    }

    // -- counting ------------------------------------------------------------------------------------------------

    /// Changes the statistics.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Statistics)) {
        change(&mut self.statistics.borrow_mut());
    }

    fn note_traffic(&self) {
        let now = thread_traffic();
        let before = self.traffic.replace(now);
        self.note(|statistics| {
            statistics.bytes_received += now.0 - before.0;
            statistics.bytes_sent += now.1 - before.1;
        });
    }

    // -- the ring ------------------------------------------------------------------------------------------------

    /// The lane of the loop in the current recording.
    #[must_use]
    pub fn loop_lane(&self) -> Option<LaneId> {
        self.renew();
        Some(self.lane.get()).filter(|lane| lane.0 != NO_LANE)
    }

    /// Makes sure that the ring is the current one of the thread.
    fn renew(&self) {
        let now = epoch();
        if self.epoch.get() == now {
            return;
        }
        self.epoch.set(now);
        let ring = if self.has_lane { with_ring(Arc::clone) } else { None };
        let lane = ring.as_ref().map_or(NO_LANE, |ring| {
            let known = ring.loop_lane.load(Ordering::Relaxed);
            if known != NO_LANE {
                return known;
            }
            let lane = ring.lanes().add("event loop", NameId::NONE, NameId::NONE, LaneKind::Loop, thread_number());
            ring.loop_lane.store(lane.0, Ordering::Relaxed);
            lane.0
        });
        self.lane.set(LaneId(lane));
        let old = self.ring.replace(ring);
        drop(old);
    }

    /// Appends a record, encoded where its kind is known.
    #[inline]
    fn push(&self, words: Words) {
        if level() < Level::Flight {
            return;
        }
        if self.epoch.get() != epoch() {
            self.renew();
        }
        if let Some(ring) = &*self.ring.borrow() {
            ring.push(words);
        }
    }

    /// Why a step was slow, by what was seen meanwhile. For the thread that runs the loop, right after the step.
    #[must_use]
    pub fn explain(&self, slow: &Slow) -> Judgement {
        let case = self.pulse.case().take().filter(|case| case.since == slow.start).unwrap_or_default();
        let clock = Clock::read();
        let ended = Ended {
            allowed_ns: slow_threshold().unwrap_or(0),
            lasted_ns: clock.span_ns(slow.end.saturating_sub(slow.start)),
            at_ns: clock.ns(slow.end),
            collected_ns: clock.span_ns(collected(slow.start, slow.end)),
            thread: thread_state(thread_number()).unwrap_or_default(),
        };
        case.judge(ended, |tid| thread_state(tid).ok())
    }

    /// A note on a freeze, for the picture.
    pub fn mark_freeze(&self, slow: &Slow, text: &str) {
        self.renew();
        let Some(text) = self.ring.borrow().as_ref().map(|ring| ring.lanes().add_text(text)) else { return };
        let lane = slow.lane.or_else(|| self.loop_lane()).map_or(NO_LANE, |lane| lane.0);
        self.push(Record::Freeze { start: slow.start, end: slow.end, lane, text }.encode());
    }
}
