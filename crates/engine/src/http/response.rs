//! The response: its head, and a body that comes as it is asked for.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use url::Url;

use super::carrier::Carrier;
use super::error::{Error, ErrorKind, Phase, Result};
use super::phases::{Phases, Timings};
use super::pool::{InFlight, Lease};
use super::websocket::{Handshake, WebSocket, WebSocketOptions};
use crate::handle::{LoopHandle, now_ns};
use crate::transport::Addresses;

/// A body that nobody wants is read up to this size for the sake of its connection.
const RECYCLE_BYTES_MAX: usize = 64 * 1024;

/// What the server answered.
///
/// The body has not been read yet. Nothing reads ahead of [`Response::chunk`], so a slow reader slows the server.
/// Dropping a response whose body is unread closes its connection; once the body has been read, the connection is
/// back in the pool.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The protocol's version.
    pub version: Version,
    /// The headers, with names in lower case.
    pub headers: HeaderMap,
    /// Where the answer came from, after redirects.
    pub url: Url,
    /// The number of redirects that were followed.
    pub redirects: u32,
    /// What the host wants to know of the connection's TLS session ([`Session::facts`](crate::transport::tls::Session)).
    pub tls: Option<Arc<dyn Any + Send + Sync>>,
    /// This end's address and the peer's, which may be a proxy.
    pub addresses: Addresses,
    /// What the connection has become, if that was asked for and the server agreed; there is no body then.
    pub websocket: Option<WebSocket>,
    reason: Option<ReasonPhrase>,
    body: ResponseBody,
}

/// A body that is still on its way.
pub struct ResponseBody {
    incoming: Incoming,
    /// The connection, until the body is whole.
    carrier: Option<(Carrier, Lease)>,
    /// So many bytes had come when the peer's time began anew last.
    seen: u64,
    phases: Box<Phases>,
    failure: Option<Error>,
    _in_flight: InFlight,
}

/// The head of an answer, and what its body comes from.
pub(super) struct Answer {
    pub head: http::response::Parts,
    incoming: Incoming,
    carrier: Carrier,
    lease: Lease,
    /// If a WebSocket was asked for.
    pub handshake: Option<Handshake>,
}

impl Answer {
    pub fn new(
        response: http::Response<Incoming>,
        carrier: Carrier,
        lease: Lease,
        handshake: Option<Handshake>,
    ) -> Self {
        let (head, incoming) = response.into_parts();
        Self { head, incoming, carrier, lease, handshake }
    }

    /// Nobody wants the body. The connection goes back to the pool if all of the body is there already, as that of a
    /// redirect usually is; else waiting for it costs more than a new connection.
    pub async fn recycle(self) {
        let Self { mut incoming, carrier, lease, .. } = self;
        // A stream that nobody reads on is reset, which costs the others nothing.
        let Carrier::Http1(mut connection) = carrier else { return };
        let whole = std::future::poll_fn(|context| {
            let mut discarded = 0;
            loop {
                connection.drive(context);
                match connection.poll_frame(&mut incoming) {
                    Poll::Ready(Some(Ok(frame))) => discarded += frame.data_ref().map_or(0, Bytes::len),
                    Poll::Ready(None) => return Poll::Ready(connection.is_reusable(context)),
                    Poll::Ready(Some(Err(_))) | Poll::Pending => return Poll::Ready(false),
                }
                if discarded > RECYCLE_BYTES_MAX {
                    return Poll::Ready(false);
                }
            }
        })
        .await;
        if whole {
            lease.give_back(connection);
        }
    }
}

impl Response {
    pub(super) fn new(answer: Answer, url: Url, redirects: u32, mut phases: Box<Phases>, in_flight: InFlight) -> Self {
        let Answer { mut head, incoming, carrier, lease, .. } = answer;
        phases.enter(Phase::Receiving, now_ns());
        let (tls, addresses) = carrier.facts();
        let seen = carrier.traffic().received.get();
        let carrier = Some((carrier, lease));
        Self {
            status: head.status,
            version: head.version,
            headers: head.headers,
            url,
            redirects,
            tls,
            addresses,
            websocket: None,
            reason: head.extensions.remove(),
            body: ResponseBody { incoming, carrier, seen, phases, failure: None, _in_flight: in_flight },
        }
    }

