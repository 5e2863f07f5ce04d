//! Closes what is idle for too long or too many.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::{Pool, TRIM_AFTER, Unused, nanos};
use crate::handle::{LoopHandle, Sleep, now_ns};

impl Unused {
    /// Closes it. That may run the host's code, so that nothing may be borrowed.
    pub(super) fn close(self) {
        match self {
            Self::Http1(connection) => connection.say_goodbye(),
            // It does so by itself.
            Self::Http2(connection) => drop(connection),
        }
    }
}

impl Pool {
    /// Closes the idle connections, and those that are given back from now on.
    fn close_idle(&self) {
        let mut state = self.state.borrow_mut();
        let mut closed = Vec::new();
        while let Some(key) = state.idle_order.first() {
            closed.push(state.drop_idle(key));
        }
        state.surplus_since = None;
        self.publish(&state);
        drop(state);
        closed.into_iter().for_each(Unused::close);
    }

    /// Closes what is idle for too long or too many, and says when to look again.
    fn trim(&self, now: u64) -> Option<u64> {
        let mut state = self.state.borrow_mut();
        let mut closed = Vec::new();
        let max = self.limits.max_keepalive.unwrap_or(usize::MAX);
        let trim_due = state.surplus_since.map(|since| since.saturating_add(nanos(TRIM_AFTER)));
        while let Some(key) = state.idle_order.first() {
            let expired = self.is_expired(state.idle.get(key).since, now);
            let surplus = state.idle.len() > max && trim_due.is_some_and(|due| due <= now);
            if !(expired || surplus) {
                break;
            }
            closed.push(state.drop_idle(key));
        }
        if state.idle.len() <= max {
            state.surplus_since = None;
        }
        let trim_due = trim_due.filter(|_| state.surplus_since.is_some());
        let expiry_due = state.idle_order.first().and_then(|key| {
            let expiry = self.limits.keepalive_expiry?;
            Some(state.idle.get(key).since.saturating_add(nanos(expiry)))
        });
        state.keeper_due = trim_due.into_iter().chain(expiry_due).min();
        self.publish(&state);
        let due = state.keeper_due;
        drop(state);
        closed.into_iter().for_each(Unused::close);
        due
    }
}

/// Closes connections that are idle for too long or too many. When the client is closed, closes all idle ones, has the
/// loop forget the client if it keeps it under `key`, and ends.
pub(in crate::http) async fn keep(handle: LoopHandle, pool: Rc<Pool>, key: Option<u64>) {
    keep_until_closed(&handle, &pool).await;
    if let Some(key) = key {
        handle.remove_local(key);
    }
}

async fn keep_until_closed(handle: &LoopHandle, pool: &Pool) {
    let mut sleep: Option<Sleep> = None;
    poll_fn(move |context| {
        pool.remote.watch(context);
        if pool.remote.is_closed() {
            pool.close_idle();
            return Poll::Ready(());
        }
        loop {
            let due = pool.trim(now_ns());
            let Some(due) = due else {
                sleep = None;
                return Poll::Pending;
            };
            let sleep = sleep.get_or_insert_with(|| handle.sleep_until(due));
            sleep.reset(due);
            if Pin::new(sleep).poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
