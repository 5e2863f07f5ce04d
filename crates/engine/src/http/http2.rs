//! A connection that speaks HTTP/2, shared by many requests.
//!
//! Unlike one of HTTP/1.1 it is moved by tasks of its own: bytes for one request come between those for others, whoever
//! polls. They end with the last reference to the [`Http2`], once the server was told that it was the last (GOAWAY).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;

use super::carrier::Failed;
use super::dial::Dialed;
use super::error::{Error, ErrorKind, Phase, Result, io_words};
use super::io::{Direction, Traffic, WatchedStream};
use super::phases::Phases;
use super::request::{Head, Request, SentBody};
use crate::executor::JoinHandle;
use crate::handle::{LoopHandle, now_ns};
use crate::transport::{Addresses, ByteStream};

/// So much of one response may wait for its reader.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// So much of all of a connection's responses may wait, so that a few slow readers do not stop the others.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The head of a response may have so many bytes, decompressed.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// So many requests may be sent before the server has said how many it allows at once: a server that allows fewer may
/// close the connection.
const FIRST_STREAMS_MAX: usize = 1;
/// After so many reads in a row the rest of the loop has its turn: a peer that floods must not stop it.
const READS_PER_TURN: u32 = 16;
/// A server that takes nothing any more is not waited for longer than this when it is told of the end.
const CLOSING_TIME: Duration = Duration::from_secs(1);

type Driver = http2::Connection<WatchedStream, SentBody, Spawner>;

/// The connection.
pub(super) struct Http2 {
    sender: SendRequest<SentBody>,
    tasks: Rc<Tasks>,
    /// What the host wants to know of its TLS session.
    pub facts: Option<Arc<dyn Any + Send + Sync>>,
    /// This end's and the peer's.
    pub addresses: Addresses,
    stream: Rc<dyn ByteStream>,
    traffic: Rc<Traffic>,
    handle: LoopHandle,
}

/// What moves a connection.
#[derive(Default)]
struct Tasks {
    /// hyper's part that takes requests, until no more can be taken.
    driver: RefCell<Option<Driver>>,
    /// The task that polls it.
    dispatch: RefCell<Option<JoinHandle<()>>>,
    /// The task that reads and writes.
    io: RefCell<Option<JoinHandle<()>>>,
    /// So many requests are allowed at once, as far as `on_more_streams` was told.
    max_streams: Cell<usize>,
    /// The server must have said by now how many it allows: it answers to nothing before.
    is_settled: Cell<bool>,
    /// Hears when more are, or when it is settled.
    on_more_streams: RefCell<Option<Box<dyn Fn()>>>,
}

impl Tasks {
    fn max_streams(&self) -> usize {
        let driver = self.driver.try_borrow();
        driver.ok().and_then(|driver| Some(driver.as_ref()?.current_max_send_streams())).unwrap_or(0)
    }

    /// Tells of what the server has just allowed.
    fn tell_of_streams(&self) {
        let now = self.max_streams();
        if now > self.max_streams.replace(now) {
            self.is_settled.set(true);
            self.tell();
        }
    }

    fn settle(&self) {
        if !self.is_settled.replace(true) {
            self.tell();
        }
    }

    fn tell(&self) {
        if let Some(told) = &*self.on_more_streams.borrow() {
            told();
        }
    }
}

