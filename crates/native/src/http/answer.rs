//! What comes of a request: its head, its body, and the body's pieces when it is streamed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use aioxide::http::header::{CONTENT_ENCODING, LOCATION, SET_COOKIE};
use aioxide::http::{
    Bytes, Client, Error, HeaderMap, HeaderName, Request, Response, ResponseBody, Timings, Version, WebSocket,
};
use aioxide::transport::Addresses;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

use super::convert;
use super::outbox::{Delivery, Outcome, Slot};
use super::tls::SslObject;
use super::waiting::Waiting;
use super::websocket::RawWebSocket;

/// A body up to this size is copied out of the buffer that its connection reads into, so that this is used again.
const COMPACT_BYTES_MAX: usize = 16 * 1024;

/// An answer, before Python sees it.
pub struct Answer {
    status: u16,
    version: Version,
    reason: Vec<u8>,
    headers: Fields,
    url: String,
    redirects: u32,
    timings: Timings,
    tls: Option<Arc<SslObject>>,
    addresses: Addresses,
    body: Vec<Bytes>,
    stream: Option<Arc<Stream>>,
    /// What the connection has become, until somebody takes it.
    websocket: Mutex<Option<WebSocket>>,
}

/// Sends `request` and reads the body, or leaves it to be streamed by a task of the same loop.
pub async fn fetch(
    handle: aioxide::LoopHandle,
    client: Client,
    request: Request,
    streams: bool,
) -> Result<Box<Answer>, Error> {
    let mut response = client.fetch(request).await?;
    if streams && response.websocket.is_none() {
        let mut answer = Answer::new(&mut response, Vec::new());
        let stream = Arc::new(Stream::default());
        handle.spawn(pump(Arc::clone(&stream), response.into_body())).detach();
        answer.stream = Some(stream);
        return Ok(answer);
    }
    let mut body = response.chunks().await?;
    let length: usize = body.iter().map(Bytes::len).sum();
    if length <= COMPACT_BYTES_MAX {
        body = vec![body.concat().into()];
    }
    Ok(Answer::new(&mut response, body))
}

/// Header fields in one piece. The engine's own share the buffer that their connection reads into, which would then
/// have to be a new one for every response.
struct Fields {
    text: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(u32, u32)>,
    notable: u8,
}

/// The fields that every response is asked about, each with its bit in [`RawResponse::notable`].
const NOTABLE: [(HeaderName, u8); 3] = [(SET_COOKIE, 1), (CONTENT_ENCODING, 2), (LOCATION, 4)];

impl Fields {
    fn new(headers: HeaderMap) -> Self {
        let mut notable = 0;
        for (name, bit) in &NOTABLE {
            if headers.contains_key(name) {
                notable |= bit;
            }
        }
        let mut fields = Self { text: Vec::with_capacity(256), ends: Vec::with_capacity(headers.len()), notable };
        for (name, value) in &headers {
            fields.text.extend_from_slice(name.as_str().as_bytes());
            let name_end = fields.end();
            fields.text.extend_from_slice(value.as_bytes());
            fields.ends.push((name_end, fields.end()));
        }
        fields
    }

    /// A head is refused long before it is too large for this.
    fn end(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let (name_end, value_end) = (name_end as usize, value_end as usize);
            let pair = (&self.text[start..name_end], &self.text[name_end..value_end]);
            start = value_end;
            pair
        })
    }
}

impl Answer {
    fn new(response: &mut Response, body: Vec<Bytes>) -> Box<Self> {
        Box::new(Self {
            status: response.status.as_u16(),
            version: response.version,
            reason: response.reason().to_vec(),
            headers: Fields::new(std::mem::take(&mut response.headers)),
            url: response.url.to_string(),
            redirects: response.redirects,
            timings: *response.timings(),
            tls: response.tls.take().and_then(|facts| facts.downcast().ok()),
            addresses: response.addresses,
            body,
            stream: None,
            websocket: Mutex::new(response.websocket.take()),
        })
    }
}

/// A body on its way: between the task that reads it and whoever asks for its pieces.
#[derive(Default)]
pub struct Stream(Mutex<Flow>);

#[derive(Default)]
struct Flow {
    /// Who waits for the next piece.
    wanted: Option<Delivery>,
    /// How often somebody began to wait.
    reads: u64,
    /// The piece that came last, until somebody takes it: whoever waited for it may have given up.
    piece: Option<Bytes>,
    /// How the body ended.
    end: Option<Result<(), Error>>,
    closed: bool,
    waker: Option<Waker>,
    timings: Option<Timings>,
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `delivery` told when there is a piece, or the end; false if there is one already.
    fn want(&self, py: Python<'_>, delivery: Delivery) -> PyResult<bool> {
        // To ask a future runs Python code, so nothing is locked meanwhile.
        let (reads, before) = {
            let flow = self.lock();
            (flow.reads, flow.wanted.as_ref().map(|before| before.waiter(py)))
        };
        let is_awaited = before.is_some_and(|waiter| !waiter.is_given_up(py));
        let mut flow = self.lock();
        if is_awaited || flow.reads != reads {
            return Err(PyRuntimeError::new_err("another read of this body is still waiting"));
        }
        if flow.piece.is_some() || flow.end.is_some() {
            return Ok(false);
        }
        flow.reads += 1;
        let replaced = flow.wanted.replace(delivery);
        wake(flow);
        drop(replaced);
        Ok(true)
    }

