//! The lanes that a sampler draws during a recording: who has the GIL, or on a free-threaded build who is on a CPU.

use std::sync::{Mutex, PoisonError};

use aioxide::timeline::{self, Sampled, Sampler};
use pyo3::prelude::*;

use super::gil_probe;

/// One recording at a time has one. The process's number is kept, since a fork's child has no such thread.
static SAMPLER: Mutex<Option<(u32, Sampler)>> = Mutex::new(None);

/// Starts a sampler of who has the GIL, or of which `threads` are on a CPU; gives why it cannot be, if it cannot.
#[pyfunction]
pub fn timeline_sample(py: Python<'_>, threads: bool) -> Option<String> {
    let started = if threads {
        timeline::sample_threads().map_err(|error| error.to_string())
    } else {
        gil_probe::find(py).and_then(|probe| timeline::sample_lock("GIL", probe).map_err(|error| error.to_string()))
    };
    match started {
        Ok(sampler) => {
            let before = SAMPLER.lock().unwrap_or_else(PoisonError::into_inner).replace((std::process::id(), sampler));
            let _of_a_recording_that_was_not_ended = finish(py, before);
            None
        }
        Err(why) => Some(why),
    }
}

/// Ends it: gives how often it looked, and the median and 95th percentile of the intervals, in nanoseconds.
#[pyfunction]
pub fn timeline_sampled(py: Python<'_>) -> Option<(u64, u64, u64)> {
    let sampler = SAMPLER.lock().unwrap_or_else(PoisonError::into_inner).take();
    finish(py, sampler).map(|sampled| (sampled.samples, sampled.median_ns, sampled.p95_ns))
}

fn finish(py: Python<'_>, sampler: Option<(u32, Sampler)>) -> Option<Sampled> {
    let (process, sampler) = sampler?;
    if process != std::process::id() {
        // Its thread is the parent's: to wait for it here would have no end.
        std::mem::forget(sampler);
        return None;
    }
    Some(py.detach(|| sampler.finish()))
}

/// Adds what Python calls.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(timeline_sample, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_sampled, module)?)
}