/// How hyper starts tasks: the first of a connection is the one that reads and writes.
#[derive(Clone)]
struct Spawner {
    handle: LoopHandle,
    tasks: Rc<Tasks>,
    traffic: Rc<Traffic>,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Spawner {
    fn execute(&self, future: F) {
        if self.tasks.io.borrow().is_some() {
            return self.handle.spawn(future).detach();
        }
        let (traffic, tasks) = (Rc::clone(&self.traffic), Rc::downgrade(&self.tasks));
        let task = self.handle.spawn(async move {
            let mut future = pin!(future);
            poll_fn(|context| {
                traffic.reads_left.set(Some(READS_PER_TURN));
                let polled = future.as_mut().poll(context);
                if let Some(tasks) = tasks.upgrade() {
                    tasks.tell_of_streams();
                }
                polled
            })
            .await;
        });
        self.tasks.io.replace(Some(task));
    }
}

impl Http2 {
    /// Begins to speak HTTP/2.
    pub async fn open(handle: &LoopHandle, dialed: Dialed, phases: &Phases) -> Result<Rc<Self>> {
        let Dialed { stream, facts, .. } = dialed;
        let (traffic, tasks) = (Rc::new(Traffic::default()), Rc::new(Tasks::default()));
        let addresses = stream.addresses();
        let watched = WatchedStream { stream: Rc::clone(&stream), traffic: Rc::clone(&traffic) };
        let spawner = Spawner { handle: handle.clone(), tasks: Rc::clone(&tasks), traffic: Rc::clone(&traffic) };
        let handshake = http2::Builder::new(spawner)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX)
            .initial_max_send_streams(FIRST_STREAMS_MAX)
            .handshake(watched);
        let (sender, driver) = handshake.await.map_err(|error| phases.error(ErrorKind::Connect, error.to_string()))?;
        tasks.driver.replace(Some(driver));
        let weak = Rc::downgrade(&tasks);
        let dispatch = handle.spawn(poll_fn(move |context| {
            let Some(tasks) = weak.upgrade() else { return Poll::Ready(()) };
            let mut driver = tasks.driver.borrow_mut();
            let Some(running) = &mut *driver else { return Poll::Ready(()) };
            // An error was given to the requests that it concerns.
            if Pin::new(running).poll(context).is_pending() {
                return Poll::Pending;
            }
            let ended = driver.take();
            drop(driver);
            drop(ended);
            Poll::Ready(())
        }));
        tasks.dispatch.replace(Some(dispatch));
        Ok(Rc::new(Self { sender, tasks, facts, addresses, stream, traffic, handle: handle.clone() }))
    }

