//! The turn: wait for the kernel, hear what is ready, run what is due.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use crate::driver::{EventBuffer, Readiness};
use crate::executor::{Injector, Remote};
use crate::handle::{LoopHandle, now_ns};
use crate::reactor::{SourceKey, TimerKey, Timers};
use crate::timeline::{self, NameId, Recorder, Slow, Step};

/// Events taken from the kernel at once.
const EVENT_CAPACITY: usize = 512;

/// While more is ready, so many steps run before the kernel is asked again: sockets wait that long at most for
/// callbacks that keep scheduling each other.
const STEPS_BETWEEN_POLLS: usize = 64;

/// Whoever's callbacks the loop runs beside Rust tasks: Python, or plain Rust closures ([`Callbacks`]).
pub trait Host {
    /// A scheduled callback.
    type Handle;
    /// Why a callback ends the run of the loop before its time (in Python `KeyboardInterrupt` and `SystemExit`).
    type Error;

    /// Whether the loop has a lane of its own in the timeline. A loop that only serves blocking calls of another lane
    /// has none.
    const HAS_LANE: bool = true;

    /// Runs one handle.
    ///
    /// # Errors
    /// Ends [`EventLoop::run`]; what was ready stays ready for the next run.
    fn call(&self, handle: Self::Handle) -> Result<(), Self::Error>;

    /// Acts on a host source that is ready.
    ///
    /// # Errors
    /// As [`Host::call`].
    fn ready(&self, source: SourceKey, readiness: Readiness) -> Result<(), Self::Error>;

    /// What a handle that is to run now is, for the timeline. Asked only while each step is recorded by itself.
    fn describe(&self, _handle: &Self::Handle) -> Option<Step> {
        None
    }

    /// What the work on a source that is ready now is.
    fn describe_ready(&self, _source: SourceKey) -> Option<Step> {
        None
    }

    /// What the step that was described last has left waiting, and for what.
    fn suspended(&self) -> Option<NameId> {
        None
    }

    /// Hears of a step that took longer than [`timeline::slow_threshold`], once it is over.
    ///
    /// # Errors
    /// As [`Host::call`].
    fn slow(&self, _slow: &Slow) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Whether [`Host::now`] is another clock than [`now_ns`]. It may leap, so that the loop looks at it before every
    /// burst.
    fn has_own_clock(&self) -> bool {
        false
    }

    /// The clock of the handles' deadlines, in nanoseconds.
    ///
    /// # Errors
    /// As [`Host::call`].
    fn now(&self) -> Result<u64, Self::Error> {
        Ok(now_ns())
    }

    /// Runs `wait`, which may block; what must not be held meanwhile (a GIL) is given up around it. Called only where
    /// blocking is expected.
    ///
    /// # Errors
    /// What became known during the wait, such as a signal's `KeyboardInterrupt`.
    fn park<R>(&self, wait: impl FnOnce() -> R) -> Result<R, Self::Error>;
}

/// An event loop for the callbacks of `H` and for Rust futures.
///
/// It belongs to the thread that runs it. Other threads reach it through [`EventLoop::remote`] alone.
pub struct EventLoop<H: Host> {
    handle: LoopHandle,
    ready: RefCell<VecDeque<H::Handle>>,
    timers: RefCell<Timers<H::Handle>>,
    injector: Arc<Injector<H::Handle>>,
    events: RefCell<EventBuffer>,
    stopping: Cell<bool>,
    turns: Cell<u64>,
    recorder: Recorder,
}

/// How other threads schedule on a loop.
pub struct RemoteScheduler<T> {
    injector: Arc<Injector<T>>,
    remote: Arc<Remote>,
}

impl<T> RemoteScheduler<T> {
    /// Schedules a handle from any thread and wakes the loop.
    ///
    /// # Errors
    /// Gives the handle back if the loop is closed.
    pub fn call_soon(&self, handle: T) -> Result<(), T> {
        self.injector.push_if_open(handle)?;
        self.remote.wake();
        Ok(())
    }

    /// Whether the loop was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.injector.is_closed()
    }

    /// Who runs the loop.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }
}

impl<T> Clone for RemoteScheduler<T> {
    fn clone(&self) -> Self {
        Self { injector: Arc::clone(&self.injector), remote: Arc::clone(&self.remote) }
    }
}

