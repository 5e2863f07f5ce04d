//! `Loop`: the native half of `aioxide.EventLoop`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aioxide::reactor::TimerKey;
use aioxide::timeline::{self, Woken};
use aioxide::{RemoteScheduler, RunError, now_ns};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple, PyType};

use crate::bare_call;
use crate::engine::{Engine, Reached, closed};
use crate::errors::os_error;
use crate::gil_cell::GilCell;
use crate::handle::{Args, Call, Handle, TimerHandle};
use crate::host::{Job, PyHost};
use crate::raw::{self, FastArgs};
use crate::task_register;
use crate::thread_end;
use crate::threadsafe_handle::ThreadSafeHandle;
use crate::timeline::LaneBook;
use crate::watches::Watches;

/// Bytes received at once into the scratch buffer that all transports of a loop share; asyncio's own limit.
pub const SCRATCH_BYTES: usize = 256 * 1024;

/// The native half of `aioxide.EventLoop`: scheduling, timers, descriptors, and the turn itself.
#[pyclass(module = "aioxide._native", name = "Loop", subclass, frozen)]
pub struct Loop {
    engine: Engine,
    debug: AtomicBool,
    is_closed: AtomicBool,
    /// The thread that runs the loop, by `threading.get_ident()`; 0 while none does.
    thread: AtomicU64,
    /// Whether somebody has overridden `time()`; see [`Loop::runs_on_own_clock`].
    own_clock: AtomicBool,
    task_factory: GilCell<Option<Py<PyAny>>>,
    /// `{"loop": self}`, while the loop runs: what its tasks and futures are made with. It refers back to the loop.
    keywords: GilCell<Option<Py<PyDict>>>,
    pub watches: GilCell<Watches>,
    pub scratch: GilCell<Vec<u8>>,
    pub lanes: GilCell<LaneBook>,
}

impl Loop {
    /// The engine, as [`Engine::reach`] gives it.
    #[inline]
    pub fn reach(&self, py: Python<'_>) -> PyResult<Option<Reached<'_>>> {
        self.engine.reach(py)
    }

    /// The way in from any thread.
    pub fn remote(&self) -> &RemoteScheduler<Job> {
        self.engine.remote()
    }

    #[inline]
    pub fn check_open(&self) -> PyResult<()> {
        if self.remote().is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// Who schedules something now, and when; unknown where nobody records that.
    pub fn woken(&self) -> Woken {
        if self.engine.pulse().is_exact() {
            Woken::by(timeline::current_lane(), timeline::ticks())
        } else {
            Woken::UNKNOWN
        }
    }

    #[inline]
    pub fn is_debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    /// Whether `time()` is a subclass's or the instance's own, which timers then follow. Once a run has begun, it is not
    /// looked for anew.
    #[inline]
    pub fn runs_on_own_clock(&self) -> bool {
        self.own_clock.load(Ordering::Relaxed)
    }

    fn look_at_clock(slf: &Bound<'_, Self>) -> PyResult<()> {
        let time = slf.getattr(intern!(slf.py(), "time"))?;
        let is_native = time.is_instance_of::<PyCFunction>() && time.getattr(intern!(slf.py(), "__self__"))?.is(slf);
        slf.get().own_clock.store(!is_native, Ordering::Relaxed);
        Ok(())
    }

    /// What `time()` says, in seconds, whoever's it is.
    pub fn clock(slf: &Bound<'_, Self>) -> PyResult<f64> {
        if !slf.get().is_running() {
            Self::look_at_clock(slf)?;
        }
        if slf.get().runs_on_own_clock() {
            slf.call_method0(intern!(slf.py(), "time"))?.extract()
        } else {
            Ok(seconds(now_ns()))
        }
    }

    /// Whether tasks are asyncio's own, made without ado.
    pub fn makes_plain_tasks(&self, py: Python<'_>) -> bool {
        !self.is_debug() && self.task_factory.borrow(py).is_none()
    }

    /// `{"loop": self}`, which must not be changed, while the loop runs.
    #[inline]
    pub fn keywords<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        self.keywords.borrow(py).as_ref().map(|keywords| keywords.bind(py).clone())
    }

    pub fn cancel_timer(slf: &Bound<'_, Self>, key: TimerKey) {
        Self::on_loop(slf, move |_, engine| drop(engine.cancel_timer(key)));
    }

    /// Reports what a callback raised, or passes it on if it must end the run.
    pub fn callback_failed(slf: &Bound<'_, Self>, handle: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        if raw::ends_run(py, &error) {
            return Err(error);
        }
        let exception = raw::exception(py, error);
        slf.call_method1(intern!(py, "_callback_failed"), (handle, exception)).map(drop)
    }

