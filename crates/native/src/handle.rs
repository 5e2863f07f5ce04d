//! `Handle` and `TimerHandle`: scheduled callbacks, as `asyncio` defines them.

use std::sync::atomic::{AtomicU64, Ordering};

use aioxide::reactor::TimerKey;
use aioxide::timeline::Woken;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::event_loop::{Loop, nanoseconds};
use crate::freelist::{self, FreeList, Recycled};
use crate::gil_cell::GilCell;
use crate::raw::{self, FastArgs};

/// Arguments of a callback; most have none or one, which need no tuple.
pub enum Args {
    None,
    One(Py<PyAny>),
    Many(Py<PyTuple>),
}

impl Args {
    /// The arguments of a fast call from `first` on.
    #[inline]
    pub fn from_fast(args: &FastArgs<'_, '_>, first: usize) -> PyResult<Self> {
        Ok(match args.len().saturating_sub(first) {
            0 => Self::None,
            1 => args.get(first).map_or(Self::None, |arg| Self::One(arg.unbind())),
            _ => Self::Many(args.tuple_from(first)?.unbind()),
        })
    }

    pub fn from_tuple(args: &Bound<'_, PyTuple>) -> Self {
        match args.len() {
            0 => Self::None,
            _ => Self::Many(args.clone().unbind()),
        }
    }

    /// References of the caller's own, to call with.
    #[inline]
    pub fn bound<'py>(&self, py: Python<'py>) -> BoundArgs<'py> {
        match self {
            Self::None => BoundArgs::None,
            Self::One(arg) => BoundArgs::One(arg.bind(py).clone()),
            Self::Many(args) => BoundArgs::Many(args.bind(py).clone()),
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::None)
    }

    #[inline]
    pub fn into_bound(self, py: Python<'_>) -> BoundArgs<'_> {
        match self {
            Self::None => BoundArgs::None,
            Self::One(arg) => BoundArgs::One(arg.into_bound(py)),
            Self::Many(args) => BoundArgs::Many(args.into_bound(py)),
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::None => Ok(()),
            Self::One(arg) => visit.call(arg),
            Self::Many(args) => visit.call(args),
        }
    }
}

