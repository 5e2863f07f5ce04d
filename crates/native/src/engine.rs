//! The engine of a Python loop, and which thread may use it when.
//!
//! With a GIL, any thread that holds it may. On a free-threaded build the engine belongs to the thread that runs the
//! loop. While nobody runs it, whoever needs it takes it for as long as its [`Reached`] lives, and others wait. A thread
//! that finds the loop running elsewhere is refused, or leaves what it wants to the loop ([`Loop::on_loop`]).

use std::cell::UnsafeCell;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use aioxide::timeline::Pulse;
use aioxide::{EventLoop, LoopHandle, RemoteScheduler};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::event_loop::Loop;
use crate::host::{Job, PyHost};
use turn::{Taken, Turns};

/// The engine of one loop, until the loop is closed.
pub struct Engine {
    remote: RemoteScheduler<Job>,
    pulse: Arc<Pulse>,
    turns: Turns,
    event_loop: UnsafeCell<Option<Rc<EventLoop<PyHost>>>>,
}

// SAFETY: `event_loop`, its clones and all that it holds are touched only by the thread whose turn it is (`Turns`), or
// by the collector, while every other thread stands still. They refer to no value outside that another thread could
// reach meanwhile, so the next thread may go on with them, and the last may drop them.
unsafe impl Send for Engine {}
// SAFETY: as above.
unsafe impl Sync for Engine {}

/// An open engine that this thread may use.
pub struct Reached<'a> {
    event_loop: Rc<EventLoop<PyHost>>,
    _taken: Taken<'a>,
}

impl Deref for Reached<'_> {
    type Target = EventLoop<PyHost>;

    fn deref(&self) -> &Self::Target {
        &self.event_loop
    }
}

/// A [`Reached`] engine as Rust futures see it.
pub struct ReachedHandle<'a>(pub Reached<'a>);

impl Deref for ReachedHandle<'_> {
    type Target = LoopHandle;

    fn deref(&self) -> &LoopHandle {
        self.0.handle()
    }
}

impl Engine {
    pub fn new() -> io::Result<Self> {
        let event_loop = EventLoop::new()?;
        Ok(Self {
            remote: event_loop.remote(),
            pulse: Arc::clone(event_loop.recorder().pulse()),
            turns: Turns::new(),
            event_loop: UnsafeCell::new(Some(Rc::new(event_loop))),
        })
    }

    /// The way in from any thread.
    pub fn remote(&self) -> &RemoteScheduler<Job> {
        &self.remote
    }

