//! What Python shows of itself to the recorder.

use std::collections::HashMap;

use aioxide::timeline::{self, LaneId, LaneKind, NameId};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::event_loop::Loop;
use crate::handle::Handle;

/// The lanes of one loop's tasks in the current recording.
#[derive(Default)]
pub struct LaneBook {
    epoch: u32,
    /// By address; the reference keeps the address from being used again while the recording lasts.
    tasks: HashMap<usize, (LaneId, NameId, Py<PyAny>)>,
    callbacks: Option<LaneId>,
}

impl LaneBook {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.tasks.values().try_for_each(|(_, _, task)| visit.call(task))
    }
}

/// The recorder hears that `handle` runs now.
pub fn running(event_loop: &Bound<'_, Loop>, handle: &Handle) {
    let Some(callback) = handle.callback(event_loop.py()) else { return };
    if let Some((lane, name)) = lane_of(event_loop, &callback) {
        timeline::run(lane, name);
    }
}

/// The recorder hears that `handle` was scheduled by whatever runs now.
pub fn scheduled(event_loop: &Bound<'_, Loop>, handle: &Handle) {
    let Some(callback) = handle.callback(event_loop.py()) else { return };
    if let Some((lane, _)) = lane_of(event_loop, &callback) {
        timeline::wake(lane);
    }
}

/// The lane and name of a callback: its task's, or the one that all plain callbacks share. A recorder must not
/// disturb what it records, so a name that cannot be had is replaced, and its error dropped.
fn lane_of(event_loop: &Bound<'_, Loop>, callback: &Bound<'_, PyAny>) -> Option<(LaneId, NameId)> {
    let py = event_loop.py();
    let _ = timeline::loop_lane();
    renew(event_loop);
    let owner = callback.getattr_opt(intern!(py, "__self__")).ok().flatten();
    if let Some(task) = owner.filter(|owner| is_task(owner)) {
        let address = task.as_ptr() as usize;
        if let Some((lane, name, _)) = event_loop.get().lanes.borrow(py).tasks.get(&address) {
            return Some((*lane, *name));
        }
        let (title, step) = describe_task(&task);
        let entry = (timeline::lane(&title, LaneKind::Task)?, timeline::name(&step));
        event_loop.get().lanes.borrow_mut(py).tasks.insert(address, (entry.0, entry.1, task.unbind()));
        return Some(entry);
    }
    let name = callback
        .getattr_opt(intern!(py, "__qualname__"))
        .ok()
        .flatten()
        .and_then(|name| name.extract::<String>().ok())
        .or_else(|| callback.get_type().name().ok().map(|name| name.to_string()))
        .unwrap_or_default();
    let known = event_loop.get().lanes.borrow(py).callbacks;
    let lane = match known {
        Some(lane) => lane,
        None => {
            let lane = timeline::lane("callbacks", LaneKind::Callback)?;
            event_loop.get().lanes.borrow_mut(py).callbacks = Some(lane);
            lane
        }
    };
    Some((lane, timeline::name(&name)))
}

/// Starts a new book if this is a new recording.
fn renew(event_loop: &Bound<'_, Loop>) {
    let py = event_loop.py();
    let epoch = timeline::epoch();
    if event_loop.get().lanes.borrow(py).epoch != epoch {
        let old = event_loop.get().lanes.replace(py, LaneBook { epoch, ..LaneBook::default() });
        drop(old);
    }
}

/// Whether `object` says what coroutine it runs, as `asyncio.Task` does, and the runner of a `gen.coroutine`.
fn is_task(object: &Bound<'_, PyAny>) -> bool {
    object.hasattr(intern!(object.py(), "get_coro")).unwrap_or(false)
}

/// A task's title and the name of its coroutine.
fn describe_task(task: &Bound<'_, PyAny>) -> (String, String) {
    let text = |result: PyResult<Bound<'_, PyAny>>| result.ok().and_then(|value| value.extract::<String>().ok());
    let title = text(task.call_method0("get_name")).unwrap_or_else(|| "task".to_owned());
    let step = text(task.call_method0("get_coro").and_then(|coroutine| coroutine.getattr("__qualname__")));
    match step {
        Some(step) => (format!("{title} {step}"), step),
        None => (title.clone(), title),
    }
}

/// Starts a recording with room for so many events in each thread; `False` if one is under way.
#[pyfunction]
pub fn timeline_start(records_per_thread: usize) -> bool {
    timeline::start(records_per_thread)
}

/// Ends the recording and gives it as the dictionary that `Recording.to_dict()` documents; `None` if there is none.
#[pyfunction]
pub fn timeline_stop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyDict>>> {
    let Some(recording) = py.detach(timeline::stop) else { return Ok(None) };
    let result = PyDict::new(py);
    result.set_item("format", 1)?;
    result.set_item("start_ns", recording.start_ns)?;
    result.set_item("end_ns", recording.end_ns)?;
    result.set_item("clock_error_ns", recording.clock_error_ns)?;
    result.set_item("dropped", recording.dropped)?;
    result.set_item("names", &recording.names)?;
    let lanes = PyList::empty(py);
    for lane in &recording.lanes {
        let entry = PyDict::new(py);
        entry.set_item("id", lane.id)?;
        entry.set_item("name", &lane.name)?;
        entry.set_item("kind", kind_name(lane.kind))?;
        entry.set_item("thread", lane.thread)?;
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
    Ok(Some(result))
}

fn kind_name(kind: LaneKind) -> &'static str {
    match kind {
        LaneKind::Loop => "loop",
        LaneKind::Task => "task",
        LaneKind::Callback => "callback",
        LaneKind::Thread => "thread",
        LaneKind::Request => "request",
    }
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
    timeline::wait(lane, what);
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
