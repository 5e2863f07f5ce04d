//! What Rust futures and transports see of their loop.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::driver::{self, Epoll, Event, EventBuffer, Interest, Trigger};
use crate::executor::{JoinHandle, Remote, Tasks};
use crate::reactor::{Dispatch, Registry, SourceKey, TimerKey, Timers};

/// The token of the notifier; sources never get it, since their slots are below 2^32 - 1.
const NOTIFIER_TOKEN: u64 = u64::MAX;

/// Nanoseconds of `CLOCK_MONOTONIC`: the clock of every loop, and of Python's `time.monotonic()`.
#[must_use]
pub fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    #[expect(clippy::cast_sign_loss, reason = "the monotonic clock counts up from boot")]
    {
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

/// A loop as its own futures see it: they spawn tasks, sleep and wait for descriptors through it.
///
/// It is cheap to clone, and stays on the loop's thread.
#[derive(Clone)]
pub struct LoopHandle(Rc<Core>);

struct Core {
    epoll: Epoll,
    /// The count of forks when `epoll` was opened: the kernel's side of it belongs to another process if it differs.
    forks: Cell<u32>,
    registry: RefCell<Registry>,
    leftover: Leftover,
    sleepers: RefCell<Timers<Waker>>,
    tasks: Tasks,
    remote: Arc<Remote>,
    locals: RefCell<Vec<(u64, Rc<dyn Any>)>>,
}

impl LoopHandle {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let remote = Arc::new(Remote::new()?);
        epoll.add(remote.notifier().as_raw_fd(), NOTIFIER_TOKEN, Interest::READABLE, Trigger::Level)?;
        Ok(Self(Rc::new(Core {
            epoll,
            forks: Cell::new(driver::fork_count()),
            registry: RefCell::default(),
            leftover: Leftover::default(),
            sleepers: RefCell::default(),
            tasks: Tasks::new(Arc::clone(&remote)),
            remote,
            locals: RefCell::default(),
        })))
    }

    /// Starts `future` as a task of the loop; the loop polls it from its next turn on.
    ///
    /// Dropping the result cancels the task, `detach()` lets it run by itself. The future need not be `Send`.
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output>
    where
        F::Output: 'static,
    {
        self.0.tasks.spawn(future)
    }

    /// Completes after `duration`.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sleep_until(now_ns().saturating_add(nanos))
    }

    /// Completes when [`now_ns`] reaches `deadline`.
    #[must_use]
    pub fn sleep_until(&self, deadline: u64) -> Sleep {
        Sleep { handle: self.clone(), deadline, key: None }
    }

    /// Runs `future` for at most `duration`; `None` when the time is up, and then the future is dropped.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        let mut sleep = self.sleep(duration);
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            Pin::new(&mut sleep).poll(context).map(|()| None)
        })
        .await
    }

    /// The loop's face towards other threads.
    #[must_use]
    pub fn remote(&self) -> &Arc<Remote> {
        &self.0.remote
    }

    /// The tasks of the loop.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// The value that the loop keeps under `key`, made when it is first asked for. It is dropped when the loop is
    /// closed: the place for what belongs to a loop but is found from elsewhere, such as a client's connections.
    ///
    /// # Panics
    /// If values of two types are kept under one key.
    pub fn local<T: 'static>(&self, key: u64, make: impl FnOnce() -> T) -> Rc<T> {
        let kept = self.0.locals.borrow().iter().find(|(other, _)| *other == key).map(|(_, value)| Rc::clone(value));
        let value = kept.unwrap_or_else(|| {
            let made: Rc<dyn Any> = Rc::new(make());
            self.0.locals.borrow_mut().push((key, Rc::clone(&made)));
            made
        });
        value.downcast().expect("one key names values of one type")
    }

    /// Forgets what the loop keeps under `key`.
    pub fn remove_local(&self, key: u64) {
        let mut locals = self.0.locals.borrow_mut();
        let found = locals.iter().position(|(other, _)| *other == key).map(|place| locals.swap_remove(place));
        drop(locals);
        drop(found);
    }

    /// The number of registered descriptors.
    #[must_use]
    pub fn source_count(&self) -> usize {
        self.0.registry.borrow().len()
    }

    /// Registers a descriptor whose readiness the host handles; see [`Registry::add_host`].
    ///
    /// # Errors
    /// `EBADF`, or `EPERM` for a descriptor that cannot be polled.
    pub fn add_host_source(&self, fd: RawFd, interest: Interest, trigger: Trigger) -> io::Result<SourceKey> {
        self.renew_if_forked()?;
        self.0.registry.borrow_mut().add_host(&self.0.epoll, fd, interest, trigger)
    }

    /// Changes what a host source watches.
    ///
    /// # Errors
    /// As [`LoopHandle::add_host_source`]; `NotFound` for a source that was removed.
    pub fn set_interest(&self, key: SourceKey, interest: Interest) -> io::Result<()> {
        self.0.registry.borrow_mut().set_interest(self.own_epoll(), key, interest)
    }

    /// What a host source watches now.
    #[must_use]
    pub fn interest(&self, key: SourceKey) -> Option<Interest> {
        self.0.registry.borrow().interest(key)
    }

    /// Forgets a source of either kind.
    pub fn remove_source(&self, key: SourceKey) {
        let wakers = self.0.registry.borrow_mut().remove(self.own_epoll(), key);
        drop(wakers);
    }

    /// Forgets a source whose descriptor was closed already; see [`Registry::forget`].
    pub fn forget_source(&self, key: SourceKey) {
        let wakers = self.0.registry.borrow_mut().forget(key);
        drop(wakers);
    }

    pub(crate) fn add_async_source(&self, fd: RawFd) -> io::Result<SourceKey> {
        self.renew_if_forked()?;
        self.0.registry.borrow_mut().add_async(&self.0.epoll, fd)
    }

    pub(crate) fn poll_readable(&self, key: SourceKey, context: &Context<'_>) -> Poll<()> {
        let (poll, replaced) = self.0.registry.borrow_mut().poll_readable(key, context);
        drop(replaced);
        poll
    }

    pub(crate) fn poll_writable(&self, key: SourceKey, context: &Context<'_>) -> Poll<()> {
        let (poll, replaced) = self.0.registry.borrow_mut().poll_writable(key, context);
        drop(replaced);
        poll
    }

    pub(crate) fn clear_readable(&self, key: SourceKey) {
        self.0.registry.borrow_mut().clear_readable(key);
    }

    pub(crate) fn drained(&self, key: SourceKey) {
        self.0.registry.borrow_mut().drained(key);
    }

    pub(crate) fn clear_writable(&self, key: SourceKey) {
        self.0.registry.borrow_mut().clear_writable(key);
    }

    /// When the earliest sleeper is due.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.0.sleepers.borrow_mut().next_deadline()
    }

    /// Wakes every sleeper that is due.
    pub(crate) fn wake_due(&self, now: u64) {
        loop {
            // The borrow ends before the waker runs: waking may drop a future, which may cancel other sleepers.
            let due = self.0.sleepers.borrow_mut().pop_due(now);
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }

    pub(crate) fn wait(&self, events: &mut EventBuffer, timeout: Option<Duration>) -> io::Result<()> {
        self.renew_if_forked()?;
        if self.0.leftover.wait_begins() && self.renew_epoll().is_ok() {
            // Without a free descriptor for a moment there is no new instance: the next wait tries again.
            self.0.leftover.forget();
        }
        self.0.epoll.wait(events, timeout)
    }

    /// The epoll instance, unless it is a parent process's: what the child changes then is only noted in the registry.
    fn own_epoll(&self) -> Option<&Epoll> {
        (self.0.forks.get() == driver::fork_count()).then_some(&self.0.epoll)
    }

    /// In a fork's child, gives the loop a driver of its own that watches the same descriptors.
    fn renew_if_forked(&self) -> io::Result<()> {
        if self.own_epoll().is_some() {
            return Ok(());
        }
        self.0.remote.notifier().renew()?;
        self.renew_epoll()?;
        self.0.forks.set(driver::fork_count());
        Ok(())
    }

    /// Makes a new epoll instance, which watches what is registered and nothing else.
    fn renew_epoll(&self) -> io::Result<()> {
        self.0.epoll.renew()?;
        let notifier = self.0.remote.notifier().as_raw_fd();
        self.0.epoll.add(notifier, NOTIFIER_TOKEN, Interest::READABLE, Trigger::Level)?;
        self.0.registry.borrow().register_all(&self.0.epoll);
        Ok(())
    }

    /// Handles what concerns futures and the notifier; gives back what concerns the host.
    pub(crate) fn dispatch(&self, event: Event) -> Option<(SourceKey, crate::driver::Readiness)> {
        if event.token == NOTIFIER_TOKEN {
            self.0.remote.notifier().drain();
            return None;
        }
        let dispatch = self.0.registry.borrow_mut().dispatch(event.token, event.readiness);
        match dispatch {
            Dispatch::Stale => {
                self.0.leftover.note(event.token);
                None
            }
            Dispatch::Unwanted => None,
            Dispatch::Host(key, readiness) => Some((key, readiness)),
            Dispatch::Wake(wakers) => {
                wakers.into_iter().flatten().for_each(Waker::wake);
                None
            }
        }
    }

    /// Drops every task, sleeper and local value, and closes what other threads would wake the loop by.
    pub(crate) fn close(&self) {
        self.0.remote.notifier().close();
        self.0.tasks.close();
        let locals = std::mem::take(&mut *self.0.locals.borrow_mut());
        drop(locals);
        let sleepers = self.0.sleepers.borrow_mut().clear();
        drop(sleepers);
    }
}

