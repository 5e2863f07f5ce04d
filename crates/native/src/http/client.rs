//! `HttpClient`: connection pools behind one handle.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aioxide::LoopHandle;
use aioxide::http::{Client, ClientControl, Error, Http2Use, Limits, Request, Settings};
use aioxide::timeline;
use aioxide::transport::tls::Connector;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyList};

use super::answer::{self, Answer, RawResponse};
use super::convert::{self, RequestBody, Terms};
use super::many::FetchMany;
use super::on_loop::{Job, PendingResponse, native_handle};
use super::outbox::{Delivery, Outcome, Slot};
use super::template::Template;
use super::tls::ContextConnector;
use super::upload::Upload;
use super::{background, blocking, websocket};

/// Keys for the clients that loops keep.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// What all pools of one client share.
pub struct Pools {
    key: u64,
    settings: Settings,
    closed: AtomicBool,
    controls: Mutex<Vec<ClientControl>>,
}

impl Pools {
    /// The pool that belongs to the loop.
    pub fn on(&self, handle: &LoopHandle) -> Client {
        let client = Client::kept(handle, self.key, &self.settings, |control| {
            let mut controls = self.controls.lock().unwrap_or_else(PoisonError::into_inner);
            controls.retain(|control| !control.is_orphan());
            controls.push(control);
        });
        if self.closed.load(Ordering::SeqCst) {
            client.close();
        }
        client
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let controls = self.controls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        controls.iter().for_each(ClientControl::close);
    }

    fn check_open(&self) -> PyResult<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(PyRuntimeError::new_err("the client is closed: no request can be sent with it"));
        }
        Ok(())
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        self.close();
    }
}

/// Connection pools behind one handle, usable from any thread and any loop. Each loop has its own pool, and each
/// thread that blocks.
#[pyclass(module = "aioxide._native", frozen)]
pub struct HttpClient {
    pools: Arc<Pools>,
}

