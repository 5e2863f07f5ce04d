//! What whoever uses a WebSocket shares with the task that drives it: queues, and who waits.
//!
//! Wakers are called when nothing is locked.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::{Closed, Message, Refused};
use crate::handle::now_ns;

/// So much may wait to be sent; a message that does not fit waits with its sender, unless it is the only one.
const OUTGOING_BYTES_MAX: usize = 256 * 1024;
/// So much may wait for its reader, and the message that goes beyond it.
const INCOMING_BYTES_MAX: usize = 1024 * 1024;

/// What a waiter waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Message,
    Room,
    Pong,
    Close,
}

struct Waiter {
    awaited: For,
    waker: Option<Waker>,
}

/// A ping whose answer is waited for.
struct Ping {
    id: u64,
    payload: Bytes,
    /// When it was given to the connection, in nanoseconds of the loop's clock.
    sent: Option<u64>,
    /// Nobody waits for its answer; it is sent all the same.
    is_forgotten: bool,
    answered: Option<Duration>,
}

/// The close frame that this end sends.
pub(super) struct CloseRequest(Option<CloseFrame>);

impl CloseRequest {
    /// RFC 6455, section 7.4.
    pub fn new(code: u16, reason: &str) -> Result<Self, Refused> {
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Refused("this close code may not be sent: 1000 to 1003, 1007 to 1014 and 3000 to 4999 may"));
        }
        if reason.len() > 123 {
            return Err(Refused("the reason of a close has at most 123 bytes"));
        }
        Ok(Self(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() })))
    }
}

#[derive(Default)]
struct State {
    incoming: VecDeque<Message>,
    incoming_bytes: usize,
    outgoing: VecDeque<Message>,
    /// Those that the driver has taken and not sent yet, too.
    outgoing_bytes: usize,
    pings: VecDeque<Ping>,
    next_ping: u64,
    close: Option<CloseRequest>,
    /// The driver does not read, since the reader does not keep up.
    is_paused: bool,
    is_aborted: bool,
    closed: Option<Closed>,
    waiters: Slab<Waiter>,
    driver: Option<Waker>,
}