    /// What is known without waiting: a piece, or the end (an empty one).
    pub fn take(&self) -> Option<Result<Bytes, Error>> {
        let mut flow = self.lock();
        if let Some(piece) = flow.piece.take() {
            return Some(Ok(piece));
        }
        flow.end.clone().map(|end| end.map(|()| Bytes::new()))
    }

    fn close(&self) {
        let mut flow = self.lock();
        flow.closed = true;
        let wanted = flow.wanted.take();
        wake(flow);
        if let Some(wanted) = wanted {
            wanted.deliver(Outcome::Wake);
        }
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

/// The waker runs when nothing is locked.
fn wake(mut flow: MutexGuard<'_, Flow>) {
    let waker = flow.waker.take();
    drop(flow);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Reads the body piece by piece, as they are asked for; dropping it closes the connection.
async fn pump(stream: Arc<Stream>, mut body: ResponseBody) {
    while is_wanted(&stream, &mut body).await {
        let Some(result) = unless_closed(&stream, body.chunk()).await else { return };
        let mut flow = stream.lock();
        flow.timings = Some(*body.timings());
        match result {
            Ok(Some(piece)) => flow.piece = Some(piece),
            Ok(None) => flow.end = Some(Ok(())),
            Err(error) => flow.end = Some(Err(error)),
        }
        let has_ended = flow.end.is_some();
        let wanted = flow.wanted.take();
        drop(flow);
        if let Some(wanted) = wanted {
            wanted.deliver(Outcome::Wake);
        }
        if has_ended {
            return;
        }
    }
}

/// Waits until somebody wants a piece and none is there; false when the stream is closed. The rest of the request's body is
/// sent meanwhile.
async fn is_wanted(stream: &Stream, body: &mut ResponseBody) -> bool {
    std::future::poll_fn(|context| {
        body.send_on(context);
        let mut flow = stream.lock();
        if flow.closed || (flow.wanted.is_some() && flow.piece.is_none()) {
            return Poll::Ready(!flow.closed);
        }
        flow.waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await
}

async fn unless_closed<F: Future>(stream: &Stream, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        let mut flow = stream.lock();
        if flow.closed {
            return Poll::Ready(None);
        }
        flow.waker = Some(context.waker().clone());
        drop(flow);
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// An answer as the engine gives it.
#[pyclass(module = "aioxide._native", frozen)]
pub struct RawResponse {
    answer: Box<Answer>,
    /// The loop whose futures `read_chunk` gives.
    event_loop: Option<Py<PyAny>>,
    body: Mutex<BodyState>,
}

/// The body becomes a Python object when it is first asked for.
enum BodyState {
    Pieces,
    Object(Py<PyBytes>),
}

impl RawResponse {
    pub fn new(answer: Box<Answer>, event_loop: Option<Py<PyAny>>) -> Self {
        Self { answer, event_loop, body: Mutex::new(BodyState::Pieces) }
    }

    fn stream(&self) -> PyResult<&Arc<Stream>> {
        let not_streamed = || PyRuntimeError::new_err("the body is not streamed: it is in .body");
        let stream = self.answer.stream.as_ref().ok_or_else(not_streamed)?;
        if stream.is_closed() {
            return Err(PyRuntimeError::new_err("the response is closed: its body can no longer be read"));
        }
        Ok(stream)
    }
}

/// The pieces as one `bytes`, copied once.
pub fn join<'py>(py: Python<'py>, pieces: &[Bytes]) -> PyResult<Bound<'py, PyBytes>> {
    match pieces {
        [piece] => Ok(PyBytes::new(py, piece)),
        pieces => {
            let length = pieces.iter().map(Bytes::len).sum();
            PyBytes::new_with(py, length, |mut room| {
                for piece in pieces {
                    let (filled, rest) = room.split_at_mut(piece.len());
                    filled.copy_from_slice(piece);
                    room = rest;
                }
                Ok(())
            })
        }
    }
}

#[pymethods]
impl RawResponse {
    #[getter]
    fn status(&self) -> u16 {
        self.answer.status
    }

    #[getter]
    fn reason(&self) -> String {
        String::from_utf8_lossy(&self.answer.reason).into_owned()
    }

    #[getter]
    fn http_version<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        match self.answer.version {
            Version::HTTP_10 => intern!(py, "HTTP/1.0"),
            Version::HTTP_2 => intern!(py, "HTTP/2"),
            _ => intern!(py, "HTTP/1.1"),
        }
    }

    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let fields = self.answer.headers.iter();
        let pairs: Vec<_> = fields.map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value))).collect();
        PyList::new(py, pairs)
    }

    /// Which of these there are among the headers: 1 for `Set-Cookie`, 2 for `Content-Encoding`, 4 for `Location`.
    #[getter]
    pub fn notable(&self) -> u8 {
        self.answer.headers.notable
    }

    #[getter]
    fn url(&self) -> &str {
        &self.answer.url
    }

    #[getter]
    fn redirects(&self) -> u32 {
        self.answer.redirects
    }

    #[getter]
    fn body(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        if self.answer.stream.is_some() {
            return Ok(None);
        }
        let mut state = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        if let BodyState::Object(body) = &*state {
            return Ok(Some(body.clone_ref(py)));
        }
        let body = join(py, &self.answer.body)?.unbind();
        *state = BodyState::Object(body.clone_ref(py));
        Ok(Some(body))
    }

    #[getter]
    fn timings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let newest = self.answer.stream.as_ref().and_then(|stream| stream.lock().timings);
        let Timings { queue, resolved, connect, tls, sent, first_byte, total, hedge } =
            newest.unwrap_or(self.answer.timings);
        let timings = PyDict::new(py);
        for (name, value) in [
            (intern!(py, "queue"), queue),
            (intern!(py, "dns"), resolved),
            (intern!(py, "connect"), connect),
            (intern!(py, "tls"), tls),
            (intern!(py, "sent"), sent),
            (intern!(py, "first_byte"), first_byte),
            (intern!(py, "total"), total),
            (intern!(py, "hedge"), hedge),
        ] {
            if let Some(value) = value {
                timings.set_item(name, value.as_secs_f64())?;
            }
        }
        Ok(timings)
    }

    /// What is known of the connection, by httpcore's names; None for what is not.
    fn connection_info<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (client, server) = self.answer.addresses;
        let address = match name {
            "ssl_object" => return Ok(self.answer.tls.as_ref().map(|tls| tls.share(py).into_bound(py))),
            "client_addr" => client,
            "server_addr" => server,
            _ => None,
        };
        address.map(|address| crate::address::to_tuple(py, address).map(Bound::into_any)).transpose()
    }

    /// An awaitable of the next piece of the body; empty at its end. Cancelling it loses nothing.
    fn read_chunk(slf: &Bound<'_, Self>) -> PyResult<NextPiece> {
        let this = slf.get();
        this.stream()?;
        if this.event_loop.is_none() {
            return Err(PyRuntimeError::new_err("this response belongs to no loop: use read_chunk_blocking()"));
        }
        Ok(NextPiece { response: slf.clone().unbind(), waiting: Waiting::default() })
    }

    /// The next piece of the body; empty at its end.
    fn read_chunk_blocking<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let stream = self.stream()?;
        if self.event_loop.is_some() {
            return Err(PyRuntimeError::new_err("this response belongs to a loop: use read_chunk()"));
        }
        loop {
            match stream.take() {
                Some(Ok(piece)) => return Ok(PyBytes::new(py, &piece)),
                Some(Err(error)) => return Err(convert::exception(py, &error)),
                None => {
                    let slot = Slot::new();
                    if stream.want(py, Delivery::to_slot(&slot))? {
                        slot.wait(py)?;
                    }
                }
            }
        }
    }

    /// The WebSocket that the connection has become; None if it has not, and the second time.
    fn take_websocket(&self, py: Python<'_>) -> Option<RawWebSocket> {
        let websocket = self.answer.websocket.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(RawWebSocket::new(websocket, self.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py))))
    }

    /// Forgets the rest of the body. An unread one closes its connection.
    fn close(&self) {
        if let Some(stream) = &self.answer.stream {
            stream.close();
        }
    }

    fn __repr__(&self) -> String {
        format!("<RawResponse {} from {}>", self.answer.status, self.answer.url)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)
    }
}

/// What `read_chunk` gives. The piece is taken by whoever is resumed with it, so that nobody else loses it: a future
/// that held it would keep it from the next reader when its own was cancelled at that moment.
#[pyclass(module = "aioxide._native", frozen)]
pub struct NextPiece {
    response: Py<RawResponse>,
    waiting: Waiting,
}

#[pymethods]
impl NextPiece {
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
        let response = self.response.get();
        let stream = response.stream()?;
        loop {
            match stream.take() {
                Some(Ok(piece)) => return Err(PyStopIteration::new_err((PyBytes::new(py, &piece).unbind(),))),
                Some(Err(error)) => return Err(convert::exception(py, &error)),
                None => {}
            }
            let Some(event_loop) = &response.event_loop else { return Err(PyStopIteration::new_err(())) };
            let event_loop = event_loop.bind(py);
            let future = event_loop.call_method0(intern!(py, "create_future"))?;
            if stream.want(py, Delivery::to_future(event_loop, &future))? {
                if let Some(yielded) = self.waiting.begin(&future)? {
                    return yielded;
                }
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.response)?;
        self.waiting.traverse(&visit)
    }
}

impl Drop for RawResponse {
    fn drop(&mut self) {
        self.close();
    }
}