/// [`Args`] of an attached thread.
pub enum BoundArgs<'py> {
    None,
    One(Bound<'py, PyAny>),
    Many(Bound<'py, PyTuple>),
}

impl<'py> BoundArgs<'py> {
    /// `context.run(callback, *args)`, whose result nobody wants.
    #[inline]
    pub fn call(&self, context: &Bound<'py, PyAny>, callback: &Bound<'py, PyAny>) -> PyResult<()> {
        match self {
            Self::None => raw::call_in_context(context, callback, None),
            Self::One(arg) => raw::call_in_context(context, callback, Some(arg)),
            Self::Many(args) => raw::in_context(context.py(), context.as_unbound(), || callback.call1(args).map(drop)),
        }
    }

    pub fn unbind(self) -> Args {
        match self {
            Self::None => Args::None,
            Self::One(arg) => Args::One(arg.unbind()),
            Self::Many(args) => Args::Many(args.unbind()),
        }
    }

    fn into_tuple(self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self {
            Self::None => Ok(PyTuple::empty(py)),
            Self::One(arg) => PyTuple::new(py, [arg]),
            Self::Many(args) => Ok(args),
        }
    }
}

/// A callback with its arguments and its context, before it is a handle or instead of one.
pub struct Call {
    pub callback: Py<PyAny>,
    pub args: Args,
    pub context: Py<PyAny>,
    /// Who scheduled it, for the timeline.
    pub woken: Woken,
}

impl Call {
    /// A call in `context`, or in a copy of the current context.
    #[inline]
    pub fn new(
        event_loop: &Bound<'_, Loop>,
        callback: Bound<'_, PyAny>,
        args: Args,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = callback.py();
        let context = match context {
            None => raw::copy_context(py)?,
            Some(context) => match raw::given_context(context)? {
                Some(context) => context.unbind(),
                None => raw::copy_context(py)?,
            },
        };
        Ok(Self { callback: callback.unbind(), args, context, woken: event_loop.get().woken() })
    }
}

/// What debug mode remembers.
#[derive(Default)]
struct Traced {
    source_traceback: Option<Py<PyAny>>,
    /// The `repr` from before a cancel.
    kept_repr: Option<Py<PyAny>>,
}

struct State {
    /// What is called; gone once the handle is cancelled.
    callback: Option<Py<PyAny>>,
    args: Args,
    /// Where the handle belongs: there while anybody knows it.
    context: Option<Py<PyAny>>,
    event_loop: Option<Py<Loop>>,
    woken: Woken,
    cancelled: bool,
    timer: Option<TimerKey>,
    traced: Option<Box<Traced>>,
}

impl State {
    #[inline]
    fn new(event_loop: &Bound<'_, Loop>, call: Call) -> Self {
        Self {
            callback: Some(call.callback),
            args: call.args,
            context: Some(call.context),
            event_loop: Some(event_loop.clone().unbind()),
            woken: call.woken,
            cancelled: false,
            timer: None,
            traced: None,
        }
    }
}

/// A callback that waits to be run by its loop; made by `call_soon` and its kin, never by hand.
#[pyclass(module = "aioxide", name = "Handle", subclass, frozen, weakref)]
pub struct Handle {
    state: GilCell<State>,
}

impl Recycled for Handle {
    const LIST: &'static FreeList = {
        static LIST: FreeList = FreeList::new();
        &LIST
    };

    #[inline]
    fn empty(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let mut state = slf.get().state.borrow_mut(py);
        let old = (state.callback.take(), state.args.take(), state.context.take(), state.event_loop.take());
        let traced = state.traced.take();
        drop(state);
        // The thread is attached, so that nothing has to be asked before a reference is given up.
        drop((old.0.map(|object| object.into_bound(py)), old.1.into_bound(py)));
        drop((old.2.map(|object| object.into_bound(py)), old.3.map(|object| object.into_bound(py))));
        drop(traced);
    }
}

impl Handle {
    /// The handle of a call.
    #[inline]
    pub fn build<'py>(event_loop: &Bound<'py, Loop>, call: Call) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let fill = |handle: &Bound<'_, Self>, state| handle.get().refill(py, state);
        freelist::reuse_or(py, State::new(event_loop, call), fill, |state| {
            Bound::new(py, Self { state: GilCell::new(state) })
        })
    }

    /// Fills a handle that was emptied.
    #[inline]
    fn refill(&self, py: Python<'_>, state: State) {
        // What was left there holds nothing that would have to be dropped.
        std::mem::forget(self.state.replace(py, state));
    }

    /// The part of a class that extends it.
    pub fn into_base(event_loop: &Bound<'_, Loop>, call: Call) -> Self {
        Self { state: GilCell::new(State::new(event_loop, call)) }
    }

    /// Calls the callback in its context, unless the handle was cancelled.
    #[inline]
    pub fn call(&self, py: Python<'_>) -> PyResult<()> {
        let (callback, args, context) = {
            let mut state = self.state.borrow_mut(py);
            state.timer = None;
            let (Some(callback), Some(context)) = (&state.callback, &state.context) else { return Ok(()) };
            // References of our own: the callback may cancel this very handle.
            (callback.bind(py).clone(), state.args.bound(py), context.bind(py).clone())
        };
        args.call(&context, &callback)
    }

    /// Who scheduled it, and when it could have run: a timer at its time, which `moment` gives in the recorder's ticks.
    pub fn woken(slf: &Bound<'_, Self>, moment: impl FnOnce(u64) -> Option<u64>) -> Woken {
        let woken = slf.get().state.borrow(slf.py()).woken;
        match slf.cast::<TimerHandle>() {
            Ok(timer) => moment(nanoseconds(timer.get().when())).map_or(woken, |due| woken.not_before(due)),
            Err(_) => woken,
        }
    }

    /// What is called, for the recorder.
    pub fn callback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.borrow(py).callback.as_ref().map(|callback| callback.bind(py).clone())
    }

    pub fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).cancelled
    }

    pub fn set_timer(&self, py: Python<'_>, key: TimerKey) {
        self.state.borrow_mut(py).timer = Some(key);
    }

    pub fn set_source_traceback(&self, py: Python<'_>, traceback: Py<PyAny>) {
        let old = self.state.borrow_mut(py).traced.get_or_insert_default().source_traceback.replace(traceback);
        drop(old);
    }

    fn event_loop<'py>(&self, py: Python<'py>) -> Bound<'py, Loop> {
        let state = self.state.borrow(py);
        state.event_loop.as_ref().expect("a handle that is known has its loop").bind(py).clone()
    }

    fn traced(&self, py: Python<'_>, get: impl FnOnce(&Traced) -> &Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        let state = self.state.borrow(py);
        get(state.traced.as_ref()?).as_ref().map(|value| value.clone_ref(py))
    }

    /// In debug mode a cancelled handle shows what it was.
    fn keep_repr(slf: &Bound<'_, Self>) -> PyResult<()> {
        let repr = slf.repr()?.into_any().unbind();
        let old = slf.get().state.borrow_mut(slf.py()).traced.get_or_insert_default().kept_repr.replace(repr);
        drop(old);
        Ok(())
    }
}

