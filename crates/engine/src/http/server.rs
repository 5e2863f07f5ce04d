//! A small HTTP/1.1 server in a thread of its own: the other end for tests, benchmarks and examples.
//!
//! It answers on loopback, as slowly as it is told to, and has a path for every way in which a server can misbehave.
//! One loop serves all connections; a connection is one task.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use super::server_connection::Service;

use crate::event_loop::{EventLoop, Host, RemoteScheduler};
use crate::reactor::SourceKey;
use crate::transport::TcpListener;
use crate::{Readiness, thread_cpu_time};

/// When no descriptor is left, the server pauses before it accepts again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Whoever waits for the thread's answer looks this often whether it has ended instead.
const LAST_WORDS_CHECK: Duration = Duration::from_millis(20);

/// What a server is told when it starts.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The address that it listens on.
    pub host: IpAddr,
    /// The port; 0 picks a free one.
    pub port: u16,
    /// Every answer begins so much later.
    pub latency: Duration,
    /// The size of an ordinary answer's body; 0 answers with the path.
    pub body_bytes: usize,
}

impl Default for ServerOptions {
    /// A free port on loopback, no latency, and the path as the body.
    fn default() -> Self {
        Self { host: Ipv4Addr::LOCALHOST.into(), port: 0, latency: Duration::ZERO, body_bytes: 0 }
    }
}

/// A running server. Dropping it stops it.
///
/// Any path is answered with 200 and a text. These are special:
///
/// | path | answer |
/// | --- | --- |
/// | `/status/<code>` | that status |
/// | `/redirect/<n>` | 302 to `/redirect/<n-1>`; 200 at 0 |
/// | `/bytes/<n>` | a body of `n` bytes |
/// | `/stream/<chunks>/<bytes>/<delay>` | so many chunks of so many bytes, the delay in milliseconds before each |
/// | `/echo` | method, path, headers and body of the request, as JSON |
/// | `/delay/<n>` | after further `n` milliseconds |
/// | `/close` | none: the connection is closed |
/// | `/truncate` | a body that ends too early |
/// | `/garbage` | something that is not HTTP |
/// | `/last` | an ordinary answer, after which the server closes the connection without having said so |
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    scheduler: RemoteScheduler<Call>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

type Call = Box<dyn FnOnce() + Send>;

/// What the server's thread shares with the others.
#[derive(Default)]
struct Shared {
    served: Arc<AtomicU64>,
    stopping: AtomicBool,
    stop_waker: Mutex<Option<Waker>>,
    /// The CPU time at the end of the thread.
    final_cpu_time: Mutex<Option<(Duration, Duration)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// Starts a server. When this returns, it accepts connections.
    ///
    /// ```
    /// use aioxide::http::{Server, ServerOptions};
    /// let server = Server::start(ServerOptions::default())?;
    /// assert_eq!(server.url(), format!("http://127.0.0.1:{}", server.address().port()));
    /// server.stop();
    /// assert!(server.cpu_time().0.as_secs() < 1, "what it used is known afterwards, too");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `AddrInUse` when the port is taken, and what else `bind(2)` says; `EAGAIN` when no thread can be had.
    pub fn start(options: ServerOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (started, start) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("aioxide-server".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&options, &shared, &started)
        })?;
        let gone = || io::Error::other("the server's thread ended before it served");
        let (address, scheduler) = start.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { address, shared, scheduler, thread: Mutex::new(Some(thread)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its root, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of requests answered so far, those included that are answered wrongly on purpose.
    #[must_use]
    pub fn requests_served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// The CPU time that its thread has used so far: `(user, system)`.
    #[must_use]
    pub fn cpu_time(&self) -> (Duration, Duration) {
        let (sender, receiver) = mpsc::sync_channel(1);
        let _has_ended = self.scheduler.call_soon(Box::new(move || {
            if let Ok(time) = thread_cpu_time() {
                // Nobody listens any more: then nobody misses it.
                let _ = sender.send(time);
            }
        }));
        // The thread runs the call, or has ended, or is about to: then it leaves its last words.
        loop {
            if let Some(time) = *lock(&self.shared.final_cpu_time) {
                return time;
            }
            match receiver.recv_timeout(LAST_WORDS_CHECK) {
                Ok(time) => return time,
                Err(_) if lock(&self.thread).as_ref().is_none_or(JoinHandle::is_finished) => {
                    return lock(&self.shared.final_cpu_time).unwrap_or_default();
                }
                Err(_) => {}
            }
        }
    }

    /// Closes all connections and ends the thread. When this returns, the port is free again. Idempotent.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let waker = lock(&self.shared.stop_waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A panic there has been reported by the panic hook; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The host of the server's loop: closures, and no lane in the timeline, which is the client's.
struct Unseen;

impl Host for Unseen {
    type Handle = Call;
    type Error = std::convert::Infallible;
    const HAS_LANE: bool = false;

    fn call(&self, handle: Call) -> Result<(), Self::Error> {
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

type Started = io::Result<(SocketAddr, RemoteScheduler<Call>)>;

fn run(options: &ServerOptions, shared: &Arc<Shared>, started: &mpsc::SyncSender<Started>) {
    let event_loop = match EventLoop::<Unseen>::new() {
        Ok(event_loop) => event_loop,
        Err(error) => return drop(started.send(Err(error))),
    };
    let handle = event_loop.handle();
    let listener = TcpListener::bind(handle, SocketAddr::new(options.host, options.port));
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => return drop(started.send(Err(error))),
    };
    if started.send(Ok((address, event_loop.remote()))).is_err() {
        return;
    }
    let service = Service::new(handle, options, &shared.served);
    let serving = serve(Arc::clone(shared), listener, service);
    // Only the driver can fail here, after a foreign close of its descriptor: then there is nothing left to serve.
    let _ = event_loop.block_on_host(&Unseen, serving);
    *lock(&shared.final_cpu_time) = Some(thread_cpu_time().unwrap_or_default());
}

/// Accepts connections until the server is stopped.
async fn serve(shared: Arc<Shared>, listener: TcpListener, service: Service) {
    loop {
        let mut accept = std::pin::pin!(listener.accept());
        let accepted = std::future::poll_fn(|context| {
            *lock(&shared.stop_waker) = Some(context.waker().clone());
            if shared.stopping.load(Ordering::SeqCst) {
                return Poll::Ready(None);
            }
            accept.as_mut().poll(context).map(Some)
        });
        match accepted.await {
            None => return,
            Some(Ok(stream)) => service.spawn(stream),
            Some(Err(_)) => service.handle.sleep(ACCEPT_PAUSE).await,
        }
    }
}