impl<H: Host> EventLoop<H> {
    /// Opens a loop.
    ///
    /// # Errors
    /// `EMFILE`/`ENFILE` when no descriptor is left: a loop needs two.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            handle: LoopHandle::new()?,
            ready: RefCell::default(),
            timers: RefCell::default(),
            injector: Arc::default(),
            events: RefCell::new(EventBuffer::with_capacity(EVENT_CAPACITY)),
            stopping: Cell::new(false),
            turns: Cell::new(0),
            recorder: Recorder::new(H::HAS_LANE),
        })
    }

    /// The loop as its own futures and transports see it.
    #[must_use]
    pub fn handle(&self) -> &LoopHandle {
        &self.handle
    }

    /// The loop as other threads see it.
    #[must_use]
    pub fn remote(&self) -> RemoteScheduler<H::Handle> {
        RemoteScheduler { injector: Arc::clone(&self.injector), remote: Arc::clone(self.handle.remote()) }
    }

    /// Schedules a handle for the next burst. What other threads scheduled earlier comes first.
    pub fn call_soon(&self, handle: H::Handle) {
        if !self.injector.is_empty() {
            self.take_injected();
        }
        self.ready.borrow_mut().push_back(handle);
    }

    /// Schedules a handle for when [`Host::now`] reaches `deadline`.
    pub fn call_at(&self, deadline: u64, handle: H::Handle) -> TimerKey {
        self.timers.borrow_mut().insert(deadline, handle)
    }

    /// Takes a timer back; `None` when it fired already.
    pub fn cancel_timer(&self, key: TimerKey) -> Option<H::Handle> {
        self.timers.borrow_mut().cancel(key)
    }

    /// Ends the run after the current burst, or after one burst if the loop is not running.
    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// The number of handles that are ready.
    #[must_use]
    pub fn ready_len(&self) -> usize {
        self.ready.borrow().len()
    }

    /// The number of pending timers.
    #[must_use]
    pub fn timer_len(&self) -> usize {
        self.timers.borrow().len()
    }

    /// The number of bursts so far.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// What the timeline knows of this loop.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Shows every handle that waits to run, for a host that must find what it owns (Python's cycle collector).
    /// `false` when the loop is amid a change and nothing was shown.
    pub fn visit_handles(&self, mut visit: impl FnMut(&H::Handle)) -> bool {
        let (Ok(mut ready), Ok(timers)) = (self.ready.try_borrow_mut(), self.timers.try_borrow()) else { return false };
        // The injector shows nothing that it holds, and what is not shown cannot be found to be garbage.
        while let Some(handle) = self.injector.pop() {
            ready.push_back(handle);
        }
        ready.iter().for_each(&mut visit);
        timers.payloads().for_each(visit);
        true
    }

    /// Runs until [`EventLoop::stop`].
    ///
    /// # Errors
    /// What a callback of the host raised to end the run, and errors of the driver; `Busy` if a thread runs this loop
    /// already.
    pub fn run(&self, host: &H) -> Result<(), RunError<H::Error>> {
        let _owned = self.own()?;
        loop {
            let turned = self.turn(host);
            if turned.is_err() || self.stopping.get() {
                // A run that ends in an error has ended: the next one must not stop for this one's sake.
                self.stopping.set(false);
                return turned;
            }
        }
    }

    /// Takes the loop for a run. A thread may have taken it before, and then keeps it afterwards.
    fn own(&self) -> Result<Running<'_>, RunError<H::Error>> {
        let remote = self.handle.remote();
        let was_owner = remote.is_owner();
        if remote.is_running() || !(was_owner || remote.try_own()) {
            return Err(RunError::Busy);
        }
        remote.set_running(true);
        self.recorder.run_begins();
        Ok(Running { remote, was_owner, recorder: &self.recorder })
    }

    /// Drops all tasks, handles and timers. The handles are given back for the host to drop where it may. Other
    /// threads' handles are refused from now on.
    #[must_use]
    pub fn close(&self) -> Vec<H::Handle> {
        self.injector.close();
        self.handle.close();
        self.take_injected();
        let mut handles: Vec<_> = std::mem::take(&mut *self.ready.borrow_mut()).into();
        handles.append(&mut self.timers.borrow_mut().clear());
        handles
    }

    /// One turn: the kernel once, then bursts of what is ready.
    ///
    /// What was ready before the kernel was asked runs first, then what the kernel reported, then what is due: first
    /// in, first out, however many steps a turn has.
    fn turn(&self, host: &H) -> Result<(), RunError<H::Error>> {
        let mut events = self.events.borrow_mut();
        self.wait(host, &mut events)?;
        let result = self.act_on(host, &events);
        if result.is_err() {
            // Level-triggered events come again; edges of futures must not be lost.
            self.dispatch_futures(&events);
        }
        drop(events);
        let mut steps = result.map_err(RunError::Host)?;
        let steps_max = if host.has_own_clock() { 0 } else { STEPS_BETWEEN_POLLS };
        while !self.stopping.get() && steps < steps_max && self.has_ready() {
            steps += self.burst(host).map_err(RunError::Host)?;
        }
        Ok(())
    }

    /// Runs what was ready, what `events` report, and what is due. Gives the number of steps.
    fn act_on(&self, host: &H, events: &EventBuffer) -> Result<usize, H::Error> {
        let mut steps = if self.has_ready() && !events.is_empty() { self.burst(host)? } else { 0 };
        // What is due goes into the queue before the host's sources can add to it.
        self.run_due(host)?;
        for index in 0..events.len() {
            if let Some((source, readiness)) = self.handle.dispatch(events.get(index)) {
                self.recorder.note(|statistics| statistics.events += 1);
                self.step(host, || host.describe_ready(source), || host.ready(source, readiness))?;
            }
        }
        steps += self.burst(host)?;
        Ok(steps)
    }

    /// Asks the kernel, blocking only if there is nothing else to do.
    fn wait(&self, host: &H, events: &mut EventBuffer) -> Result<(), RunError<H::Error>> {
        if let Some(slow) = self.recorder.turn_ends() {
            host.slow(&slow).map_err(RunError::Host)?;
        }
        if self.stopping.get() || self.has_ready() {
            return self.handle.wait(events, Some(Duration::ZERO)).map_err(RunError::Io);
        }
        let until_deadline = self.until_deadline(host).map_err(RunError::Host)?;
        let remote = self.handle.remote();
        remote.park();
        // After `park`, whoever injects writes the notifier; what came before is seen here.
        let timeout = if self.has_ready() { Some(Duration::ZERO) } else { until_deadline };
        let waited = if timeout == Some(Duration::ZERO) {
            Ok(self.handle.wait(events, timeout))
        } else {
            self.recorder.parks();
            let waited = host.park(|| self.handle.wait(events, timeout));
            self.recorder.unparked();
            waited
        };
        remote.unpark();
        match waited {
            Ok(result) => result.map_err(RunError::Io),
            Err(error) => {
                self.dispatch_futures(events);
                Err(RunError::Host(error))
            }
        }
    }

    fn dispatch_futures(&self, events: &EventBuffer) {
        for index in 0..events.len() {
            let _for_the_host = self.handle.dispatch(events.get(index));
        }
    }

    /// Moves timers that are due to the ready queue.
    fn run_due(&self, host: &H) -> Result<(), H::Error> {
        if self.handle.next_deadline().is_some() {
            self.handle.wake_due(now_ns());
        }
        let Some(deadline) = self.earliest_timer() else { return Ok(()) };
        let now = host.now()?;
        if deadline <= now {
            let mut timers = self.timers.borrow_mut();
            let mut ready = self.ready.borrow_mut();
            let before = ready.len();
            while let Some(handle) = timers.pop_due(now) {
                ready.push_back(handle);
            }
            self.recorder.note(|statistics| statistics.timers_fired += (ready.len() - before) as u64);
        }
        Ok(())
    }

    /// Runs what is ready at its start, and gives the number of steps.
    fn burst(&self, host: &H) -> Result<usize, H::Error> {
        self.turns.set(self.turns.get() + 1);
        if !self.injector.is_empty() {
            self.take_injected();
        }
        let tasks = self.handle.tasks().collect_ready();
        if tasks > 0 {
            self.step(
                host,
                || self.describe_tasks(),
                || {
                    for _ in 0..tasks {
                        self.handle.tasks().run_one();
                    }
                    Ok(())
                },
            )?;
        }
        let handles = self.ready.borrow().len();
        self.recorder.note(|statistics| {
            statistics.task_polls += tasks as u64;
            statistics.handles += handles as u64;
            statistics.ready_max = statistics.ready_max.max(handles as u64);
        });
        for _ in 0..handles {
            let Some(handle) = self.ready.borrow_mut().pop_front() else { break };
            if self.recorder.is_exact() {
                let step = host.describe(&handle);
                self.step(host, || step, || host.call(handle))?;
            } else {
                self.step(host, || None, || host.call(handle))?;
            }
        }
        Ok(tasks + handles)
    }

    /// Runs one step and tells the recorder of it, and the host if it was slow.
    #[inline]
    fn step(
        &self,
        host: &H,
        describe: impl FnOnce() -> Option<Step>,
        run: impl FnOnce() -> Result<(), H::Error>,
    ) -> Result<(), H::Error> {
        let slow = if self.recorder.is_exact() {
            let before = self.recorder.begin(describe());
            let result = run();
            let slow = self.recorder.end(host.suspended());
            result?;
            before.or(slow)
        } else {
            run()?;
            if !self.recorder.count() {
                return Ok(());
            }
            self.recorder.settle()
        };
        slow.map_or(Ok(()), |slow| host.slow(&slow))
    }

    fn describe_tasks(&self) -> Option<Step> {
        static NAME: OnceLock<NameId> = OnceLock::new();
        let name = *NAME.get_or_init(|| timeline::name("Rust tasks"));
        Some(Step { lane: self.recorder.loop_lane()?, name, woken: timeline::Woken::UNKNOWN })
    }

    fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty() || !self.injector.is_empty() || self.handle.tasks().has_ready()
    }

    fn take_injected(&self) {
        let mut ready = self.ready.borrow_mut();
        while let Some(handle) = self.injector.pop() {
            ready.push_back(handle);
        }
    }

    /// How long nothing is due; `None` is for ever.
    fn until_deadline(&self, host: &H) -> Result<Option<Duration>, H::Error> {
        let sleepers = self.handle.next_deadline().map(|deadline| deadline.saturating_sub(now_ns()));
        let handles = match self.earliest_timer() {
            Some(deadline) => Some(deadline.saturating_sub(host.now()?)),
            None => None,
        };
        let nearest = sleepers.into_iter().chain(handles).min();
        Ok(nearest.map(Duration::from_nanos))
    }

    fn earliest_timer(&self) -> Option<u64> {
        self.timers.borrow_mut().next_deadline()
    }
}