#[pymethods]
impl HttpClient {
    #[new]
    #[pyo3(signature = (*, max_connections=Some(100), max_connections_per_host=None, max_keepalive_connections=Some(20),
                        keepalive_expiry=Some(5.0), ssl_context=None, proxy=None, proxy_auth=None, proxy_headers=None,
                        proxy_tunnel=None, proxy_ssl_context=None, unix_path=None, local_address=None, socket_options=None,
                        http1=true, http2=false, hedge_budget=0.1),
           text_signature = "(*, max_connections=100, max_connections_per_host=None, max_keepalive_connections=20, \
                             keepalive_expiry=5.0, ssl_context=None, proxy=None, proxy_auth=None, proxy_headers=None, \
                             proxy_tunnel=None, proxy_ssl_context=None, unix_path=None, local_address=None, \
                             socket_options=None, http1=True, http2=False, hedge_budget=0.1)")]
    #[expect(clippy::too_many_arguments, reason = "the signature that Python sees")]
    fn new(
        py: Python<'_>,
        max_connections: Option<usize>,
        max_connections_per_host: Option<usize>,
        max_keepalive_connections: Option<usize>,
        keepalive_expiry: Option<f64>,
        ssl_context: Option<Py<PyAny>>,
        proxy: Option<&str>,
        proxy_auth: Option<(PyBackedBytes, PyBackedBytes)>,
        proxy_headers: Option<Vec<(PyBackedBytes, PyBackedBytes)>>,
        proxy_tunnel: Option<bool>,
        proxy_ssl_context: Option<Py<PyAny>>,
        unix_path: Option<PathBuf>,
        local_address: Option<&str>,
        socket_options: Option<Vec<(i32, i32, PyBackedBytes)>>,
        http1: bool,
        http2: bool,
        hedge_budget: f64,
    ) -> PyResult<Self> {
        let http2 = match (http1, http2) {
            (true, false) => Http2Use::Never,
            (true, true) => Http2Use::Negotiated,
            (false, true) => Http2Use::Always,
            (false, false) => return Err(PyValueError::new_err("http1 and http2 cannot both be False")),
        };
        for (name, max) in
            [("max_connections", max_connections), ("max_connections_per_host", max_connections_per_host)]
        {
            if max == Some(0) {
                return Err(PyValueError::new_err(format!("{name}=0 would let no request through")));
            }
        }
        if !(0.0..=1.0).contains(&hedge_budget) {
            return Err(PyValueError::new_err("hedge_budget is a share of the requests: from 0 to 1"));
        }
        let limits = Limits {
            max_connections,
            max_per_host: max_connections_per_host,
            max_keepalive: max_keepalive_connections,
            keepalive_expiry: convert::duration("keepalive_expiry", keepalive_expiry)?,
        };
        let sockets = convert::sockets(unix_path, local_address, socket_options.unwrap_or_default())?;
        let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        let proxy = proxy.map(|url| {
            let headers = proxy_headers.unwrap_or_default();
            convert::proxy(url, proxy_auth, &headers, proxy_tunnel, proxy_ssl_context)
        });
        let proxy = proxy.transpose().map_err(|error| convert::exception(py, &error))?;
        let tls = ssl_context.map(|context| Arc::new(ContextConnector::new(context)) as Arc<dyn Connector>);
        let settings = Settings { limits, proxy: proxy.map(Arc::new), tls, sockets, http2, hedge_budget };
        let pools = Pools { key, settings, closed: AtomicBool::new(false), controls: Mutex::default() };
        Ok(Self { pools: Arc::new(pools) })
    }

    /// Starts a request, and gives an awaitable of its response. Dropping that, or cancelling the task that awaits it, drops
    /// the request.
    #[pyo3(signature = (r#loop, method, url, headers, body, *, connect_timeout, read_timeout, write_timeout,
                        pool_timeout, total_timeout, max_redirects=0, stream=false, server_name=None,
                        hedge_after=None))]
    #[expect(clippy::too_many_arguments, reason = "the signature that Python sees")]
    fn fetch(
        &self,
        r#loop: &Bound<'_, PyAny>,
        method: &str,
        url: &str,
        headers: &Bound<'_, PyList>,
        body: Option<RequestBody>,
        connect_timeout: Option<f64>,
        read_timeout: Option<f64>,
        write_timeout: Option<f64>,
        pool_timeout: Option<f64>,
        total_timeout: Option<f64>,
        max_redirects: u32,
        stream: bool,
        server_name: Option<&str>,
        hedge_after: Option<f64>,
    ) -> PyResult<PendingResponse> {
        self.pools.check_open()?;
        let timeouts = convert::timeouts(connect_timeout, read_timeout, write_timeout, pool_timeout, total_timeout)?;
        let hedge_after = convert::duration("hedge_after", hedge_after)?;
        let terms = Terms { timeouts, max_redirects, server_name, hedge_after };
        let request = convert::request(method, url, headers, body, terms)?;
        let request = request.map_err(|error| convert::exception(r#loop.py(), &error))?;
        self.start(r#loop, request, stream)
    }

    /// Starts a plain request, and gives what waits for it; None if it is not plain.
    #[pyo3(signature = (r#loop, method, url, template))]
    fn fetch_plain(
        &self,
        r#loop: &Bound<'_, PyAny>,
        method: &str,
        url: &str,
        template: &Template,
    ) -> PyResult<Option<PendingResponse>> {
        self.pools.check_open()?;
        let Some(request) = template.request(method, url) else { return Ok(None) };
        let request = request.map_err(|error| convert::exception(r#loop.py(), &error))?;
        self.start(r#loop, request, false).map(Some)
    }

    /// Sends a plain request as `fetch_blocking` does; None if it is not plain.
    fn fetch_plain_blocking(
        &self,
        py: Python<'_>,
        method: &str,
        url: &str,
        template: &Template,
    ) -> PyResult<Option<RawResponse>> {
        self.pools.check_open()?;
        let Some(request) = template.request(method, url) else { return Ok(None) };
        let mut request = request.map_err(|error| convert::exception(py, &error))?;
        if timeline::is_recording() {
            request.lane = timeline::current_lane();
        }
        self.fetch_here(py, request).map(Some)
    }

    /// Sends a request and blocks the calling thread until its response is there. Other threads run meanwhile; a
    /// signal's handler may end it with what it raises. If the body is an `Upload`, `produce` is called whenever that
    /// has room; what it raises ends the request.
    #[pyo3(signature = (method, url, headers, body, *, connect_timeout, read_timeout, write_timeout, pool_timeout,
                        total_timeout, max_redirects=0, stream=false, server_name=None, hedge_after=None,
                        produce=None))]
    #[expect(clippy::too_many_arguments, reason = "the signature that Python sees")]
    fn fetch_blocking(
        &self,
        py: Python<'_>,
        method: &str,
        url: &str,
        headers: &Bound<'_, PyList>,
        body: Option<RequestBody>,
        connect_timeout: Option<f64>,
        read_timeout: Option<f64>,
        write_timeout: Option<f64>,
        pool_timeout: Option<f64>,
        total_timeout: Option<f64>,
        max_redirects: u32,
        stream: bool,
        server_name: Option<&str>,
        hedge_after: Option<f64>,
        produce: Option<Bound<'_, PyAny>>,
    ) -> PyResult<RawResponse> {
        self.pools.check_open()?;
        let timeouts = convert::timeouts(connect_timeout, read_timeout, write_timeout, pool_timeout, total_timeout)?;
        let upload = match &body {
            Some(RequestBody::Streamed(upload)) => Some(upload.clone_ref(py)),
            _ => None,
        };
        let hedge_after = convert::duration("hedge_after", hedge_after)?;
        let terms = Terms { timeouts, max_redirects, server_name, hedge_after };
        let request = convert::request(method, url, headers, body, terms)?;
        let mut request = request.map_err(|error| convert::exception(py, &error))?;
        if timeline::is_recording() {
            request.lane = timeline::current_lane();
        }
        let fetched = if let (Some(upload), Some(produce)) = (upload, produce) {
            request.sends_first = true;
            self.fetch_uploading(py, request, stream, upload.get(), &produce)?
        } else if stream {
            self.fetch_in_background(py, request, true, |_slot| Ok(()))?
        } else {
            return self.fetch_here(py, request);
        };
        fetched.map(|answer| RawResponse::new(answer, None)).map_err(|error| convert::exception(py, &error))
    }

    /// Asks for a WebSocket, on a loop as `fetch` does, or from blocking code. The response has it
    /// (`RawResponse.take_websocket`) if the server agrees, and a streamed body if not. `settings` is an object with the
    /// attributes `subprotocols`, `max_message_bytes`, `queue_messages_max`, `ping_interval`, `ping_timeout` and
    /// `close_timeout`.
    #[pyo3(signature = (r#loop, url, headers, settings, *, connect_timeout, read_timeout, write_timeout, pool_timeout,
                        total_timeout, server_name=None))]
    #[expect(clippy::too_many_arguments, reason = "the signature that Python sees")]
    fn open_websocket(
        &self,
        py: Python<'_>,
        r#loop: Option<&Bound<'_, PyAny>>,
        url: &str,
        headers: &Bound<'_, PyList>,
        settings: websocket::Settings,
        connect_timeout: Option<f64>,
        read_timeout: Option<f64>,
        write_timeout: Option<f64>,
        pool_timeout: Option<f64>,
        total_timeout: Option<f64>,
        server_name: Option<&str>,
    ) -> PyResult<Py<PyAny>> {
        self.pools.check_open()?;
        let timeouts = convert::timeouts(connect_timeout, read_timeout, write_timeout, pool_timeout, total_timeout)?;
        let terms = Terms { timeouts, max_redirects: 0, server_name, hedge_after: None };
        let request = convert::request("GET", url, headers, None, terms)?;
        let mut request = request.map_err(|error| convert::exception(py, &error))?;
        request.websocket = Some(Box::new(settings.into_options()?));
        if let Some(event_loop) = r#loop {
            return Ok(Py::new(py, self.start(event_loop, request, true)?)?.into_any());
        }
        // Its bytes are moved when nobody waits for them, too: that is not for the calling thread to do.
        let fetched = self.fetch_in_background(py, request, true, |_slot| Ok(()))?;
        let answer = fetched.map_err(|error| convert::exception(py, &error))?;
        Ok(Py::new(py, RawResponse::new(answer, None))?.into_any())
    }

    /// Starts many requests, at most `limit` at once; an async iterator of `(index, RawResponse | Exception)`.
    #[pyo3(signature = (r#loop, requests, *, limit, connect_timeout, read_timeout, write_timeout, pool_timeout,
                        total_timeout, max_redirects=0, hedge_after=None))]
    #[expect(clippy::too_many_arguments, reason = "the signature that Python sees")]
    fn fetch_many(
        &self,
        r#loop: &Bound<'_, PyAny>,
        requests: &Bound<'_, PyList>,
        limit: usize,
        connect_timeout: Option<f64>,
        read_timeout: Option<f64>,
        write_timeout: Option<f64>,
        pool_timeout: Option<f64>,
        total_timeout: Option<f64>,
        max_redirects: u32,
        hedge_after: Option<f64>,
    ) -> PyResult<FetchMany> {
        self.pools.check_open()?;
        let timeouts = convert::timeouts(connect_timeout, read_timeout, write_timeout, pool_timeout, total_timeout)?;
        let hedge_after = convert::duration("hedge_after", hedge_after)?;
        let terms = Terms { timeouts, max_redirects, server_name: None, hedge_after };
        FetchMany::start(&self.pools, r#loop, requests, limit, terms)
    }

    /// Starts plain requests, at most `limit` at once: a GET of each URL. An async iterator of a `Completed` for each, whose
    /// response is what `respond` makes of an answer (or an error, to be completed) and its URL.
    #[pyo3(signature = (r#loop, urls, *, limit, template, respond))]
    fn fetch_many_plain(
        &self,
        r#loop: &Bound<'_, PyAny>,
        urls: &Bound<'_, PyList>,
        limit: usize,
        template: &Bound<'_, Template>,
        respond: Py<PyAny>,
    ) -> PyResult<FetchMany> {
        self.pools.check_open()?;
        FetchMany::start_plain(&self.pools, r#loop, urls, limit, template, respond)
    }

    /// Closes the idle connections of every pool; those in use are closed when their response is read. Idempotent.
    fn close(&self) {
        self.pools.close();
        blocking::settle_here();
    }

    /// Numbers of connections and requests, over all pools.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let controls = self.pools.controls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut sum = aioxide::http::Statistics::default();
        for statistics in controls.iter().map(ClientControl::statistics) {
            sum.open += statistics.open;
            sum.idle += statistics.idle;
            sum.in_flight += statistics.in_flight;
            sum.waiting += statistics.waiting;
        }
        let numbers = PyDict::new(py);
        numbers.set_item("connections_open", sum.open)?;
        numbers.set_item("connections_idle", sum.idle)?;
        numbers.set_item("requests_in_flight", sum.in_flight)?;
        numbers.set_item("requests_waiting", sum.waiting)?;
        Ok(numbers)
    }
}