#[pymethods]
impl Handle {
    /// Keeps the callback from being run; harmless when it ran already.
    pub fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (call, timer, event_loop) = {
            let mut state = this.state.borrow_mut(py);
            if state.cancelled {
                return Ok(());
            }
            state.cancelled = true;
            let Some(event_loop) = &state.event_loop else { return Ok(()) };
            let event_loop = event_loop.bind(py).clone();
            if event_loop.get().is_debug() {
                drop(state);
                Self::keep_repr(slf)?;
                state = this.state.borrow_mut(py);
            }
            ((state.callback.take(), state.args.take()), state.timer.take(), event_loop)
        };
        if let Some(key) = timer {
            Loop::cancel_timer(&event_loop, key);
        }
        drop((call.0.map(|callback| callback.into_bound(py)), call.1.into_bound(py)));
        Ok(())
    }

    /// Whether `cancel()` was called.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    /// The `contextvars` context in which the callback runs.
    fn get_context(&self, py: Python<'_>) -> Py<PyAny> {
        let state = self.state.borrow(py);
        state.context.as_ref().expect("a handle that is known has its context").clone_ref(py)
    }

    /// Runs the callback now, as the loop would: errors go to the loop's exception handler.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        match this.call(slf.py()) {
            Err(error) => Loop::callback_failed(&this.event_loop(slf.py()), slf.as_any(), error),
            Ok(()) => Ok(()),
        }
    }

    #[getter(_callback)]
    fn get_callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.callback(py).map(Bound::unbind)
    }

    #[getter(_args)]
    fn get_args(&self, py: Python<'_>) -> PyResult<Option<Py<PyTuple>>> {
        // Making the tuple may run the collector, and that anything: the cell must be closed by then.
        let args = {
            let state = self.state.borrow(py);
            state.callback.as_ref().map(|_| state.args.bound(py))
        };
        args.map(|args| args.into_tuple(py).map(Bound::unbind)).transpose()
    }

    #[getter(_cancelled)]
    fn get_cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    #[getter(_context)]
    fn own_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.get_context(py)
    }

    #[getter(_loop)]
    fn own_loop(&self, py: Python<'_>) -> Py<Loop> {
        self.event_loop(py).unbind()
    }

    #[getter(_source_traceback)]
    fn source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.traced(py, |traced| &traced.source_traceback)
    }

    #[getter(_repr)]
    fn kept_repr(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.traced(py, |traced| &traced.kept_repr)
    }

    /// `isinstance(handle, asyncio.Handle)` holds.
    #[getter(__class__)]
    fn class(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static CLASSES: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();
        let py = slf.py();
        let (handle, timer_handle) = CLASSES.get_or_try_init(py, || {
            let asyncio = py.import("asyncio")?;
            PyResult::Ok((asyncio.getattr("Handle")?.unbind(), asyncio.getattr("TimerHandle")?.unbind()))
        })?;
        Ok(if slf.is_instance_of::<TimerHandle>() { timer_handle } else { handle }.clone_ref(py))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let helpers = slf.py().import(intern!(slf.py(), "aioxide._debug"))?;
        Ok(helpers.call_method1(intern!(slf.py(), "handle_repr"), (slf,))?.unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.try_borrow_in_gc() else { return Ok(()) };
        visit.call(&state.callback)?;
        visit.call(&state.context)?;
        visit.call(&state.event_loop)?;
        state.args.traverse(&visit)?;
        match &state.traced {
            Some(traced) => visit.call(&traced.source_traceback),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        // It keeps its context and its loop as long as it lives; the loop does its own part to undo a cycle.
        drop(self.state.change_in_gc(|state| (state.callback.take(), state.args.take(), state.traced.take())));
    }
}

/// A callback that waits for its time; made by `call_later` and `call_at`.
#[pyclass(module = "aioxide", name = "TimerHandle", extends = Handle, frozen)]
pub struct TimerHandle {
    /// The bits of a float: a handle that is used again has another time.
    when: AtomicU64,
}

impl Recycled for TimerHandle {
    const LIST: &'static FreeList = {
        static LIST: FreeList = FreeList::new();
        &LIST
    };

    fn empty(slf: &Bound<'_, Self>) {
        Handle::empty(slf.as_super());
    }
}

