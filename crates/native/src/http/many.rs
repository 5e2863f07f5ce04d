//! Many requests at once, driven in Rust, and an async iterator of what comes of them.
//!
//! `limit` workers take one request after the other from a common queue. What is done waits until it is asked for; the
//! workers pause while too much waits. An iterator that finds something waiting gets it without a turn of the loop.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use aioxide::LoopHandle;
use aioxide::http::{Client, Error};
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyIterator, PyList};

use super::answer::{self, Answer, RawResponse};
use super::background::{self, RemoteTask};
use super::client::{Pools, SendRequest};
use super::convert::{self, Terms};
use super::on_loop::{Job, native_handle};
use super::outbox::{Delivery, Outcome};

/// So many outcomes may wait for the iterator, or twice the limit if that is more.
const WAITING_MIN: usize = 256;

type Fetched = Result<Box<Answer>, Error>;

/// What the workers and the iterator share.
struct Shared(Mutex<State>);

struct State {
    todo: VecDeque<(usize, SendRequest)>,
    done: VecDeque<(usize, Fetched)>,
    /// Requests whose outcome has not been given out.
    left: usize,
    done_max: usize,
    /// Workers that pause because too much waits.
    paused: Vec<Waker>,
    /// Futures of iterators that found nothing.
    wanted: Vec<Delivery>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request for a worker; `None` when there are no more.
    async fn next(&self) -> Option<(usize, SendRequest)> {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if state.todo.is_empty() {
                return Poll::Ready(None);
            }
            if state.done.len() >= state.done_max {
                state.paused.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(state.todo.pop_front())
        })
        .await
    }

    fn finish(&self, index: usize, fetched: Fetched) {
        let mut state = self.lock();
        state.done.push_back((index, fetched));
        let wanted = std::mem::take(&mut state.wanted);
        drop(state);
        for delivery in wanted {
            delivery.deliver(Outcome::Wake);
        }
    }

    fn take(&self) -> Option<(usize, Fetched)> {
        let mut state = self.lock();
        let taken = state.done.pop_front()?;
        state.left -= 1;
        let resumed = if state.done.len() < state.done_max { std::mem::take(&mut state.paused) } else { Vec::new() };
        drop(state);
        resumed.into_iter().for_each(Waker::wake);
        Some(taken)
    }
}

async fn work(shared: Arc<Shared>, handle: LoopHandle, client: Client) {
    while let Some((index, request)) = shared.next().await {
        let fetched = answer::fetch(handle.clone(), client.clone(), request.into_inner(), false).await;
        shared.finish(index, fetched);
    }
}

/// Requests under way, as an async iterator of `(index, RawResponse | Exception)` in the order of completion.
#[pyclass(module = "aioxide._native", frozen)]
pub struct FetchMany {
    shared: Arc<Shared>,
    event_loop: Py<PyAny>,
    jobs: Mutex<Vec<Job>>,
}

impl FetchMany {
    pub fn start(
        pools: &Arc<Pools>,
        event_loop: &Bound<'_, PyAny>,
        requests: &Bound<'_, PyList>,
        limit: usize,
        terms: Terms,
    ) -> PyResult<Self> {
        if limit == 0 {
            return Err(PyValueError::new_err("limit=0 would let no request through"));
        }
        let (todo, done) = sort(requests, terms)?;
        let workers = limit.min(todo.len());
        let state = State {
            left: todo.len() + done.len(),
            todo,
            done,
            done_max: WAITING_MIN.max(limit.saturating_mul(2)),
            paused: Vec::new(),
            wanted: Vec::new(),
        };
        let shared = Arc::new(Shared(Mutex::new(state)));
        let jobs = match native_handle(event_loop)? {
            Some(handle) => {
                let client = pools.on(&handle);
                let worker = |_| Job::local(handle.spawn(work(Arc::clone(&shared), handle.clone(), client.clone())));
                (0..workers).map(worker).collect()
            }
            None => vec![Job::Remote(start_in_background(event_loop.py(), pools, &shared, workers)?)],
        };
        Ok(Self { shared, event_loop: event_loop.clone().unbind(), jobs: Mutex::new(jobs) })
    }
}

type Sorted = (VecDeque<(usize, SendRequest)>, VecDeque<(usize, Fetched)>);

