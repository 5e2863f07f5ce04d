//! One connection: made, used for one exchange after the other, judged for reuse.
//!
//! hyper speaks the protocol. It is not driven by a task of its own: whoever has an exchange under way polls the
//! connection within its own future, so an exchange costs no spawn and no wake-up between tasks. Nobody polls an idle
//! connection; its socket is looked at when it is taken out of the pool.

use std::any::Any;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};

use super::dial::Dialed;
use super::error::{Error, ErrorKind, Phase, Result};
use super::expect::Expectation;
use super::io::{Direction, Traffic, WatchedStream};
use super::phases::Phases;
use super::relay::Relay;
use super::request::{Head, Request, SentBody};
use crate::handle::now_ns;
use crate::transport::{Addresses, ByteStream};

const NO_ANSWER: &str = "the server closed the connection without an answer";

/// A connection that speaks HTTP/1.1.
pub(super) struct Connection {
    sender: SendRequest<SentBody>,
    driver: http1::Connection<WatchedStream, SentBody>,
    relay: Relay,
    /// hyper is done with it.
    finished: bool,
    stream: Rc<dyn ByteStream>,
    /// What the host wants to know of its TLS session.
    pub facts: Option<Arc<dyn Any + Send + Sync>>,
    /// This end's and the peer's.
    pub addresses: Addresses,
    pub traffic: Rc<Traffic>,
}

impl Connection {
    /// Begins to speak HTTP/1.1.
    pub async fn open(dialed: Dialed, phases: &Phases) -> Result<Box<Self>> {
        let Dialed { stream, facts, .. } = dialed;
        let traffic = Rc::new(Traffic::default());
        let watched = WatchedStream { stream: Rc::clone(&stream), traffic: Rc::clone(&traffic) };
        let (sender, driver) =
            http1::handshake(watched).await.map_err(|error| phases.error(ErrorKind::Connect, error.to_string()))?;
        let addresses = stream.addresses();
        let relay = Relay::new();
        Ok(Box::new(Self { sender, driver, relay, finished: false, stream, facts, addresses, traffic }))
    }

    /// Whether the last exchange is over and another may begin, as far as is known without asking the socket.
    pub fn is_ready(&self) -> bool {
        !self.finished && self.sender.is_ready()
    }

    /// Whether the peer has closed, or sent something that nobody asked for. Asks the socket.
    pub fn is_stale(&self) -> bool {
        self.stream.is_stale()
    }

    /// Tells the peer that the connection, which is idle, is closed now.
    pub fn say_goodbye(&self) {
        self.stream.say_goodbye();
    }

    /// Whether the last exchange has ended such that another may follow.
    pub fn is_reusable(&mut self, context: &mut Context<'_>) -> bool {
        if !self.finished && !self.sender.is_ready() {
            self.drive(context);
        }
        self.relay.follow(Waker::noop());
        self.is_ready() && self.traffic.failed.get().is_none()
    }

    /// Moves bytes as far as they go now.
    pub fn drive(&mut self, context: &mut Context<'_>) {
        if !self.finished {
            // An error here was given to the exchange already, or concerns nobody.
            self.finished = Pin::new(&mut self.driver).poll(&mut self.relay.follow(context.waker())).is_ready();
        }
    }

    /// The stream, and what was read of it beyond the response that says that no HTTP follows.
    pub async fn into_upgraded(mut self: Box<Self>) -> (Rc<dyn ByteStream>, Bytes) {
        if !self.finished {
            // Its end is that of HTTP; there is no error in it that the response would not have told.
            let _ended = std::future::poll_fn(|context| Pin::new(&mut self.driver).poll(context)).await;
        }
        let Self { driver, stream, .. } = *self;
        (stream, driver.into_parts().read_buf)
    }

