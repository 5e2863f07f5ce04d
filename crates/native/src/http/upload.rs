//! `Upload`: a request's body on its way from Python, which gives pieces, to the request, which takes them as the peer
//! does.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use aioxide::http::{Body, BodyError, BodyFrame, Bytes, HttpBody, SizeHint};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use super::convert;
use super::outbox::{Delivery, Outcome};

/// So much may wait for the peer to take it, and one piece more.
const HELD_BYTES_MAX: usize = 128 * 1024;

/// A body that Python gives piece by piece while it is sent. For one request, once.
#[pyclass(module = "aioxide._native", frozen)]
pub struct Upload(Arc<Inbox>);

#[derive(Default)]
struct Inbox(Mutex<Flow>);

#[derive(Default)]
struct Flow {
    /// How many bytes it must be, if that is known.
    length: Option<u64>,
    pieces: VecDeque<Bytes>,
    held_bytes: usize,
    /// All bytes that were given, and those that the connection took.
    given: u64,
    taken: u64,
    end: Option<End>,
    progress: Progress,
    /// Who waits for room.
    wanted: Option<Delivery>,
    /// Of the request.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// No piece follows.
    Whole,
    /// Its source failed.
    Failed,
}

/// How far the request is.
#[derive(Clone, Copy, Default, PartialEq)]
enum Progress {
    /// No request has asked for the body: it may never be needed.
    #[default]
    Unasked,
    Asked,
    /// Nobody takes any more of it.
    Over,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `delivery` told when there is room again, or no need of any; false if there is already.
    fn want(&self, delivery: Delivery) -> bool {
        let mut flow = self.lock();
        let waits = flow.is_full();
        if waits {
            let replaced = flow.wanted.replace(delivery);
            drop(flow);
            drop(replaced);
        }
        waits
    }