impl TimerHandle {
    #[inline]
    pub fn build<'py>(event_loop: &Bound<'py, Loop>, call: Call, when: f64) -> PyResult<Bound<'py, Self>> {
        let state = State::new(event_loop, call);
        let fill = |timer: &Bound<'_, Self>, state| {
            timer.get().when.store(when.to_bits(), Ordering::Relaxed);
            timer.as_super().get().refill(event_loop.py(), state);
        };
        freelist::reuse_or(event_loop.py(), state, fill, |state| {
            let (base, timer) = (Handle { state: GilCell::new(state) }, Self { when: AtomicU64::new(when.to_bits()) });
            Bound::new(event_loop.py(), PyClassInitializer::from(base).add_subclass(timer))
        })
    }
}

#[pymethods]
impl TimerHandle {
    /// When the callback is due, in seconds of `loop.time()`.
    fn when(&self) -> f64 {
        f64::from_bits(self.when.load(Ordering::Relaxed))
    }

    #[getter(_when)]
    fn get_when(&self) -> f64 {
        self.when()
    }

    /// Whether the loop still holds the timer.
    #[getter(_scheduled)]
    fn scheduled(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().state.borrow(slf.py()).timer.is_some()
    }

    fn __hash__(&self) -> u64 {
        self.when().to_bits()
    }

    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented()) };
        let (mine, theirs) = (slf.get().when(), other.get().when());
        let same = slf.is(other);
        let answer = match op {
            CompareOp::Lt => mine < theirs,
            CompareOp::Le => mine <= theirs,
            CompareOp::Gt => mine > theirs,
            CompareOp::Ge => mine >= theirs,
            CompareOp::Eq => same || Self::equal(slf, other)?,
            CompareOp::Ne => !same && !Self::equal(slf, other)?,
        };
        Ok(answer.into_pyobject(py)?.to_owned().into_any().unbind())
    }
}

impl TimerHandle {
    /// asyncio's equality: the same time, callback, arguments and state.
    fn equal(one: &Bound<'_, Self>, other: &Bound<'_, Self>) -> PyResult<bool> {
        if one.get().when().to_bits() != other.get().when().to_bits() {
            return Ok(false);
        }
        for name in ["_callback", "_args", "_cancelled"] {
            if !one.getattr(name)?.eq(other.getattr(name)?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
