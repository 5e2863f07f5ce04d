//! WebSockets for Python: what an engine's WebSocket does, as awaitables and as calls that block.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use aioxide::http::{Closed, Message, Refused, Utf8Bytes, WebSocket, WebSocketOptions};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTimeoutError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyType};

use super::convert;
use super::outbox::{Delivery, Outcome, Slot};
use super::waiting::Waiting;

/// The attributes of the Python object that says how a WebSocket is to be.
#[derive(FromPyObject)]
pub struct Settings {
    subprotocols: Vec<String>,
    max_message_bytes: usize,
    queue_messages_max: usize,
    ping_interval: Option<f64>,
    ping_timeout: Option<f64>,
    close_timeout: f64,
}

impl Settings {
    /// As the engine has them.
    ///
    /// # Errors
    /// `ValueError` for a time that is none, and for limits that let nothing through.
    pub fn into_options(self) -> PyResult<WebSocketOptions> {
        if self.max_message_bytes == 0 || self.queue_messages_max == 0 {
            return Err(PyValueError::new_err("a WebSocket with room for no message could receive none"));
        }
        let close_timeout = convert::duration("close_timeout_seconds", Some(self.close_timeout))?;
        Ok(WebSocketOptions {
            subprotocols: self.subprotocols,
            max_message_bytes: self.max_message_bytes,
            queue_messages_max: self.queue_messages_max,
            ping_interval: convert::duration("keepalive_ping_interval_seconds", self.ping_interval)?,
            ping_timeout: convert::duration("keepalive_ping_timeout_seconds", self.ping_timeout)?,
            close_timeout: close_timeout.unwrap_or(Duration::MAX),
        })
    }
}

/// What Python may send: str is text, bytes are binary.
fn message(data: &Bound<'_, PyAny>) -> PyResult<Message> {
    Ok(match data.cast::<PyString>() {
        Ok(text) => Message::Text(Utf8Bytes::from(text.to_str()?)),
        Err(_) => Message::Binary(convert::bytes(data.extract()?)),
    })
}

/// What comes of an operation.
enum Event {
    Message(Message),
    Sent,
    Pong(Duration),
    Closed,
}

/// The engine's future of an operation.
type Pending = Pin<Box<dyn Future<Output = Result<Event, Closed>> + Send>>;

/// A WebSocket. Its operations are awaitables if it was opened on a loop; those of another block their caller.
#[pyclass(module = "aioxide._native", frozen)]
pub struct RawWebSocket {
    websocket: WebSocket,
    event_loop: Option<Py<PyAny>>,
}

impl RawWebSocket {
    pub fn new(websocket: WebSocket, event_loop: Option<Py<PyAny>>) -> Self {
        Self { websocket, event_loop }
    }

    fn operation(
        &self,
        py: Python<'_>,
        future: impl Future<Output = Result<Event, Closed>> + Send + 'static,
    ) -> WebSocketOperation {
        let event_loop = self.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py));
        let future: Pending = Box::pin(future);
        WebSocketOperation { future: Mutex::new(Some(future)), event_loop, waiting: Waiting::default() }
    }
}

#[pymethods]
impl RawWebSocket {
    /// The subprotocol that the server chose.
    #[getter]
    fn subprotocol(&self) -> Option<&str> {
        self.websocket.subprotocol()
    }

    /// The code and the reason with which it ended; None while it is open.
    #[getter]
    fn closed(&self) -> Option<(u16, String)> {
        self.websocket.closed().map(|closed| (closed.code, closed.reason))
    }

    /// The next message, str or bytes.
    fn receive(&self, py: Python<'_>) -> WebSocketOperation {
        let received = self.websocket.receive();
        self.operation(py, async { received.await.map(Event::Message) })
    }

    /// Sends a message: str as text, bytes as they are.
    fn send(&self, data: &Bound<'_, PyAny>) -> PyResult<WebSocketOperation> {
        let sent = self.websocket.send(message(data)?);
        Ok(self.operation(data.py(), async { sent.await.map(|()| Event::Sent) }))
    }

    /// Sends a ping; the operation gives the seconds until its answer.
    fn ping(&self, py: Python<'_>, payload: PyBackedBytes) -> PyResult<WebSocketOperation> {
        let pong = self.websocket.ping(convert::bytes(payload)).map_err(refused)?;
        Ok(self.operation(py, async { pong.await.map(Event::Pong) }))
    }

