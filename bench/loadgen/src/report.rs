//! What was measured.

use std::time::Duration;

/// The round trips so far.
#[derive(Default)]
pub struct Report {
    latencies: Vec<Duration>,
}

impl Report {
    pub fn record(&mut self, latency: Duration) {
        self.latencies.push(latency);
    }

    pub fn operations(&self) -> usize {
        self.latencies.len()
    }

    /// One line of JSON: round trips, seconds they took together, and percentiles of their latency in seconds.
    pub fn to_json(&self, elapsed: Duration) -> String {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        format!(
            r#"{{"operations": {}, "seconds": {}, "latency_p50": {}, "latency_p99": {}}}"#,
            sorted.len(),
            elapsed.as_secs_f64(),
            percentile(&sorted, 0.50),
            percentile(&sorted, 0.99),
        )
    }
}

fn percentile(sorted: &[Duration], fraction: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * fraction).round() as usize).map_or(0.0, Duration::as_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_percentiles() {
        let mut report = Report::default();
        for n in (0..=100).rev() {
            report.record(Duration::from_secs(n));
        }
        let json = report.to_json(Duration::from_secs(2));
        assert_eq!(json, r#"{"operations": 101, "seconds": 2, "latency_p50": 50, "latency_p99": 99}"#);
    }

    #[test]
    fn nothing_measured_is_no_error() {
        assert!(Report::default().to_json(Duration::ZERO).contains(r#""operations": 0"#));
    }
}
