//! The functions that `aioxide.timeline` is made of.

use aioxide::timeline::{self, LaneId, LaneKind, Level, Recording};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Starts a recording with room for so many events in each thread; `False` if one is under way.
#[pyfunction]
pub fn timeline_start(records_per_thread: usize) -> bool {
    timeline::start(records_per_thread)
}

/// Ends the recording and gives it as the dictionary that `Recording.to_dict()` documents; `None` if there is none.
#[pyfunction]
pub fn timeline_stop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyDict>>> {
    py.detach(timeline::stop).map(|recording| to_dict(py, &recording)).transpose()
}

/// What is recorded so far, likewise.
#[pyfunction]
pub fn timeline_snapshot(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    to_dict(py, &py.detach(timeline::snapshot))
}

/// What ran since a moment of the monotonic clock, longest first: (name, nanoseconds, steps).
#[pyfunction]
pub fn timeline_usage(py: Python<'_>, since_ns: u64) -> Vec<(String, u64, u64)> {
    let found = py.detach(|| timeline::usage(since_ns));
    found.into_iter().map(|usage| (usage.name, usage.ran_ns, usage.steps)).collect()
}

/// The level: `"counters"`, `"flight"` or `"full"`.
#[pyfunction]
pub fn timeline_level() -> &'static str {
    match timeline::level() {
        Level::Counters => "counters",
        Level::Flight => "flight",
        Level::Full => "full",
    }
}

/// Sets the level to `"counters"` or `"flight"`; `False` during a recording.
#[pyfunction]
pub fn timeline_set_level(level: &str) -> PyResult<bool> {
    match level {
        "counters" => Ok(timeline::set_level(Level::Counters)),
        "flight" => Ok(timeline::set_level(Level::Flight)),
        _ => Err(PyValueError::new_err(format!("the level is 'counters' or 'flight', not {level:?}"))),
    }
}

fn to_dict<'py>(py: Python<'py>, recording: &Recording) -> PyResult<Bound<'py, PyDict>> {
    let result = PyDict::new(py);
    result.set_item("format", 1)?;
    result.set_item("start_ns", recording.start_ns)?;
    result.set_item("end_ns", recording.end_ns)?;
    result.set_item("clock_error_ns", recording.clock_error_ns)?;
    result.set_item("dropped", recording.dropped)?;
    result.set_item("grouped_steps", recording.grouped_steps)?;
    result.set_item("names", &recording.names)?;
    let lanes = PyList::empty(py);
    for lane in &recording.lanes {
        let entry = PyDict::new(py);
        entry.set_item("id", lane.id)?;
        entry.set_item("name", &lane.name)?;
        entry.set_item("kind", lane.kind.as_str())?;
        entry.set_item("thread", lane.thread)?;
        entry.set_item("group", &lane.group)?;
        entry.set_item("source", &lane.source)?;
        lanes.append(entry)?;
    }
    result.set_item("lanes", lanes)?;
    let slices = PyList::empty(py);
    for slice in &recording.slices {
        slices.append((slice.lane, slice.start, slice.end, slice.name, slice.state.as_str()))?;
    }
    result.set_item("slices", slices)?;
    result.set_item("wakes", &recording.wakes)?;
    result.set_item("marks", &recording.marks)?;
    let freezes = PyList::empty(py);
    for freeze in &recording.freezes {
        freezes.append((freeze.lane, freeze.start, freeze.end, &freeze.text))?;
    }
    result.set_item("freezes", freezes)?;
    Ok(result)
}

/// Writes a word into the lane that runs on this thread now; nothing happens when none does.
#[pyfunction]
pub fn timeline_mark(text: &str) {
    if timeline::is_recording() {
        if let Some(lane) = timeline::current_lane() {
            timeline::mark(lane, text);
        }
    }
}

/// Gives the calling thread a lane; the result is for `timeline_thread_end()`.
#[pyfunction]
pub fn timeline_thread_begin(name: &str) -> Option<(u32, Option<u32>)> {
    if !timeline::is_recording() {
        return None;
    }
    let previous = timeline::current_lane();
    let lane = timeline::lane(name, LaneKind::Thread)?;
    timeline::begin(lane);
    Some((lane.0, previous.map(|lane| lane.0)))
}

/// Ends the calling thread's lane.
#[pyfunction]
pub fn timeline_thread_end(token: (u32, Option<u32>)) {
    timeline::end(LaneId(token.0), token.1.map(LaneId));
}

/// The calling thread's lane waits from now on for what `what` says; the result is for `timeline_wait_end()`.
#[pyfunction]
pub fn timeline_wait_begin(what: &str) -> Option<(u32, u32)> {
    if !timeline::is_recording() {
        return None;
    }
    let lane = timeline::current_lane()?;
    timeline::wait(lane, timeline::name(what));
    Some((timeline::epoch(), lane.0))
}

/// Ends a wait; nothing happens when the recording in which it began is over.
#[pyfunction]
pub fn timeline_wait_end(token: (u32, u32)) {
    let (epoch, lane) = token;
    if timeline::is_recording() && timeline::epoch() == epoch {
        timeline::wait_end(LaneId(lane));
    }
}

/// Adds them.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(timeline_start, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_stop, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_snapshot, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_usage, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_level, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_set_level, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_mark, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_thread_begin, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_thread_end, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_wait_begin, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_wait_end, module)?)
}
