//! The watchdog: a thread that looks at loops whose step takes long, while it does.
//!
//! It sleeps while no loop runs anything. Otherwise it looks at the pulses of all loops four times in each threshold,
//! and from half the threshold on gathers evidence for a [`Case`]: what the kernel says of the loop's thread, how long
//! the interpreter cannot be had, and where the thread is. What that means is told by [`super::freeze`] once the step
//! is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::book::thread_number;
use super::clock::Clock;
use super::freeze::{Case, Other, Sample, Sight};
use super::recorder::{Pulse, for_each_pulse, slow_threshold};
use crate::driver::thread::{self, ThreadState, thread_state};
use crate::handle::now_ns;

/// How often it looks, at most and at least.
const LOOK_NS: (u64, u64) = (1_000_000, 25_000_000);
/// After so many looks at loops that all wait, it goes to sleep.
const QUIET_LOOKS: u32 = 4;
/// So many other threads are looked at.
const OTHERS_MAX: usize = 64;
/// To be late by less means nothing.
const LATE_NS: u64 = 5_000_000;
/// So long the kernel may take to forget a thread that has ended.
const FORGOTTEN_WITHIN: Duration = Duration::from_millis(50);

/// The host's part: it shows where a thread is.
pub trait Witness: Send + 'static {
    /// Shows `seen` where thread `tid` is. It may have to wait for the interpreter; once it has that, it calls `reached`,
    /// and it still has it when it calls `seen`. It does neither if the interpreter cannot be had any more.
    fn look(&self, tid: u64, reached: &mut dyn FnMut(), seen: &mut dyn FnMut(Sight));
}

static ASLEEP: AtomicBool = AtomicBool::new(false);
static WATCHDOG: Mutex<Option<Watchdog>> = Mutex::new(None);

struct Watchdog {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    tid: u64,
}

#[derive(Default)]
struct Shared {
    /// To end; and that a loop runs something.
    asked: Mutex<(bool, bool)>,
    changed: Condvar,
}

fn watchdog() -> MutexGuard<'static, Option<Watchdog>> {
    WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there is a watchdog.
#[must_use]
pub fn is_watched() -> bool {
    watchdog().is_some()
}

/// Starts the watchdog, unless there is one or nobody wants to know of slow steps.
pub fn watch(witness: impl Witness) {
    let mut place = watchdog();
    if place.is_some() || slow_threshold().is_none() {
        return;
    }
    let shared = Arc::new(Shared::default());
    let (tell, told) = std::sync::mpsc::channel();
    let spawned = {
        let shared = Arc::clone(&shared);
        thread::spawn_without_signals("aioxide-watchdog", move || {
            let tid = thread_number();
            let _ = tell.send(tid);
            Observer { shared, witness, tid, quiet: 0 }.run();
        })
    };
    // Without a thread to spare there is no watchdog: slow steps are still noticed, but not explained.
    if let (Ok(thread), Ok(tid)) = (spawned, told.recv()) {
        *place = Some(Watchdog { shared, thread, tid });
    }
}

/// Ends the watchdog and waits until it is gone, so that the process may fork, or its interpreter end. The calling
/// thread must not hold what a [`Witness`] waits for.
pub fn unwatch() -> bool {
    let Some(Watchdog { shared, thread, tid }) = watchdog().take() else { return false };
    shared.asked().0 = true;
    shared.changed.notify_all();
    let _panicked = thread.join();
    // The kernel counts it for a moment longer.
    let deadline = now_ns() + u64::try_from(FORGOTTEN_WITHIN.as_nanos()).unwrap_or(0);
    while thread_state(tid).is_ok() && now_ns() < deadline {
        std::thread::yield_now();
    }
    true
}

/// A loop runs something: the watchdog, if it sleeps, has to look.
#[inline]
pub(super) fn stir() {
    if ASLEEP.load(Ordering::Relaxed) {
        wake();
    }
}

#[cold]
fn wake() {
    // Whoever changes the watchdog meanwhile has it look anyway.
    if let Ok(place) = WATCHDOG.try_lock() {
        if let Some(watchdog) = &*place {
            watchdog.shared.asked().1 = true;
            watchdog.shared.changed.notify_all();
        }
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, (bool, bool)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for a time, or until a loop runs something; true if the watchdog is to end.
    fn sleep(&self, timeout: Option<Duration>) -> bool {
        let mut asked = self.asked();
        match timeout {
            Some(timeout) if !asked.0 => {
                asked = self
                    .changed
                    .wait_timeout_while(asked, timeout, |asked| !asked.0)
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(asked, _)| asked);
            }
            Some(_) => {}
            None => {
                ASLEEP.store(true, Ordering::SeqCst);
                while !asked.0 && !asked.1 {
                    // A loop may have begun just before it could see that we sleep.
                    asked = self
                        .changed
                        .wait_timeout(asked, Duration::from_secs(1))
                        .map_or_else(|poisoned| poisoned.into_inner().0, |(asked, _)| asked);
                    let mut runs = false;
                    for_each_pulse(|pulse| runs |= pulse.since().is_some());
                    asked.1 |= runs;
                }
                ASLEEP.store(false, Ordering::SeqCst);
            }
        }
        asked.1 = false;
        asked.0
    }
}