    /// What a method that schedules is asked to call: its arguments from `first` on.
    #[inline]
    fn asked_call(slf: &Bound<'_, Self>, method: &str, args: &FastArgs<'_, '_>, first: usize) -> PyResult<Call> {
        let context = args.keyword(method, "context")?;
        let callback =
            args.get(first).ok_or_else(|| PyTypeError::new_err(format!("{method}() is missing its callback")))?;
        if slf.get().is_debug() {
            slf.call_method1(intern!(slf.py(), "_check_callback"), (&callback, method))?;
        }
        Call::new(slf, callback, Args::from_fast(args, first + 1)?, context)
    }

    /// In debug mode a handle remembers where it was scheduled.
    #[inline]
    fn trace(slf: &Bound<'_, Self>, handle: &Handle) -> PyResult<()> {
        if slf.get().is_debug() {
            let helpers = slf.py().import(intern!(slf.py(), "aioxide._debug"))?;
            let stack = helpers.call_method0(intern!(slf.py(), "caller_stack"))?;
            handle.set_source_traceback(slf.py(), stack.unbind());
        }
        Ok(())
    }

    fn call_soon(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.is_debug() {
            slf.call_method0(intern!(py, "_check_thread"))?;
        }
        this.check_open()?;
        let is_bare = bare_call::is_from_asyncio(py, args) && !this.is_debug();
        let call = if let (true, Some(callback)) = (is_bare, args.get(0)) {
            Call::new(slf, callback, Args::from_fast(args, 1)?, Some(args.keyword_value(0)))?
        } else {
            Self::asked_call(slf, "call_soon", args, 0)?
        };
        if is_bare {
            this.schedule(py, Job::Call(call))?;
            return Ok(py.None());
        }
        let handle = Handle::build(slf, call)?;
        Self::trace(slf, handle.get())?;
        this.schedule(py, Job::Handle(handle.clone().unbind()))?;
        Ok(handle.into_any().unbind())
    }

    fn call_soon_threadsafe(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        this.check_open()?;
        let call = Self::asked_call(slf, "call_soon_threadsafe", args, 0)?;
        let is_owner = this.remote().remote().is_owner();
        if !is_owner && ThreadSafeHandle::is_known(py) {
            let handle = ThreadSafeHandle::build(slf, call)?;
            Self::trace(slf, handle.as_super().get())?;
            this.schedule_threadsafe(Job::ThreadSafe(handle.clone().unbind()))?;
            return Ok(handle.into_any().unbind());
        }
        let handle = Handle::build(slf, call)?;
        Self::trace(slf, handle.get())?;
        let job = Job::Handle(handle.clone().unbind());
        if is_owner {
            this.schedule(py, job)?;
        } else {
            this.schedule_threadsafe(job)?;
        }
        Ok(handle.into_any().unbind())
    }

    fn call_later(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let delay = args.get(0).ok_or_else(|| PyTypeError::new_err("call_later() is missing its delay"))?;
        if delay.is_none() {
            return Err(PyTypeError::new_err("delay must not be None"));
        }
        Self::call_when(slf, "call_later", Self::clock(slf)? + delay.extract::<f64>()?, args)
    }

    fn call_at(slf: &Bound<'_, Self>, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let when = args.get(0).ok_or_else(|| PyTypeError::new_err("call_at() is missing its time"))?;
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        Self::call_when(slf, "call_at", when.extract()?, args)
    }

    fn call_when(slf: &Bound<'_, Self>, method: &str, when: f64, args: &FastArgs<'_, '_>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        slf.get().check_open()?;
        if slf.get().is_debug() {
            slf.call_method0(intern!(py, "_check_thread"))?;
        }
        let call = Self::asked_call(slf, method, args, 1)?;
        if when.is_nan() {
            return Err(PyValueError::new_err("a timer cannot be set for NaN seconds"));
        }
        let timer = TimerHandle::build(slf, call, when)?;
        Self::trace(slf, timer.as_super().get())?;
        let base = timer.as_super().clone().unbind();
        Self::on_loop(slf, move |event_loop, engine| {
            let py = event_loop.py();
            if !base.get().is_cancelled(py) {
                let key = engine.call_at(nanoseconds(when), Job::Handle(base.clone_ref(py)));
                base.get().set_timer(py, key);
            }
        });
        Ok(timer.into_any().unbind())
    }
}

/// `loop.time()` of a clock reading; the division is the one that `time.monotonic()` makes.
#[expect(clippy::cast_precision_loss, reason = "Python's clock is a float, too")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// The first clock reading at which `loop.time()` has reached `when`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is what is meant")]
pub fn nanoseconds(when: f64) -> u64 {
    (when * 1e9).ceil() as u64
}

