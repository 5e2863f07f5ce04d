//! What a loop makes for whoever awaits: futures, and tasks around coroutines. Both are asyncio's own classes.

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::event_loop::Loop;
use crate::raw::{self, FastArgs};

/// asyncio's modules in which the classes are looked up at every call, so that whoever puts others in place is heard.
struct Modules {
    tasks: Py<PyDict>,
    futures: Py<PyDict>,
    /// C's classes, which leave the keywords alone that they are called with.
    c_classes: Option<CClasses>,
    /// `("loop",)`
    names: Py<PyTuple>,
    /// `BaseEventLoop.create_task`, for what is rare: debug mode and task factories.
    stock_create_task: Py<PyAny>,
}

struct CClasses {
    task: Py<PyAny>,
    future: Py<PyAny>,
}

impl CClasses {
    fn find(py: Python<'_>) -> PyResult<Self> {
        let module = py.import("_asyncio")?;
        Ok(Self { task: module.getattr("Task")?.unbind(), future: module.getattr("Future")?.unbind() })
    }
}

fn modules(py: Python<'_>) -> PyResult<&Modules> {
    static MODULES: PyOnceLock<Modules> = PyOnceLock::new();
    MODULES.get_or_try_init(py, || {
        Ok(Modules {
            tasks: py.import("asyncio.tasks")?.dict().unbind(),
            futures: py.import("asyncio.futures")?.dict().unbind(),
            // An interpreter without that module has asyncio's classes in Python alone.
            c_classes: CClasses::find(py).ok(),
            names: PyTuple::new(py, ["loop"])?.unbind(),
            stock_create_task: py
                .import("asyncio.base_events")?
                .getattr("BaseEventLoop")?
                .getattr("create_task")?
                .unbind(),
        })
    })
}

/// A class by its name in a module.
fn class_of<'py>(module: &Bound<'py, PyDict>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    module.get_item(name)?.ok_or_else(|| PyAttributeError::new_err(format!("asyncio has no {name} any more")))
}

impl Loop {
    /// `loop.create_task(coro, **kwargs)`; what is given besides goes to the task, or to the task factory.
    pub fn create_task(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let modules = modules(py)?;
        let (1, true) = (args.len(), slf.get().makes_plain_tasks(py)) else {
            return args.call_method(modules.stock_create_task.bind(py), slf.as_any()).map(Bound::unbind);
        };
        slf.get().check_open()?;
        let class = class_of(modules.tasks.bind(py), intern!(py, "Task"))?;
        if let (Some(classes), None, Some(coro)) = (&modules.c_classes, args.names(), args.get(0)) {
            if class.is(&classes.task) {
                if let Some(keywords) = slf.get().keywords(py) {
                    return class.call((coro,), Some(&keywords)).map(Bound::unbind);
                }
            }
        }
        Ok(args.call_and(&class, modules.names.bind(py), slf.as_any())?.unbind())
    }

    /// `loop.create_future()`.
    pub fn create_future(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        args.expect_none("create_future")?;
        Self::new_future(slf).map(Bound::unbind)
    }

    /// A future of this loop.
    pub fn new_future<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let modules = modules(py)?;
        let class = class_of(modules.futures.bind(py), intern!(py, "Future"))?;
        if modules.c_classes.as_ref().is_some_and(|classes| class.is(&classes.future)) {
            if let Some(keywords) = slf.get().keywords(py) {
                return class.call((), Some(&keywords));
            }
        }
        raw::call_with_keyword(&class, modules.names.bind(py), slf.as_any())
    }
}
