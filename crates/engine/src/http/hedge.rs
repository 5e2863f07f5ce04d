//! Hedged requests: one that has not been answered for a while is sent a second time, on another connection, and the
//! sooner answer is taken.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::client::Client;
use super::error::{Error, Result};
use super::request::Request;
use super::response::Response;
use crate::handle::{Sleep, now_ns};

/// So many may be sent before requests have earned any, and be saved up.
const BUDGET_MAX: f64 = 10.0;

type Fetching = Pin<Box<dyn Future<Output = Result<Response>>>>;

/// How many hedges a client may still send.
pub(super) struct Budget {
    share: f64,
    left: Cell<f64>,
}

impl Budget {
    /// Each request that may be hedged earns `share` of a hedge.
    pub fn new(share: f64) -> Self {
        Self { share, left: Cell::new(BUDGET_MAX) }
    }

    fn earn(&self) {
        self.left.set((self.left.get() + self.share).min(BUDGET_MAX));
    }

    fn spend(&self) -> bool {
        let left = self.left.get();
        if left >= 1.0 {
            self.left.set(left - 1.0);
        }
        left >= 1.0
    }
}

/// As [`Client::fetch`] for a request that does not ask for it, with a second try after `delay`. The one that is not needed is dropped, and its connection
/// with it.
pub(super) fn fetch(client: Client, request: Box<Request>, delay: Duration) -> Fetching {
    Box::pin(async move {
        let Some(mut second) = twin(&request) else { return client.fetch_boxed(request).await };
        client.hedges().earn();
        let start = now_ns();
        let mut first: Fetching = Box::pin(client.clone().fetch_boxed(request));
        if let Some(outcome) = within(&mut first, client.sleep(delay)).await {
            return outcome;
        }
        // One that waits for its turn would only lengthen the queue.
        if client.would_wait(&second) || !client.hedges().spend() {
            return first.await;
        }
        let late = Duration::from_nanos(now_ns().saturating_sub(start));
        second.timeouts.total = second.timeouts.total.map(|total| total.saturating_sub(late));
        let second: Fetching = Box::pin(async move {
            let mut response = client.fetch_boxed(Box::new(second)).await?;
            response.began_earlier(late);
            Ok(response)
        });
        let mut response = sooner(first, second).await?;
        response.was_hedged(late);
        Ok(response)
    })
}

/// The same request once more; `None` where it may not be sent twice.
fn twin(request: &Request) -> Option<Request> {
    if !request.method.is_idempotent() || request.body.is_once() || request.websocket.is_some() {
        return None;
    }
    let Request { method, url, headers, timeouts, max_redirects, sends_first, server_name, .. } = request;
    let mut twin = Request::new(method.as_str(), url.as_str()).ok()?;
    twin.headers = headers.clone();
    twin.body = request.body.copy_of_whole();
    twin.timeouts = *timeouts;
    twin.max_redirects = *max_redirects;
    twin.sends_first = *sends_first;
    twin.server_name.clone_from(server_name);
    Some(twin)
}

/// What comes of `fetching` before the time is over.
async fn within(fetching: &mut Fetching, mut time: Sleep) -> Option<Result<Response>> {
    std::future::poll_fn(|context| {
        if let Poll::Ready(outcome) = fetching.as_mut().poll(context) {
            return Poll::Ready(Some(outcome));
        }
        Pin::new(&mut time).poll(context).map(|()| None)
    })
    .await
}

/// The response that comes first. One that fails leaves it to the other; when both do, the first one's error counts.
async fn sooner(first: Fetching, second: Fetching) -> Result<Response> {
    let mut tries = [Some(first), Some(second)];
    let mut errors: [Option<Error>; 2] = [None, None];
    std::future::poll_fn(|context| {
        for (place, error) in tries.iter_mut().zip(&mut errors) {
            let Some(fetching) = place else { continue };
            match fetching.as_mut().poll(context) {
                Poll::Ready(Ok(response)) => return Poll::Ready(Ok(response)),
                Poll::Ready(Err(failed)) => (*place, *error) = (None, Some(failed)),
                Poll::Pending => {}
            }
        }
        match &mut errors {
            [error @ Some(_), Some(_)] => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
            _ => Poll::Pending,
        }
    })
    .await
}
