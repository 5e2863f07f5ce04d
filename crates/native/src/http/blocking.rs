//! Requests of blocking code: each thread has a loop of its own, which only such calls turn.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use aioxide::reactor::SourceKey;
use aioxide::{EventLoop, Host, LoopHandle, Readiness, RunError};
use pyo3::prelude::*;

use crate::host::detached;
use crate::thread_end;

/// In the main thread a wait ends this often, should a signal have come just before it began.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

/// So many steps in a row does it take at most to close an idle connection.
const SETTLING_ROUNDS: u32 = 4;

/// Gives the interpreter up while it waits, and lets signals end the wait.
pub struct Blocking;

impl Host for Blocking {
    type Handle = Infallible;
    type Error = PyErr;
    const HAS_LANE: bool = false;

    fn call(&self, handle: Infallible) -> PyResult<()> {
        match handle {}
    }

    fn ready(&self, _source: SourceKey, _readiness: Readiness) -> PyResult<()> {
        Ok(())
    }

    fn park<R>(&self, wait: impl FnOnce() -> R) -> PyResult<R> {
        // A call of Python turns this loop, so the thread is attached; attaching again gives the token.
        Python::attach(|py| {
            let result = thread_end::outlived(|| detached(py, wait));
            py.check_signals()?;
            Ok(result)
        })
    }
}

struct Engine {
    /// A forked child must not touch its parent's loop and connections.
    process: u32,
    event_loop: Rc<EventLoop<Blocking>>,
}

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
    static IS_MAIN: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
}

/// Turns a future of this thread's loop until it is done.
///
/// # Errors
/// What a signal's handler raised (the future is dropped then); `OSError` when the loop cannot be had.
pub fn run<T: 'static, F>(py: Python<'_>, make: impl FnOnce(LoopHandle) -> F) -> PyResult<T>
where
    F: Future<Output = T> + 'static,
{
    let process = std::process::id();
    let engine = take(process).map_or_else(|| Ok(Rc::new(EventLoop::new()?)), Ok::<_, std::io::Error>)?;
    let handle = engine.handle();
    let future = make(handle.clone());
    let result = if is_main_thread(py, process)? {
        engine.block_on_host(&Blocking, with_ticks(handle.clone(), future))
    } else {
        engine.block_on_host(&Blocking, future)
    };
    if result.is_err() {
        settle(&engine);
    }
    put_back(process, engine);
    result.map_err(|error| match error {
        RunError::Host(error) => error,
        RunError::Io(error) => error.into(),
        RunError::Busy => pyo3::exceptions::PyRuntimeError::new_err("this thread's loop is running already"),
    })
}

/// Lets this thread's loop act on what was asked of it meanwhile, such as to close connections.
pub fn settle_here() {
    let process = std::process::id();
    if let Some(engine) = take(process) {
        settle(&engine);
        put_back(process, engine);
    }
}

/// Polls what is ready: futures that were cancelled are dropped by that, and servers are told of the end.
fn settle(engine: &EventLoop<Blocking>) {
    let tasks = engine.handle().tasks();
    for _ in 0..SETTLING_ROUNDS {
        for _ in 0..tasks.collect_ready() {
            tasks.run_one();
        }
    }
}

/// This thread's loop, taken out of its place: a signal handler that makes a request of its own finds none, and makes
/// another.
fn take(process: u32) -> Option<Rc<EventLoop<Blocking>>> {
    // At the end of a thread its locals may be gone.
    let engine = ENGINE.try_with(|place| place.borrow_mut().take()).ok().flatten()?;
    if engine.process == process {
        return Some(engine.event_loop);
    }
    // Dropping it would unregister descriptors from the epoll instance that the parent still uses.
    std::mem::forget(engine);
    None
}

fn put_back(process: u32, event_loop: Rc<EventLoop<Blocking>>) {
    let made_meanwhile = ENGINE.with_borrow_mut(|place| place.replace(Engine { process, event_loop }));
    // Only a signal handler's request made another; its connections end here.
    drop(made_meanwhile);
}

fn is_main_thread(py: Python<'_>, process: u32) -> PyResult<bool> {
    if let Some((asked_in, answer)) = IS_MAIN.get() {
        if asked_in == process {
            return Ok(answer);
        }
    }
    let threading = py.import("threading")?;
    let answer = threading.call_method0("current_thread")?.is(&threading.call_method0("main_thread")?);
    IS_MAIN.set(Some((process, answer)));
    Ok(answer)
}

/// `future`, with a wake-up now and then.
async fn with_ticks<F: Future>(handle: LoopHandle, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut tick = handle.sleep(SIGNAL_CHECK);
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        while Pin::new(&mut tick).poll(context).is_ready() {
            tick = handle.sleep(SIGNAL_CHECK);
        }
        Poll::Pending
    })
    .await
}
