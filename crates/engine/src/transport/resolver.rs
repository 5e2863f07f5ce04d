//! Names to addresses, on a small pool of threads of its own.
//!
//! `getaddrinfo` blocks, and must not wait behind whatever else an application runs in its executor. Numeric addresses
//! need no thread; equal look-ups that are under way at the same time share one. An answer is kept for a few seconds, so
//! that a burst of connections to one host asks once; whoever finds it wrong says so ([`forget`]).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Look-ups that may block at the same time.
const MAX_THREADS: usize = 8;
/// An answer is good for this time. The system does not tell how long its own would be.
const KEPT: Duration = Duration::from_secs(10);
/// So many answers are kept.
const KEPT_NAMES_MAX: usize = 1000;
/// A thread without work ends after this time.
const IDLE_SECONDS: u64 = 10;

type Answer = Result<Vec<IpAddr>, (io::ErrorKind, String)>;

#[derive(Default)]
struct Lookup {
    state: Mutex<(Option<Answer>, Vec<Waker>)>,
}

#[derive(Default)]
struct Pool {
    /// A forked child inherits this table but none of the threads, and must start anew.
    process: u32,
    queue: VecDeque<(String, Arc<Lookup>)>,
    in_flight: HashMap<String, Arc<Lookup>>,
    kept: HashMap<String, (Instant, Vec<IpAddr>)>,
    threads: usize,
    idle: usize,
}

impl Pool {
    fn keep(&mut self, host: String, answer: &Answer) {
        let Ok(addresses) = answer else {
            self.kept.remove(&host);
            return;
        };
        if self.kept.len() >= KEPT_NAMES_MAX {
            self.kept.retain(|_, (since, _)| since.elapsed() < KEPT);
        }
        if self.kept.len() < KEPT_NAMES_MAX {
            self.kept.insert(host, (Instant::now(), addresses.clone()));
        }
    }
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);
static WORK: Condvar = Condvar::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of `host`, each with `port`, in the order of preference that the system gives.
///
/// # Errors
/// What the system's resolver says, in its words.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let lookup = start_lookup(bare);
    let answer = std::future::poll_fn(|context| {
        let mut state = lock(&lookup.state);
        if let Some(answer) = &state.0 {
            return Poll::Ready(answer.clone());
        }
        if !state.1.iter().any(|waker| waker.will_wake(context.waker())) {
            state.1.push(context.waker().clone());
        }
        Poll::Pending
    })
    .await;
    match answer {
        Ok(addresses) => Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()),
        Err((kind, text)) => Err(io::Error::new(kind, text)),
    }
}

/// Drops the answer that is kept for `host`: nobody could be reached there.
pub fn forget(host: &str) {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Some(pool) = lock(&POOL).as_mut() {
        pool.kept.remove(bare);
    }
}

fn start_lookup(host: &str) -> Arc<Lookup> {
    let mut pool = lock(&POOL);
    let process = std::process::id();
    if pool.as_ref().is_none_or(|pool| pool.process != process) {
        *pool = Some(Pool { process, ..Pool::default() });
    }
    let pool = pool.get_or_insert_default();
    if let Some(lookup) = pool.in_flight.get(host) {
        return Arc::clone(lookup);
    }
    let lookup = Arc::new(Lookup::default());
    if let Some((since, addresses)) = pool.kept.get(host) {
        if since.elapsed() < KEPT {
            lock(&lookup.state).0 = Some(Ok(addresses.clone()));
            return lookup;
        }
    }
    pool.in_flight.insert(host.to_owned(), Arc::clone(&lookup));
    pool.queue.push_back((host.to_owned(), Arc::clone(&lookup)));
    if pool.idle >= pool.queue.len() {
        WORK.notify_one();
    } else if pool.threads < MAX_THREADS {
        match std::thread::Builder::new().name("aioxide-dns".into()).spawn(work) {
            Ok(_) => pool.threads += 1,
            // Without a single thread nobody would ever answer.
            Err(error) if pool.threads == 0 => {
                pool.queue.clear();
                pool.in_flight.remove(host);
                lock(&lookup.state).0 = Some(Err((error.kind(), format!("no thread for name look-ups: {error}"))));
            }
            Err(_) => {}
        }
    }
    lookup
}

fn work() {
    while let Some((host, lookup)) = next_work() {
        let answer = (host.as_str(), 0)
            .to_socket_addrs()
            .map(|addresses| addresses.map(|address| address.ip()).collect())
            .map_err(|error| (error.kind(), error.to_string()));
        if let Some(pool) = lock(&POOL).as_mut() {
            pool.in_flight.remove(&host);
            pool.keep(host, &answer);
        }
        let wakers = {
            let mut state = lock(&lookup.state);
            state.0 = Some(answer);
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn next_work() -> Option<(String, Arc<Lookup>)> {
    let mut guard = lock(&POOL);
    loop {
        let pool = guard.as_mut()?;
        if let Some(work) = pool.queue.pop_front() {
            return Some(work);
        }
        pool.idle += 1;
        let (woken, timeout) =
            WORK.wait_timeout(guard, Duration::from_secs(IDLE_SECONDS)).unwrap_or_else(PoisonError::into_inner);
        guard = woken;
        let pool = guard.as_mut()?;
        pool.idle -= 1;
        if timeout.timed_out() && pool.queue.is_empty() {
            pool.threads -= 1;
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::EventLoop;

    #[test]
    fn numeric_addresses_and_names_resolve_and_errors_are_told() {
        let event_loop = EventLoop::new().unwrap();
        let numeric = event_loop.block_on(super::resolve("[::1]", 80)).unwrap().unwrap();
        assert_eq!(numeric, ["[::1]:80".parse().unwrap()]);
        let named = event_loop.block_on(super::resolve("localhost", 80)).unwrap().unwrap();
        assert!(named.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        let kept = |name: &str| super::lock(&super::POOL).as_ref().is_some_and(|pool| pool.kept.contains_key(name));
        assert!(kept("localhost"));
        assert_eq!(event_loop.block_on(super::resolve("localhost", 80)).unwrap().unwrap(), named);
        super::forget("localhost");
        assert!(!kept("localhost"));
        let error = event_loop.block_on(super::resolve("no such name", 80)).unwrap().unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}