    /// What the server answered to a request for a WebSocket.
    pub(super) async fn upgrade(
        mut self,
        handle: &LoopHandle,
        options: &WebSocketOptions,
        handshake: &Handshake,
    ) -> Result<Self> {
        if self.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(self);
        }
        let body = &mut self.body;
        let Some((Carrier::Http1(connection), lease)) = body.carrier.take() else { return Ok(self) };
        if let Err(detail) = handshake.check(options, &self.headers) {
            return Err(body.phases.error(ErrorKind::RemoteProtocol, detail));
        }
        body.phases.timings.total = Some(body.phases.since_start(now_ns()));
        let (stream, leftover) = connection.into_upgraded().await;
        self.websocket = Some(WebSocket::start(handle, stream, leftover, lease, options, &self.headers));
        Ok(self)
    }

    /// The reason phrase: what the server sent, else the standard's.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        match &self.reason {
            Some(reason) => reason.as_bytes(),
            None => self.status.canonical_reason().unwrap_or_default().as_bytes(),
        }
    }

    /// How long each phase took.
    #[must_use]
    pub fn timings(&self) -> &Timings {
        self.body.timings()
    }

    /// The request had been sent once already, `earlier` than this one.
    pub(super) fn began_earlier(&mut self, earlier: Duration) {
        self.body.phases.began_earlier(earlier);
    }

    /// A second request was sent, `late` after the first.
    pub(super) fn was_hedged(&mut self, late: Duration) {
        self.body.phases.timings.hedge = Some(late);
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// `ReadTimeout`, `Read`, and `RemoteProtocol` when the body ends too early.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.body.chunk().await
    }

    /// The whole body, in the pieces in which it came.
    ///
    /// # Errors
    /// As [`Response::chunk`].
    pub async fn chunks(&mut self) -> Result<Vec<Bytes>> {
        self.body.chunks().await
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Response::chunk`].
    pub async fn bytes(&mut self) -> Result<Bytes> {
        let mut chunks = self.body.chunks().await?;
        Ok(if chunks.len() == 1 { chunks.swap_remove(0) } else { chunks.concat().into() })
    }

    /// Takes the body off the head, to be read elsewhere on the same loop.
    #[must_use]
    pub fn into_body(self) -> ResponseBody {
        self.body
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Response({} from {})", self.status, self.url)
    }
}

impl ResponseBody {
    /// How long each phase took.
    #[must_use]
    pub fn timings(&self) -> &Timings {
        &self.phases.timings
    }

    /// As [`Response::chunk`].
    ///
    /// # Errors
    /// As [`Response::chunk`]. Once it has failed, it fails the same way again.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if self.phases.timings.total.is_none() {
            // The time in which nobody asked does not count as the peer's.
            self.phases.resume();
        }
        let result = std::future::poll_fn(|context| self.poll_chunk(context)).await;
        self.phases.pause();
        result
    }

    /// As [`Response::chunks`].
    ///
    /// # Errors
    /// As [`Response::chunk`].
    pub async fn chunks(&mut self) -> Result<Vec<Bytes>> {
        let mut chunks = Vec::new();
        if self.phases.timings.total.is_none() {
            self.phases.resume();
        }
        std::future::poll_fn(|context| {
            loop {
                match self.poll_chunk(context) {
                    Poll::Ready(Ok(Some(chunk))) => chunks.push(chunk),
                    Poll::Ready(Ok(None)) => return Poll::Ready(Ok(std::mem::take(&mut chunks))),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Sends on what is left of the request's body, while nobody reads the response's.
    pub fn send_on(&mut self, context: &mut Context<'_>) {
        if let Some((carrier, _)) = &mut self.carrier {
            if !carrier.traffic().body_taken.get() {
                carrier.drive(context);
            }
        }
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        if let Some(error) = &self.failure {
            return Poll::Ready(Err(error.clone()));
        }
        let Some((carrier, _)) = &mut self.carrier else { return Poll::Ready(Ok(None)) };
        let mut frame = carrier.poll_frame(&mut self.incoming, context);
        loop {
            match frame {
                Poll::Ready(Some(Ok(piece))) => {
                    // Trailers are not handed out.
                    if let Ok(data) = piece.into_data() {
                        carrier.received(data.len());
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = carrier.explain(&error, &self.phases);
                    return Poll::Ready(Err(self.fail(error)));
                }
                Poll::Ready(None) => {
                    self.finish(context);
                    return Poll::Ready(Ok(None));
                }
                Poll::Pending => {
                    carrier.drive(context);
                    frame = carrier.poll_frame(&mut self.incoming, context);
                    if frame.is_pending() {
                        break;
                    }
                    continue;
                }
            }
            frame = carrier.poll_frame(&mut self.incoming, context);
        }
        let received = carrier.traffic().received.get();
        if carrier.traffic().awaits_body() {
            self.phases.pause();
        } else if received != self.seen || self.phases.is_paused() {
            self.seen = received;
            self.phases.progress(now_ns());
        }
        self.phases.poll_due(context).map(|error| Err(self.fail(error)))
    }

    /// The body is whole: the connection goes back, or is closed if nothing may follow on it.
    fn finish(&mut self, context: &mut Context<'_>) {
        self.phases.timings.total = Some(self.phases.since_start(now_ns()));
        if let Some((Carrier::Http1(mut connection), lease)) = self.carrier.take() {
            if connection.is_reusable(context) {
                lease.give_back(connection);
            }
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.failure = Some(error.clone());
        self.carrier = None;
        error
    }
}
