//! Who ran how much of late, from what the rings still have: for a display that is drawn anew every second.

use std::collections::HashMap;

use super::clock::Clock;
use super::lanes::NameId;
use super::record::Record;

/// What ran under one name since a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The name of the coroutine or callback; empty for steps that came too fast to be told apart.
    pub name: String,
    /// How long it ran, in nanoseconds.
    pub ran_ns: u64,
    /// In how many steps.
    pub steps: u64,
}

/// What ran in the process since a moment of `CLOCK_MONOTONIC`, longest first. Nothing at the level of counters.
#[must_use]
pub fn usage(since_ns: u64) -> Vec<Usage> {
    let clock = Clock::read();
    let since = clock.ticks(since_ns);
    let mut sums: HashMap<u32, (u64, u64)> = HashMap::new();
    for ring in super::book::rings() {
        for record in ring.read().0.into_iter().map(Record::decode) {
            let (name, start, end, steps) = match record {
                Record::Slice(slice) => (slice.name, slice.start, slice.end, 1),
                Record::Group { start, end, steps } => (NameId::NONE.0, start, end, steps),
                _ => continue,
            };
            if end > since {
                let sum = sums.entry(name).or_default();
                sum.0 += end - start.max(since);
                sum.1 += u64::from(steps);
            }
        }
    }
    let mut found: Vec<Usage> = sums
        .into_iter()
        .map(|(name, (ticks, steps))| Usage { name: NameId(name).text(), ran_ns: clock.span_ns(ticks), steps })
        .collect();
    found.sort_by(|a, b| b.ran_ns.cmp(&a.ran_ns).then_with(|| a.name.cmp(&b.name)));
    found
}