    /// Whether it takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.traffic.failed.get().is_some()
    }

    /// Whether something came that was not looked at yet, the end included. Asks the socket.
    pub fn has_input(&self) -> bool {
        self.stream.has_input()
    }

    /// So many requests may use it at once, as the server says.
    pub fn max_streams(&self) -> usize {
        self.tasks.max_streams()
    }

    /// Whether it is known how many that are; nothing is waited for once it is closed.
    pub fn is_settled(&self) -> bool {
        self.tasks.is_settled.get() || self.is_closed()
    }

    /// Has `told` called whenever the server allows more requests at once than before, and once it is settled.
    pub fn on_more_streams(&self, told: impl Fn() + 'static) {
        self.tasks.max_streams.set(self.max_streams());
        self.tasks.on_more_streams.replace(Some(Box::new(told)));
    }

    /// Sends a request and waits for the head of the response. `traffic` is that of its own stream.
    pub async fn exchange(
        &self,
        head: Head,
        request: &mut Request,
        traffic: &Rc<Traffic>,
        phases: &mut Phases,
    ) -> std::result::Result<http::Response<Incoming>, Failed> {
        phases.enter(Phase::Sending, now_ns());
        traffic.is_stream.set(true);
        let head = head.for_http2(&request.url).map_err(Failed::for_good)?;
        let message = head.with_body(SentBody::new(request.body.take_or_share(), traffic));
        let mut sender = self.sender.clone();
        let mut response = pin!(sender.try_send_request(message));
        let mut answer = None;
        poll_fn(|context| {
            if answer.is_none() {
                if let Poll::Ready(given) = response.as_mut().poll(context) {
                    phases.timings.first_byte = Some(phases.since_start(now_ns()));
                    answer = Some(given);
                    self.tasks.settle();
                }
            }
            traffic.watch_body(context);
            note_sending(traffic, phases);
            let waits = matches!(&answer, Some(Ok(head)) if request.sends_first && head.status().is_success())
                && !traffic.body_taken.get();
            match answer.take() {
                Some(early) if waits => answer = Some(early),
                Some(Ok(response)) => {
                    // A server that refuses the request does not want the rest of it either.
                    if !response.status().is_success() && !traffic.body_taken.get() {
                        traffic.body_held.set(true);
                    }
                    return Poll::Ready(Ok(response));
                }
                Some(Err(mut error)) => {
                    let unsent = error.take_message();
                    let error = error.into_error();
                    let failed = Failed {
                        is_unprocessed: unsent.is_some() || is_unprocessed(&error),
                        error: self.explain(&error, phases),
                    };
                    if let Some(unsent) = unsent {
                        request.body = unsent.into_body().into_inner();
                    }
                    return Poll::Ready(Err(failed));
                }
                None => {}
            }
            phases.poll_due(context).map(|error| Err(Failed::for_good(error)))
        })
        .await
    }

    /// An error of hyper in the client's own terms.
    pub fn explain(&self, error: &hyper::Error, phases: &Phases) -> Error {
        if let Some(cause) = self.traffic.sending_error.take() {
            return Error::io(ErrorKind::Write, phases.phase(), &phases.name, &cause);
        }
        let source = std::error::Error::source(error);
        let Some(cause) = source.and_then(|source| source.downcast_ref::<h2::Error>()) else {
            let kind = if error.is_user() { ErrorKind::LocalProtocol } else { ErrorKind::RemoteProtocol };
            return phases.error(kind, source.map_or_else(|| error.to_string(), ToString::to_string));
        };
        if let Some(io) = cause.get_io() {
            if self.traffic.failed.get() == Some(Direction::Receiving) {
                return Error::io(ErrorKind::Read, phases.phase(), &phases.name, io);
            }
            let detail = match io.kind() {
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::UnexpectedEof => {
                    "the server closed the connection before the answer was whole".to_owned()
                }
                _ => io_words(io),
            };
            return phases.error(ErrorKind::RemoteProtocol, detail);
        }
        let reason = cause.reason().map_or_else(|| cause.to_string(), |reason| format!("{reason:?}"));
        let detail = match (cause.is_remote(), cause.is_library()) {
            (true, _) if cause.is_go_away() => format!("the server ended the connection ({reason})"),
            (true, _) => format!("the server reset the request's stream ({reason})"),
            (false, true) => format!("the server broke the rules of HTTP/2 ({reason})"),
            (false, false) => {
                return phases.error(ErrorKind::LocalProtocol, format!("the request's body failed ({reason})"));
            }
        };
        phases.error(ErrorKind::RemoteProtocol, detail)
    }
}

/// Brings the request's phase up to what its stream has taken meanwhile.
fn note_sending(traffic: &Traffic, phases: &mut Phases) {
    if phases.phase() == Phase::Sending {
        let at = traffic.taken_at.get();
        if traffic.body_taken.get() {
            let at = if at == 0 { now_ns() } else { at };
            phases.timings.sent = Some(phases.since_start(at));
            phases.enter(Phase::Waiting, at);
        } else if at > 0 {
            phases.progress(at);
        }
    }
    if traffic.awaits_body() {
        phases.pause();
    } else if phases.is_paused() {
        phases.resume();
    }
}

/// Whether the server says that it has done nothing about a request (RFC 9113, section 8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|source| source.downcast_ref::<h2::Error>()).is_some_and(|cause| {
        let reason = cause.reason();
        let refused = cause.is_reset() && reason == Some(Reason::REFUSED_STREAM);
        // Streams above the last that the server names; those below it go on.
        let is_above_last = cause.is_go_away() && reason == Some(Reason::NO_ERROR);
        cause.is_remote() && (refused || is_above_last)
    })
}

impl Drop for Http2 {
    fn drop(&mut self) {
        // Without these nobody can send a request any more: whoever reads and writes says so to the server (GOAWAY, then
        // TLS's close_notify), and ends.
        drop((self.tasks.dispatch.take(), self.tasks.driver.take()));
        let Some(io) = self.tasks.io.take() else { return };
        if self.traffic.failed.get().is_none() {
            let handle = self.handle.clone();
            self.handle.spawn(async move { handle.timeout(CLOSING_TIME, io).await }).detach();
        }
    }
}
