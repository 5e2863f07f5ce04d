//! Python as the host of an engine's loop.

use std::cell::RefCell;

use aioxide::driver::Readiness;
use aioxide::reactor::SourceKey;
use aioxide::timeline::{NameId, Slow, Step, Woken};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use crate::datagram::DatagramTransport;
use crate::event_loop::{Loop, nanoseconds};
use crate::handle::{Call, Handle};
use crate::threadsafe_handle::ThreadSafeHandle;
use crate::transport::{SocketTransport, Transport, TransportJob};
use crate::watches::{self, Owner, Subject, Waiter, Watched, Watches};

/// What the thread that runs a loop is to do for another.
pub type Deferred = Box<dyn FnOnce(&Bound<'_, Loop>) + Send>;

/// What the ready queue and the timers of a Python loop hold.
pub enum Job {
    /// A scheduled callback.
    Handle(Py<Handle>),
    /// A callback that asyncio's C classes scheduled.
    Call(Call),
    /// A callback that another thread scheduled.
    ThreadSafe(Py<ThreadSafeHandle>),
    /// A handle that asyncio made itself, such as a signal's.
    Foreign(Py<PyAny>),
    /// A step in a transport's life, which needs no handle.
    Transport(Owner, TransportJob),
    /// What another thread left to the loop, see [`Loop::on_loop`].
    Deferred(Deferred),
}

impl Job {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Handle(handle) => visit.call(handle),
            Self::Call(call) => {
                visit.call(&call.callback)?;
                visit.call(&call.context)?;
                call.args.traverse(visit)
            }
            Self::ThreadSafe(handle) => visit.call(handle),
            Self::Foreign(handle) => visit.call(handle),
            Self::Transport(transport, job) => {
                visit.call(transport.object())?;
                job.traverse(visit)
            }
            // What it holds counts as held from outside, and it is soon run.
            Self::Deferred(_) => Ok(()),
        }
    }
}

/// Runs the jobs of one loop for the time of one `run_forever()`.
pub struct PyHost {
    event_loop: Py<Loop>,
    /// The task whose step was described last.
    described: RefCell<Option<Py<PyAny>>>,
}

impl PyHost {
    pub fn new(event_loop: Py<Loop>) -> Self {
        Self { event_loop, described: RefCell::default() }
    }

