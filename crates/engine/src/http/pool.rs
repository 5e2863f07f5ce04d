//! The pool: who gets which connection, and who waits for one.
//!
//! A *slot* is the right to one connection; there are `max_connections` of them, and `max_per_host` for one origin.
//! Whoever holds a [`Lease`] holds a slot, with or without a connection yet; an idle connection holds one too. A slot is
//! never lost: a lease gives it back when it is dropped, whatever happened to the request.
//!
//! Those who wait stand in a queue of their origin. The first of each queue has its *turn* to come, unless the origin has
//! all the slots that it may have: who has waited longest among those is served first – with one exception: a connection
//! that becomes free goes to the first who waits for *its* origin, rather than being closed for somebody who came earlier.
//! Nobody is passed over more than [`BYPASS_MAX`] times in a row.
//!
//! A connection that speaks HTTP/2 is shared by the requests of its origin, see [`sharing`].
//!
//! While somebody whose turn may come waits, all slots are in use and no connection is idle: whatever becomes free is
//! handed on at once. Everything here takes constant time, but for the turns: that of an origin is found in time
//! logarithmic in the number of origins that wait.

mod keeper;
mod sharing;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::HeaderValue;
use slab::Slab;

use super::chain::{Chain, Nodes, Of};
use super::connection::Connection;
use super::http2::Http2;
use super::remote::Remote;
use crate::handle::now_ns;
pub(super) use keeper::keep;
use sharing::Shared;
pub(super) use sharing::Shares;

/// So often may others with a fitting connection go before the one who has waited longest.
const BYPASS_MAX: u32 = 16;

/// Idle connections above `max_keepalive` are closed after this time, not at once: a hundred requests that end in one
/// turn of the loop are often followed by a hundred new ones in the next.
const TRIM_AFTER: Duration = Duration::from_millis(250);

/// How many connections a client may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time, in use or idle; further requests wait. `None` has no limit.
    pub max_connections: Option<usize>,
    /// Connections to one origin at the same time. `None` has no limit.
    pub max_per_host: Option<usize>,
    /// Idle connections that are kept for later. `None` has no limit.
    pub max_keepalive: Option<usize>,
    /// An idle connection is closed after this time. `None` has no limit.
    pub keepalive_expiry: Option<Duration>,
}

impl Default for Limits {
    /// 100 connections, 20 of them kept when idle, for 5 seconds.
    fn default() -> Self {
        Self {
            max_connections: Some(100),
            max_per_host: None,
            max_keepalive: Some(20),
            keepalive_expiry: Some(Duration::from_secs(5)),
        }
    }
}

/// Scheme, host and port, and what is known of them.
struct Origin {
    /// See [`Request::pool_key`](super::Request).
    key: Rc<str>,
    /// Host and port.
    name: Rc<str>,
    host: HeaderValue,
    idle: Chain,
    waiting: Chain,
    /// Slots in use: leases and idle connections.
    open: usize,
    /// Its place among the turns.
    turn: Option<u64>,
    /// The connections that are shared now; there are few.
    shared: Vec<usize>,
    /// Whether its connections may turn out to be for sharing.
    may_share: bool,
    /// Connections being made of which that is not known yet.
    connecting: usize,
    /// Leases, idle and shared connections, and waiters; nobody remembers an origin without users.
    users: usize,
}

/// A connection that nobody uses.
enum Unused {
    Http1(Box<Connection>),
    Http2(Rc<Http2>),
}

struct Idle {
    connection: Unused,
    origin: usize,
    /// In nanoseconds of the loop's clock.
    since: u64,
}

struct Waiter {
    origin: usize,
    /// The number that it drew when it came.
    ticket: u64,
    waker: Option<Waker>,
    /// Set when it has left the queue.
    grant: Option<Grant>,
    bypassed: u32,
}

/// What a lease begins with.
pub(super) enum Grant {
    /// A connection, and since when it was idle, in nanoseconds of the loop's clock.
    Connection(Box<Connection>, u64),
    /// A stream of a shared connection, which was idle since then if nobody else uses it.
    Stream { connection: Rc<Http2>, shared: usize, idle_since: Option<u64> },
    /// The right to make one; `is_sole` as in [`Hold::Slot`].
    Slot { is_sole: bool },
}

