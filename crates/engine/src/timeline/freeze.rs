//! Why a step froze its loop: what was seen meanwhile, and what that means.

use crate::driver::thread::{ThreadState, is_lock_call, syscall_name};

/// Whoever asks for the interpreter longer than this has met code that does not let go of it: one that does, does so
/// every 5 ms.
const HELD_NS: u64 = 15_000_000;
/// Whoever has to wait at all for the interpreter has met another thread that wants it.
const CONTENDED_NS: u64 = 2_000_000;
/// With so much CPU time a thread was running while the interpreter was asked for. One that lets go of it every 5 ms
/// has not.
const RAN_ON_NS: u64 = 12_000_000;

/// Why a step took so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its own code ran, in the host's language.
    Running,
    /// Native code ran, or waited, without letting go of the interpreter.
    NativeCode,
    /// It waited in a system call.
    Syscall,
    /// It waited for a lock that another thread holds.
    Lock,
    /// It waited for the interpreter, which another thread had.
    Interpreter,
    /// It could have run, but the kernel ran something else, or the whole process was stopped.
    Preempted,
    /// The host's garbage collector ran.
    Collector,
    /// Nobody looked.
    Unknown,
}

impl Cause {
    /// The cause's name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "cpu",
            Self::NativeCode => "native code",
            Self::Syscall => "system call",
            Self::Lock => "lock",
            Self::Interpreter => "interpreter",
            Self::Preempted => "preempted",
            Self::Collector => "garbage collection",
            Self::Unknown => "unknown",
        }
    }
}

/// A place in the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The function.
    pub function: String,
}

/// What the host showed of the frozen thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Where it was, innermost last.
    pub frames: Vec<Frame>,
    /// The task that ran, if one did.
    pub task: Option<String>,
    /// The process's threads that have names: `(kernel's number, name)`.
    pub threads: Vec<(u64, String)>,
}

/// One look at a frozen thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The thread when the look began.
    pub before: ThreadState,
    /// The CPU time that it used until the interpreter could be had.
    pub ran_ns: u64,
    /// How long that took, without what the observer and the thread itself had to wait for a CPU.
    pub asked_ns: u64,
    /// The time since the look before, up to the end of this one.
    pub stands_for_ns: u64,
}

/// Another thread of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Other {
    pub tid: u64,
    /// Its CPU time when the case was opened.
    pub cpu_ns: u64,
    /// How it was last seen.
    pub last: ThreadState,
}

/// What was seen during one step.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// When the step began, in ticks: what the case is known by.
    pub(crate) since: u64,
    /// When it was first looked at, in nanoseconds.
    pub(crate) opened_ns: u64,
    /// The thread then.
    pub(crate) first: ThreadState,
    /// The other threads.
    pub(crate) others: Vec<Other>,
    pub(crate) samples: Vec<Sample>,
    /// A look under way: when it began, and the thread then.
    pub(crate) pending: Option<(u64, ThreadState)>,
    /// How long the observer itself was kept from running.
    pub(crate) away_ns: u64,
    /// Where it was after the longest time without a look, and how long that was.
    pub(crate) sight: Option<(u64, Sight)>,
    /// When it was last looked at, in nanoseconds.
    pub(crate) looked_ns: u64,
    /// How often it was found at it.
    pub(crate) visits: u32,
}

/// What became of a case.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Why.
    pub cause: Cause,
    /// The system call in which it waited.
    pub syscall: Option<&'static str>,
    /// The thread that had what was waited for, by the kernel's number.
    pub culprit: Option<u64>,
    /// CPU time of the loop's thread while it was looked at, in nanoseconds.
    pub cpu_ns: u64,
    /// Where it was.
    pub sight: Option<Sight>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub lasted_ns: u64,
    /// So long it could have taken.
    pub allowed_ns: u64,
    pub at_ns: u64,
    /// Of that, time in the host's garbage collector.
    pub collected_ns: u64,
    /// The loop's thread at the end.
    pub thread: ThreadState,
}