    /// Closes it in order.
    fn close(&self, py: Python<'_>, code: u16, reason: &str) -> PyResult<WebSocketOperation> {
        let closing = self.websocket.close(code, reason).map_err(refused)?;
        Ok(self.operation(py, async {
            closing.await;
            Ok(Event::Closed)
        }))
    }

    /// Ends it at once.
    fn abort(&self) {
        self.websocket.abort();
    }

    fn __repr__(&self) -> String {
        match self.websocket.closed() {
            None => "<RawWebSocket open>".into(),
            Some(closed) => format!("<RawWebSocket closed with {}>", closed.code),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)
    }
}

fn refused(refused: Refused) -> PyErr {
    PyValueError::new_err(refused.to_string())
}

/// The exception of an end.
fn disconnected(py: Python<'_>, closed: &Closed) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(py, "aioxide.http._exceptions", "WebSocketDisconnect") {
        Ok(class) => PyErr::from_type(class.clone(), (closed.code, closed.reason.clone())),
        Err(import_error) => import_error,
    }
}

fn to_python<'py>(py: Python<'py>, done: Result<Event, Closed>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match done.map_err(|closed| disconnected(py, &closed))? {
        Event::Message(Message::Text(text)) => PyString::new(py, &text).into_any(),
        Event::Message(Message::Binary(bytes)) => PyBytes::new(py, &bytes).into_any(),
        Event::Pong(took) => took.as_secs_f64().into_pyobject(py)?.into_any(),
        Event::Sent | Event::Closed => py.None().into_bound(py),
    })
}

/// An operation of a WebSocket. Dropping it, which is what a cancelled task does, gives it up: what was not received yet
/// stays to be received, what has found no place to wait for the server is not sent.
#[pyclass(module = "aioxide._native", frozen)]
pub struct WebSocketOperation {
    /// Taken out while it is polled, and for good when it is done.
    future: Mutex<Option<Pending>>,
    event_loop: Option<Py<PyAny>>,
    waiting: Waiting,
}

impl WebSocketOperation {
    fn poll(&self, waker: &Waker) -> PyResult<Poll<Result<Event, Closed>>> {
        let taken = self.future.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut future =
            taken.ok_or_else(|| PyRuntimeError::new_err("this operation is done, or somebody else waits for it"))?;
        let polled = future.as_mut().poll(&mut Context::from_waker(waker));
        if polled.is_pending() {
            *self.future.lock().unwrap_or_else(PoisonError::into_inner) = Some(future);
        }
        Ok(polled)
    }
}

#[pymethods]
impl WebSocketOperation {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(yielded) = self.waiting.go_on(py) {
            return yielded;
        }
        let Some(event_loop) = &self.event_loop else {
            return Err(PyRuntimeError::new_err("this WebSocket belongs to no loop: use wait()"));
        };
        // Most are done at once, and need no future.
        let mut polled = self.poll(Waker::noop())?;
        while polled.is_pending() {
            let event_loop = event_loop.bind(py);
            let future = event_loop.call_method0(intern!(py, "create_future"))?;
            polled = self.poll(&Delivering::waker(Delivery::to_future(event_loop, &future)))?;
            if polled.is_pending() {
                if let Some(yielded) = self.waiting.begin(&future)? {
                    return yielded;
                }
            }
        }
        match polled {
            Poll::Ready(done) => Err(PyStopIteration::new_err((to_python(py, done)?.unbind(),))),
            Poll::Pending => Err(PyRuntimeError::new_err("the operation waits for nothing")),
        }
    }

    /// Blocks until it is done, other threads run meanwhile; `TimeoutError` after so many seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        if self.event_loop.is_some() {
            return Err(PyRuntimeError::new_err("this WebSocket belongs to a loop: await its operations"));
        }
        let timeout = convert::duration("timeout", timeout)?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let slot = Slot::new();
            if let Poll::Ready(done) = self.poll(&Delivering::waker(Delivery::to_slot(&slot)))? {
                return to_python(py, done);
            }
            if slot.wait_until(py, deadline)?.is_none() {
                return Err(PyTimeoutError::new_err("timed out"));
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.waiting.traverse(&visit)
    }
}

/// A waker that delivers.
struct Delivering(Mutex<Option<Delivery>>);

impl Delivering {
    fn waker(delivery: Delivery) -> Waker {
        Waker::from(Arc::new(Self(Mutex::new(Some(delivery)))))
    }
}

impl Wake for Delivering {
    fn wake(self: Arc<Self>) {
        let delivery = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(delivery) = delivery {
            delivery.deliver(Outcome::Wake);
        }
    }
}