impl<H: Host> Drop for EventLoop<H> {
    fn drop(&mut self) {
        self.injector.close();
        // Sources, tasks and the loop refer to each other through `LoopHandle`: only closing undoes the knot.
        self.handle.close();
    }
}

/// Why a run of the loop ended before it was stopped.
#[derive(Debug)]
pub enum RunError<E> {
    /// A callback of the host said so.
    Host(E),
    /// The driver failed.
    Io(io::Error),
    /// A thread runs this loop already, maybe this one.
    Busy,
}

struct Running<'a> {
    remote: &'a Remote,
    was_owner: bool,
    recorder: &'a Recorder,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.recorder.run_ends();
        self.remote.set_running(false);
        if !self.was_owner {
            self.remote.disown();
        }
    }
}

/// The host of a loop without Python: handles are closures, and nothing has to be given up around a wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callbacks;

impl Host for Callbacks {
    type Handle = Box<dyn FnOnce() + Send>;
    type Error = std::convert::Infallible;

    fn call(&self, handle: Self::Handle) -> Result<(), Self::Error> {
        handle();
        Ok(())
    }

    fn ready(&self, _source: SourceKey, _readiness: Readiness) -> Result<(), Self::Error> {
        Ok(())
    }

    fn park<R>(&self, wait: impl FnOnce() -> R) -> Result<R, Self::Error> {
        Ok(wait())
    }
}

