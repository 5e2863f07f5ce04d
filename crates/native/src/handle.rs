//! `Handle` and `TimerHandle`: scheduled callbacks, as `asyncio` defines them.

use aioxide::reactor::TimerKey;
use aioxide::timeline::Woken;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::event_loop::{Loop, nanoseconds};
use crate::freelist::{FreeList, Recycled};
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

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::None => Self::None,
            Self::One(arg) => Self::One(arg.clone_ref(py)),
            Self::Many(args) => Self::Many(args.clone_ref(py)),
        }
    }

    fn to_tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self {
            Self::None => Ok(PyTuple::empty(py)),
            Self::One(arg) => PyTuple::new(py, [arg]),
            Self::Many(args) => Ok(args.bind(py).clone()),
        }
    }
}

/// What a handle calls; gone once it is cancelled.
struct Call {
    callback: Py<PyAny>,
    args: Args,
}

#[derive(Default)]
struct State {
    call: Option<Call>,
    cancelled: bool,
    source_traceback: Option<Py<PyAny>>,
    /// The `repr` from before a cancel in debug mode.
    kept_repr: Option<Py<PyAny>>,
    timer: Option<TimerKey>,
}

/// A callback that waits to be run by its loop; made by `call_soon` and its kin, never by hand.
#[pyclass(module = "aioxide", name = "Handle", subclass, frozen, weakref)]
pub struct Handle {
    state: GilCell<State>,
    context: Py<PyAny>,
    event_loop: Py<Loop>,
    /// Who scheduled it, for the timeline.
    woken: Woken,
}

impl Recycled for Handle {
    const LIST: &'static FreeList = {
        static LIST: FreeList = FreeList::new();
        &LIST
    };
}

impl Handle {
    /// A handle in `context`, or in a copy of the current context.
    pub fn build(
        event_loop: &Bound<'_, Loop>,
        callback: Bound<'_, PyAny>,
        args: Args,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let context = match raw::given_context(context)? {
            Some(context) => context.unbind(),
            None => raw::copy_context(py)?,
        };
        let call = Some(Call { callback: callback.unbind(), args });
        Ok(Self {
            state: GilCell::new(State { call, ..State::default() }),
            context,
            event_loop: event_loop.clone().unbind(),
            woken: event_loop.get().woken(),
        })
    }

    /// Calls the callback in its context, unless the handle was cancelled.
    pub fn call(&self, py: Python<'_>) -> PyResult<()> {
        let (callback, args) = {
            let mut state = self.state.borrow_mut(py);
            state.timer = None;
            let Some(call) = &state.call else { return Ok(()) };
            // References of our own: the callback may cancel this very handle.
            (call.callback.clone_ref(py), call.args.clone_ref(py))
        };
        raw::in_context(py, &self.context, || {
            let callback = callback.bind(py);
            match args {
                Args::None => callback.call0(),
                Args::One(arg) => callback.call1((arg,)),
                Args::Many(args) => callback.call1(args.into_bound(py)),
            }
            .map(drop)
        })
    }

    /// Who scheduled it, and when it could have run: a timer at its time, which `moment` gives in the recorder's ticks.
    pub fn woken(slf: &Bound<'_, Self>, moment: impl FnOnce(u64) -> Option<u64>) -> Woken {
        let woken = slf.get().woken;
        match slf.cast::<TimerHandle>() {
            Ok(timer) => moment(nanoseconds(timer.get().when)).map_or(woken, |due| woken.not_before(due)),
            Err(_) => woken,
        }
    }

    /// What is called, for the recorder.
    pub fn callback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.borrow(py).call.as_ref().map(|call| call.callback.bind(py).clone())
    }

    pub fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).cancelled
    }

    pub fn set_source_traceback(&self, py: Python<'_>, traceback: Py<PyAny>) {
        let old = self.state.borrow_mut(py).source_traceback.replace(traceback);
        drop(old);
    }

    pub fn set_timer(&self, py: Python<'_>, key: TimerKey) {
        self.state.borrow_mut(py).timer = Some(key);
    }
}

#[pymethods]
impl Handle {
    /// Keeps the callback from being run; harmless when it ran already.
    pub fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_cancelled(py) {
            return Ok(());
        }
        this.state.borrow_mut(py).cancelled = true;
        if this.event_loop.get().is_debug() {
            let repr = slf.repr()?.into_any().unbind();
            this.state.borrow_mut(py).kept_repr = Some(repr);
        }
        let (call, timer) = {
            let mut state = this.state.borrow_mut(py);
            (state.call.take(), state.timer.take())
        };
        if let Some(key) = timer {
            Loop::cancel_timer(this.event_loop.bind(py), key);
        }
        drop(call);
        Ok(())
    }

    /// Whether `cancel()` was called.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    /// The `contextvars` context in which the callback runs.
    fn get_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    /// Runs the callback now, as the loop would: errors go to the loop's exception handler.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        match this.call(slf.py()) {
            Err(error) => Loop::callback_failed(this.event_loop.bind(slf.py()), slf.as_any(), error),
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
        let args = self.state.borrow(py).call.as_ref().map(|call| call.args.clone_ref(py));
        args.map(|args| args.to_tuple(py).map(Bound::unbind)).transpose()
    }

    #[getter(_cancelled)]
    fn get_cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    #[getter(_context)]
    fn own_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    #[getter(_loop)]
    fn event_loop(&self, py: Python<'_>) -> Py<Loop> {
        self.event_loop.clone_ref(py)
    }

    #[getter(_source_traceback)]
    fn source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.borrow(py).source_traceback.as_ref().map(|traceback| traceback.clone_ref(py))
    }

    #[getter(_repr)]
    fn kept_repr(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.borrow(py).kept_repr.as_ref().map(|repr| repr.clone_ref(py))
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
        visit.call(&self.context)?;
        visit.call(&self.event_loop)?;
        let Some(state) = self.state.try_borrow_in_gc() else { return Ok(()) };
        if let Some(call) = &state.call {
            visit.call(&call.callback)?;
            match &call.args {
                Args::None => {}
                Args::One(arg) => visit.call(arg)?,
                Args::Many(args) => visit.call(args)?,
            }
        }
        visit.call(&state.source_traceback)
    }

    fn __clear__(&self) {
        drop(self.state.take_in_gc());
    }
}

/// A callback that waits for its time; made by `call_later` and `call_at`.
#[pyclass(module = "aioxide", name = "TimerHandle", extends = Handle, frozen)]
pub struct TimerHandle {
    when: f64,
}

impl Recycled for TimerHandle {
    const LIST: &'static FreeList = {
        static LIST: FreeList = FreeList::new();
        &LIST
    };
}

impl TimerHandle {
    pub fn build(py: Python<'_>, handle: Handle, when: f64) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, PyClassInitializer::from(handle).add_subclass(Self { when }))
    }
}

#[pymethods]
impl TimerHandle {
    /// When the callback is due, in seconds of `loop.time()`.
    fn when(&self) -> f64 {
        self.when
    }

    #[getter(_when)]
    fn get_when(&self) -> f64 {
        self.when
    }

    /// Whether the loop still holds the timer.
    #[getter(_scheduled)]
    fn scheduled(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().state.borrow(slf.py()).timer.is_some()
    }

    fn __hash__(&self) -> u64 {
        self.when.to_bits()
    }

    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented()) };
        let (mine, theirs) = (slf.get().when, other.get().when);
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
        if one.get().when.to_bits() != other.get().when.to_bits() {
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
