//! Connections that many requests use at once: those of HTTP/2.
//!
//! Before a connection to an origin is made, nobody knows whether it will be one of them. So the first who wants one
//! connects, and the others of its origin wait: for streams of that connection, or to be told that each needs one of
//! its own. While it is in use, a shared connection is in its origin's list, with the number of its streams; when its
//! last stream ends it becomes idle as any other.

use std::rc::Rc;

use super::{Grant, Hold, Lease, Pool, State, Unused, wake};
use crate::http::client::Http2Use;
use crate::http::http2::Http2;

/// Which connections may turn out to be for sharing.
#[derive(Clone, Copy)]
pub(in crate::http) enum Shares {
    None,
    Https,
    All,
}

impl Shares {
    pub(super) fn may_share(self, key: &str) -> bool {
        match self {
            Self::None => false,
            Self::Https => key.starts_with("https:"),
            Self::All => true,
        }
    }
}

impl From<Http2Use> for Shares {
    fn from(http2: Http2Use) -> Self {
        match http2 {
            Http2Use::Never => Self::None,
            Http2Use::Negotiated => Self::Https,
            Http2Use::Always => Self::All,
        }
    }
}

/// A connection in use by `streams` requests. It counts as one user of its origin.
pub(super) struct Shared {
    connection: Rc<Http2>,
    streams: usize,
}

impl Shared {
    pub(super) fn has_room(&self) -> bool {
        !self.connection.is_closed() && self.streams < self.connection.max_streams()
    }
}

impl State {
    /// A stream of one of the origin's shared connections, if one has room.
    pub(super) fn share_one(&mut self, origin: usize) -> Option<Grant> {
        let shared = self.origins[origin].shared.iter().copied().find(|&shared| self.shared[shared].has_room())?;
        let entry = &mut self.shared[shared];
        entry.streams += 1;
        Some(Grant::Stream { connection: Rc::clone(&entry.connection), shared, idle_since: None })
    }

    /// Puts a connection into its origin's list, and gives its first stream.
    pub(super) fn share(&mut self, origin: usize, connection: Rc<Http2>, idle_since: Option<u64>) -> Grant {
        let shared = self.shared.insert(Shared { connection: Rc::clone(&connection), streams: 1 });
        let entry = &mut self.origins[origin];
        entry.shared.push(shared);
        entry.users += 1;
        Grant::Stream { connection, shared, idle_since }
    }

    /// A slot that is there for a connection to the origin.
    pub(super) fn slot_for(&mut self, origin: usize) -> Grant {
        let entry = &mut self.origins[origin];
        let is_sole = !entry.may_share;
        if !is_sole {
            entry.connecting += 1;
        }
        Grant::Slot { is_sole }
    }

    /// Whether the origin waits for what comes of a connection: whether it is for sharing, and for how many.
    pub(super) fn awaits_sharing(&self, origin: usize) -> bool {
        let entry = &self.origins[origin];
        entry.may_share
            && (entry.connecting > 0 || entry.shared.iter().any(|&shared| !self.shared[shared].connection.is_settled()))
    }
}

impl Pool {
    /// Serves those who wait for the origin with streams of its connections, and once it awaits none any more, with slots
    /// as far as there are any. One who may come to share is given a slot alone, for the others to see what comes of it.
    pub(super) fn serve_waiters(&self, origin: usize) {
        let mut woken = Vec::new();
        let mut state = self.state.borrow_mut();
        if !state.origins.contains(origin) {
            return;
        }
        while state.origins[origin].waiting.first().is_some() {
            let Some(grant) = state.share_one(origin) else { break };
            woken.push(state.grant(origin, grant));
        }
        self.settle_turn(&mut state, origin);
        while state.origins[origin].turn.is_some() && self.limits.max_connections.is_none_or(|max| state.open < max) {
            state.open_slot(origin);
            let grant = state.slot_for(origin);
            woken.push(state.grant(origin, grant));
            self.settle_turn(&mut state, origin);
        }
        self.publish(&state);
        drop(state);
        woken.into_iter().for_each(wake);
    }

    /// A request on a shared connection is over.
    pub(super) fn end_stream(&self, origin: usize, shared: usize) {
        let mut state = self.state.borrow_mut();
        state.shared[shared].streams -= 1;
        state.leave_origin(origin);
        drop(state);
        self.serve_waiters(origin);
        let mut state = self.state.borrow_mut();
        if state.shared[shared].streams > 0 {
            return;
        }
        let Shared { connection, .. } = state.shared.remove(shared);
        state.origins[origin].shared.retain(|&each| each != shared);
        drop(state);
        if connection.is_closed() {
            self.give_up(origin, true);
        } else {
            self.give_back(origin, Unused::Http2(connection));
        }
    }
}

impl Lease {
    /// The connection that was made with this lease's slot is for sharing: this lease has its first stream.
    pub fn share(&mut self, connection: Rc<Http2>) {
        let Hold::Slot { is_sole } = self.hold else { return };
        let (pool, origin) = (Rc::downgrade(&self.pool), self.origin);
        connection.on_more_streams(move || {
            if let Some(pool) = pool.upgrade() {
                pool.serve_waiters(origin);
            }
        });
        let mut state = self.pool.state.borrow_mut();
        state.origins[self.origin].may_share = true;
        if !is_sole {
            state.origins[self.origin].connecting -= 1;
        }
        if let Grant::Stream { shared, .. } = state.share(self.origin, connection, None) {
            self.hold = Hold::Stream(shared);
        }
        drop(state);
        self.pool.serve_waiters(self.origin);
    }

    /// The connection that was made with this lease's slot is for this lease alone, or none could be made. Those who
    /// waited for what comes of it each make one by themselves, as will those who come later.
    pub fn go_alone(&mut self) {
        if matches!(self.hold, Hold::Slot { is_sole: false }) {
            self.hold = Hold::Slot { is_sole: true };
            let mut state = self.pool.state.borrow_mut();
            let entry = &mut state.origins[self.origin];
            entry.may_share = false;
            entry.connecting -= 1;
            drop(state);
            self.pool.serve_waiters(self.origin);
        }
    }
}