/// What a lease holds.
#[derive(Clone, Copy)]
enum Hold {
    /// A slot, for a connection that is there or will be. Unless that is sure to be for this lease alone, others of the
    /// origin wait for what comes of it.
    Slot { is_sole: bool },
    /// A stream of a shared connection.
    Stream(usize),
}

#[derive(Default)]
struct State {
    keys: HashMap<Rc<str>, usize>,
    origins: Slab<Origin>,
    shared: Slab<Shared>,
    idle: Nodes<Idle>,
    /// By the time when they became idle.
    idle_order: Chain,
    waiters: Nodes<Waiter>,
    /// The origins for which somebody waits and which may have another slot, by the ticket of the first who waits.
    turns: BTreeMap<u64, usize>,
    next_ticket: u64,
    waiting: usize,
    /// Slots in use.
    open: usize,
    /// Since when there are more idle connections than are kept.
    surplus_since: Option<u64>,
    /// When the keeper looks again by itself.
    keeper_due: Option<u64>,
}

/// The connections of one client on one loop.
pub(super) struct Pool {
    limits: Limits,
    shares: Shares,
    state: RefCell<State>,
    remote: Arc<Remote>,
}

/// The right to one connection of an origin, or to a stream of one. Dropping it gives the right back.
pub(super) struct Lease {
    pool: Rc<Pool>,
    origin: usize,
    hold: Hold,
}

impl Pool {
    pub fn new(limits: Limits, shares: Shares, remote: Arc<Remote>) -> Rc<Self> {
        Rc::new(Self { limits, shares, state: RefCell::default(), remote })
    }

    /// Waits for a connection to the origin of `key`, or for the right to make one.
    pub fn acquire(self: &Rc<Self>, key: &str, now: u64) -> Acquire {
        let mut state = self.state.borrow_mut();
        let origin = state.use_origin(key, self.shares);
        let acquire = |progress| Acquire { pool: Rc::clone(self), origin, progress };
        if let Some(grant) = state.share_one(origin) {
            return acquire(Progress::Granted(grant));
        }
        if let Some(key) = state.origins[origin].idle.last() {
            let Idle { connection, since, .. } = state.take_idle(key);
            state.leave_origin(origin);
            // If it is too old, it was the newest of its origin all the same; the keeper closes the others.
            let is_good = !self.is_expired(since, now);
            let (grant, closed) = match connection {
                Unused::Http1(connection) if is_good => (Grant::Connection(connection, since), None),
                Unused::Http2(connection) if is_good && !connection.is_closed() => {
                    (state.share(origin, connection, Some(since)), None)
                }
                other => (state.slot_for(origin), Some(other)),
            };
            self.publish(&state);
            drop(state);
            if let Some(closed) = closed {
                closed.close();
            }
            return acquire(Progress::Granted(grant));
        }
        if self.has_room(&state, origin) {
            if self.limits.max_connections.is_none_or(|max| state.open < max) {
                state.open_slot(origin);
                let grant = state.slot_for(origin);
                self.publish(&state);
                return acquire(Progress::Granted(grant));
            }
            if let Some(key) = state.idle_order.first() {
                // Another origin's connection makes room.
                let closed = state.drop_idle(key);
                state.open_slot(origin);
                let grant = state.slot_for(origin);
                self.publish(&state);
                drop(state);
                closed.close();
                return acquire(Progress::Granted(grant));
            }
        }
        let waiter = state.enqueue(origin);
        self.settle_turn(&mut state, origin);
        self.publish(&state);
        acquire(Progress::Waiting(waiter))
    }

