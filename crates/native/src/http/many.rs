//! Many requests at once, driven in Rust, and an async iterator of what comes of them.
//!
//! `limit` workers take one request after the other from a common queue. What is done waits until it is asked for; the
//! workers pause while too much waits. An iterator that finds something waiting gets it without a turn of the loop.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use aioxide::LoopHandle;
use aioxide::http::{Client, Error};
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyList, PyString, PyTuple};
use pyo3::{IntoPyObjectExt, intern};

use super::answer::{self, Answer, RawResponse};
use super::background::{self, RemoteTask};
use super::client::{Pools, SendRequest};
use super::completed::Completed;
use super::convert::{self, RequestBody, Terms};
use super::on_loop::{Job, native_handle};
use super::outbox::{Delivery, Outcome};
use super::template::Template;
use super::waiting::Waiting;
use crate::engine::ReachedHandle;

/// So many outcomes may wait for the iterator, or twice the limit if that is more.
const WAITING_MIN: usize = 256;

type Fetched = Result<Box<Answer>, Failure>;

/// Why there is no answer.
enum Failure {
    Http(Error),
    /// What was given is not a request.
    Call(PyErr),
}

/// Where a worker gets its requests from.
enum Source {
    /// A loop of ours: each is made when its turn comes, in the loop's own thread. Thousands made in advance would be
    /// long out of the processor's cache by then.
    Given(Py<PyTuple>, Terms<'static>),
    /// The same, of URLs alone: each is asked for with GET.
    Plain(Py<PyTuple>, Py<Template>),
    /// The background engine, which knows no Python.
    Made(Mutex<Vec<Option<Made>>>),
}

type Made = Result<SendRequest, Failure>;

impl Source {
    fn request(&self, index: usize) -> Option<Made> {
        match self {
            Self::Given(requests, terms) => Python::try_attach(|py| make(requests.bind(py), index, *terms)),
            Self::Plain(urls, template) => Python::try_attach(|py| make_plain(urls.bind(py), index, template.get())),
            Self::Made(made) => made.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index)?.take(),
        }
    }
}

fn make(requests: &Bound<'_, PyTuple>, index: usize, terms: Terms<'static>) -> Made {
    type Parts<'py> = (PyBackedStr, PyBackedStr, Bound<'py, PyList>, Option<RequestBody>);
    let item = requests.get_borrowed_item(index).map_err(Failure::Call)?;
    let (method, url, headers, body): Parts<'_> = item.extract().map_err(|error| {
        let detail = format!("requests[{index}] is not (method, url, headers, body): {error}");
        Failure::Call(PyTypeError::new_err(detail))
    })?;
    let request = convert::request(&method, &url, &headers, body, terms).map_err(Failure::Call)?;
    request.map(SendRequest::new).map_err(Failure::Http)
}

fn make_plain(urls: &Bound<'_, PyTuple>, index: usize, template: &Template) -> Made {
    let url = urls.get_borrowed_item(index).map_err(Failure::Call)?;
    let url = url.cast::<PyString>().map_err(|error| Failure::Call(error.into()))?;
    let url = url.to_str().map_err(Failure::Call)?;
    let not_plain = || Failure::Call(PyValueError::new_err(format!("{url:?} is no plain URL")));
    let request = template.request("GET", url).ok_or_else(not_plain)?;
    request.map(SendRequest::new).map_err(Failure::Http)
}

/// What the workers and the iterator share.
struct Shared {
    source: Source,
    state: Mutex<State>,
}