impl HttpClient {
    /// Starts a request on a loop of either kind.
    fn start(&self, event_loop: &Bound<'_, PyAny>, request: Request, streams: bool) -> PyResult<PendingResponse> {
        let py = event_loop.py();
        let native = native_handle(event_loop)?;
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let delivery = Delivery::to_future(event_loop, &future);
        let job = match native {
            Some(handle) => {
                let client = self.pools.on(&handle);
                let fetched = answer::fetch(handle.clone(), client, request, streams);
                Job::local(handle.spawn(async move { delivery.deliver(Outcome::Answer(fetched.await)) }))
            }
            None => Job::Remote(self.spawn_in_background(py, request, streams, delivery)?),
        };
        Ok(PendingResponse::new(future.unbind(), job))
    }

    /// Sends a request and reads its response on this thread's own loop.
    fn fetch_here(&self, py: Python<'_>, request: Request) -> PyResult<RawResponse> {
        let pools = Arc::clone(&self.pools);
        let fetched = blocking::run(py, move |handle| {
            let client = pools.on(&handle);
            answer::fetch(handle, client, request, false)
        })?;
        fetched.map(|answer| RawResponse::new(answer, None)).map_err(|error| convert::exception(py, &error))
    }

    /// Blocks until the background engine has the head of the response; `woken` is called when there is something else to
    /// do for it.
    fn fetch_in_background(
        &self,
        py: Python<'_>,
        request: Request,
        streams: bool,
        mut woken: impl FnMut(&Arc<Slot>) -> PyResult<()>,
    ) -> PyResult<Result<Box<Answer>, Error>> {
        let slot = Slot::new();
        let _dropped_at_the_end = self.spawn_in_background(py, request, streams, Delivery::to_slot(&slot))?;
        loop {
            woken(&slot)?;
            if let Outcome::Answer(fetched) = slot.wait(py)? {
                return Ok(fetched);
            }
        }
    }

