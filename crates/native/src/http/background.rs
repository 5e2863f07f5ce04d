//! The background engine: one thread that runs requests for loops that are not ours, and for streams of blocking code.
//!
//! It is started when it is first needed, and anew in a forked child. It never keeps the process from ending: nobody
//! joins it, and once the interpreter begins to exit it no longer touches it.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use aioxide::{Callbacks, EventLoop, JoinHandle, LoopHandle, RemoteScheduler};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::outbox::{Outbox, Outcome};
use crate::thread_end;

type Call = Box<dyn FnOnce() + Send>;

struct Engine {
    /// A forked child inherits this, but not the thread.
    process: u32,
    scheduler: RemoteScheduler<Call>,
    exiting: Arc<Exiting>,
}

/// Whether the interpreter is exiting. The engine's thread holds the lock while it is attached to the interpreter.
type Exiting = Mutex<bool>;

/// Locked only by threads that are attached to the interpreter, so that no fork catches it locked.
static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);

/// So that the exit handler is registered once.
static EXIT_REGISTERED: AtomicBool = AtomicBool::new(false);
/// The exit handler has run.
static EXITED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The engine's thread's own loop, and the outboxes to be flushed at the end of its burst.
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
    /// Whether the engine's thread keeps the interpreter from exiting now.
    static HOLDS_EXIT: Cell<bool> = const { Cell::new(false) };
}

struct Here {
    handle: LoopHandle,
    scheduler: RemoteScheduler<Call>,
    exiting: Arc<Exiting>,
    unflushed: Vec<Arc<Outbox>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task of the engine, as other threads hold it. Dropping it cancels the task.
#[derive(Default)]
pub struct RemoteTask(Arc<Mutex<TaskState>>);

#[derive(Default)]
struct TaskState {
    cancelled: bool,
    task: Option<JoinHandle<()>>,
}

impl RemoteTask {
    /// Drops the task's future, in the engine's thread.
    pub fn cancel(&self) {
        let task = {
            let mut state = lock(&self.0);
            state.cancelled = true;
            state.task.take()
        };
        drop(task);
    }
}

/// Runs the future that `make` gives on the engine.
///
/// # Errors
/// `OSError` when no thread or descriptor can be had; `RuntimeError` when the interpreter is exiting.
pub fn spawn<F>(py: Python<'_>, make: impl FnOnce(LoopHandle) -> F + Send + 'static) -> PyResult<RemoteTask>
where
    F: Future<Output = ()> + 'static,
{
    let scheduler = scheduler(py)?;
    let task = RemoteTask::default();
    let state = Arc::clone(&task.0);
    let scheduled = scheduler.call_soon(Box::new(move || {
        let Some(handle) = HERE.with_borrow(|here| here.as_ref().map(|here| here.handle.clone())) else { return };
        if lock(&state).cancelled {
            return;
        }
        let spawned = handle.spawn(make(handle.clone()));
        let mut state = lock(&state);
        if !state.cancelled {
            state.task = Some(spawned);
        }
    }));
    scheduled.map_err(|_| PyRuntimeError::new_err("the HTTP thread has ended: no request can be sent any more"))?;
    Ok(task)
}

/// Runs `work`, which may attach to the interpreter and hears whether this is the engine's thread; `None` there once the
/// interpreter is exiting. Others are attached already.
pub fn unless_exiting<R>(work: impl FnOnce(bool) -> R) -> Option<R> {
    /// Lets the interpreter exit again, even when `work` panics.
    struct Held<'a>(Option<MutexGuard<'a, bool>>);
    impl Drop for Held<'_> {
        fn drop(&mut self) {
            if self.0.take().is_some() {
                HOLDS_EXIT.set(false);
            }
        }
    }
    let Some(exiting) = HERE.with_borrow(|here| here.as_ref().map(|here| Arc::clone(&here.exiting))) else {
        return Some(work(false));
    };
    // Python code that is run meanwhile may come here again.
    if HOLDS_EXIT.get() {
        return Some(work(true));
    }
    let held = lock(&exiting);
    if *held {
        return None;
    }
    HOLDS_EXIT.set(true);
    let _held = Held(Some(held));
    Some(work(true))
}

