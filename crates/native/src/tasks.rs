//! What a loop makes for whoever awaits: futures, and tasks around coroutines. Both are asyncio's own classes.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyTuple};

use crate::event_loop::Loop;
use crate::raw::{self, FastArgs};

/// asyncio's modules in which the classes are looked up at every call, so that whoever puts others in place is heard.
struct Modules {
    tasks: Py<PyModule>,
    futures: Py<PyModule>,
    /// `("loop",)`
    names: Py<PyTuple>,
    /// `BaseEventLoop.create_task`, for what is rare: debug mode and task factories.
    stock_create_task: Py<PyAny>,
}

fn modules(py: Python<'_>) -> PyResult<&Modules> {
    static MODULES: PyOnceLock<Modules> = PyOnceLock::new();
    MODULES.get_or_try_init(py, || {
        Ok(Modules {
            tasks: py.import("asyncio.tasks")?.unbind(),
            futures: py.import("asyncio.futures")?.unbind(),
            names: PyTuple::new(py, ["loop"])?.unbind(),
            stock_create_task: py
                .import("asyncio.base_events")?
                .getattr("BaseEventLoop")?
                .getattr("create_task")?
                .unbind(),
        })
    })
}

impl Loop {
    /// `loop.create_task(coro, **kwargs)`; what is given besides goes to the task, or to the task factory.
    pub fn create_task(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let modules = modules(py)?;
        if args.len() == 1 && slf.get().makes_plain_tasks(py) {
            slf.get().check_open()?;
            let class = modules.tasks.bind(py).getattr(intern!(py, "Task"))?;
            return Ok(args.call_and(&class, modules.names.bind(py), slf.as_any())?.unbind());
        }
        args.call_method(modules.stock_create_task.bind(py), slf.as_any()).map(Bound::unbind)
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
        let class = modules.futures.bind(py).getattr(intern!(py, "Future"))?;
        raw::call_with_keyword(&class, modules.names.bind(py), slf.as_any())
    }
}