struct State {
    /// The requests that have not begun.
    todo: Range<usize>,
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request for a worker; `None` when there are no more.
    async fn next(&self) -> Option<usize> {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if state.todo.is_empty() {
                return Poll::Ready(None);
            }
            if state.done.len() >= state.done_max {
                state.paused.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(state.todo.next())
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
    while let Some(index) = shared.next().await {
        let Some(request) = shared.source.request(index) else { return };
        let fetched = match request {
            Ok(request) => {
                let fetched = answer::fetch(handle.clone(), client.clone(), request.into_inner(), false);
                fetched.await.map_err(Failure::Http)
            }
            Err(failure) => Err(failure),
        };
        shared.finish(index, fetched);
    }
}

/// Requests under way, as an async iterator of what comes of them in the order of completion: `(index, RawResponse |
/// Exception)`, or of plain requests a `Completed` each.
#[pyclass(module = "aioxide._native", frozen)]
pub struct FetchMany {
    shared: Arc<Shared>,
    event_loop: Py<PyAny>,
    jobs: Mutex<Vec<Job>>,
    /// Of plain requests: their URLs, and what makes the responses.
    plain: Option<(Py<PyTuple>, Py<PyAny>)>,
}

impl FetchMany {
    pub fn start(
        pools: &Arc<Pools>,
        event_loop: &Bound<'_, PyAny>,
        requests: &Bound<'_, PyList>,
        limit: usize,
        terms: Terms<'static>,
    ) -> PyResult<Self> {
        let requests = requests.to_tuple();
        let native = native_handle(event_loop)?;
        let count = requests.len();
        let source = if native.is_some() {
            Source::Given(requests.unbind(), terms)
        } else {
            Source::Made(Mutex::new((0..count).map(|index| Some(make(&requests, index, terms))).collect()))
        };
        Self::begin(pools, event_loop, native, source, count, limit)
    }

    /// The same of plain requests: a GET of each URL. `respond` is as for [`Completed::plain`].
    pub fn start_plain(
        pools: &Arc<Pools>,
        event_loop: &Bound<'_, PyAny>,
        urls: &Bound<'_, PyList>,
        limit: usize,
        template: &Bound<'_, Template>,
        respond: Py<PyAny>,
    ) -> PyResult<Self> {
        let urls = urls.to_tuple();
        let native = native_handle(event_loop)?;
        let count = urls.len();
        let source = if native.is_some() {
            Source::Plain(urls.clone().unbind(), template.clone().unbind())
        } else {
            let made = (0..count).map(|index| Some(make_plain(&urls, index, template.get())));
            Source::Made(Mutex::new(made.collect()))
        };
        let begun = Self::begin(pools, event_loop, native, source, count, limit)?;
        Ok(Self { plain: Some((urls.unbind(), respond)), ..begun })
    }

    fn begin(
        pools: &Arc<Pools>,
        event_loop: &Bound<'_, PyAny>,
        native: Option<ReachedHandle<'_>>,
        source: Source,
        count: usize,
        limit: usize,
    ) -> PyResult<Self> {
        if limit == 0 {
            return Err(PyValueError::new_err("limit=0 would let no request through"));
        }
        let state = State {
            todo: 0..count,
            done: VecDeque::new(),
            left: count,
            done_max: WAITING_MIN.max(limit.saturating_mul(2)),
            paused: Vec::new(),
            wanted: Vec::new(),
        };
        let workers = limit.min(count);
        let shared = Arc::new(Shared { source, state: Mutex::new(state) });
        let jobs = match native {
            Some(handle) => {
                let client = pools.on(&handle);
                let worker = |_| Job::local(handle.spawn(work(Arc::clone(&shared), handle.clone(), client.clone())));
                (0..workers).map(worker).collect()
            }
            None => vec![Job::Remote(start_in_background(event_loop.py(), pools, &shared, workers)?)],
        };
        Ok(Self { shared, event_loop: event_loop.clone().unbind(), jobs: Mutex::new(jobs), plain: None })
    }

    /// What the iterator gives for an outcome.
    fn item<'py>(&self, py: Python<'py>, index: usize, fetched: Fetched) -> PyResult<Bound<'py, PyAny>> {
        let outcome = match fetched {
            Ok(answer) => {
                let response = RawResponse::new(answer, Some(self.event_loop.clone_ref(py)));
                Bound::new(py, response)?.into_any()
            }
            Err(Failure::Http(error)) => convert::exception(py, &error).into_value(py).into_bound(py).into_any(),
            Err(Failure::Call(error)) => error.into_value(py).into_bound(py).into_any(),
        };
        match &self.plain {
            None => (index, outcome).into_bound_py_any(py),
            Some((urls, respond)) => {
                let url = urls.bind(py).get_item(index)?;
                Completed::plain(index, url, outcome, respond.bind(py))?.into_bound_py_any(py)
            }
        }
    }
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
        Ok(Next { many: slf.unbind(), waiting: Waiting::default() })
    }

    /// Drops the requests that are under way or have not begun. Idempotent.
    fn close(&self) {
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner));
        drop(jobs);
        let mut state = self.shared.lock();
        state.todo = 0..0;
        let dropped = std::mem::take(&mut state.done);
        state.left = 0;
        let wanted = std::mem::take(&mut state.wanted);
        drop(state);
        drop(dropped);
        for delivery in wanted {
            delivery.deliver(Outcome::Wake);
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some((urls, respond)) = &self.plain {
            visit.call(urls)?;
            visit.call(respond)?;
        }
        visit.call(&self.event_loop)
    }
}

/// What `__anext__` gives: done at once if something waits, else once something does.
#[pyclass(module = "aioxide._native", frozen)]
pub struct Next {
    many: Py<FetchMany>,
    waiting: Waiting,
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
        if let Some(yielded) = self.waiting.go_on(py) {
            return yielded;
        }
        if let Some((index, fetched)) = many.shared.take() {
            return Err(PyStopIteration::new_err((many.item(py, index, fetched)?.unbind(),)));
        }
        if many.shared.lock().left == 0 {
            return Err(PyStopAsyncIteration::new_err(()));
        }
        let event_loop = many.event_loop.bind(py);
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        if !self.wait_for(event_loop, &future) {
            return self.__next__(py);
        }
        self.waiting.begin(&future)?.unwrap_or_else(|| self.__next__(py))
    }

    /// Raises what was thrown in, a cancellation above all, and drops the requests that are left.
    #[pyo3(signature = (kind, value=None, _traceback=None))]
    fn throw<'py>(
        &self,
        kind: Bound<'py, PyAny>,
        value: Option<Bound<'py, PyAny>>,
        _traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.many.get().close();
        Err(PyErr::from_value(value.unwrap_or(kind)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.many)?;
        self.waiting.traverse(&visit)
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