impl Case {
    /// What `ended` means, given what was seen. `cpu_of` gives the CPU time of another thread now.
    pub(crate) fn judge(mut self, ended: Ended, cpu_of: impl Fn(u64) -> Option<ThreadState>) -> Judgement {
        let cpu_ns = ended.thread.cpu_ns.saturating_sub(self.first.cpu_ns);
        if let Some((asked, before)) = self.pending.take() {
            let ran_ns = ended.thread.cpu_ns.saturating_sub(before.cpu_ns);
            let stands_for_ns = ended.at_ns.saturating_sub(self.looked_ns);
            let delay_ns = ended.thread.delay_ns.saturating_sub(before.delay_ns);
            let asked_ns = ended.at_ns.saturating_sub(asked + delay_ns);
            self.samples.push(Sample { before, ran_ns, asked_ns, stands_for_ns });
        }
        let (cause, syscall) = self.cause(&ended);
        let culprit = if matches!(cause, Cause::Interpreter | Cause::Lock) {
            self.culprit(ended.at_ns.saturating_sub(self.opened_ns), cause, cpu_of)
        } else {
            None
        };
        let syscall = syscall.and_then(syscall_name);
        Judgement { cause, syscall, culprit, cpu_ns, sight: self.sight.map(|(_, sight)| sight) }
    }

    fn cause(&self, ended: &Ended) -> (Cause, Option<std::os::raw::c_long>) {
        if ended.collected_ns >= ended.lasted_ns / 2 {
            return (Cause::Collector, None);
        }
        // Without what the kernel did to it, it would have been no freeze.
        let delay_ns = ended.thread.delay_ns.saturating_sub(self.first.delay_ns);
        if ended.lasted_ns.saturating_sub(self.away_ns + delay_ns) < ended.allowed_ns {
            return (Cause::Preempted, None);
        }
        if self.samples.is_empty() {
            return (Cause::Unknown, None);
        }
        let votes: Vec<_> = self.samples.iter().map(Sample::cause).collect();
        let weight = |cause: Cause| -> u64 {
            let cast = self.samples.iter().zip(&votes).filter(|(_, (voted, _))| *voted == cause);
            cast.map(|(sample, _)| sample.stands_for_ns).sum()
        };
        votes.iter().copied().max_by_key(|(cause, _)| weight(*cause)).unwrap_or((Cause::Unknown, None))
    }

    /// The thread that used most CPU time meanwhile; or else, if something was held without using any, one that waits
    /// for something else than a lock.
    fn culprit(&self, watched_ns: u64, cause: Cause, cpu_of: impl Fn(u64) -> Option<ThreadState>) -> Option<u64> {
        let used = |other: &&Other| cpu_of(other.tid).unwrap_or(other.last).cpu_ns.saturating_sub(other.cpu_ns);
        let busiest = self.others.iter().max_by_key(used).filter(|other| used(other) > watched_ns / 5);
        let mut waiting = self.others.iter().filter(|other| other.last.syscall.is_some_and(|call| !is_lock_call(call)));
        let only = waiting.next().filter(|_| waiting.next().is_none());
        match cause {
            Cause::Interpreter => busiest.or(only),
            _ => busiest,
        }
        .map(|other| other.tid)
    }
}

