//! Which lane a callback belongs to, and what it is called. A recorder must not disturb what it records: a name that
//! cannot be had is replaced, and its error dropped.

use aioxide::timeline::{self, LaneId, LaneKind, NameId, Step, Woken};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyCode, PyFunction, PyType, PyWeakrefMethods, PyWeakrefReference};

use super::classes::{AddressMap, ClassBook, Form, facts};
use super::waits::WaitBook;
use crate::event_loop::Loop;
use crate::watches::Owner;

/// So many names of functions and classes are remembered.
const REMEMBERED_MAX: usize = 4096;
/// With so many tasks the book is first looked through for those that are gone.
const TASKS_BEFORE_PRUNING: usize = 1024;

/// A task that was seen. The weak reference tells whether the address is still the task's.
struct SeenTask {
    task: Py<PyWeakrefReference>,
    lane: LaneId,
    step: NameId,
}

/// The lanes of one loop's tasks in the current recording.
#[derive(Default)]
pub struct LaneBook {
    epoch: u32,
    tasks: AddressMap<usize, SeenTask>,
    prune_at: usize,
    callbacks: Option<LaneId>,
    /// Names by the address of a code object, which is kept so that the address stays its own.
    names: AddressMap<usize, (NameId, Py<PyAny>)>,
    pub waits: WaitBook,
    pub classes: ClassBook,
}

impl LaneBook {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.tasks.values().try_for_each(|seen| visit.call(&seen.task))?;
        self.names.values().try_for_each(|(_, code)| visit.call(code))?;
        self.waits.traverse(visit)?;
        self.classes.traverse(visit)
    }
}

/// The description of a callback that is to run, and its task if it is a task's step.
pub fn describe_callback<'py>(
    event_loop: &Bound<'py, Loop>,
    callback: &Bound<'py, PyAny>,
    woken: Woken,
) -> Option<(Step, Option<Bound<'py, PyAny>>)> {
    renew(event_loop);
    if !callback.is_exact_instance_of::<PyFunction>() && facts(event_loop, callback).has_self {
        let owner = callback.getattr_opt(intern!(callback.py(), "__self__")).ok().flatten();
        if let Some(task) = owner.filter(|owner| facts(event_loop, owner).is_task) {
            if let Some((lane, name)) = task_lane(event_loop, &task) {
                return Some((Step { lane, name, woken }, Some(task)));
            }
        }
    }
    let lane = callbacks_lane(event_loop)?;
    Some((Step { lane, name: callback_name(event_loop, callback), woken }, None))
}

/// The description of a step in a transport's life: it is called like the class of its protocol.
pub fn describe_transport(event_loop: &Bound<'_, Loop>, owner: &Owner) -> Option<Step> {
    let py = event_loop.py();
    renew(event_loop);
    let lane = callbacks_lane(event_loop)?;
    let class = owner.protocol(py).map_or_else(|| owner.object().bind(py).get_type(), |protocol| protocol.get_type());
    let name =
        remembered(event_loop, class.as_any(), || class.qualname().map(|name| name.to_string()).unwrap_or_default());
    Some(Step { lane, name, woken: Woken::UNKNOWN })
}

/// Starts a new book if this is a new recording. What is remembered of names stays right.
fn renew(event_loop: &Bound<'_, Loop>) {
    let py = event_loop.py();
    let epoch = timeline::epoch();
    if event_loop.get().lanes.borrow(py).epoch != epoch {
        let old = {
            let mut book = event_loop.get().lanes.borrow_mut(py);
            book.epoch = epoch;
            book.callbacks = None;
            std::mem::take(&mut book.tasks)
        };
        drop(old);
    }
}

/// The lane that all plain callbacks of the loop share.
fn callbacks_lane(event_loop: &Bound<'_, Loop>) -> Option<LaneId> {
    let py = event_loop.py();
    let known = event_loop.get().lanes.borrow(py).callbacks;
    known.or_else(|| {
        let lane = timeline::lane("callbacks", LaneKind::Callback)?;
        event_loop.get().lanes.borrow_mut(py).callbacks = Some(lane);
        Some(lane)
    })
}

/// A task's lane, and the name of its steps; `None` for one that cannot be followed.
fn task_lane(event_loop: &Bound<'_, Loop>, task: &Bound<'_, PyAny>) -> Option<(LaneId, NameId)> {
    let py = task.py();
    let address = task.as_ptr() as usize;
    {
        let book = event_loop.get().lanes.borrow(py);
        if let Some(seen) = book.tasks.get(&address) {
            if seen.task.bind(py).upgrade().is_some_and(|known| known.is(task)) {
                return Some((seen.lane, seen.step));
            }
        }
    }
    // Made before the book is borrowed: an allocation may run a finalizer.
    let weak = PyWeakrefReference::new(task).ok()?.unbind();
    let (lane, step) = new_task_lane(event_loop, task)?;
    let old = {
        let mut book = event_loop.get().lanes.borrow_mut(py);
        let pruned =
            if book.tasks.len() >= book.prune_at.max(TASKS_BEFORE_PRUNING) { prune(py, &mut book) } else { Vec::new() };
        (book.tasks.insert(address, SeenTask { task: weak, lane, step }), pruned)
    };
    drop(old);
    Some((lane, step))
}