#[pymethods]
impl Loop {
    #[new]
    #[pyo3(signature = (*args, **_kwargs))]
    fn new(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        bare_call::learn(args.py());
        task_register::install(args.py());
        Ok(Self {
            engine: Engine::new().map_err(os_error)?,
            debug: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            thread: AtomicU64::new(0),
            own_clock: AtomicBool::new(false),
            task_factory: GilCell::default(),
            keywords: GilCell::default(),
            watches: GilCell::default(),
            scratch: GilCell::new(Vec::new()),
            lanes: GilCell::default(),
        })
    }

    /// The loop's clock in seconds: that of `time.monotonic()`.
    #[expect(clippy::unused_self, reason = "a method of the loop in asyncio")]
    fn time(&self) -> f64 {
        seconds(now_ns())
    }

    /// Ends `run_forever()` once the callbacks that are ready have run.
    fn stop(slf: &Bound<'_, Self>) {
        Self::on_loop(slf, |_, engine| engine.stop());
    }

    /// Turns the loop until `stop()`.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        Self::look_at_clock(slf)?;
        let busy = || PyRuntimeError::new_err("This event loop is already running");
        let engine = slf.get().reach(py)?.ok_or_else(busy)?;
        crate::timeline::watch(py)?;
        let host = PyHost::new(slf.clone().unbind());
        let keywords = PyDict::new(py);
        keywords.set_item("loop", slf)?;
        let outer = slf.get().keywords.replace(py, Some(keywords.unbind()));
        let result = thread_end::outlived(|| engine.run(&host));
        drop(slf.get().keywords.replace(py, outer));
        result.map_err(|error| match error {
            RunError::Host(error) => error,
            RunError::Io(error) => error.into(),
            RunError::Busy => busy(),
        })
    }

    /// Frees the loop's descriptors, callbacks, tasks and watches.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        let held = self.engine.close(py)?;
        let watches = std::mem::take(&mut *self.watches.borrow_mut(py));
        let lanes = std::mem::take(&mut *self.lanes.borrow_mut(py));
        watches.abandon_unknown(py);
        drop((watches, lanes, held));
        Ok(())
    }

    // What asyncio's own half keeps in attributes, and the native half looks at all the time.

    #[getter(_debug)]
    fn debug(&self) -> bool {
        self.is_debug()
    }

    #[setter(_debug)]
    fn set_debug(&self, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        self.debug.store(enabled.is_truthy()?, Ordering::Relaxed);
        Ok(())
    }

    #[getter(_closed)]
    fn closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    #[setter(_closed)]
    fn set_closed(&self, closed: bool) {
        self.is_closed.store(closed, Ordering::Relaxed);
    }

    #[getter(_thread_id)]
    fn thread_id(&self) -> Option<u64> {
        match self.thread.load(Ordering::Relaxed) {
            0 => None,
            thread => Some(thread),
        }
    }

    #[setter(_thread_id)]
    fn set_thread_id(&self, thread: Option<u64>) {
        self.thread.store(thread.unwrap_or(0), Ordering::Relaxed);
    }

    #[getter(_task_factory)]
    fn task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task_factory.borrow(py).as_ref().map(|factory| factory.clone_ref(py))
    }

    #[setter(_task_factory)]
    fn set_task_factory(&self, py: Python<'_>, factory: Option<Py<PyAny>>) {
        let old = self.task_factory.replace(py, factory);
        drop(old);
    }

    /// Whether the loop was closed.
    fn is_closed(&self) -> bool {
        self.closed()
    }

    fn _check_closed(&self) -> PyResult<()> {
        if self.closed() { Err(closed()) } else { Ok(()) }
    }

    /// Whether a thread runs the loop now.
    fn is_running(&self) -> bool {
        self.thread.load(Ordering::Relaxed) != 0
    }

    /// Schedules a handle that was made elsewhere (`asyncio.Handle`).
    fn _add_callback(slf: &Bound<'_, Self>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().schedule(slf.py(), Job::Foreign(handle.clone().unbind()))
    }

    /// As `_add_callback`, from a signal handler or another thread.
    fn _add_callback_signalsafe(&self, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        self.schedule_threadsafe(Job::Foreign(handle.clone().unbind()))
    }

    /// Wakes the loop if it waits.
    fn _write_to_self(&self) {
        self.remote().remote().wake();
    }

    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<Handle>> {
        let call = Call::new(slf, callback, Args::from_tuple(args), context)?;
        Watches::add_handle(slf, fd, call, true)
    }

    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<Handle>> {
        let call = Call::new(slf, callback, Args::from_tuple(args), context)?;
        Watches::add_handle(slf, fd, call, false)
    }

    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Watches::remove_handle(slf, fd, true)
    }

    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Watches::remove_handle(slf, fd, false)
    }

    /// Who is told when a descriptor is readable and when it is writable; `None` where it is not watched at all.
    fn _watchers_of(slf: &Bound<'_, Self>, fd: i32) -> Option<[Option<Py<PyAny>>; 2]> {
        slf.get().watches.borrow(slf.py()).watchers_of(slf.py(), fd)
    }

    /// The native transport that owns a descriptor, if one does.
    fn _transport_of(slf: &Bound<'_, Self>, fd: i32) -> Option<Py<PyAny>> {
        slf.get().watches.borrow(slf.py()).transport_of(slf.py(), fd)
    }

    /// Numbers of what the loop holds now and has done so far. They are always counted.
    ///
    /// Now: `ready` callbacks, `timers`, watched `descriptors`, `rust_tasks`. So far: `ready_max` callbacks at once,
    /// `turns`, `callbacks`, `timers_fired`, `events` of descriptors, `rust_polls`, `polls` of the kernel and `waits`
    /// in it, `slow_callbacks` (over the freeze threshold), `bytes_received` and `bytes_sent` through sockets.
    ///
    /// Seconds: `running_s` of the loop, `waiting_s` of that with nothing to do; `busy_share` is the share of the rest.
    /// `lag_p50_s`, `lag_p90_s`, `lag_p99_s`, `lag_max_s`: so long the loop took from one look at the kernel to the
    /// next, and so long, at most, waited what became ready meanwhile. `callback_p50_s` and so on: how long callbacks
    /// took; of those that come faster than about 50,000 a second the mean of sixteen. Percentiles are right to 25 %.
    /// `lag_buckets` and `callback_buckets` are what they were made from: (up to so many seconds, so many in all).
    ///
    /// Raises `RuntimeError` if the loop is closed, or runs in another thread of a free-threaded build.
    fn statistics<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        crate::timeline::statistics(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.engine.visit_in_gc(|job| {
            if result.is_ok() {
                result = job.traverse(&visit);
            }
        });
        result?;
        if let Some(factory) = self.task_factory.try_borrow_in_gc() {
            visit.call(&*factory)?;
        }
        if let Some(keywords) = self.keywords.try_borrow_in_gc() {
            visit.call(&*keywords)?;
        }
        if let Some(lanes) = self.lanes.try_borrow_in_gc() {
            lanes.traverse(&visit)?;
        }
        match self.watches.try_borrow_in_gc() {
            Some(watches) => watches.traverse(&visit),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        drop(self.engine.close_in_gc());
        drop(self.watches.take_in_gc());
        drop(self.task_factory.take_in_gc());
        drop(self.lanes.take_in_gc());
    }
}

