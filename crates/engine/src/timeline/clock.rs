//! The recorder's clock: the processor's own counter where it can be trusted, else `CLOCK_MONOTONIC`.
//!
//! A reading is a number of *ticks*, whatever they are. Nobody needs to know how long one is until the records are read
//! out: a [`Clock`] converts ticks to nanoseconds of `CLOCK_MONOTONIC`, by two readings of both clocks.

use std::sync::OnceLock;

use crate::handle::now_ns;

/// So far apart must two readings be for the length of a tick to be known to a few parts in 100,000.
const APART_NS: u64 = 2_000_000;

/// The clock's reading now.
#[inline]
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if base().has_counter {
        // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it.
        #[allow(unused_unsafe, reason = "safe in newer compilers")]
        return unsafe { std::arch::x86_64::_rdtsc() };
    }
    now_ns()
}

/// Whether the counter runs at one rate whatever the processor does, as bit 8 of this leaf says.
#[cfg(target_arch = "x86_64")]
fn has_steady_counter() -> bool {
    const LEAF: u32 = 0x8000_0007;
    #[allow(unused_unsafe, reason = "safe in newer compilers")]
    // SAFETY: every x86-64 processor has the instruction; a leaf that it does not know is not asked.
    unsafe {
        std::arch::x86_64::__cpuid(0x8000_0000).eax >= LEAF && std::arch::x86_64::__cpuid(LEAF).edx & (1 << 8) != 0
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has_steady_counter() -> bool {
    false
}

/// The first pair of readings of the process.
#[derive(Clone, Copy)]
struct Base {
    has_counter: bool,
    ticks: u64,
    ns: u64,
}

#[inline]
fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let has_counter = has_steady_counter();
        let (ticks, ns) = pair(has_counter);
        Base { has_counter, ticks, ns }
    })
}

/// Both clocks at one moment: the closest of a few tries, since the thread may be interrupted between the readings.
fn pair(has_counter: bool) -> (u64, u64) {
    let read = || {
        #[cfg(target_arch = "x86_64")]
        if has_counter {
            // SAFETY: as in `ticks`.
            #[allow(unused_unsafe, reason = "safe in newer compilers")]
            return unsafe { std::arch::x86_64::_rdtsc() };
        }
        now_ns()
    };
    (0..4)
        .map(|_| {
            let before = read();
            let ns = now_ns();
            let after = read();
            (after.saturating_sub(before), (before + after.saturating_sub(before) / 2, ns))
        })
        .min_by_key(|(apart, _)| *apart)
        .map_or((0, 0), |(_, pair)| pair)
}

/// Converts ticks, and durations in ticks, to nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    at_ticks: u64,
    at_ns: u64,
    ns_per_tick: f64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "distances in time, far below 2^53, and never negative where they are cast back"
)]
impl Clock {
    /// Reads both clocks. In the first 2 ms of the process it waits for their end.
    #[must_use]
    pub fn read() -> Self {
        loop {
            if let Some(clock) = Self::read_if_known() {
                return clock;
            }
            std::hint::spin_loop();
        }
    }

    /// Reads both clocks; `None` in the first 2 ms of the process, when the length of a tick is not known yet.
    #[must_use]
    pub fn read_if_known() -> Option<Self> {
        let base = *base();
        let (at_ticks, at_ns) = pair(base.has_counter);
        if !base.has_counter {
            return Some(Self { at_ticks, at_ns, ns_per_tick: 1.0 });
        }
        let apart = at_ns.saturating_sub(base.ns);
        let ns_per_tick = apart as f64 / at_ticks.saturating_sub(base.ticks).max(1) as f64;
        (apart >= APART_NS).then_some(Self { at_ticks, at_ns, ns_per_tick })
    }

    /// When the clocks were read, in ticks.
    pub(crate) fn at(&self) -> u64 {
        self.at_ticks
    }

    /// The moment in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn ns(&self, ticks: u64) -> u64 {
        if ticks >= self.at_ticks {
            self.at_ns + self.span_ns(ticks - self.at_ticks)
        } else {
            self.at_ns.saturating_sub(self.span_ns(self.at_ticks - ticks))
        }
    }

    /// The moment of `CLOCK_MONOTONIC` in ticks.
    #[must_use]
    pub fn ticks(&self, ns: u64) -> u64 {
        if ns >= self.at_ns {
            self.at_ticks + self.span_ticks(ns - self.at_ns)
        } else {
            self.at_ticks.saturating_sub(self.span_ticks(self.at_ns - ns))
        }
    }

    /// A duration in nanoseconds.
    #[must_use]
    pub fn span_ns(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick).round() as u64
    }

    /// A duration in ticks.
    #[must_use]
    pub fn span_ticks(&self, ns: u64) -> u64 {
        (ns as f64 / self.ns_per_tick).round() as u64
    }

    /// The median cost of a reading, in nanoseconds: no recorded time is more exact.
    #[must_use]
    pub fn error_ns(&self) -> u64 {
        let mut costs: Vec<u64> = (0..101)
            .map(|_| {
                let before = ticks();
                ticks().saturating_sub(before)
            })
            .collect();
        costs.sort_unstable();
        self.span_ns(costs[costs.len() / 2]).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, ticks};
    use crate::handle::now_ns;

    #[test]
    fn ticks_convert_to_the_monotonic_clock_and_back() {
        let clock = Clock::read();
        let (before, tick, after) = (now_ns(), ticks(), now_ns());
        let ns = clock.ns(tick);
        assert!(ns + 20_000 >= before && ns <= after + 20_000, "{before} {ns} {after}");
        assert!(clock.ticks(ns).abs_diff(tick) < 100);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let took = clock.span_ns(ticks() - tick);
        let really = now_ns() - after;
        assert!(took.abs_diff(really) < really / 50 + 100_000, "{took} {really}");
    }
}