impl Sample {
    fn cause(&self) -> (Cause, Option<std::os::raw::c_long>) {
        let call = self.before.syscall.filter(|_| !self.before.is_runnable);
        match call {
            Some(call) if is_lock_call(call) && self.asked_ns < CONTENDED_NS => (Cause::Lock, None),
            Some(call) if is_lock_call(call) && self.ran_ns < RAN_ON_NS => (Cause::Interpreter, None),
            Some(call) if !is_lock_call(call) && self.asked_ns < HELD_NS => (Cause::Syscall, Some(call)),
            Some(call) if !is_lock_call(call) => (Cause::NativeCode, Some(call)),
            _ if self.ran_ns >= RAN_ON_NS => (Cause::NativeCode, None),
            // It was seen just as it looked whether the interpreter is free, as it does every 5 ms.
            _ if self.asked_ns >= 2 * HELD_NS && self.ran_ns < self.asked_ns / 8 => (Cause::Interpreter, None),
            _ => (Cause::Running, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Cause, Ended, Other, Sample};
    use crate::driver::thread::{ThreadState, syscall_named};

    const MS: u64 = 1_000_000;

    fn case(samples: Vec<Sample>) -> Case {
        let others = [7, 8].map(|tid| Other { tid, cpu_ns: 0, last: ThreadState::default() }).to_vec();
        Case { opened_ns: 50 * MS, samples, others, ..Case::default() }
    }

    fn ended() -> Ended {
        Ended {
            lasted_ns: 200 * MS,
            allowed_ns: 100 * MS,
            at_ns: 200 * MS,
            collected_ns: 0,
            thread: ThreadState::default(),
        }
    }

    fn asleep(syscall: std::os::raw::c_long) -> ThreadState {
        ThreadState { syscall: Some(syscall), ..ThreadState::default() }
    }

    fn busy_eight(tid: u64) -> Option<ThreadState> {
        Some(ThreadState { cpu_ns: if tid == 8 { 100 * MS } else { 0 }, ..ThreadState::default() })
    }

    #[test]
    fn each_cause_is_told_from_what_was_seen() {
        let runs = ThreadState { is_runnable: true, ..ThreadState::default() };
        let (futex, sleeps) = (asleep(syscall_named("futex")), asleep(syscall_named("sleep")));
        for (before, asked_ms, ran_ms, cause) in [
            (runs, 6, 5, Cause::Running),
            (runs, 25, 5, Cause::Running),
            (runs, 90, 5, Cause::Interpreter),
            (runs, 100, 95, Cause::NativeCode),
            (sleeps, 0, 0, Cause::Syscall),
            (sleeps, 100, 0, Cause::NativeCode),
            (futex, 0, 0, Cause::Lock),
            (futex, 6, 0, Cause::Interpreter),
            (futex, 100, 0, Cause::Interpreter),
        ] {
            let sample = Sample { before, ran_ns: ran_ms * MS, asked_ns: asked_ms * MS, stands_for_ns: 50 * MS };
            let judgement = case(vec![sample, sample]).judge(ended(), busy_eight);
            assert_eq!(judgement.cause, cause, "{sample:?}");
            assert_eq!(judgement.culprit, matches!(cause, Cause::Lock | Cause::Interpreter).then_some(8));
        }
    }

    #[test]
    fn what_explains_most_of_the_time_comes_first() {
        let collected = Ended { collected_ns: 150 * MS, ..ended() };
        assert_eq!(case(Vec::new()).judge(collected, busy_eight).cause, Cause::Collector);
        let away = Case { away_ns: 150 * MS, ..case(Vec::new()) };
        assert_eq!(away.judge(ended(), busy_eight).cause, Cause::Preempted);
        let delayed = ThreadState { delay_ns: 140 * MS, ..ThreadState::default() };
        let sample = Sample::default();
        assert_eq!(case(vec![sample]).judge(Ended { thread: delayed, ..ended() }, busy_eight).cause, Cause::Preempted);
        assert_eq!(case(Vec::new()).judge(ended(), busy_eight).cause, Cause::Unknown);
    }

    #[test]
    fn a_look_that_is_not_over_counts() {
        let pending = Case { pending: Some((60 * MS, asleep(syscall_named("sleep")))), ..case(Vec::new()) };
        let judgement = pending.judge(ended(), busy_eight);
        assert_eq!((judgement.cause, judgement.syscall), (Cause::NativeCode, Some("sleep")));
    }
}