/// How long the whole process may have stood still when the watchdog was so `late`, and so long of that others had the
/// CPU: that says nothing of the loop's thread, which may have slept meanwhile, unless it explains less than half.
fn stood_still(late: u64, delayed: u64) -> u64 {
    if delayed >= late / 2 { late.saturating_sub(delayed) } else { late }
}

struct Observer<W> {
    shared: Arc<Shared>,
    witness: W,
    tid: u64,
    quiet: u32,
}

impl<W: Witness> Observer<W> {
    fn run(mut self) {
        loop {
            let threshold = slow_threshold().unwrap_or(u64::MAX);
            let pause = (threshold / 4).clamp(LOOK_NS.0, LOOK_NS.1);
            let is_quiet = self.quiet >= QUIET_LOOKS;
            let (slept_from, delayed) = (now_ns(), thread::delay_ns(self.tid));
            if self.shared.sleep((!is_quiet).then(|| Duration::from_nanos(pause))) {
                return;
            }
            let late = if is_quiet { 0 } else { now_ns().saturating_sub(slept_from + pause) };
            let away = if late < LATE_NS { 0 } else { stood_still(late, thread::delay_ns(self.tid) - delayed) };
            self.quiet = if is_quiet { 0 } else { self.quiet + 1 };
            let clock = Clock::read();
            let mut slow = Vec::new();
            for_each_pulse(|pulse| {
                let Some(since) = pulse.since() else { return };
                self.quiet = 0;
                let age = now_ns().saturating_sub(clock.ns(since));
                if age >= threshold / 4 {
                    pulse.make_exact();
                }
                if age >= threshold / 2 {
                    slow.push((pulse, since, age));
                }
            });
            for (pulse, since, age) in slow {
                self.look_at(&pulse, since, age, age.min(away));
            }
        }
    }

    /// Gathers evidence on a step that has taken long so far.
    fn look_at(&self, pulse: &Pulse, since: u64, age: u64, away: u64) {
        let tid = pulse.thread();
        let Ok(before) = thread_state(tid) else { return };
        let asked = {
            let mut place = pulse.case();
            let case = match &mut *place {
                Some(case) if case.since == since => case,
                _ => place.insert(self.open(since, age, before, tid)),
            };
            case.away_ns += away;
            // Looking takes time from the program: at first it is done often, then ever more seldom.
            case.visits += 1;
            if !case.visits.is_power_of_two() {
                return;
            }
            for other in &mut case.others {
                other.last = thread_state(other.tid).unwrap_or(other.last);
            }
            let asked = now_ns();
            case.pending = Some((asked, before));
            asked
        };
        self.look_inside(pulse, since, asked, before);
    }

    /// Asks for the interpreter, to see where the thread is. What was seen is kept before the thread can go on.
    fn look_inside(&self, pulse: &Pulse, since: u64, asked: u64, before: ThreadState) {
        let tid = pulse.thread();
        let own_before = thread_state(self.tid).unwrap_or_default();
        let mut sample = None;
        let mut reached = || {
            let asked_ns = now_ns().saturating_sub(asked);
            let own = thread_state(self.tid).unwrap_or_default();
            let after = thread_state(tid).unwrap_or(before);
            let waited_for_cpu =
                own.delay_ns.saturating_sub(own_before.delay_ns) + after.delay_ns.saturating_sub(before.delay_ns);
            let ran_ns = after.cpu_ns.saturating_sub(before.cpu_ns);
            sample =
                Some(Sample { before, ran_ns, asked_ns: asked_ns.saturating_sub(waited_for_cpu), stands_for_ns: 0 });
        };
        let mut unseen_ns = None;
        let mut seen = |seen: Sight| {
            let is_same_step = pulse.since() == Some(since);
            if let Some(case) = pulse.case().as_mut().filter(|case| is_same_step && case.since == since) {
                let now = now_ns();
                let unseen = now.saturating_sub(case.looked_ns);
                case.looked_ns = now;
                if case.sight.as_ref().is_none_or(|(longest, _)| unseen >= *longest) {
                    case.sight = Some((unseen, seen));
                }
                unseen_ns = Some(unseen);
            }
        };
        self.witness.look(tid, &mut reached, &mut seen);
        if let Some(case) = pulse.case().as_mut().filter(|case| case.since == since) {
            // A look that came too late stays pending: the step has ended meanwhile.
            if let (Some(stands_for_ns), Some(sample)) = (unseen_ns, sample) {
                case.pending = None;
                case.samples.push(Sample { stands_for_ns, ..sample });
            }
        }
    }

    fn open(&self, since: u64, age: u64, first: ThreadState, tid: u64) -> Case {
        let others = thread::threads().into_iter().filter(|other| *other != tid && *other != self.tid);
        let others = others.take(OTHERS_MAX).filter_map(|tid| {
            let last = thread_state(tid).ok()?;
            Some(Other { tid, cpu_ns: last.cpu_ns, last })
        });
        let now = now_ns();
        Case {
            since,
            opened_ns: now,
            looked_ns: now.saturating_sub(age),
            first,
            others: others.collect(),
            ..Case::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stood_still;

    #[test]
    fn a_late_watchdog_tells_a_busy_machine_from_a_process_that_stood_still() {
        assert_eq!(stood_still(100, 95), 5, "others had the CPU");
        assert_eq!(stood_still(1300, 300), 1300, "the process was stopped");
        assert_eq!(stood_still(100, 0), 100, "the kernel does not count");
        assert_eq!(stood_still(100, 120), 0);
    }
}