    /// What any thread may know of the running loop.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// The engine; `None` while another thread runs it.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed.
    #[inline]
    pub fn reach(&self, py: Python<'_>) -> PyResult<Option<Reached<'_>>> {
        let Some(taken) = self.turns.take(self.remote.remote(), py) else { return Ok(None) };
        // SAFETY: it is this thread's turn, and the reference ends with this statement.
        let event_loop = unsafe { (*self.event_loop.get()).clone() };
        event_loop.map(|event_loop| Some(Reached { event_loop, _taken: taken })).ok_or_else(closed)
    }

    /// Closes the engine; what it held is for dropping.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is running.
    pub fn close(&self, py: Python<'_>) -> PyResult<impl Sized + use<'_>> {
        let taken = self.turns.take(self.remote.remote(), py).filter(|_| !self.remote.remote().is_running());
        let Some(taken) = taken else { return Err(PyRuntimeError::new_err("Cannot close a running event loop")) };
        // SAFETY: it is this thread's turn, and the reference ends with this statement.
        let event_loop = unsafe { (*self.event_loop.get()).take() };
        let jobs = event_loop.as_ref().map(|event_loop| event_loop.close());
        Ok((jobs, event_loop, taken))
    }

    /// Shows the collector what the engine holds.
    pub fn visit_in_gc(&self, visit: impl FnMut(&Job)) {
        // SAFETY: every other thread stands still or is detached, and such a thread does not touch the engine. None
        // stands still amid a change of this cell.
        if let Some(event_loop) = unsafe { &*self.event_loop.get() } {
            event_loop.visit_handles(visit);
        }
    }

    /// For `__clear__`, when the loop is out of everybody's reach: what the engine held, for dropping.
    pub fn close_in_gc(&self) -> impl Sized + use<> {
        // SAFETY: nobody else can reach it any more.
        let event_loop = unsafe { (*self.event_loop.get()).take() };
        let jobs = event_loop.as_ref().map(|event_loop| event_loop.close());
        (jobs, event_loop)
    }
}

impl Loop {
    /// The engine.
    ///
    /// # Errors
    /// `RuntimeError` as asyncio gives it: if the loop is closed, or runs in another thread and must not be used here.
    pub fn engine(&self, py: Python<'_>) -> PyResult<Reached<'_>> {
        self.reach(py)?.ok_or_else(|| {
            PyRuntimeError::new_err("Non-thread-safe operation invoked on an event loop other than the current one")
        })
    }

    /// The loop as Rust futures see it.
    ///
    /// # Errors
    /// As [`Loop::engine`].
    pub fn loop_handle(&self, py: Python<'_>) -> PyResult<ReachedHandle<'_>> {
        self.engine(py).map(ReachedHandle)
    }

    /// Schedules a job of our own making.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed.
    #[inline]
    pub fn schedule(&self, py: Python<'_>, job: Job) -> PyResult<()> {
        match self.reach(py)? {
            Some(engine) => engine.call_soon(job),
            None => self.schedule_threadsafe(job)?,
        }
        Ok(())
    }

    /// As [`Loop::schedule`], from any thread, and the loop wakes up for it.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed.
    pub fn schedule_threadsafe(&self, job: Job) -> PyResult<()> {
        self.remote().call_soon(job).map_err(|_| closed())
    }

    /// Has `act` use the engine: now, or from the loop's own thread if another than this one runs it. A closed loop
    /// has no use for it.
    pub fn on_loop(slf: &Bound<'_, Self>, act: impl FnOnce(&Bound<'_, Self>, &EventLoop<PyHost>) + Send + 'static) {
        match slf.get().reach(slf.py()) {
            Ok(Some(engine)) => act(slf, &engine),
            Ok(None) => {
                let deferred = move |event_loop: &Bound<'_, Self>| {
                    if let Ok(engine) = event_loop.get().engine(event_loop.py()) {
                        act(event_loop, &engine);
                    }
                };
                drop(slf.get().remote().call_soon(Job::Deferred(Box::new(deferred))));
            }
            Err(_closed) => {}
        }
    }
}

/// The error that asyncio gives for a closed loop.
pub fn closed() -> PyErr {
    PyRuntimeError::new_err("Event loop is closed")
}

/// Whoever holds the GIL has the turn.
#[cfg(not(Py_GIL_DISABLED))]
mod turn {
    use std::marker::PhantomData;

    use aioxide::executor::Remote;
    use pyo3::Python;

    pub struct Turns;

    pub struct Taken<'a>(PhantomData<&'a Turns>);

    impl Turns {
        pub fn new() -> Self {
            Self
        }

        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on a free-threaded build")]
        pub fn take(&self, _remote: &Remote, _py: Python<'_>) -> Option<Taken<'_>> {
            Some(Taken(PhantomData))
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
mod turn {
    use std::cell::Cell;

    use aioxide::executor::Remote;
    use pyo3::Python;

    use crate::host::Patience;

    /// Whose turn it is to use an engine: that of `Remote`'s owner. It is taken by attached threads only, as
    /// `GilCell`'s lock is.
    pub struct Turns {
        /// How often the owner has taken its turn; the owner's alone.
        depth: Cell<usize>,
    }

    pub struct Taken<'a> {
        turns: &'a Turns,
        remote: &'a Remote,
    }

    impl Turns {
        pub fn new() -> Self {
            Self { depth: Cell::new(0) }
        }

        /// Takes the turn; `None` while another thread runs the loop.
        pub fn take<'a>(&'a self, remote: &'a Remote, py: Python<'_>) -> Option<Taken<'a>> {
            if !remote.is_owner() {
                let mut patience = Patience::default();
                while !remote.try_own() {
                    if remote.is_running() {
                        return None;
                    }
                    patience.wait(py);
                }
            }
            self.depth.set(self.depth.get() + 1);
            Some(Taken { turns: self, remote })
        }
    }

    impl Drop for Taken<'_> {
        fn drop(&mut self) {
            let depth = self.turns.depth.get() - 1;
            self.turns.depth.set(depth);
            if depth == 0 {
                self.remote.disown();
            }
        }
    }
}
