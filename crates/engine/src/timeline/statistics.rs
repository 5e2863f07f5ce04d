//! Numbers that are always counted.

/// Durations by size: each power of two of nanoseconds has four buckets, so that a percentile is right to about 10 %.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    sum: u64,
    max: u64,
}

const STEPS_PER_OCTAVE: u32 = 4;
/// Up to 2^48 ticks: a day.
const BUCKETS: usize = 48 * STEPS_PER_OCTAVE as usize;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts `times` durations of `ticks` each.
    #[inline]
    pub fn add(&mut self, ticks: u64, times: u64) {
        self.buckets[bucket(ticks)] += times;
        self.count += times;
        self.sum = self.sum.wrapping_add(ticks.wrapping_mul(times));
        self.max = self.max.max(ticks);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, in ticks.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The longest, in ticks.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// So long, in ticks, is at most the given share (0 to 1) of the durations.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return upper_end(index).min(self.max);
            }
        }
        self.max
    }

    /// The buckets that are not empty: the upper end in ticks, and how many there are up to it.
    pub fn cumulated(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut seen = 0;
        self.buckets.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(index, count)| {
            seen += count;
            (upper_end(index), seen)
        })
    }
}

#[inline]
fn bucket(ticks: u64) -> usize {
    let octave = 63 - (ticks | 1).leading_zeros();
    let within = if octave >= 2 { (ticks >> (octave - 2)) & 3 } else { 0 };
    #[expect(clippy::cast_possible_truncation, reason = "at most 3")]
    let index = (octave * STEPS_PER_OCTAVE) as usize + within as usize;
    index.min(BUCKETS - 1)
}

fn upper_end(index: usize) -> u64 {
    let (octave, within) = (index as u64 / 4, index as u64 % 4);
    if octave < 2 { (2 << octave) - 1 } else { (1 << octave) + ((within + 1) << (octave - 2)) - 1 }
}

/// What a loop has done since it was made. Durations are in ticks; [`super::Clock`] converts them.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// How long the loop ran in all, waits included.
    pub running: u64,
    /// How long it waited in the kernel with nothing to do.
    pub parked: u64,
    /// How often it did.
    pub parks: u64,
    /// How often the kernel was asked in all.
    pub polls: u64,
    /// Callbacks that ran.
    pub handles: u64,
    /// Timers that fired.
    pub timers_fired: u64,
    /// Descriptors that were ready for the host.
    pub events: u64,
    /// Polls of Rust tasks.
    pub task_polls: u64,
    /// Steps that took longer than the threshold.
    pub slow_steps: u64,
    /// The most callbacks that were ever ready at once.
    pub ready_max: u64,
    /// Bytes received by the loop's thread while it ran the loop.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// How long the loop took between two looks at the kernel: so long, at most, waited what became ready meanwhile.
    pub lag: Histogram,
    /// How long a step took; of steps in groups the mean.
    pub steps: Histogram,
}

#[cfg(test)]
mod tests {
    use super::{Histogram, bucket, upper_end};

    #[test]
    fn buckets_end_where_the_next_begins() {
        for ticks in (0..5000).chain([1 << 20, (1 << 20) + 12345, 1 << 40]) {
            let index = bucket(ticks);
            assert!(ticks <= upper_end(index), "{ticks}");
            assert!(ticks < 2 || index < 4 || ticks > upper_end(index - 1) || index % 4 != 0 && ticks < 4, "{ticks}");
        }
    }

    #[test]
    fn percentiles_are_right_to_a_quarter() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ticks| histogram.add(ticks * 1000, 1));
        for (share, right) in [(0.5, 500_000), (0.9, 900_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let found = histogram.percentile(share);
            assert!(found >= right && found <= right * 5 / 4, "{share}: {found}");
        }
        assert_eq!((histogram.count(), histogram.max()), (1000, 1_000_000));
        assert_eq!(histogram.cumulated().last().unwrap().1, 1000);
        assert_eq!(Histogram::default().percentile(0.5), 0);
    }
}