    /// What has come of the body; the rest comes by `drive`.
    pub fn poll_frame(&self, incoming: &mut Incoming) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.relay.still(|| Pin::new(incoming).poll_frame(&mut Context::from_waker(Waker::noop())))
    }

    /// Sends a request and waits for the head of the response.
    pub async fn exchange(
        &mut self,
        head: Head,
        request: &mut Request,
        phases: &mut Phases,
    ) -> Result<http::Response<Incoming>> {
        phases.enter(Phase::Sending, now_ns());
        self.traffic.begin();
        let mut message = head.with_body(SentBody::new(request.body.take_or_share(), &self.traffic));
        let mut expectation = Expectation::hold(&mut message, &self.traffic, phases);
        let mut response = pin!(self.relay.still(|| self.sender.send_request(message)));
        let (driver, relay, traffic, finished) = (&mut self.driver, &self.relay, &self.traffic, &mut self.finished);
        let mut seen = (0, 0);
        let mut answer = None;
        std::future::poll_fn(|context| {
            let mut drive = |context: &mut Context<'_>| {
                if !*finished {
                    *finished = Pin::new(&mut *driver).poll(&mut relay.follow(context.waker())).is_ready();
                }
                *finished
            };
            let mut is_over = drive(context);
            if expectation.as_mut().is_some_and(|expectation| expectation.is_met(context)) {
                expectation = None;
                traffic.body_held.set(false);
                is_over = drive(context);
            }
            if answer.is_none() {
                // It comes out of the driver, which has just been polled: nobody else needs to wake this task.
                let response = response.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(response) = response {
                    answer = Some(response.map_err(|error| explain(&error, traffic, phases)));
                }
            }
            let moved = (traffic.sent.get(), traffic.received.get());
            if moved != seen {
                let now = now_ns();
                if phases.phase() == Phase::Sending && traffic.is_sent() {
                    phases.timings.sent = Some(phases.since_start(now));
                    phases.enter(Phase::Waiting, now);
                } else {
                    phases.progress(now);
                }
                if seen.1 == 0 && moved.1 > 0 {
                    phases.timings.first_byte = Some(phases.since_start(now));
                }
                seen = moved;
            }
            let is_success =
                answer.as_ref().is_some_and(|answer| matches!(answer, Ok(head) if head.status().is_success()));
            match answer.take() {
                Some(early) if is_success && request.sends_first && !traffic.is_sent() && !is_over => {
                    answer = Some(early)
                }
                Some(answer) => {
                    // A server that refuses the request does not want the rest of it either.
                    if !is_success && !traffic.body_taken.get() {
                        traffic.body_held.set(true);
                    }
                    return Poll::Ready(answer);
                }
                // It saw the end of the connection before it saw the request, which it will not look at any more.
                None if is_over => return Poll::Ready(Err(phases.error(ErrorKind::RemoteProtocol, NO_ANSWER))),
                None => {}
            }
            if traffic.awaits_body() {
                phases.pause();
            } else if phases.is_paused() {
                phases.resume();
            }
            phases.poll_due(context).map(Err)
        })
        .await
    }
}

/// An error of hyper in the client's own terms.
pub(super) fn explain(error: &hyper::Error, traffic: &Traffic, phases: &Phases) -> Error {
    if let Some(cause) = traffic.sending_error.take() {
        return Error::io(ErrorKind::Write, phases.phase(), &phases.name, &cause);
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            if cause.kind() == io::ErrorKind::UnexpectedEof {
                break;
            }
            let kind = match traffic.failed.get() {
                Some(Direction::Sending) => ErrorKind::Write,
                Some(Direction::Receiving) => ErrorKind::Read,
                None => ErrorKind::RemoteProtocol,
            };
            return Error::io(kind, phases.phase(), &phases.name, cause);
        }
        source = cause.source();
    }
    if error.is_user() {
        let detail = source_words(error).unwrap_or_else(|| error.to_string());
        return phases.error(ErrorKind::LocalProtocol, format!("the request's body failed: {detail}"));
    }
    if error.is_parse() {
        return phases.error(ErrorKind::RemoteProtocol, format!("the answer is not HTTP/1.1 ({error})"));
    }
    let detail = match traffic.received.get() {
        0 => NO_ANSWER,
        _ if phases.phase() == Phase::Receiving => "the server closed the connection before the body was whole",
        _ => "the server closed the connection before the answer was whole",
    };
    phases.error(ErrorKind::RemoteProtocol, detail)
}

fn source_words(error: &hyper::Error) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}
