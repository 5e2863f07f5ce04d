//! The client: takes a request through pool and connection to its response.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::carrier::Carrier;
use super::connection::Connection;
use super::dial::{Dialer, Sockets};
use super::error::{Error, ErrorKind, Phase, Result};
use super::hedge;
use super::http2::Http2;
use super::phases::Phases;
use super::pool::{self, Acquire, Grant, Lease, Limits, Pool};
use super::proxy::{Proxy, Route};
use super::redirect;
use super::remote::{Remote, Statistics};
use super::request::{Head, Request, check_tls};
use super::response::{Answer, Response};
use crate::handle::{LoopHandle, Sleep, now_ns};
use crate::transport::tls::Connector;

/// So often is a request sent again that the server has done nothing about.
const REPEATS_MAX: u32 = 3;

/// What came for an idle connection that is shared is looked at for this time, should it be the end.
const LOOK_TIME: Duration = Duration::from_millis(1);

/// A connection that was in use so recently is not looked at before it is used again: that would cost a system call.
const RECENT_NANOS: u64 = 1_000_000;

/// An HTTP/1.1 client on one loop. Cloning it is cheap, and the clones share their connections.
///
/// ```
/// use aioxide::http::{Client, Limits, Request, Server, ServerOptions};
///
/// let server = Server::start(ServerOptions::default())?;
/// let request = Request::get(&format!("{}/bytes/3", server.url())).unwrap();
/// let event_loop = aioxide::EventLoop::new()?;
/// let client = Client::new(event_loop.handle(), Limits::default());
/// let body = event_loop.block_on(async move { client.fetch(request).await?.bytes().await })?;
/// assert_eq!(body.unwrap().len(), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Client(Rc<Inner>);

struct Inner {
    handle: LoopHandle,
    pool: Rc<Pool>,
    proxy: Option<Arc<Proxy>>,
    tls: Option<Arc<dyn Connector>>,
    sockets: Sockets,
    http2: Http2Use,
    hedges: hedge::Budget,
    control: ClientControl,
}

/// What a client is made with; from [`Limits`] alone, one without a proxy and without TLS.
#[derive(Clone)]
pub struct Settings {
    /// How many connections it may have.
    pub limits: Limits,
    /// The proxy that its requests go through.
    pub proxy: Option<Arc<Proxy>>,
    /// What makes its TLS sessions; without it, https cannot be fetched.
    pub tls: Option<Arc<dyn Connector>>,
    /// The sockets that its connections are made with.
    pub sockets: Sockets,
    /// When it speaks HTTP/2.
    pub http2: Http2Use,
    /// The share of its requests that may be hedges ([`Request::hedge_after`]), in the long run; ten more are free.
    pub hedge_budget: f64,
}

impl Default for Settings {
    /// No proxy, no TLS, HTTP/1.1; one hedge for every ten requests.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            proxy: None,
            tls: None,
            sockets: Sockets::default(),
            http2: Http2Use::default(),
            hedge_budget: 0.1,
        }
    }
}

/// When HTTP/2 is spoken. Proxies that forward requests are spoken to by HTTP/1.1 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2Use {
    /// Not at all.
    #[default]
    Never,
    /// Where a server chooses it in the TLS handshake (ALPN). That the sessions offer it is the [`Connector`]'s part.
    Negotiated,
    /// With every server, which is known to speak it.
    Always,
}

impl From<Limits> for Settings {
    fn from(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }
}

impl Inner {
    fn dialer(&self, request: &Request) -> Dialer<'_> {
        let proxy = self.proxy.as_deref().filter(|_| self.sockets.unix_path.is_none());
        let route = Route::new(&request.url, proxy, request.websocket.is_none());
        Dialer { handle: &self.handle, route, tls: self.tls.as_deref(), http2: self.http2, sockets: &self.sockets }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.control.close();
    }
}

/// What other threads may do with a [`Client`].
#[derive(Clone)]
pub struct ClientControl(Arc<Remote>);

impl ClientControl {
    /// As [`Client::close`]. From another thread, idle connections are closed by the client's loop, as soon as it
    /// runs.
    pub fn close(&self) {
        self.0.close();
    }