/// Finds out that the kernel reports again and again what was forgotten here.
///
/// What the kernel watches is an open file, and it is taken back by a descriptor of that file. If the descriptor's
/// number was given to another file meanwhile (`dup2`) while the old file lives on under a number that is not known here,
/// it cannot be taken back; only a new epoll instance is rid of it. One event of a forgotten source is usual, since it may
/// have been forgotten after the event was taken from the kernel; a second one, of a later wait, proves it.
#[derive(Default)]
struct Leftover {
    /// The first that was heard of: its token, and the wait that reported it.
    seen: Cell<Option<(u64, u64)>>,
    waits: Cell<u64>,
    is_proven: Cell<bool>,
}

impl Leftover {
    /// Whether a leftover is proven.
    fn wait_begins(&self) -> bool {
        self.waits.set(self.waits.get() + 1);
        self.is_proven.get()
    }

    fn note(&self, token: u64) {
        let wait = self.waits.get();
        match self.seen.get() {
            Some((seen, heard)) if seen == token && heard < wait => self.is_proven.set(true),
            // The one that was heard of first may yet be heard of again.
            Some((_, heard)) if heard + 1 >= wait => {}
            _ => self.seen.set(Some((token, wait))),
        }
    }

    fn forget(&self) {
        self.seen.set(None);
        self.is_proven.set(false);
    }
}

/// The future of [`LoopHandle::sleep`].
pub struct Sleep {
    handle: LoopHandle,
    deadline: u64,
    key: Option<TimerKey>,
}

impl Sleep {
    /// Moves the deadline, in nanoseconds of [`now_ns`].
    pub fn reset(&mut self, deadline: u64) {
        self.cancel();
        self.deadline = deadline;
    }

    fn cancel(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.handle.0.sleepers.borrow_mut().cancel(key);
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.deadline <= now_ns() {
            self.cancel();
            return Poll::Ready(());
        }
        let this = &mut *self;
        let mut replaced = None;
        let mut sleepers = this.handle.0.sleepers.borrow_mut();
        match this.key.and_then(|key| sleepers.get_mut(key)) {
            Some(waker) if waker.will_wake(context.waker()) => {}
            Some(waker) => replaced = Some(std::mem::replace(waker, context.waker().clone())),
            None => this.key = Some(sleepers.insert(this.deadline, context.waker().clone())),
        }
        drop(sleepers);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}
