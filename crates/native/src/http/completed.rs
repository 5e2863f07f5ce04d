//! `Completed`: what came of one of many requests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::answer::RawResponse;

/// One request of a Gather that is done: its place among the URLs, its URL, and its response or its error.
///
/// Of `response` and `error` one is None.
#[pyclass(module = "aioxide.http", frozen)]
pub struct Completed {
    #[pyo3(get)]
    index: usize,
    /// A `URL`, or the text of one until it is asked for.
    url: Mutex<Py<PyAny>>,
    state: Mutex<State>,
}

enum State {
    /// An answer, and what makes a response of it and its URL's text once it is asked for.
    Answered(Py<RawResponse>, Py<PyAny>),
    Responded(Py<PyAny>),
    Failed(Py<PyAny>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Completed {
    /// What came of a plain request. `respond` makes a response of what came and the URL's text, which may turn out to be an
    /// error after all.
    pub fn plain<'py>(
        index: usize,
        url: Bound<'py, PyAny>,
        outcome: Bound<'py, PyAny>,
        respond: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        let state = match outcome.cast_into::<RawResponse>() {
            // Of most responses nothing but their making is left to do, which can wait.
            Ok(raw) if raw.get().notable() == 0 => State::Answered(raw.unbind(), respond.clone().unbind()),
            Ok(raw) => State::of(respond.call1((raw, &url))?),
            Err(other) => State::of(respond.call1((other.into_inner(), &url))?),
        };
        Ok(Self { index, url: Mutex::new(url.unbind()), state: Mutex::new(state) })
    }

    /// The response, or the error.
    fn outcome<'py>(&self, py: Python<'py>) -> PyResult<Result<Bound<'py, PyAny>, Bound<'py, PyAny>>> {
        let (raw, respond) = match &*lock(&self.state) {
            State::Responded(response) => return Ok(Ok(response.bind(py).clone())),
            State::Failed(error) => return Ok(Err(error.bind(py).clone())),
            State::Answered(raw, respond) => (raw.clone_ref(py), respond.clone_ref(py)),
        };
        let url = lock(&self.url).clone_ref(py);
        let text = url.bind(py).str()?;
        let made = State::of(respond.bind(py).call1((raw, text))?);
        let mut state = lock(&self.state);
        // Another thread may have been faster.
        let dropped = matches!(*state, State::Answered(..)).then(|| std::mem::replace(&mut *state, made));
        drop(state);
        drop(dropped);
        self.outcome(py)
    }
}

impl State {
    fn of(outcome: Bound<'_, PyAny>) -> Self {
        if outcome.is_instance_of::<PyBaseException>() {
            Self::Failed(outcome.unbind())
        } else {
            Self::Responded(outcome.unbind())
        }
    }
}

#[pymethods]
impl Completed {
    #[new]
    fn new(
        py: Python<'_>,
        index: usize,
        url: Py<PyAny>,
        response: Option<Py<PyAny>>,
        error: Option<Py<PyAny>>,
    ) -> Self {
        let state = response.map_or_else(|| State::Failed(error.unwrap_or_else(|| py.None())), State::Responded);
        Self { index, url: Mutex::new(url), state: Mutex::new(state) }
    }

    #[getter]
    fn url<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let url = lock(&self.url).clone_ref(py).into_bound(py);
        if !url.is_instance_of::<PyString>() {
            return Ok(url);
        }
        let url = CLASS.import(py, "aioxide.http._urls", "URL")?.call1((url,))?;
        let replaced = std::mem::replace(&mut *lock(&self.url), url.clone().unbind());
        drop(replaced);
        Ok(url)
    }

    #[getter]
    fn response<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.outcome(py).map(Result::ok)
    }

    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if matches!(*lock(&self.state), State::Answered(..)) {
            return Ok(None);
        }
        self.outcome(py).map(Result::err)
    }

    /// The response; the error is raised if there is none.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.outcome(py)?.map_err(|error| {
            if error.is_none() {
                return PyRuntimeError::new_err("a Completed has a response or an error");
            }
            PyErr::from_value(error)
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let what = match self.outcome(py)? {
            Ok(response) => response.str()?,
            Err(error) => error.repr()?,
        };
        Ok(format!("<Completed {} {}: {what}>", self.index, self.url(py)?.repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // What is locked is in use.
        let (Ok(url), Ok(state)) = (self.url.try_lock(), self.state.try_lock()) else { return Ok(()) };
        visit.call(&*url)?;
        match &*state {
            State::Answered(raw, respond) => {
                visit.call(raw)?;
                visit.call(respond)
            }
            State::Responded(object) | State::Failed(object) => visit.call(object),
        }
    }
}