    /// As [`Client::statistics`], as of a moment ago.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0.statistics()
    }

    /// Whether the client and all of its connections are gone.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Client {
    /// A client whose connections live on the loop of `handle`.
    #[must_use]
    pub fn new(handle: &LoopHandle, settings: impl Into<Settings>) -> Self {
        Self::build(handle, settings.into(), None)
    }

    /// The client that the loop keeps under `key` ([`LoopHandle::local`]): until the client is closed, or the loop. If
    /// there is none yet, it is made, and `made` hears of it.
    ///
    /// # Panics
    /// If something other than a client is kept under the key.
    pub fn kept(handle: &LoopHandle, key: u64, settings: &Settings, made: impl FnOnce(ClientControl)) -> Self {
        let kept = handle.local(key, || {
            let client = Self::build(handle, settings.clone(), Some(key));
            made(client.control());
            client
        });
        (*kept).clone()
    }

    fn build(handle: &LoopHandle, settings: Settings, key: Option<u64>) -> Self {
        let remote = Arc::new(Remote::default());
        let pool = Pool::new(settings.limits, settings.http2.into(), Arc::clone(&remote));
        handle.spawn(pool::keep(handle.clone(), Rc::clone(&pool), key)).detach();
        let Settings { proxy, tls, http2, sockets, .. } = settings;
        let (hedges, control) = (hedge::Budget::new(settings.hedge_budget), ClientControl(remote));
        Self(Rc::new(Inner { handle: handle.clone(), pool, proxy, tls, http2, sockets, hedges, control }))
    }

    /// Closes idle connections, and each other one once its response is read. Later requests fail with
    /// `ClientClosed`. Dropping the last clone does the same.
    pub fn close(&self) {
        self.0.control.close();
    }

    /// The client as other threads see it.
    #[must_use]
    pub fn control(&self) -> ClientControl {
        self.0.control.clone()
    }

    /// How many connections and requests there are.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0.control.statistics()
    }

    /// Sends `request` and gives the response as soon as its head is there.
    ///
    /// Dropping the future closes the connection that it uses, if it has one, and leaves the pool whole. A request
    /// that meets a connection which the server closed meanwhile is sent again on a new one, if nothing of an answer
    /// came and doing it twice is harmless: its method is idempotent and its body is not streamed. One that the server
    /// says it has done nothing about, as only HTTP/2 can tell, is sent again whatever its method is.
    ///
    /// # Errors
    /// Whatever [`ErrorKind`] names.
    pub fn fetch(&self, request: Request) -> impl Future<Output = Result<Response>> + use<> {
        // What is large lives apart: futures are moved, as are responses.
        self.clone().fetch_boxed(Box::new(request))
    }

    pub(super) fn hedges(&self) -> &hedge::Budget {
        &self.0.hedges
    }

    pub(super) fn sleep(&self, duration: Duration) -> Sleep {
        self.0.handle.sleep(duration)
    }

    /// Whether no connection could be had for the request at once.
    pub(super) fn would_wait(&self, request: &Request) -> bool {
        self.0.pool.would_wait(&request.pool_key())
    }

    pub(super) async fn fetch_boxed(self, mut request: Box<Request>) -> Result<Response> {
        if let Some(delay) = request.hedge_after.take() {
            return hedge::fetch(self, request, delay).await;
        }
        let Inner { handle, pool, tls, control, .. } = &*self.0;
        if control.0.is_closed() {
            return Err(Error::closed(request.authority()));
        }
        check_tls(&request.url, tls.is_some())?;
        let in_flight = pool.begin_request();
        let now = now_ns();
        let mut acquire = pool.acquire(&request.pool_key(), now);
        let mut phases = Box::new(Phases::begin(handle, &request, acquire.name(), now));
        let mut redirects = 0;
        let mut answer = loop {
            let answer = exchange(self.0.dialer(&request), pool, acquire, &mut request, &mut phases).await?;
            if request.max_redirects == 0 {
                break answer;
            }
            let status = answer.head.status;
            let target = redirect::location(status, &answer.head.headers, &request.url)?;
            // A streamed body cannot be sent again: then the caller gets the redirect itself.
            let Some(target) =
                target.filter(|_| !(request.body.is_spent() && redirect::keeps_body(status, &request.method)))
            else {
                break answer;
            };
            if redirects == request.max_redirects {
                let detail = format!("more than {redirects} redirects");
                return Err(phases.error(ErrorKind::TooManyRedirects, detail));
            }
            redirects += 1;
            // Rare enough for its state to live apart, so that every other request's future is smaller.
            Box::pin(answer.recycle()).await;
            redirect::follow(&mut request, status, target);
            check_tls(&request.url, tls.is_some())?;
            acquire = pool.acquire(&request.pool_key(), now_ns());
            phases.name = acquire.name();
        };
        let handshake = answer.handshake.take();
        let response = Response::new(answer, request.url, redirects, phases, in_flight);
        match request.websocket.zip(handshake) {
            Some((options, handshake)) => Box::pin(response.upgrade(handle, &options, &handshake)).await,
            None => Ok(response),
        }
    }
}