    /// Whether somebody who came for a connection to the origin of `key` now would have to wait for it.
    pub fn would_wait(&self, key: &str) -> bool {
        let state = self.state.borrow();
        let has_slot =
            self.limits.max_connections.is_none_or(|max| state.open < max) || state.idle_order.first().is_some();
        let Some(&origin) = state.keys.get(key) else { return !has_slot };
        let entry = &state.origins[origin];
        let is_at_hand =
            entry.idle.last().is_some() || entry.shared.iter().any(|&shared| state.shared[shared].has_room());
        !(is_at_hand || has_slot && self.has_room(&state, origin))
    }

    /// Counts a request in, and out again when the result is dropped.
    pub fn begin_request(self: &Rc<Self>) -> InFlight {
        let count = &self.remote.in_flight;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        InFlight(Rc::clone(self))
    }

    /// Whether the origin may have another slot, and does not wait for what comes of one.
    fn has_room(&self, state: &State, origin: usize) -> bool {
        !state.awaits_sharing(origin) && self.limits.max_per_host.is_none_or(|max| state.origins[origin].open < max)
    }

    /// Gives the origin its place among the turns. To be called when its queue or the number of its slots has changed.
    fn settle_turn(&self, state: &mut State, origin: usize) {
        let first = state.origins[origin].waiting.first().filter(|_| self.has_room(state, origin));
        let turn = first.map(|key| state.waiters.get(key).ticket);
        let entry = &mut state.origins[origin];
        if entry.turn != turn {
            if let Some(before) = std::mem::replace(&mut entry.turn, turn) {
                state.turns.remove(&before);
            }
            if let Some(turn) = turn {
                state.turns.insert(turn, origin);
            }
        }
    }

    /// A slot of `origin` is free: whoever waits longest and may have it gets it. The waker is to be woken outside the
    /// borrow.
    fn free_slot(&self, state: &mut State, origin: usize) -> Option<Waker> {
        state.open -= 1;
        state.origins[origin].open -= 1;
        self.settle_turn(state, origin);
        let waker = state.turns.first_key_value().map(|(_, &next)| next).and_then(|next| {
            state.open_slot(next);
            let grant = state.slot_for(next);
            let waker = state.grant(next, grant);
            self.settle_turn(state, next);
            waker
        });
        state.leave_origin(origin);
        self.publish(state);
        waker
    }

    fn is_expired(&self, since: u64, now: u64) -> bool {
        self.limits.keepalive_expiry.is_some_and(|expiry| now >= since.saturating_add(nanos(expiry)))
    }

    /// A connection is free: somebody who waits gets it, or it becomes idle.
    fn give_back(&self, origin: usize, connection: Unused) {
        let mut state = self.state.borrow_mut();
        if state.goes_to_own(origin) {
            let now = now_ns();
            let grant = match connection {
                Unused::Http1(connection) => Grant::Connection(connection, now),
                Unused::Http2(connection) => state.share(origin, connection, Some(now)),
            };
            let waker = state.grant(origin, grant);
            self.settle_turn(&mut state, origin);
            state.leave_origin(origin);
            self.publish(&state);
            drop(state);
            wake(waker);
            return;
        }
        if !state.turns.is_empty() || self.remote.is_closed() || self.limits.max_keepalive == Some(0) {
            let waker = self.free_slot(&mut state, origin);
            drop(state);
            connection.close();
            wake(waker);
            return;
        }
        let now = now_ns();
        state.add_idle(Idle { connection, origin, since: now });
        if state.surplus_since.is_none() && self.limits.max_keepalive.is_some_and(|max| state.idle.len() > max) {
            state.surplus_since = Some(now);
        }
        let due = if state.surplus_since == Some(now) { Some(TRIM_AFTER) } else { self.limits.keepalive_expiry };
        let due = due.map(|after| now.saturating_add(nanos(after)));
        let keeper_sleeps_longer = due.is_some_and(|due| state.keeper_due.is_none_or(|keeper| keeper > due));
        self.publish(&state);
        drop(state);
        if keeper_sleeps_longer {
            self.remote.wake_keeper();
        }
    }