impl State {
    fn waiting_for(&mut self, awaited: For) -> Vec<Waker> {
        let waiters = self.waiters.iter_mut().filter(|(_, waiter)| waiter.awaited == awaited);
        waiters.filter_map(|(_, waiter)| waiter.waker.take()).collect()
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Shared(Mutex<State>);

/// What the driver is to do next.
pub(super) enum Command {
    Send(Message),
    Ping(Bytes),
    Close(CloseFrame),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_driver(mut state: MutexGuard<'_, State>) {
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    pub fn closed(&self) -> Option<Closed> {
        self.lock().closed.clone()
    }

    pub fn abort(&self) {
        let mut state = self.lock();
        state.is_aborted = true;
        Self::wake_driver(state);
    }

    pub fn ask_to_close(&self, request: CloseRequest) {
        let mut state = self.lock();
        state.close.get_or_insert(request);
        Self::wake_driver(state);
    }

    // The driver's side.

    /// Has the driver's task woken when there is something to do.
    pub fn watch(&self, context: &Context<'_>) {
        self.lock().driver = Some(context.waker().clone());
    }

    pub fn is_aborted(&self) -> bool {
        self.lock().is_aborted
    }

    pub fn is_closing(&self) -> bool {
        let state = self.lock();
        state.close.is_some() || state.closed.is_some()
    }

    /// The next thing to send: pings need not wait for what is in the queue, a close goes last.
    pub fn next_command(&self) -> Option<Command> {
        let mut state = self.lock();
        if state.closed.is_some() {
            return None;
        }
        if let Some(place) = state.pings.iter().position(|ping| ping.sent.is_none()) {
            let ping = &mut state.pings[place];
            ping.sent = Some(now_ns());
            let payload = ping.payload.clone();
            if ping.is_forgotten {
                state.pings.remove(place);
            }
            return Some(Command::Ping(payload));
        }
        match state.outgoing.pop_front() {
            Some(message) => Some(Command::Send(message)),
            None => state.close.as_mut()?.0.take().map(Command::Close),
        }
    }

    /// So much of what was taken is on its way.
    pub fn sent(&self, bytes: usize) {
        let mut state = self.lock();
        state.outgoing_bytes -= bytes;
        let woken = if state.outgoing_bytes < OUTGOING_BYTES_MAX { state.waiting_for(For::Room) } else { Vec::new() };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Whether the reader keeps up; if not, the driver is woken once it has taken something.
    pub fn has_room(&self, messages_max: usize) -> bool {
        let mut state = self.lock();
        state.is_paused = state.incoming.len() >= messages_max || state.incoming_bytes >= INCOMING_BYTES_MAX;
        !state.is_paused
    }

    pub fn received(&self, message: Message) {
        let mut state = self.lock();
        state.incoming_bytes += message.size();
        state.incoming.push_back(message);
        let woken = state.waiting_for(For::Message);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// A ping was answered, and so were those before it: a peer need not answer each.
    pub fn answered(&self, payload: &[u8]) {
        let now = now_ns();
        let mut state = self.lock();
        let found = state.pings.iter().position(|ping| ping.sent.is_some() && ping.payload == payload);
        let Some(last) = found else { return };
        for ping in state.pings.iter_mut().take(last + 1) {
            let took = now.saturating_sub(ping.sent.unwrap_or(now));
            ping.answered.get_or_insert(Duration::from_nanos(took));
        }
        let woken = state.waiting_for(For::Pong);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The connection has ended; only the first end counts.
    pub fn end(&self, closed: Closed) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(closed);
        let unsent = std::mem::take(&mut state.outgoing);
        let woken: Vec<_> = state.waiters.iter_mut().filter_map(|(_, waiter)| waiter.waker.take()).collect();
        drop(state);
        drop(unsent);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// One who waits, until it is dropped.
struct Waiting {
    shared: Arc<Shared>,
    awaited: For,
    key: Option<usize>,
}

impl Waiting {
    fn new(shared: &Arc<Shared>, awaited: For) -> Self {
        Self { shared: Arc::clone(shared), awaited, key: None }
    }

    /// Has the task of `context` woken.
    fn wait(key: &mut Option<usize>, awaited: For, mut state: MutexGuard<'_, State>, context: &Context<'_>) {
        let waker = Some(context.waker().clone());
        let replaced = match *key {
            Some(key) => std::mem::replace(&mut state.waiters[key].waker, waker),
            None => {
                *key = Some(state.waiters.insert(Waiter { awaited, waker }));
                None
            }
        };
        drop(state);
        drop(replaced);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waiter = self.shared.lock().waiters.remove(key);
            drop(waiter);
        }
    }
}

/// The future of [`WebSocket::receive`](super::WebSocket::receive).
#[must_use = "futures do nothing unless they are polled"]
pub struct Receive(Waiting);

impl Receive {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Waiting::new(shared, For::Message))
    }
}

impl Future for Receive {
    type Output = Result<Message, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Waiting { shared, awaited, key } = &mut self.0;
        let mut state = shared.lock();
        if let Some(message) = state.incoming.pop_front() {
            state.incoming_bytes -= message.size();
            if std::mem::take(&mut state.is_paused) {
                Shared::wake_driver(state);
            }
            return Poll::Ready(Ok(message));
        }
        if let Some(closed) = &state.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        Waiting::wait(key, *awaited, state, context);
        Poll::Pending
    }
}

/// The future of [`WebSocket::send`](super::WebSocket::send).
#[must_use = "futures do nothing unless they are polled"]
pub struct Send {
    waiting: Waiting,
    message: Option<Message>,
}

impl Send {
    pub(super) fn new(shared: &Arc<Shared>, message: Message) -> Self {
        Self { waiting: Waiting::new(shared, For::Room), message: Some(message) }
    }
}

impl Future for Send {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Waiting { shared, awaited, key } = &mut this.waiting;
        let mut state = shared.lock();
        if let Some(closed) = &state.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        if state.close.is_some() {
            return Poll::Ready(Err(Closed::new(1000, "this end is closing it")));
        }
        let Some(size) = this.message.as_ref().map(Message::size) else { return Poll::Ready(Ok(())) };
        if state.outgoing_bytes > 0 && state.outgoing_bytes + size > OUTGOING_BYTES_MAX {
            Waiting::wait(key, *awaited, state, context);
            return Poll::Pending;
        }
        state.outgoing_bytes += size;
        state.outgoing.extend(this.message.take());
        Shared::wake_driver(state);
        Poll::Ready(Ok(()))
    }
}

/// The future of a ping's answer: the time that it took. Dropping it forgets the ping.
#[must_use = "futures do nothing unless they are polled"]
pub struct Pong {
    waiting: Waiting,
    id: u64,
}

impl Pong {
    pub(super) fn new(shared: &Arc<Shared>, payload: Bytes) -> Self {
        let mut state = shared.lock();
        let id = state.next_ping;
        state.next_ping += 1;
        let payload = if payload.is_empty() { Bytes::copy_from_slice(&id.to_be_bytes()) } else { payload };
        state.pings.push_back(Ping { id, payload, sent: None, is_forgotten: false, answered: None });
        Shared::wake_driver(state);
        Self { waiting: Waiting::new(shared, For::Pong), id }
    }

    /// The answer, if it has come.
    pub(super) fn answer(&self) -> Option<Duration> {
        let state = self.waiting.shared.lock();
        state.pings.iter().find(|ping| ping.id == self.id)?.answered
    }
}

impl Future for Pong {
    type Output = Result<Duration, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(took) = this.answer() {
            return Poll::Ready(Ok(took));
        }
        let Waiting { shared, awaited, key } = &mut this.waiting;
        let state = shared.lock();
        if let Some(closed) = &state.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        Waiting::wait(key, *awaited, state, context);
        Poll::Pending
    }
}

impl Drop for Pong {
    fn drop(&mut self) {
        let mut state = self.waiting.shared.lock();
        let Some(place) = state.pings.iter().position(|ping| ping.id == self.id) else { return };
        if state.pings[place].sent.is_some() {
            state.pings.remove(place);
        } else {
            state.pings[place].is_forgotten = true;
        }
    }
}

/// The future of [`WebSocket::close`](super::WebSocket::close): how the connection ended.
#[must_use = "futures do nothing unless they are polled"]
pub struct Closing(Waiting);

impl Closing {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Waiting::new(shared, For::Close))
    }
}

impl Future for Closing {
    type Output = Closed;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Closed> {
        let Waiting { shared, awaited, key } = &mut self.0;
        let state = shared.lock();
        if let Some(closed) = &state.closed {
            return Poll::Ready(closed.clone());
        }
        Waiting::wait(key, *awaited, state, context);
        Poll::Pending
    }
}
