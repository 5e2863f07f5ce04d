//! Where an outcome is delivered: to a future of the loop that this thread runs, to one of a loop elsewhere, or to a
//! blocked thread.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use aioxide::http::Error;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::answer::{Answer, RawResponse};
use super::{background, convert};
use crate::event_loop::Loop;
use crate::host::Job;
use crate::thread_end;

/// A blocked thread looks for signals this often, should one come just before it blocks.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is delivered.
pub enum Outcome {
    /// A response, or why there is none.
    Answer(Result<Box<Answer>, Error>),
    /// There is something to be taken: look again.
    Wake,
}

/// To whom.
pub enum Delivery {
    /// A future of an aioxide loop, delivered by a task of that loop.
    Local(Receiver),
    /// A future of another loop, delivered by the background engine.
    Posted(Arc<Outbox>, Py<PyAny>),
    /// A blocked thread.
    Slot(Arc<Slot>),
}

/// Who waits for a delivery.
pub enum Waiter {
    Future(Py<PyAny>),
    Slot(Weak<Slot>),
}

impl Waiter {
    /// Whether it does not wait any more.
    pub fn is_given_up(&self, py: Python<'_>) -> bool {
        match self {
            Self::Future(future) => is_done(future.bind(py)),
            // The delivery itself has it too.
            Self::Slot(slot) => slot.strong_count() <= 1,
        }
    }
}

/// A future, and its loop.
pub struct Receiver {
    event_loop: Py<Loop>,
    future: Py<PyAny>,
}

impl Delivery {
    /// Delivers to a future of `event_loop`.
    pub fn to_future(event_loop: &Bound<'_, PyAny>, future: &Bound<'_, PyAny>) -> Self {
        if let Ok(event_loop) = event_loop.cast::<Loop>() {
            return Self::Local(Receiver { event_loop: event_loop.clone().unbind(), future: future.clone().unbind() });
        }
        Self::Posted(Outbox::of(event_loop), future.clone().unbind())
    }

    pub fn to_slot(slot: &Arc<Slot>) -> Self {
        Self::Slot(Arc::clone(slot))
    }

    /// Who waits.
    pub fn waiter(&self, py: Python<'_>) -> Waiter {
        match self {
            Self::Local(Receiver { future, .. }) | Self::Posted(_, future) => Waiter::Future(future.clone_ref(py)),
            Self::Slot(slot) => Waiter::Slot(Arc::downgrade(slot)),
        }
    }

    /// Delivers from the thread that the request ran in.
    pub fn deliver(self, outcome: Outcome) {
        match self {
            // A task of a native loop is polled while its thread is attached; attaching again is next to free. It
            // fails only when the interpreter is going down, and then nobody waits any more.
            Self::Local(receiver) => {
                Python::try_attach(|py| receiver.receive(py, outcome));
            }
            Self::Posted(outbox, future) => background::post(outbox, future, outcome),
            Self::Slot(slot) => slot.fill(outcome),
        }
    }
}

impl Receiver {
    /// Completes the future: in the loop's thread, if it has one.
    fn receive(self, py: Python<'_>, outcome: Outcome) {
        let Self { event_loop, future } = self;
        let scheduler = event_loop.get().remote().clone();
        if scheduler.remote().is_owner() || !scheduler.remote().is_running() {
            return complete(event_loop.bind(py), future.bind(py), outcome);
        }
        let deferred = move |event_loop: &Bound<'_, Loop>| complete(event_loop, future.bind(event_loop.py()), outcome);
        // When the loop is closed by now, nobody waits any more.
        drop(scheduler.call_soon(Job::Deferred(Box::new(deferred))));
    }
}

/// Completes a future, unless it is done; what cannot be raised anywhere goes to the loop's exception handler.
fn complete(event_loop: &Bound<'_, PyAny>, future: &Bound<'_, PyAny>, outcome: Outcome) {
    let py = event_loop.py();
    let completed = value(py, outcome, event_loop).and_then(|value| match value {
        Ok(value) => future.call_method1(intern!(py, "set_result"), (value,)),
        Err(error) => future.call_method1(intern!(py, "set_exception"), (error,)),
    });
    if let Err(error) = completed {
        if !is_done(future) {
            report(event_loop, "an HTTP response could not be delivered", error);
        }
    }
}

fn is_done(future: &Bound<'_, PyAny>) -> bool {
    future.call_method0(intern!(future.py(), "done")).and_then(|done| done.is_truthy()).unwrap_or(false)
}

type Value<'py> = Result<Bound<'py, PyAny>, PyErr>;

/// The outcome as Python sees it: a value or an exception. The outer error is our own fault.
fn value<'py>(py: Python<'py>, outcome: Outcome, event_loop: &Bound<'py, PyAny>) -> PyResult<Value<'py>> {
    Ok(match outcome {
        Outcome::Answer(Ok(answer)) => {
            let response = RawResponse::new(answer, Some(event_loop.clone().unbind()));
            Ok(Bound::new(py, response)?.into_any())
        }
        Outcome::Answer(Err(error)) => Err(convert::exception(py, &error)),
        Outcome::Wake => Ok(py.None().into_bound(py)),
    })
}