/// Adds an outcome to what `outbox` hands over to its loop: once the engine has done what is ready, or at once if this
/// is not the engine's thread.
pub fn post(outbox: Arc<Outbox>, future: Py<PyAny>, outcome: Outcome) {
    if !outbox.push(future, outcome) {
        return;
    }
    let elsewhere = HERE.with_borrow_mut(|here| {
        let Some(here) = here else { return Some(outbox) };
        here.unflushed.push(outbox);
        if here.unflushed.len() == 1 {
            let _open_while_it_runs = here.scheduler.call_soon(Box::new(flush));
        }
        None
    });
    if let Some(outbox) = elsewhere {
        Python::try_attach(|py| outbox.flush(py));
    }
}

fn flush() {
    let taken = HERE.with_borrow_mut(|here| here.as_mut().map(|here| std::mem::take(&mut here.unflushed)));
    let Some(outboxes) = taken else { return };
    unless_exiting(|_| Python::try_attach(|py| outboxes.iter().for_each(|outbox| outbox.flush(py))));
}

fn scheduler(py: Python<'_>) -> PyResult<RemoteScheduler<Call>> {
    register_exit(py)?;
    if EXITED.load(Ordering::Relaxed) {
        return Err(PyRuntimeError::new_err("the interpreter is exiting: no request can be sent any more"));
    }
    let mut engine = lock(&ENGINE);
    let process = std::process::id();
    if let Some(running) = engine.as_ref().filter(|engine| engine.process == process) {
        return Ok(running.scheduler.clone());
    }
    let exiting = Arc::new(Exiting::default());
    let scheduler = start(&exiting)?;
    // In a forked child the old engine is a copy without a thread; its loop and connections belong to the parent.
    if let Some(parents) = engine.replace(Engine { process, scheduler: scheduler.clone(), exiting }) {
        std::mem::forget(parents);
    }
    Ok(scheduler)
}

fn start(exiting: &Arc<Exiting>) -> std::io::Result<RemoteScheduler<Call>> {
    let exiting = Arc::clone(exiting);
    let (started, start) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("aioxide-http".into()).spawn(move || {
        let event_loop = match EventLoop::<Callbacks>::new() {
            Ok(event_loop) => event_loop,
            Err(error) => return drop(started.send(Err(error))),
        };
        let (handle, scheduler) = (event_loop.handle().clone(), event_loop.remote());
        HERE.set(Some(Here { handle, scheduler: scheduler.clone(), exiting, unflushed: Vec::new() }));
        if started.send(Ok(scheduler)).is_ok() {
            // It is never stopped, and callbacks of Rust raise nothing: only a foreign close of the loop's descriptor
            // ends it, and then nothing can be saved.
            let _ = thread_end::outlived(|| event_loop.run(&Callbacks));
        }
        HERE.set(None);
    })?;
    start.recv().unwrap_or_else(|_| Err(std::io::Error::other("the HTTP thread ended before it ran")))
}

/// Has the interpreter say when it begins to exit: attaching a thread later would end or block that thread.
fn register_exit(py: Python<'_>) -> PyResult<()> {
    if EXIT_REGISTERED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(interpreter_exits, py)?,)).map(drop)
}

#[pyfunction]
fn interpreter_exits(py: Python<'_>) {
    EXITED.store(true, Ordering::Relaxed);
    let process = std::process::id();
    let exiting =
        lock(&ENGINE).as_ref().filter(|engine| engine.process == process).map(|engine| Arc::clone(&engine.exiting));
    if let Some(exiting) = exiting {
        // The engine may be handing something over: it needs the interpreter to finish that.
        py.detach(|| *lock(&exiting) = true);
    }
}