/// The requests that can be sent, and the errors of those that cannot.
fn sort(requests: &Bound<'_, PyList>, terms: Terms) -> PyResult<Sorted> {
    let mut sorted = Sorted::default();
    for (index, item) in requests.iter().enumerate() {
        type Parts<'py> = (PyBackedStr, PyBackedStr, Bound<'py, PyList>, Option<PyBackedBytes>);
        let (method, url, headers, body): Parts<'_> = item.extract().map_err(|error| {
            PyTypeError::new_err(format!("requests[{index}] is not (method, url, headers, body): {error}"))
        })?;
        match convert::request(&method, &url, &headers, body, terms)? {
            Ok(request) => sorted.0.push_back((index, SendRequest::new(request))),
            Err(error) => sorted.1.push_back((index, Err(error))),
        }
    }
    Ok(sorted)
}

/// One task of the background engine stands for all workers: dropping it drops them.
fn start_in_background(
    py: Python<'_>,
    pools: &Arc<Pools>,
    shared: &Arc<Shared>,
    workers: usize,
) -> PyResult<RemoteTask> {
    let (pools, shared) = (Arc::clone(pools), Arc::clone(shared));
    background::spawn(py, move |handle| async move {
        let client = pools.on(&handle);
        let worker = |_| handle.spawn(work(Arc::clone(&shared), handle.clone(), client.clone()));
        let tasks: Vec<_> = (0..workers).map(worker).collect();
        for task in tasks {
            task.await;
        }
    })
}

#[pymethods]
impl FetchMany {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// An awaitable of the next `(index, RawResponse | Exception)`.
    fn __anext__(slf: Bound<'_, Self>) -> PyResult<Next> {
        if slf.get().shared.lock().left == 0 {
            return Err(PyStopAsyncIteration::new_err(()));
        }
        Ok(Next { many: slf.unbind(), waiting: Mutex::default() })
    }

    /// Drops the requests that are under way or have not begun. Idempotent.
    fn close(&self) {
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner));
        drop(jobs);
        let mut state = self.shared.lock();
        let dropped = (std::mem::take(&mut state.todo), std::mem::take(&mut state.done));
        state.left = 0;
        let wanted = std::mem::take(&mut state.wanted);
        drop(state);
        drop(dropped);
        for delivery in wanted {
            delivery.deliver(Outcome::Wake);
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)
    }
}

/// What `__anext__` gives: done at once if something waits, else once something does.
#[pyclass(module = "aioxide._native", frozen)]
pub struct Next {
    many: Py<FetchMany>,
    /// The iterator of the future that it waits for.
    waiting: Mutex<Option<Py<PyIterator>>>,
}

#[pymethods]
impl Next {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let many = self.many.get();
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            // The future's own iterator raises what the future does, a cancellation above all.
            if let Some(yielded) = waiting.bind(py).clone().next() {
                *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
                return yielded;
            }
        }
        if let Some((index, fetched)) = many.shared.take() {
            let item = match fetched {
                Ok(answer) => {
                    let response = RawResponse::new(answer, Some(many.event_loop.clone_ref(py)));
                    Bound::new(py, response)?.into_any()
                }
                Err(error) => convert::exception(py, &error).into_value(py).into_bound(py).into_any(),
            };
            return Err(PyStopIteration::new_err(((index, item.unbind()),)));
        }
        if many.shared.lock().left == 0 {
            return Err(PyStopAsyncIteration::new_err(()));
        }
        let event_loop = many.event_loop.bind(py);
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let mut iterator = future.call_method0(intern!(py, "__await__"))?.try_iter()?;
        if !self.wait_for(event_loop, &future) {
            return self.__next__(py);
        }
        let Some(yielded) = iterator.next() else { return self.__next__(py) };
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(iterator.unbind());
        yielded
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.many)?;
        match self.waiting.try_lock() {
            Ok(waiting) => visit.call(&*waiting),
            // It is being changed, so somebody uses it.
            Err(_) => Ok(()),
        }
    }
}

impl Next {
    /// Has the next outcome wake `future`; false if there is no need to wait.
    fn wait_for(&self, event_loop: &Bound<'_, PyAny>, future: &Bound<'_, PyAny>) -> bool {
        let delivery = Delivery::to_future(event_loop, future);
        let mut state = self.many.get().shared.lock();
        let waits = state.done.is_empty() && state.left > 0;
        if waits {
            state.wanted.push(delivery);
        }
        waits
    }
}
