//! Freezes: the thread that looks at a frozen loop, and the report once it goes on. `aioxide._freeze` does
//! both in Python.

use std::sync::atomic::{AtomicBool, Ordering};

use aioxide::timeline::{self, Frame, Judgement, Recorder, Sight, Slow, Witness};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};

use crate::event_loop::Loop;
use crate::raw;

/// The interpreter is about to end: nobody may wait for it from another thread any more.
static IS_OVER: AtomicBool = AtomicBool::new(false);

fn helpers(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(intern!(py, "aioxide._freeze"))
}

struct PythonWitness;

impl Witness for PythonWitness {
    fn look(&self, tid: u64, reached: &mut dyn FnMut(), seen: &mut dyn FnMut(Sight)) {
        if IS_OVER.load(Ordering::SeqCst) || raw::is_finalizing() {
            return;
        }
        let _ended_meanwhile = Python::try_attach(|py| {
            reached();
            // A stack that cannot be read is one that is not shown.
            seen(see(py, tid).ok().flatten().unwrap_or_default());
        });
    }
}

type Seen = (Vec<(String, u32, String)>, Option<String>, Vec<(u64, String)>);

fn see(py: Python<'_>, tid: u64) -> PyResult<Option<Sight>> {
    let seen: Option<Seen> = helpers(py)?.call_method1(intern!(py, "look"), (tid,))?.extract()?;
    Ok(seen.map(|(frames, task, threads)| Sight {
        frames: frames.into_iter().map(|(file, line, function)| Frame { file, line, function }).collect(),
        task,
        threads,
    }))
}

/// Has somebody look at loops whose callbacks take long, from now on.
pub fn watch(py: Python<'_>) -> PyResult<()> {
    if timeline::is_recording() && !IS_OVER.load(Ordering::SeqCst) && !timeline::is_watched() {
        // Imported here: the thread that looks should find it done.
        helpers(py)?;
        timeline::watch(PythonWitness);
    }
    Ok(())
}

/// Ends that until a loop next runs; whether anybody looked.
#[pyfunction]
pub fn timeline_unwatch(py: Python<'_>) -> bool {
    py.detach(timeline::unwatch)
}

/// Goes on with it after a fork.
#[pyfunction]
pub fn timeline_watch(py: Python<'_>) -> PyResult<()> {
    watch(py)
}

/// Ends it for good, since the interpreter is about to end.
#[pyfunction]
pub fn timeline_end_watch(py: Python<'_>) {
    IS_OVER.store(true, Ordering::SeqCst);
    py.detach(timeline::unwatch);
}

/// Hears of garbage collections, as an entry of `gc.callbacks`.
#[pyfunction]
pub fn timeline_collection(phase: &str, _info: &Bound<'_, PyAny>) {
    if phase == "start" {
        timeline::collection_begins();
    } else {
        timeline::collection_ends();
    }
}

/// The freeze threshold in seconds; `None` if freezes are not looked for.
#[pyfunction]
pub fn timeline_freeze_threshold() -> Option<f64> {
    timeline::slow_threshold().map(|ns| std::time::Duration::from_nanos(ns).as_secs_f64())
}

/// Sets it.
#[pyfunction]
#[pyo3(signature = (seconds))]
pub fn timeline_set_freeze_threshold(seconds: Option<f64>) -> PyResult<()> {
    let threshold = match seconds {
        None => None,
        Some(seconds) => {
            let duration = std::time::Duration::try_from_secs_f64(seconds);
            let nanos = duration.ok().and_then(|duration| u64::try_from(duration.as_nanos()).ok()).filter(|ns| *ns > 0);
            let wrong =
                || pyo3::exceptions::PyValueError::new_err(format!("{seconds} s is no time that a freeze can take"));
            Some(nanos.ok_or_else(wrong)?)
        }
    };
    timeline::set_slow_threshold(threshold);
    Ok(())
}

/// Reports a callback that was too slow, and marks it in the picture.
pub fn report(event_loop: &Bound<'_, Loop>, recorder: &Recorder, slow: &Slow) -> PyResult<()> {
    let py = event_loop.py();
    let clock = timeline::Clock::read();
    let judgement = recorder.explain(slow);
    let facts = facts(py, &judgement)?;
    facts
        .set_item("duration_s", std::time::Duration::from_nanos(clock.span_ns(slow.end - slow.start)).as_secs_f64())?;
    facts.set_item("callback", slow.name.text())?;
    let described = helpers(py)?.call_method1(intern!(py, "describe"), (event_loop, facts))?;
    let (freeze, text): (Bound<'_, PyAny>, String) = described.extract()?;
    recorder.mark_freeze(slow, &text);
    helpers(py)?.call_method1(intern!(py, "report"), (freeze,)).map(drop)
}

fn facts<'py>(py: Python<'py>, judgement: &Judgement) -> PyResult<Bound<'py, PyDict>> {
    let facts = PyDict::new(py);
    let nothing = Sight::default();
    let sight = judgement.sight.as_ref().unwrap_or(&nothing);
    let frames: Vec<_> = sight.frames.iter().map(|frame| (&frame.file, frame.line, &frame.function)).collect();
    let named = |tid: u64| sight.threads.iter().find(|(number, _)| *number == tid).map(|(_, name)| name.clone());
    facts.set_item("cause", judgement.cause.as_str())?;
    facts.set_item("syscall", judgement.syscall)?;
    match judgement.culprit.map(|tid| (tid, named(tid))) {
        None => facts.set_item("culprit", py.None())?,
        Some((_, Some(name))) => facts.set_item("culprit", name)?,
        // Nobody could look inside; its name is asked for now.
        Some((tid, None)) => facts.set_item("culprit", tid)?,
    }
    facts.set_item("cpu_s", std::time::Duration::from_nanos(judgement.cpu_ns).as_secs_f64())?;
    facts.set_item("stack", frames)?;
    facts.set_item("task", &sight.task)?;
    Ok(facts)
}

/// Adds what Python calls.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(timeline_unwatch, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_watch, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_end_watch, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_collection, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_freeze_threshold, module)?)?;
    module.add_function(wrap_pyfunction!(timeline_set_freeze_threshold, module)?)
}
