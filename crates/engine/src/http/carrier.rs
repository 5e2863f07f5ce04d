//! What carries a request: a connection of its own, or a stream of a shared one.

use std::any::Any;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use super::connection::{Connection, explain};
use super::dial::Dialer;
use super::error::{Error, ErrorKind, Result};
use super::http2::Http2;
use super::io::Traffic;
use super::phases::Phases;
use super::request::{Head, Request};
use crate::transport::Addresses;

/// The connection or stream of one request.
pub(super) enum Carrier {
    Http1(Box<Connection>),
    Http2(Stream),
}

/// A stream of a shared connection.
pub(super) struct Stream {
    connection: Rc<Http2>,
    traffic: Rc<Traffic>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Nobody wants the rest of the request's body to be sent.
        self.traffic.give_up_body();
    }
}

/// Why there is no response.
pub(super) struct Failed {
    pub error: Error,
    /// The server has done nothing about the request: it may be sent again, whatever it is.
    pub is_unprocessed: bool,
}

impl Failed {
    pub fn for_good(error: Error) -> Self {
        Self { error, is_unprocessed: false }
    }
}

impl Carrier {
    /// A stream of a shared connection.
    pub fn stream_of(connection: Rc<Http2>) -> Self {
        Self::Http2(Stream { connection, traffic: Rc::default() })
    }

    /// Makes a connection for a request, and speaks on it what both ends have settled on.
    pub async fn open(dialer: Dialer<'_>, request: &Request, phases: &mut Phases) -> Result<Self> {
        let dialed = dialer.dial(&request.url, request.server_name.as_deref(), phases).await?;
        if dialed.speaks_http2 && request.websocket.is_some() {
            let detail = "the connection speaks HTTP/2, and a WebSocket begins with HTTP/1.1";
            return Err(phases.error(ErrorKind::UnsupportedProtocol, detail));
        }
        if dialed.speaks_http2 {
            Ok(Self::stream_of(Http2::open(dialer.handle, dialed, phases).await?))
        } else {
            Ok(Self::Http1(Connection::open(dialed, phases).await?))
        }
    }

    /// Sends a request and waits for the head of the response.
    pub async fn exchange(
        &mut self,
        head: Head,
        request: &mut Request,
        phases: &mut Phases,
    ) -> std::result::Result<http::Response<Incoming>, Failed> {
        match self {
            Self::Http1(connection) => connection.exchange(head, request, phases).await.map_err(Failed::for_good),
            Self::Http2(Stream { connection, traffic }) => {
                Box::pin(connection.exchange(head, request, traffic, phases)).await
            }
        }
    }

    /// The connection, if it is for sharing.
    pub fn shared(&self) -> Option<Rc<Http2>> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(stream) => Some(Rc::clone(&stream.connection)),
        }
    }

    /// Whether a failure may be that of a connection which the server had closed before the request came.
    pub fn may_have_been_stale(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.traffic.received.get() == 0,
            Self::Http2(stream) => stream.connection.is_closed(),
        }
    }

    /// Moves the bytes of a connection of its own; those of a shared one are moved anyhow.
    pub fn drive(&mut self, context: &mut Context<'_>) {
        if let Self::Http1(connection) = self {
            connection.drive(context);
        }
    }

    /// What has come of the body. Where more comes only by `drive`, nobody is woken for it.
    pub fn poll_frame(
        &self,
        incoming: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match self {
            Self::Http1(connection) => connection.poll_frame(incoming),
            Self::Http2(_) => Pin::new(incoming).poll_frame(context),
        }
    }

    pub fn traffic(&self) -> &Traffic {
        match self {
            Self::Http1(connection) => &connection.traffic,
            Self::Http2(stream) => &stream.traffic,
        }
    }

    /// Notes that so much of the body came, where the connection does not tell.
    pub fn received(&self, count: usize) {
        if let Self::Http2(stream) = self {
            let received = &stream.traffic.received;
            received.set(received.get() + count as u64);
        }
    }

    /// What the host wants to know of the connection's TLS session, and the addresses of this end and the peer's.
    pub fn facts(&self) -> (Option<Arc<dyn Any + Send + Sync>>, Addresses) {
        match self {
            Self::Http1(connection) => (connection.facts.clone(), connection.addresses),
            Self::Http2(Stream { connection, .. }) => (connection.facts.clone(), connection.addresses),
        }
    }

    /// An error of hyper in the client's own terms.
    pub fn explain(&self, error: &hyper::Error, phases: &Phases) -> Error {
        match self {
            Self::Http1(connection) => explain(error, &connection.traffic, phases),
            Self::Http2(stream) => stream.connection.explain(error, phases),
        }
    }
}
