//! `Expect: 100-continue`: the body waits until the server has seen the head (RFC 9110, section 10.1.1).
//!
//! That is for HTTP/1.1. A stream of HTTP/2 sends at once: of a body that the server does not want no more than a window
//! goes, and its refusal stops the rest, without another request on the connection being held up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::Duration;

use http::header::EXPECT;
use http::{Request, StatusCode};

use super::io::Traffic;
use super::phases::Phases;
use crate::handle::Sleep;

/// A server that does not know the header says nothing. After this time the body is sent all the same.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// What a body is held back for.
pub(super) struct Expectation {
    /// Set by hyper, which may do so from any thread.
    continued: Arc<AtomicBool>,
    patience: Sleep,
}

impl Expectation {
    /// Holds the body of `request` back if its headers ask for that and there is one.
    pub fn hold<B>(request: &mut Request<B>, traffic: &Traffic, phases: &Phases) -> Option<Self> {
        let expects = request.headers().get(EXPECT)?;
        if traffic.body_taken.get() || !expects.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return None;
        }
        traffic.body_held.set(true);
        let continued = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&continued);
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                heard.store(true, Ordering::Relaxed);
            }
        });
        Some(Self { continued, patience: phases.sleep(CONTINUE_WAIT) })
    }

    /// Whether the body may go now.
    pub fn is_met(&mut self, context: &mut Context<'_>) -> bool {
        self.continued.load(Ordering::Relaxed) || Pin::new(&mut self.patience).poll(context).is_ready()
    }
}