raw::fast_methods!(Loop; call_soon => Loop::call_soon, call_soon_threadsafe => Loop::call_soon_threadsafe, call_later => Loop::call_later, call_at => Loop::call_at, create_task => Loop::create_task, create_future => Loop::create_future);
raw::flag_methods!(Loop; get_debug => Loop::is_debug);

/// Adds the methods that everything calls all the time in their fastest form.
pub fn add_methods(py: Python<'_>) -> PyResult<()> {
    add_fast_methods(&py.get_type::<Loop>())
}

/// Adds the fast methods to a class below `Loop` once more. CPython calls a method of C without a detour only where the
/// object is of the very class that has the method.
#[pyfunction]
pub fn add_loop_methods(loop_class: &Bound<'_, PyType>) -> PyResult<()> {
    if !loop_class.is_subclass_of::<Loop>()? {
        return Err(PyTypeError::new_err("not a class of loops"));
    }
    add_fast_methods(loop_class)
}

fn add_fast_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    raw::add_fast_method(
        class,
        c"call_soon",
        c"call_soon($self, callback, /, *args, context=None)\n--\n\nRun callback(*args) in the next turn.",
        call_soon,
    )?;
    raw::add_fast_method(
        class,
        c"call_soon_threadsafe",
        c"call_soon_threadsafe($self, callback, /, *args, context=None)\n--\n\ncall_soon from any thread.",
        call_soon_threadsafe,
    )?;
    raw::add_fast_method(
        class,
        c"call_later",
        c"call_later($self, delay, callback, /, *args, context=None)\n--\n\nRun callback(*args) after delay seconds.",
        call_later,
    )?;
    raw::add_fast_method(
        class,
        c"call_at",
        c"call_at($self, when, callback, /, *args, context=None)\n--\n\nRun callback(*args) when time() is when.",
        call_at,
    )?;
    raw::add_fast_method(
        class,
        c"create_task",
        c"create_task($self, coro, **kwargs)\n--\n\nRun a coroutine as a task.",
        create_task,
    )?;
    raw::add_fast_method(
        class,
        c"create_future",
        c"create_future($self, /)\n--\n\nA future of this loop.",
        create_future,
    )?;
    raw::add_flag_method(class, c"get_debug", c"get_debug($self, /)\n--\n\nWhether debug mode is on.", get_debug)
}