    /// `run_forever()` holds the interpreter but for `park`, and the engine calls the host from nowhere else.
    fn py(&self) -> Python<'_> {
        // SAFETY: as said above.
        unsafe { Python::assume_attached() }
    }

    fn call_scheduled(&self, py: Python<'_>, handle: &Bound<'_, Handle>) -> PyResult<()> {
        if self.event_loop.get().is_debug() {
            self.call_in_debug_mode(py, handle)
        } else {
            self.call_handle(py, handle)
        }
    }

    /// As `call_scheduled`, for a call that has no handle unless somebody wants to see one.
    fn call_bare(&self, py: Python<'_>, call: Call) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        if event_loop.get().is_debug() {
            return self.call_in_debug_mode(py, &Handle::build(event_loop, call)?);
        }
        let woken = call.woken;
        let (callback, context) = (call.callback.into_bound(py), call.context.into_bound(py));
        let args = call.args.into_bound(py);
        let Err(error) = args.call(&context, &callback) else { return Ok(()) };
        let call = Call { callback: callback.unbind(), args: args.unbind(), context: context.unbind(), woken };
        Loop::callback_failed(event_loop, Handle::build(event_loop, call)?.as_any(), error)
    }

    fn call_handle(&self, py: Python<'_>, handle: &Bound<'_, Handle>) -> PyResult<()> {
        match handle.get().call(py) {
            Ok(()) => Ok(()),
            Err(error) => Loop::callback_failed(self.event_loop.bind(py), handle.as_any(), error),
        }
    }

    /// As `call_handle`, with what debug mode wants to know.
    #[cold]
    fn call_in_debug_mode(&self, py: Python<'_>, handle: &Bound<'_, Handle>) -> PyResult<()> {
        if handle.get().is_cancelled(py) {
            return Ok(());
        }
        let event_loop = self.event_loop.bind(py);
        event_loop.setattr(intern!(py, "_current_handle"), handle)?;
        let result = self.call_timed(handle.as_any(), || self.call_handle(py, handle));
        event_loop.setattr(intern!(py, "_current_handle"), py.None())?;
        result
    }

    /// Has a slow call logged, as debug mode does.
    fn call_timed(&self, what: &Bound<'_, PyAny>, call: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        let py = what.py();
        let event_loop = self.event_loop.bind(py);
        let started = aioxide::now_ns();
        call()?;
        let took = std::time::Duration::from_nanos(aioxide::now_ns() - started).as_secs_f64();
        if took >= event_loop.getattr(intern!(py, "slow_callback_duration"))?.extract()? {
            event_loop.call_method1(intern!(py, "_callback_was_slow"), (what, took))?;
        }
        Ok(())
    }

    /// A step of a transport, which in debug mode must not be slow any more than a callback.
    fn call_transport(&self, transport: &Bound<'_, PyAny>, call: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        if self.event_loop.get().is_debug() { self.call_timed(transport, call) } else { call() }
    }

    fn describe_handle(&self, handle: &Bound<'_, Handle>) -> Option<Step> {
        let event_loop = self.event_loop.bind(handle.py());
        let engine = event_loop.get().reach(handle.py()).ok().flatten();
        // A clock of the loop's own is not the recorder's.
        let engine = engine.filter(|_| !event_loop.get().runs_on_own_clock());
        self.describe_call(handle, Handle::woken(handle, |ns| engine.and_then(|engine| engine.recorder().moment(ns))))
    }

    fn describe_call(&self, handle: &Bound<'_, Handle>, woken: Woken) -> Option<Step> {
        self.describe_callback(&handle.get().callback(handle.py())?, woken)
    }

    fn describe_callback(&self, callback: &Bound<'_, PyAny>, woken: Woken) -> Option<Step> {
        let event_loop = self.event_loop.bind(callback.py());
        let (step, task) = crate::timeline::describe_callback(event_loop, callback, woken)?;
        let before = self.described.replace(task.map(Bound::unbind));
        drop(before);
        Some(step)
    }

    fn call_foreign(&self, py: Python<'_>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        if handle.getattr(intern!(py, "_cancelled"))?.is_truthy()? {
            return Ok(());
        }
        handle.call_method0(intern!(py, "_run")).map(drop)
    }
}

impl aioxide::Host for PyHost {
    type Handle = Job;
    type Error = PyErr;

    fn call(&self, job: Job) -> PyResult<()> {
        let py = self.py();
        match job {
            Job::Handle(handle) => self.call_scheduled(py, &handle.into_bound(py)),
            Job::Call(call) => self.call_bare(py, call),
            Job::ThreadSafe(handle) => {
                let handle = handle.bind(py);
                handle.get().hold(|| self.call_scheduled(py, handle.as_super()))
            }
            Job::Transport(Owner::Stream(transport), job) => {
                let transport = transport.bind(py);
                self.call_transport(transport.as_any(), || SocketTransport::run_job(transport, job))
            }
            Job::Transport(Owner::Datagram(transport), job) => {
                let transport = transport.bind(py);
                self.call_transport(transport.as_any(), || DatagramTransport::run_job(transport, job))
            }
            Job::Foreign(handle) => self.call_foreign(py, handle.bind(py)),
            Job::Deferred(act) => {
                act(self.event_loop.bind(py));
                Ok(())
            }
        }
    }

    fn ready(&self, source: SourceKey, readiness: Readiness) -> PyResult<()> {
        let py = self.py();
        let event_loop = self.event_loop.bind(py);
        match Watches::ready(event_loop, source, readiness)? {
            Watched::Nothing => Ok(()),
            Watched::Waiters(waiters) => waiters.into_iter().flatten().try_for_each(|waiter| match waiter {
                Waiter::Handle(handle) => self.call(Job::Handle(handle)),
                Waiter::Future(future) => watches::wake(future.bind(py)),
            }),
            Watched::Transport(Owner::Stream(transport)) => {
                let transport = transport.bind(py);
                self.call_transport(transport.as_any(), || SocketTransport::on_ready(transport, readiness))
            }
            Watched::Transport(Owner::Datagram(transport)) => {
                let transport = transport.bind(py);
                self.call_transport(transport.as_any(), || DatagramTransport::on_ready(transport, readiness))
            }
        }
    }

