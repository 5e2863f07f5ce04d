//! Where a request stands: its deadline in each phase, its timings, its lane in the timeline.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::error::{Error, ErrorKind, Phase, Result, seconds};
use super::request::{Request, Timeouts};
use crate::handle::{LoopHandle, Sleep, now_ns};
use crate::timeline::{self, LaneId, LaneKind};

/// No deadline.
const NEVER: u64 = u64::MAX;

/// How long it took to reach each point, from the moment the request was made. What did not happen is `None`, such as
/// connecting when a connection was there. After redirects, these are of the last hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The pool gave a connection, or the right to make one.
    pub queue: Option<Duration>,
    /// The host's addresses were known.
    pub resolved: Option<Duration>,
    /// The connection was made, through a proxy where there is one.
    pub connect: Option<Duration>,
    /// The TLS handshake was done.
    pub tls: Option<Duration>,
    /// The last byte of the request was handed to the kernel.
    pub sent: Option<Duration>,
    /// The first byte of the response came.
    pub first_byte: Option<Duration>,
    /// The body was whole.
    pub total: Option<Duration>,
    /// The request was sent a second time. Of the answer that came first are the others: it is the second one's, if
    /// `queue` came later.
    pub hedge: Option<Duration>,
}

/// One request's way through its phases.
pub(super) struct Phases {
    handle: LoopHandle,
    /// Host and port, for messages.
    pub name: Rc<str>,
    timeouts: Timeouts,
    start: u64,
    total_due: u64,
    phase: Phase,
    /// When the phase's time is up, or the total.
    due: u64,
    /// Nothing of the peer's is waited for.
    paused: bool,
    /// One timer for all phases. It is moved only when it is due too late, or early: a deadline that moves away with
    /// every piece of progress costs nothing.
    sleep: Option<Sleep>,
    sleep_due: u64,
    lane: Lane,
    pub timings: Timings,
}

impl Phases {
    pub fn begin(handle: &LoopHandle, request: &Request, name: Rc<str>, start: u64) -> Self {
        let total_due = request.timeouts.total.map_or(NEVER, |total| after(start, total));
        Self {
            handle: handle.clone(),
            name,
            timeouts: request.timeouts,
            start,
            total_due,
            phase: Phase::Preparing,
            due: total_due,
            paused: false,
            sleep: None,
            sleep_due: NEVER,
            lane: Lane::begin(request),
            timings: Timings::default(),
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The time from the request's making until `now`.
    pub fn since_start(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.start))
    }

    /// The request's beginning lies further back.
    pub fn began_earlier(&mut self, earlier: Duration) {
        self.start = self.start.saturating_sub(nanos(earlier));
        let Timings { queue, resolved, connect, tls, sent, first_byte, total, .. } = &mut self.timings;
        for timing in [queue, resolved, connect, tls, sent, first_byte, total].into_iter().flatten() {
            *timing += earlier;
        }
    }

    pub fn enter(&mut self, phase: Phase, now: u64) {
        // All that it takes to have a connection shares one limit.
        let connects = |phase| matches!(phase, Phase::Resolving | Phase::Connecting | Phase::Securing);
        if !(connects(self.phase) && connects(phase)) {
            self.due = self.limit_of(phase).map_or(NEVER, |limit| after(now, limit)).min(self.total_due);
        }
        self.paused = false;
        if self.phase.lane_name() != phase.lane_name() || self.phase == Phase::Preparing {
            self.lane.wait(phase);
        }
        self.phase = phase;
    }

    /// The peer took or sent something: its time begins anew.
    pub fn progress(&mut self, now: u64) {
        self.paused = false;
        if let Some(limit) = self.limit_of(self.phase) {
            self.due = after(now, limit).min(self.total_due);
        }
    }

    /// Nothing is waited for until the next phase; the phase's clock begins anew with [`Phases::resume`].
    pub fn pause(&mut self) {
        self.due = self.total_due;
        self.paused = true;
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// A timer of its own.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.handle.sleep(duration)
    }

    /// Undoes [`Phases::pause`].
    pub fn resume(&mut self) {
        self.progress(now_ns());
    }

    fn limit_of(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Preparing => None,
            Phase::Queueing => self.timeouts.pool,
            Phase::Resolving | Phase::Connecting | Phase::Securing => self.timeouts.connect,
            Phase::Sending => self.timeouts.write,
            Phase::Waiting | Phase::Receiving => self.timeouts.read,
        }
    }

    /// Ready when the phase's time is up.
    pub fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if self.due == NEVER {
            return Poll::Pending;
        }
        loop {
            if self.sleep.is_none() || self.sleep_due > self.due {
                self.arm();
            }
            let Some(sleep) = &mut self.sleep else { return Poll::Pending };
            if Pin::new(sleep).poll(context).is_pending() {
                return Poll::Pending;
            }
            if self.due <= now_ns() {
                return Poll::Ready(self.timed_out());
            }
            self.arm();
        }
    }

    fn arm(&mut self) {
        let sleep = self.sleep.get_or_insert_with(|| self.handle.sleep_until(self.due));
        sleep.reset(self.due);
        self.sleep_due = self.due;
    }

    fn timed_out(&self) -> Error {
        let limit = if self.due == self.total_due {
            self.timeouts.total.map(|total| format!("the total of {} is over", seconds(nanos(total))))
        } else {
            self.limit_of(self.phase).map(|limit| format!("timed out after {}", seconds(nanos(limit))))
        };
        self.error(self.phase.timeout_kind(), limit.unwrap_or_default())
    }

    /// Awaits `future` within the phase's time.
    pub async fn limit<F: Future>(&mut self, future: F) -> Result<F::Output> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            self.poll_due(context).map(Err)
        })
        .await
    }

    pub fn error(&self, kind: ErrorKind, detail: impl Into<String>) -> Error {
        Error::new(kind, self.phase, &self.name, detail)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn after(start: u64, limit: Duration) -> u64 {
    start.saturating_add(nanos(limit))
}

/// The line of the picture that shows what a request waits for; none while nothing is recorded.
struct Lane(Option<(LaneId, Owner)>);

#[derive(PartialEq)]
enum Owner {
    /// The lane was made for this request and ends with it.
    Request,
    /// The lane is that of a thread that blocks on the request.
    Caller,
}

impl Lane {
    fn begin(request: &Request) -> Self {
        if !timeline::is_recording() {
            return Self(None);
        }
        if let Some(lane) = request.lane {
            return Self(Some((lane, Owner::Caller)));
        }
        let name = format!("{} {}", request.method, request.url.path());
        Self(timeline::lane(&name, LaneKind::Request).map(|lane| (lane, Owner::Request)))
    }

    fn wait(&self, phase: Phase) {
        if let Some((lane, _)) = self.0 {
            timeline::wait(lane, phase.lane_name());
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        match self.0.take() {
            Some((lane, Owner::Request)) => timeline::end(lane, timeline::current_lane()),
            Some((lane, Owner::Caller)) => timeline::wait_end(lane),
            None => {}
        }
    }
}