    /// The calling thread gives the body's pieces while it waits.
    fn fetch_uploading(
        &self,
        py: Python<'_>,
        request: Request,
        streams: bool,
        upload: &Upload,
        produce: &Bound<'_, PyAny>,
    ) -> PyResult<Result<Box<Answer>, Error>> {
        self.fetch_in_background(py, request, streams, |slot| {
            while !upload.want(Delivery::to_slot(slot)) {
                if !produce.call0()?.is_truthy()? {
                    break;
                }
            }
            Ok(())
        })
    }

    fn spawn_in_background(
        &self,
        py: Python<'_>,
        request: Request,
        streams: bool,
        delivery: Delivery,
    ) -> PyResult<background::RemoteTask> {
        let pools = Arc::clone(&self.pools);
        let request = SendRequest::new(request);
        background::spawn(py, move |handle| {
            let client = pools.on(&handle);
            let fetched = answer::fetch(handle, client, request.into_inner(), streams);
            async move { delivery.deliver(Outcome::Answer(fetched.await)) }
        })
    }
}

/// A request on its way to another thread.
pub struct SendRequest(Request);

// SAFETY: only a streamed body may be bound to a thread, and those of Python's requests (see `convert::request`) are not:
// theirs is an `Arc` of a mutex of what is Send. Everything else in a request is Send.
unsafe impl Send for SendRequest {}

impl SendRequest {
    pub fn new(request: Request) -> Self {
        Self(request)
    }

    pub fn into_inner(self) -> Request {
        self.0
    }
}
