//! asyncio's register of all tasks, to which a task is added without running Python code.
//!
//! Before Python 3.14 the C `Task` enters itself into a `weakref.WeakSet` by its `add` method, which is written in
//! Python, as is what happens when the task is gone: a tenth of what a short task costs. The set gets an `add` of its
//! own here, which does the same to the same data, so that whoever reads the set notices nothing.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PySet, PyWeakrefReference};

use crate::raw::{self, FastArgs};

/// What a `WeakSet` consists of. It is never replaced, only changed.
struct Parts {
    data: Py<PySet>,
    /// Iterations under way. Until they have ended nothing is removed from `data`.
    iterating: Py<PySet>,
    pending_removals: Py<PyList>,
}

/// Adds tasks.
#[pyclass(frozen)]
struct Adder {
    parts: Parts,
    /// What a weak reference calls when its task is gone.
    remove: Py<PyAny>,
    /// The set's method as it was.
    stock_add: Py<PyAny>,
}

/// Removes tasks.
#[pyclass(frozen)]
struct Remover {
    parts: Parts,
}

impl Adder {
    fn add(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let [task] = args.bind("add", ["item"], 1)?;
        let Some(task) = task else { return Ok(py.None()) };
        if !this.parts.pending_removals.bind(py).is_empty() {
            return this.stock_add.call1(py, (task,));
        }
        let reference = PyWeakrefReference::new_with(&task, this.remove.bind(py))?;
        this.parts.data.bind(py).add(reference)?;
        Ok(py.None())
    }
}

impl Remover {
    fn remove(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let (py, parts) = (slf.py(), &slf.get().parts);
        let [reference] = args.bind("_remove", ["item"], 1)?;
        let Some(reference) = reference else { return Ok(py.None()) };
        if parts.iterating.bind(py).is_empty() {
            parts.data.bind(py).discard(reference)?;
        } else {
            parts.pending_removals.bind(py).append(reference)?;
        }
        Ok(py.None())
    }
}

raw::fast_methods!(Adder; add => Adder::add);
raw::fast_methods!(Remover; remove => Remover::remove);

/// Has the register's `add` be ours from now on, unless it is not what we know, or asyncio does without.
pub fn install(py: Python<'_>) {
    static INSTALLED: PyOnceLock<bool> = PyOnceLock::new();
    INSTALLED.get_or_init(py, || py.version_info() < (3, 14) && replace_add(py).unwrap_or(false));
}

fn replace_add(py: Python<'_>) -> PyResult<bool> {
    let tasks = py.import("asyncio.tasks")?;
    let name = if py.version_info() < (3, 12) { "_all_tasks" } else { "_scheduled_tasks" };
    let register = tasks.getattr(name)?;
    let add = intern!(py, "add");
    let class = py.import("weakref")?.getattr("WeakSet")?;
    if !register.get_type().is(&class) || register.getattr("__dict__")?.contains(add)? {
        return Ok(false);
    }
    let parts = || -> PyResult<Parts> {
        Ok(Parts {
            data: register.getattr("data")?.cast_into::<PySet>()?.unbind(),
            iterating: register.getattr("_iterating")?.cast_into::<PySet>()?.unbind(),
            pending_removals: register.getattr("_pending_removals")?.cast_into::<PyList>()?.unbind(),
        })
    };
    raw::add_fast_method(&py.get_type::<Remover>(), c"remove", c"", remove)?;
    raw::add_fast_method(&py.get_type::<Adder>(), c"add", c"", self::add)?;
    let remover = Bound::new(py, Remover { parts: parts()? })?;
    let adder = Adder {
        parts: parts()?,
        remove: remover.getattr(intern!(py, "remove"))?.unbind(),
        stock_add: register.getattr(add)?.unbind(),
    };
    register.setattr(add, Bound::new(py, adder)?.getattr(add)?)?;
    Ok(true)
}