    /// A slot is free, without a connection.
    fn give_up(&self, origin: usize, is_sole: bool) {
        if !is_sole {
            self.state.borrow_mut().origins[origin].connecting -= 1;
            // They may find other slots free.
            self.serve_waiters(origin);
        }
        let mut state = self.state.borrow_mut();
        let waker = self.free_slot(&mut state, origin);
        drop(state);
        wake(waker);
    }

    fn publish(&self, state: &State) {
        self.remote.open.store(state.open, Ordering::Relaxed);
        self.remote.idle.store(state.idle.len(), Ordering::Relaxed);
        self.remote.waiting.store(state.waiting, Ordering::Relaxed);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Nothing is left, and other threads may still ask.
        self.publish(&State::default());
    }
}

impl State {
    fn use_origin(&mut self, key: &str, shares: Shares) -> usize {
        if let Some(&origin) = self.keys.get(key) {
            self.origins[origin].users += 1;
            return origin;
        }
        let after_scheme = key.split_once("://").map_or(key, |(_, rest)| rest);
        let name: Rc<str> = after_scheme.split(' ').next().unwrap_or_default().into();
        let key: Rc<str> = key.into();
        // A parsed URL's authority is plain ASCII.
        let host = HeaderValue::from_str(&name).unwrap_or_else(|_| HeaderValue::from_static(""));
        let (idle, waiting) = (Chain::default(), Chain::default());
        let entry = Origin {
            key: Rc::clone(&key),
            name,
            host,
            idle,
            waiting,
            open: 0,
            turn: None,
            shared: Vec::new(),
            may_share: shares.may_share(&key),
            connecting: 0,
            users: 1,
        };
        let origin = self.origins.insert(entry);
        self.keys.insert(key, origin);
        origin
    }

    fn leave_origin(&mut self, origin: usize) {
        let entry = &mut self.origins[origin];
        entry.users -= 1;
        if entry.users == 0 {
            self.keys.remove(&entry.key);
            self.origins.remove(origin);
        }
    }

    /// The connection keeps the use of the origin that its lease had.
    fn add_idle(&mut self, idle: Idle) {
        let origin = idle.origin;
        let key = self.idle.insert(idle);
        self.idle.push_back(&mut self.idle_order, Of::Pool, key);
        self.idle.push_back(&mut self.origins[origin].idle, Of::Origin, key);
    }

    fn take_idle(&mut self, key: usize) -> Idle {
        let origin = self.idle.get(key).origin;
        self.idle.unlink(&mut self.idle_order, Of::Pool, key);
        self.idle.unlink(&mut self.origins[origin].idle, Of::Origin, key);
        self.idle.remove(key)
    }

    /// Takes an idle connection out together with its slot.
    fn drop_idle(&mut self, key: usize) -> Unused {
        let idle = self.take_idle(key);
        self.origins[idle.origin].open -= 1;
        self.leave_origin(idle.origin);
        self.open -= 1;
        idle.connection
    }

    fn open_slot(&mut self, origin: usize) {
        self.open += 1;
        self.origins[origin].open += 1;
    }

    fn enqueue(&mut self, origin: usize) -> usize {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let key = self.waiters.insert(Waiter { origin, ticket, waker: None, grant: None, bypassed: 0 });
        self.waiters.push_back(&mut self.origins[origin].waiting, Of::Origin, key);
        self.waiting += 1;
        key
    }

    fn dequeue(&mut self, key: usize) {
        let origin = self.waiters.get(key).origin;
        self.waiters.unlink(&mut self.origins[origin].waiting, Of::Origin, key);
        self.waiting -= 1;
    }

    /// Whether a free connection of `origin` goes to one who waits for just that: nobody else's turn is before, or it may
    /// be passed over.
    fn goes_to_own(&mut self, origin: usize) -> bool {
        let Some(own) = self.origins[origin].waiting.first() else { return false };
        let Some((&turn, &next)) = self.turns.first_key_value() else { return true };
        if turn >= self.waiters.get(own).ticket {
            return true;
        }
        let Some(eldest) = self.origins[next].waiting.first() else { return true };
        let eldest = self.waiters.get_mut(eldest);
        eldest.bypassed += 1;
        eldest.bypassed <= BYPASS_MAX
    }