/// Takes out the tasks that are gone.
fn prune(py: Python<'_>, book: &mut LaneBook) -> Vec<SeenTask> {
    let gone: Vec<usize> = book
        .tasks
        .iter()
        .filter(|(_, seen)| seen.task.bind(py).upgrade().is_none())
        .map(|(address, _)| *address)
        .collect();
    let pruned = gone.iter().filter_map(|address| book.tasks.remove(address)).collect();
    book.prune_at = book.tasks.len() * 2;
    pruned
}

fn new_task_lane(event_loop: &Bound<'_, Loop>, task: &Bound<'_, PyAny>) -> Option<(LaneId, NameId)> {
    let py = task.py();
    let title = task
        .call_method0(intern!(py, "get_name"))
        .ok()
        .and_then(|name| name.extract::<String>().ok())
        .unwrap_or_else(|| "task".to_owned());
    let coroutine = task.call_method0(intern!(py, "get_coro")).ok();
    let step = coroutine.as_ref().and_then(|coroutine| text(coroutine, intern!(py, "__qualname__")));
    let source = coroutine
        .as_ref()
        .and_then(|coroutine| code_of(event_loop, coroutine))
        .and_then(|code| source_of(&code))
        .unwrap_or_default();
    let named = step.as_ref().map_or_else(|| title.clone(), |step| format!("{title} {step}"));
    let name = timeline::name(step.as_deref().unwrap_or(&title));
    let group = if step.is_some() { name } else { NameId::NONE };
    let lane = timeline::named_lane(&named, group, timeline::name(&source), LaneKind::Task)?;
    Some((lane, name))
}

/// The code object of a coroutine or generator.
fn code_of<'py>(event_loop: &Bound<'py, Loop>, coroutine: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let form: Form = facts(event_loop, coroutine).form?;
    coroutine.getattr_opt(form.code(coroutine.py())).ok().flatten()
}

fn source_of(code: &Bound<'_, PyAny>) -> Option<String> {
    let py = code.py();
    let file = text(code, intern!(py, "co_filename"))?;
    let line: u32 = code.getattr(intern!(py, "co_firstlineno")).ok()?.extract().ok()?;
    Some(format!("{file}:{line}"))
}

fn text(object: &Bound<'_, PyAny>, attribute: &Bound<'_, pyo3::types::PyString>) -> Option<String> {
    object.getattr_opt(attribute).ok().flatten()?.extract().ok()
}

/// What a plain callback is called: a function by its qualified name, a partial by that of its function.
fn callback_name(event_loop: &Bound<'_, Loop>, callback: &Bound<'_, PyAny>) -> NameId {
    let py = callback.py();
    let qualified = || text(callback, intern!(py, "__qualname__")).unwrap_or_default();
    if callback.is_instance_of::<PyCFunction>() {
        return timeline::name(&qualified());
    }
    let facts = facts(event_loop, callback);
    if facts.has_code {
        if let Some(code) = callback.getattr_opt(intern!(py, "__code__")).ok().flatten() {
            if code.is_instance_of::<PyCode>() {
                return remembered(event_loop, &code, qualified);
            }
        }
    }
    let inner = if facts.has_func { callback.getattr_opt(intern!(py, "func")).ok().flatten() } else { None };
    // A partial of a partial is flattened by Python; whatever else stands for itself is not followed for ever.
    if let Some(inner) = inner.filter(|inner| !inner.get_type().is(callback.get_type())) {
        return callback_name(event_loop, &inner);
    }
    match callback.cast::<PyType>() {
        Ok(class) => remembered(event_loop, class.as_any(), qualified),
        Err(_instance) => {
            let class = callback.get_type();
            let named = || class.qualname().map(|name| name.to_string()).unwrap_or_default();
            remembered(event_loop, class.as_any(), named)
        }
    }
}

/// The name for a class or a code object, which is kept, found out once.
fn remembered(event_loop: &Bound<'_, Loop>, object: &Bound<'_, PyAny>, find_out: impl FnOnce() -> String) -> NameId {
    let py = object.py();
    let address = object.as_ptr() as usize;
    if let Some((name, _)) = event_loop.get().lanes.borrow(py).names.get(&address) {
        return *name;
    }
    let name = timeline::name(&find_out());
    let names = &mut event_loop.get().lanes.borrow_mut(py).names;
    if names.len() < REMEMBERED_MAX {
        names.insert(address, (name, object.clone().unbind()));
    }
    name
}
