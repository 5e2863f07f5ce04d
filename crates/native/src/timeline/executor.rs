//! What executor threads do for the loop.

use std::cell::Cell;

use aioxide::timeline::{self, LaneId, LaneKind, Woken};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

thread_local! {
    /// This thread's lane in the recording of that number.
    static LANE: Cell<Option<(u32, LaneId)>> = const { Cell::new(None) };
}

/// A function that an executor's thread is to call; its lane shows the call, and who asked for it.
#[pyclass(module = "aioxide._native", name = "ExecutorCall", frozen)]
pub struct ExecutorCall {
    function: Py<PyAny>,
    woken: Woken,
}

#[pymethods]
impl ExecutorCall {
    #[new]
    fn new(function: Py<PyAny>) -> Self {
        Self { function, woken: Woken::by(timeline::current_lane(), timeline::ticks()) }
    }

    #[pyo3(signature = (*args))]
    fn __call__<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.bind(py);
        let Some(lane) = thread_lane(py) else { return function.call1(args) };
        let name = function.getattr_opt(intern!(py, "__qualname__")).ok().flatten();
        let name = name.and_then(|name| name.extract::<String>().ok());
        let _work = timeline::work(lane, timeline::name(name.as_deref().unwrap_or("a call")), self.woken);
        function.call1(args)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)
    }
}

fn thread_lane(py: Python<'_>) -> Option<LaneId> {
    if !timeline::is_recording() {
        return None;
    }
    let epoch = timeline::epoch();
    if let Some((_, lane)) = LANE.get().filter(|(known, _)| *known == epoch) {
        return Some(lane);
    }
    let thread = py.import(intern!(py, "threading")).and_then(|module| module.call_method0("current_thread"));
    let name = thread.and_then(|thread| thread.getattr("name")).and_then(|name| name.extract::<String>());
    let lane = timeline::lane(name.as_deref().unwrap_or("thread"), LaneKind::Thread)?;
    LANE.set(Some((epoch, lane)));
    Some(lane)
}