/// One request and the head of its response, on a connection of the pool or a new one.
async fn exchange(
    dialer: Dialer<'_>,
    pool: &Rc<Pool>,
    mut acquire: Acquire,
    request: &mut Request,
    phases: &mut Phases,
) -> Result<Answer> {
    let host_header = acquire.host_header();
    // What cannot be sent is refused before anything is asked of the network.
    let mut head = Head::new(request, &host_header, dialer.route)?;
    let mut repeats = 0;
    loop {
        phases.enter(Phase::Queueing, now_ns());
        let (mut lease, grant) = phases.limit(acquire).await?;
        phases.timings.queue = Some(phases.since_start(now_ns()));
        let mut used = match grant {
            Grant::Connection(connection, since) if is_usable(&connection, since, request) => {
                Some(Carrier::Http1(connection))
            }
            Grant::Stream { connection, idle_since, .. } => {
                if let Some(since) = idle_since {
                    look_at_idle(dialer.handle, &connection, since).await;
                }
                Some(Carrier::stream_of(connection))
            }
            _ => None,
        };
        loop {
            let was_used = used.is_some();
            let mut carrier = match used.take() {
                Some(carrier) => carrier,
                None => Box::pin(open(dialer, &mut lease, request, phases)).await?,
            };
            let handshake = head.handshake.take();
            let failed = match carrier.exchange(head, request, phases).await {
                Ok(response) => return Ok(Answer::new(response, carrier, lease, handshake)),
                Err(failed) => failed,
            };
            let is_safe = failed.is_unprocessed && repeats < REPEATS_MAX && !request.body.is_spent();
            if !(is_safe || was_used && may_repeat(&failed.error, &carrier, request)) {
                return Err(failed.error);
            }
            repeats += 1;
            head = Head::new(request, &host_header, dialer.route)?;
            if matches!(carrier, Carrier::Http2(_)) {
                break;
            }
        }
        // What was shared is no more: another connection is looked for.
        drop(lease);
        acquire = pool.acquire(&request.pool_key(), now_ns());
    }
}

/// Makes a connection with the slot of `lease`, and tells the pool of what kind it is.
async fn open(dialer: Dialer<'_>, lease: &mut Lease, request: &Request, phases: &mut Phases) -> Result<Carrier> {
    let opened = Carrier::open(dialer, request, phases).await;
    match opened.as_ref().ok().and_then(Carrier::shared) {
        Some(connection) => lease.share(connection),
        None => lease.go_alone(),
    }
    opened
}

/// Lets the tasks of a shared connection that nobody used look at what has come for it meanwhile.
async fn look_at_idle(handle: &LoopHandle, connection: &Http2, idle_since: u64) {
    let is_recent = now_ns().saturating_sub(idle_since) < RECENT_NANOS;
    if !is_recent && connection.has_input() {
        handle.sleep(LOOK_TIME).await;
    }
}

/// Whether a connection of the pool may be used. The socket is not asked about one that was in use a moment ago, if the
/// request may be sent once more should that have been wrong.
fn is_usable(connection: &Connection, idle_since: u64, request: &Request) -> bool {
    let is_recent = now_ns().saturating_sub(idle_since) < RECENT_NANOS;
    connection.is_ready() && (is_recent && is_repeatable(request) || !connection.is_stale())
}

fn is_repeatable(request: &Request) -> bool {
    request.method.is_idempotent() && !request.body.is_once()
}

/// Whether a request that failed on a connection which was idle before may be sent again on a new one: the server most
/// likely closed the idle connection while the request was on its way, and even if not, twice is harmless.
fn may_repeat(error: &Error, carrier: &Carrier, request: &Request) -> bool {
    matches!(error.kind(), ErrorKind::Read | ErrorKind::Write | ErrorKind::RemoteProtocol)
        && carrier.may_have_been_stale()
        && is_repeatable(request)
}
