//! What a suspended task waits for.

use aioxide::timeline::{self, NameId};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::classes::{AddressMap, Form, facts};
use crate::event_loop::Loop;

/// Coroutines that await each other more deeply than this are not followed to the end.
const DEPTH_MAX: usize = 64;
/// So many kinds of waits are remembered.
const REMEMBERED_MAX: usize = 4096;

/// A wait: the code of the innermost coroutine, the class of what that awaits, and the class of the future behind it.
struct Wait {
    code: Py<PyAny>,
    awaited: Py<PyType>,
    future: Py<PyType>,
    name: NameId,
}

/// What the waits that were seen are called, by the addresses of what they are made of, which is kept.
#[derive(Default)]
pub struct WaitBook(AddressMap<[usize; 3], Wait>);

impl WaitBook {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.values().try_for_each(|wait| {
            visit.call(&wait.code)?;
            visit.call(&wait.awaited)?;
            visit.call(&wait.future)
        })
    }
}

/// The name of what `task` waits for after its step; `None` if it does not wait. `aioxide._waits` says which
/// coroutine waits for what, once for each.
pub fn waits_for(event_loop: &Bound<'_, Loop>, task: &Bound<'_, PyAny>) -> Option<NameId> {
    let py = task.py();
    if !facts(event_loop, task).has_waiter {
        return None;
    }
    let future = task.getattr_opt(intern!(py, "_fut_waiter")).ok().flatten().filter(|future| !future.is_none())?;
    let (code, awaited) = innermost(event_loop, task.call_method0(intern!(py, "get_coro")).ok()?)?;
    let (awaited, future) = (awaited.get_type(), future.get_type());
    let key = [code.as_ptr() as usize, awaited.as_ptr() as usize, future.as_ptr() as usize];
    if let Some(wait) = event_loop.get().lanes.borrow(py).waits.0.get(&key) {
        return Some(wait.name);
    }
    let helpers = py.import(intern!(py, "aioxide._waits")).ok()?;
    let name =
        helpers.call_method1(intern!(py, "describe"), (&code, &awaited, &future)).ok()?.extract::<String>().ok()?;
    let name = timeline::name(&name);
    let wait = Wait { code: code.unbind(), awaited: awaited.unbind(), future: future.unbind(), name };
    let waits = &mut event_loop.get().lanes.borrow_mut(py).waits.0;
    if waits.len() < REMEMBERED_MAX {
        waits.insert(key, wait);
    }
    Some(name)
}

/// The code of the last coroutine in the chain of awaiting ones, and what that awaits.
fn innermost<'py>(
    event_loop: &Bound<'py, Loop>,
    coroutine: Bound<'py, PyAny>,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = coroutine.py();
    let mut last: Option<(Bound<'py, PyAny>, Form)> = None;
    let mut current = coroutine;
    for _ in 0..DEPTH_MAX {
        let Some(form) = facts(event_loop, &current).form else { break };
        let next = current.getattr_opt(form.awaited(py)).ok().flatten().filter(|next| !next.is_none());
        let Some(next) = next else { return Some((code(&current, form)?, current)) };
        last = Some((current, form));
        current = next;
    }
    let (coroutine, form) = last?;
    Some((code(&coroutine, form)?, current))
}

fn code<'py>(coroutine: &Bound<'py, PyAny>, form: Form) -> Option<Bound<'py, PyAny>> {
    coroutine.getattr_opt(form.code(coroutine.py())).ok().flatten()
}