    fn describe(&self, job: &Job) -> Option<Step> {
        let py = self.py();
        match job {
            Job::Handle(handle) => self.describe_handle(handle.bind(py)),
            Job::Call(call) => self.describe_callback(call.callback.bind(py), call.woken),
            Job::ThreadSafe(handle) => self.describe_handle(handle.bind(py).as_super()),
            Job::Foreign(handle) => {
                let callback = handle.bind(py).getattr(intern!(py, "_callback")).ok()?;
                crate::timeline::describe_callback(self.event_loop.bind(py), &callback, Woken::UNKNOWN)
                    .map(|(step, _)| step)
            }
            Job::Transport(owner, _) => crate::timeline::describe_transport(self.event_loop.bind(py), owner),
            Job::Deferred(_) => None,
        }
    }

    fn describe_ready(&self, source: SourceKey) -> Option<Step> {
        let py = self.py();
        let event_loop = self.event_loop.bind(py);
        match Watches::subject(event_loop, source)? {
            Subject::Transport(owner) => crate::timeline::describe_transport(event_loop, &owner),
            Subject::Handle(handle) => self.describe_call(handle.bind(py), Woken::UNKNOWN),
        }
    }

    fn slow(&self, slow: &Slow) -> PyResult<()> {
        let event_loop = self.event_loop.bind(self.py());
        match event_loop.get().reach(self.py())? {
            Some(engine) => crate::timeline::report(event_loop, engine.recorder(), slow),
            None => Ok(()),
        }
    }

    fn has_own_clock(&self) -> bool {
        self.event_loop.get().runs_on_own_clock()
    }

    fn now(&self) -> PyResult<u64> {
        if self.has_own_clock() {
            Loop::clock(self.event_loop.bind(self.py())).map(nanoseconds)
        } else {
            Ok(aioxide::now_ns())
        }
    }

    fn suspended(&self) -> Option<NameId> {
        let task = self.described.take()?;
        crate::timeline::waits_for(self.event_loop.bind(self.py()), task.bind(self.py()))
    }

    fn park<R>(&self, wait: impl FnOnce() -> R) -> PyResult<R> {
        let py = self.py();
        let result = detached(py, wait);
        // A signal may have ended the wait; its Python handler runs here, and may raise KeyboardInterrupt.
        py.check_signals()?;
        Ok(result)
    }
}

/// Runs `wait` without holding the interpreter.
pub fn detached<R>(py: Python<'_>, wait: impl FnOnce() -> R) -> R {
    struct Carried<T>(T);
    // SAFETY: `detach` runs its closure on this very thread. What it carries touches no Python object.
    unsafe impl<T> Send for Carried<T> {}
    impl<F: FnOnce() -> R, R> Carried<F> {
        fn call(self) -> Carried<R> {
            Carried((self.0)())
        }
    }
    let carried = Carried(wait);
    py.detach(move || carried.call()).0
}

/// How a thread waits for another that is soon done: at first attached, then detached, so that the collector may stop
/// the world meanwhile.
#[cfg(Py_GIL_DISABLED)]
#[derive(Default)]
pub struct Patience {
    tries: u32,
}

#[cfg(Py_GIL_DISABLED)]
impl Patience {
    const SPINS: u32 = 32;
    const YIELDS: u32 = 64;
    const PAUSE: std::time::Duration = std::time::Duration::from_micros(50);

    /// Waits a moment.
    pub fn wait(&mut self, py: Python<'_>) {
        self.tries += 1;
        if self.tries <= Self::SPINS {
            std::hint::spin_loop();
        } else if self.tries <= Self::YIELDS {
            detached(py, std::thread::yield_now);
        } else {
            detached(py, || std::thread::sleep(Self::PAUSE));
        }
    }
}