/// Calls the loop's exception handler; should that fail as well, `sys.unraisablehook` hears of it.
pub fn report(event_loop: &Bound<'_, PyAny>, message: &str, error: PyErr) {
    let py = event_loop.py();
    let reported = (|| {
        let context = PyDict::new(py);
        context.set_item("message", message)?;
        context.set_item("exception", error.into_value(py))?;
        event_loop.call_method1(intern!(py, "call_exception_handler"), (context,))
    })();
    if let Err(error) = reported {
        error.write_unraisable(py, Some(event_loop));
    }
}

/// What waits to be handed over to one loop that is not ours. Many outcomes cross in one call.
pub struct Outbox {
    event_loop: Py<PyAny>,
    waiting: Mutex<Vec<(Py<PyAny>, Outcome)>>,
}

/// By the address of the loop, which the outbox keeps alive and so unique.
static OUTBOXES: Mutex<Option<HashMap<usize, Weak<Outbox>>>> = Mutex::new(None);

impl Outbox {
    /// The outbox of `event_loop`, as long as something may be delivered to it.
    pub fn of(event_loop: &Bound<'_, PyAny>) -> Arc<Self> {
        let mut outboxes = lock(&OUTBOXES);
        let outboxes = outboxes.get_or_insert_default();
        let address = event_loop.as_ptr() as usize;
        if let Some(outbox) = outboxes.get(&address).and_then(Weak::upgrade) {
            return outbox;
        }
        outboxes.retain(|_, outbox| outbox.strong_count() > 0);
        let outbox = Arc::new(Self { event_loop: event_loop.clone().unbind(), waiting: Mutex::default() });
        outboxes.insert(address, Arc::downgrade(&outbox));
        outbox
    }

    /// Adds an outcome; whether the outbox was empty before, and must be flushed.
    pub fn push(&self, future: Py<PyAny>, outcome: Outcome) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.push((future, outcome));
        waiting.len() == 1
    }

    /// Has the loop take what waits. A loop that is closed by now has no use for it.
    pub fn flush(self: &Arc<Self>, py: Python<'_>) {
        let event_loop = self.event_loop.bind(py);
        let scheduled = Bound::new(py, Handover { outbox: Arc::clone(self) })
            .and_then(|handover| event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (handover,)));
        if let Err(error) = scheduled {
            let dropped = std::mem::take(&mut *lock(&self.waiting));
            drop(dropped);
            let closed = event_loop.call_method0(intern!(py, "is_closed")).and_then(|closed| closed.is_truthy());
            if !closed.unwrap_or(false) {
                report(event_loop, "HTTP responses could not be handed over", error);
            }
        }
    }
}

/// The callback by which a loop takes over what waits for it.
#[pyclass(module = "aioxide._native", frozen)]
struct Handover {
    outbox: Arc<Outbox>,
}

#[pymethods]
impl Handover {
    fn __call__(&self, py: Python<'_>) {
        let waiting = std::mem::take(&mut *lock(&self.outbox.waiting));
        let event_loop = self.outbox.event_loop.bind(py);
        for (future, outcome) in waiting {
            complete(event_loop, future.bind(py), outcome);
        }
    }
}

/// Where a blocked thread waits for its outcome.
pub struct Slot {
    outcome: Mutex<Option<Outcome>>,
    filled: Condvar,
}

impl Slot {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { outcome: Mutex::default(), filled: Condvar::new() })
    }

    fn fill(&self, outcome: Outcome) {
        let mut filled = lock(&self.outcome);
        // To look again is no news for whoever gets the answer.
        if !matches!((&*filled, &outcome), (Some(Outcome::Answer(_)), Outcome::Wake)) {
            *filled = Some(outcome);
        }
        drop(filled);
        self.filled.notify_one();
    }

    /// Blocks, detached from the interpreter, until the outcome is there. What a signal handler raises ends it.
    pub fn wait(&self, py: Python<'_>) -> PyResult<Outcome> {
        loop {
            if let Some(outcome) = self.wait_until(py, None)? {
                return Ok(outcome);
            }
        }
    }

    /// As `wait`; None when the outcome is not there by the deadline.
    pub fn wait_until(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<Option<Outcome>> {
        loop {
            let left = deadline.map_or(SIGNAL_CHECK, |deadline| deadline.saturating_duration_since(Instant::now()));
            let wait = || {
                let guard = lock(&self.outcome);
                let waited = self.filled.wait_timeout_while(guard, left.min(SIGNAL_CHECK), |outcome| outcome.is_none());
                waited.unwrap_or_else(PoisonError::into_inner).0.take()
            };
            let outcome = thread_end::outlived(|| py.detach(wait));
            if outcome.is_some() || left.is_zero() {
                return Ok(outcome);
            }
            py.check_signals()?;
        }
    }
}
