//! What a loop counts, as Python sees it.

use aioxide::timeline::{Clock, Histogram};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::event_loop::Loop;
use crate::watches::Watches;

/// The dictionary of `EventLoop.statistics()`. Durations are in seconds.
pub fn statistics<'py>(event_loop: &Bound<'py, Loop>) -> PyResult<Bound<'py, PyDict>> {
    let py = event_loop.py();
    let closed = Watches::closed_count(event_loop);
    let engine = event_loop.get().engine(py)?;
    let done = engine.recorder().statistics();
    let clock = Clock::read();
    let seconds = |ticks: u64| std::time::Duration::from_nanos(clock.span_ns(ticks)).as_secs_f64();
    let numbers = PyDict::new(py);
    numbers.set_item("ready", engine.ready_len())?;
    numbers.set_item("ready_max", done.ready_max)?;
    numbers.set_item("timers", engine.timer_len())?;
    numbers.set_item("descriptors", engine.handle().source_count().saturating_sub(closed))?;
    numbers.set_item("rust_tasks", engine.handle().tasks().len())?;
    numbers.set_item("turns", engine.turns())?;
    numbers.set_item("callbacks", done.handles)?;
    numbers.set_item("timers_fired", done.timers_fired)?;
    numbers.set_item("events", done.events)?;
    numbers.set_item("rust_polls", done.task_polls)?;
    numbers.set_item("polls", done.polls)?;
    numbers.set_item("waits", done.parks)?;
    numbers.set_item("slow_callbacks", done.slow_steps)?;
    numbers.set_item("bytes_received", done.bytes_received)?;
    numbers.set_item("bytes_sent", done.bytes_sent)?;
    numbers.set_item("running_s", seconds(done.running))?;
    numbers.set_item("waiting_s", seconds(done.parked))?;
    let busy = done.running.saturating_sub(done.parked);
    numbers.set_item("busy_share", if done.running == 0 { 0.0 } else { seconds(busy) / seconds(done.running) })?;
    set_histogram(&numbers, "lag", &done.lag, &seconds)?;
    set_histogram(&numbers, "callback", &done.steps, &seconds)?;
    Ok(numbers)
}

fn set_histogram(
    numbers: &Bound<'_, PyDict>,
    name: &str,
    histogram: &Histogram,
    seconds: &impl Fn(u64) -> f64,
) -> PyResult<()> {
    for (percentile, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        numbers.set_item(format!("{name}_{percentile}_s"), seconds(histogram.percentile(share)))?;
    }
    numbers.set_item(format!("{name}_max_s"), seconds(histogram.max()))?;
    numbers.set_item(format!("{name}_sum_s"), seconds(histogram.sum()))?;
    numbers.set_item(format!("{name}_count"), histogram.count())?;
    let buckets: Vec<(f64, u64)> = histogram.cumulated().map(|(end, count)| (seconds(end), count)).collect();
    numbers.set_item(format!("{name}_buckets"), buckets)
}