impl EventLoop<Callbacks> {
    /// Runs the loop until `future` is done, and gives its output.
    ///
    /// ```
    /// use std::time::Duration;
    /// let event_loop = aioxide::EventLoop::new()?;
    /// let handle = event_loop.handle().clone();
    /// let answer = event_loop.block_on(async move {
    ///     handle.sleep(Duration::from_millis(1)).await;
    ///     42
    /// })?;
    /// assert_eq!(answer, 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Errors of the driver; `ResourceBusy` if this loop is running already.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> io::Result<T> {
        self.block_on_host(&Callbacks, future).map_err(|error| match error {
            RunError::Io(error) => error,
            RunError::Busy => io::ErrorKind::ResourceBusy.into(),
            RunError::Host(never) => match never {},
        })
    }
}

impl<H: Host> EventLoop<H> {
    /// As `block_on`, with a host of one's own, for instance one that lets signals end the wait.
    ///
    /// # Errors
    /// What the host raised (then the future is dropped), and errors of the driver; `Busy` if this loop is running.
    pub fn block_on_host<T: 'static>(
        &self,
        host: &H,
        future: impl Future<Output = T> + 'static,
    ) -> Result<T, RunError<H::Error>> {
        let _owned = self.own()?;
        let mut task = self.handle.spawn(future);
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        loop {
            // The task itself is what the turns wait for, so no waker is needed to look at its outcome.
            if let Poll::Ready(output) = std::pin::Pin::new(&mut task).poll(&mut context) {
                return Ok(output);
            }
            self.turn(host)?;
        }
    }
}