    /// Hands a slot over to the first who waits for `origin`; the waker is to be woken outside the borrow.
    fn grant(&mut self, origin: usize, grant: Grant) -> Option<Waker> {
        let key = self.origins[origin].waiting.first()?;
        self.dequeue(key);
        let waiter = self.waiters.get_mut(key);
        waiter.grant = Some(grant);
        waiter.waker.take()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The future of [`Pool::acquire`]. Dropping it leaves the queue, and passes on what was granted meanwhile.
pub(super) struct Acquire {
    pool: Rc<Pool>,
    origin: usize,
    progress: Progress,
}

enum Progress {
    Granted(Grant),
    Waiting(usize),
    Done,
}

impl Acquire {
    /// Host and port of the origin.
    pub fn name(&self) -> Rc<str> {
        Rc::clone(&self.pool.state.borrow().origins[self.origin].name)
    }

    /// What the `Host` header says.
    pub fn host_header(&self) -> HeaderValue {
        self.pool.state.borrow().origins[self.origin].host.clone()
    }
}

impl Future for Acquire {
    type Output = (Lease, Grant);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(Lease, Grant)> {
        let this = &mut *self;
        let grant = match std::mem::replace(&mut this.progress, Progress::Done) {
            Progress::Granted(grant) => grant,
            Progress::Waiting(key) => {
                let mut state = this.pool.state.borrow_mut();
                let waiter = state.waiters.get_mut(key);
                if let Some(grant) = waiter.grant.take() {
                    state.waiters.remove(key);
                    grant
                } else {
                    this.progress = Progress::Waiting(key);
                    if waiter.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                        let replaced = waiter.waker.replace(context.waker().clone());
                        drop(state);
                        drop(replaced);
                    }
                    return Poll::Pending;
                }
            }
            Progress::Done => return Poll::Pending,
        };
        let hold = match grant {
            Grant::Connection(..) => Hold::Slot { is_sole: true },
            Grant::Slot { is_sole } => Hold::Slot { is_sole },
            Grant::Stream { shared, .. } => Hold::Stream(shared),
        };
        Poll::Ready((Lease { pool: Rc::clone(&this.pool), origin: this.origin, hold }, grant))
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let grant = match std::mem::replace(&mut self.progress, Progress::Done) {
            Progress::Granted(grant) => grant,
            Progress::Done => return,
            Progress::Waiting(key) => {
                let mut state = self.pool.state.borrow_mut();
                let Some(grant) = state.waiters.get_mut(key).grant.take() else {
                    state.dequeue(key);
                    self.pool.settle_turn(&mut state, self.origin);
                    let waiter = state.waiters.remove(key);
                    state.leave_origin(self.origin);
                    self.pool.publish(&state);
                    drop(state);
                    drop(waiter);
                    return;
                };
                state.waiters.remove(key);
                grant
            }
        };
        match grant {
            Grant::Connection(connection, _) => self.pool.give_back(self.origin, Unused::Http1(connection)),
            Grant::Stream { shared, .. } => self.pool.end_stream(self.origin, shared),
            Grant::Slot { is_sole } => self.pool.give_up(self.origin, is_sole),
        }
    }
}

impl Lease {
    /// Returns the connection for others to use.
    pub fn give_back(self, connection: Box<Connection>) {
        // In place of `drop`, which would give the slot up.
        let lease = std::mem::ManuallyDrop::new(self);
        // SAFETY: `lease` is never used or dropped again, so its reference to the pool moves out exactly once.
        let pool = unsafe { std::ptr::read(&raw const lease.pool) };
        pool.give_back(lease.origin, Unused::Http1(connection));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.hold {
            Hold::Slot { is_sole } => self.pool.give_up(self.origin, is_sole),
            Hold::Stream(shared) => self.pool.end_stream(self.origin, shared),
        }
    }
}

/// One request in flight.
pub(super) struct InFlight(Rc<Pool>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let count = &self.0.remote.in_flight;
        count.store(count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }
}