    /// Changes what the request sees, and wakes it.
    fn change(&self, change: impl FnOnce(&mut Flow)) {
        let mut flow = self.lock();
        change(&mut flow);
        let waker = flow.waker.take();
        drop(flow);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Flow {
    fn is_full(&self) -> bool {
        match self.progress {
            Progress::Unasked => true,
            // After its end it is full until the last piece was taken.
            Progress::Asked if self.end == Some(End::Whole) => self.held_bytes > 0,
            Progress::Asked => self.end.is_none() && self.held_bytes >= HELD_BYTES_MAX && !self.holds_last(),
            Progress::Over => false,
        }
    }

    /// Who waits for room that is there now.
    fn take_told(&mut self) -> Option<Delivery> {
        if self.is_full() { None } else { self.wanted.take() }
    }

    /// Whether the next piece is the last that fits the length: it goes once it is known that no other follows, since
    /// nobody would take that.
    fn holds_last(&self) -> bool {
        let Some(piece) = self.pieces.front() else { return false };
        self.end.is_none() && self.length.is_some_and(|length| self.taken + piece.len() as u64 >= length)
    }

    /// What the length was announced to be, if the body breaks that.
    fn broken_length(&self) -> Option<u64> {
        let is_whole = self.end == Some(End::Whole);
        self.length.filter(|&length| self.given > length || (is_whole && self.given < length))
    }
}

impl Upload {
    /// The body as a request takes it; an empty one of no length if it was taken before.
    pub fn body(&self) -> PyResult<Body> {
        let flow = self.0.lock();
        if flow.progress != Progress::Unasked || flow.waker.is_some() {
            return Err(PyRuntimeError::new_err("an Upload is for one request, once"));
        }
        drop(flow);
        Ok(Body::Stream(Box::pin(Outlet(Arc::clone(&self.0)))))
    }

    /// As `Inbox::want`.
    pub fn want(&self, delivery: Delivery) -> bool {
        self.0.want(delivery)
    }
}

#[pymethods]
impl Upload {
    #[new]
    #[pyo3(signature = (length=None))]
    fn new(length: Option<u64>) -> Self {
        let flow = Flow { length, ..Flow::default() };
        Self(Arc::new(Inbox(Mutex::new(flow))))
    }

    /// Adds a piece. It is never refused, so that nothing is lost: wait for `room` before the next.
    fn put(&self, piece: PyBackedBytes) {
        let piece = convert::bytes(piece);
        if piece.is_empty() {
            return;
        }
        self.0.change(|flow| {
            if flow.progress == Progress::Over || flow.end.is_some() {
                return;
            }
            flow.held_bytes += piece.len();
            flow.given += piece.len() as u64;
            flow.pieces.push_back(piece);
        });
    }

    /// A future of `loop` that is done when a piece may be put, or none is needed any more. After `finish`: when all were
    /// taken.
    fn room<'py>(&self, r#loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = r#loop.py();
        let future = r#loop.call_method0(intern!(py, "create_future"))?;
        if !self.0.want(Delivery::to_future(r#loop, &future)) {
            future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        Ok(future)
    }

    /// There are no more pieces.
    fn finish(&self) {
        self.0.change(|flow| {
            flow.end.get_or_insert(End::Whole);
        });
    }

    /// There are no more pieces, and the body is not whole: the request fails.
    fn fail(&self) {
        self.0.change(|flow| {
            flow.end.get_or_insert(End::Failed);
        });
    }

    /// Whether there are no more pieces.
    #[getter]
    fn is_finished(&self) -> bool {
        self.0.lock().end.is_some()
    }

    /// Whether a piece would have to wait.
    #[getter]
    fn is_full(&self) -> bool {
        self.0.lock().is_full()
    }

    /// Whether nobody takes any more pieces.
    #[getter]
    fn is_over(&self) -> bool {
        self.0.lock().progress == Progress::Over
    }

    /// How many bytes the connection has taken.
    #[getter]
    fn taken(&self) -> u64 {
        self.0.lock().taken
    }

    fn __repr__(&self) -> String {
        let flow = self.0.lock();
        format!("<Upload {} of {} bytes taken>", flow.taken, flow.given)
    }
}

/// The request's end of it.
struct Outlet(Arc<Inbox>);

impl HttpBody for Outlet {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, BodyError>>> {
        let mut flow = self.0.lock();
        if flow.progress == Progress::Unasked {
            flow.progress = Progress::Asked;
        }
        if let Some(length) = flow.broken_length() {
            let problem = format!("it has {} bytes or more, but Content-Length says {length}", flow.given);
            return Poll::Ready(Some(Err(problem.into())));
        }
        let next = if flow.holds_last() { None } else { flow.pieces.pop_front() };
        let frame = match (next, flow.end) {
            (_, Some(End::Failed)) => Poll::Ready(Some(Err("its source failed".into()))),
            (Some(piece), _) => {
                flow.held_bytes -= piece.len();
                flow.taken += piece.len() as u64;
                Poll::Ready(Some(Ok(BodyFrame::data(piece))))
            }
            (None, Some(End::Whole)) => Poll::Ready(None),
            (None, None) => {
                flow.waker = Some(context.waker().clone());
                Poll::Pending
            }
        };
        let told = flow.take_told();
        drop(flow);
        if let Some(delivery) = told {
            delivery.deliver(Outcome::Wake);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let flow = self.0.lock();
        flow.pieces.is_empty() && flow.end == Some(End::Whole) && flow.broken_length().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let flow = self.0.lock();
        flow.length.map_or_else(SizeHint::new, |length| SizeHint::with_exact(length.saturating_sub(flow.taken)))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut flow = self.0.lock();
        flow.progress = Progress::Over;
        let dropped = std::mem::take(&mut flow.pieces);
        flow.held_bytes = 0;
        let told = flow.wanted.take();
        drop(flow);
        drop(dropped);
        if let Some(delivery) = told {
            delivery.deliver(Outcome::Wake);
        }
    }
}
