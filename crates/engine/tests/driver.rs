//! The contract that every driver keeps, as `driver` says it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use aioxide::driver::{Epoll, Event, EventBuffer, Interest, Notifier, Trigger};

/// What one wait brings, by token.
fn wait(driver: &Epoll, timeout: Duration) -> BTreeMap<u64, Event> {
    let mut events = EventBuffer::with_capacity(64);
    driver.wait(&mut events, Some(timeout)).unwrap();
    (0..events.len()).map(|index| events.get(index)).map(|event| (event.token, event)).collect()
}

fn look(driver: &Epoll) -> BTreeMap<u64, Event> {
    wait(driver, Duration::ZERO)
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    peer.set_nonblocking(true).unwrap();
    (ours, peer)
}

/// Whether the other end is closed, as far as `peer` can tell now.
fn is_at_end(mut peer: &UnixStream) -> bool {
    matches!(peer.read(&mut [0; 16]), Ok(0))
}

fn read_all(mut stream: &UnixStream) -> usize {
    let (mut total, mut buffer) = (0, [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        total += count;
    }
    total
}

fn fill(mut stream: &UnixStream) {
    while stream.write(&[0; 4096]).is_ok() {}
}

/// As `poll(2)` sees it now: a driver must not say less.
fn is_readable(fd: RawFd) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which is ours.
    unsafe { libc::poll(&raw mut asked, 1, 0) == 1 }
}

#[test]
fn a_level_is_reported_at_every_wait_while_it_holds() {
    let driver = &Epoll::new().unwrap();
    let (ours, mut peer) = pair();
    driver.add(ours.as_raw_fd(), 1, Interest::READABLE, Trigger::Level).unwrap();
    assert!(look(driver).is_empty());
    peer.write_all(b"data").unwrap();
    for _ in 0..3 {
        let events = look(driver);
        assert_eq!(events.len(), 1);
        assert!(events[&1].readiness.readable && !events[&1].readiness.writable);
    }
    read_all(&ours);
    assert!(look(driver).is_empty());
    driver.remove(ours.as_raw_fd());
}

#[test]
fn an_edge_is_reported_once_and_the_next_one_again() {
    let driver = &Epoll::new().unwrap();
    let (ours, mut peer) = pair();
    driver.add(ours.as_raw_fd(), 1, Interest::BOTH, Trigger::Edge).unwrap();
    assert!(look(driver)[&1].readiness.writable);
    for _ in 0..3 {
        assert!(look(driver).is_empty());
        peer.write_all(b"data").unwrap();
        assert!(look(driver)[&1].readiness.readable);
        assert!(look(driver).is_empty());
        read_all(&ours);
    }
    drop(peer);
    let event = look(driver)[&1];
    assert!(event.readiness.readable && event.readiness.writable && event.readiness.closed);
    driver.remove(ours.as_raw_fd());
}

#[test]
fn what_is_watched_and_its_token_can_change() {
    let driver = &Epoll::new().unwrap();
    let (ours, mut peer) = pair();
    let fd = ours.as_raw_fd();
    peer.write_all(b"data").unwrap();
    driver.add(fd, 1, Interest::READABLE, Trigger::Level).unwrap();
    assert!(look(driver)[&1].readiness.readable);
    driver.modify(fd, 1, Interest::BOTH, Trigger::Level).unwrap();
    let event = look(driver)[&1];
    assert!(event.readiness.readable && event.readiness.writable);
    driver.modify(fd, 1, Interest::WRITABLE, Trigger::Level).unwrap();
    let event = look(driver)[&1];
    assert!(!event.readiness.readable && event.readiness.writable);
    fill(&ours);
    driver.modify(fd, 1, Interest::BOTH, Trigger::Level).unwrap();
    let event = look(driver)[&1];
    assert!(event.readiness.readable && !event.readiness.writable);
    driver.add(fd, 2, Interest::READABLE, Trigger::Level).unwrap();
    let events = look(driver);
    assert!(events[&2].readiness.readable && events.len() == 1, "the token that was given last");
    driver.remove(fd);
    assert!(look(driver).is_empty());
}

#[test]
fn a_file_is_closed_when_it_is_removed_and_closed() {
    let driver = &Epoll::new().unwrap();
    for (trigger, has_fired) in [Trigger::Level, Trigger::Edge].into_iter().flat_map(|t| [(t, false), (t, true)]) {
        let (ours, mut peer) = pair();
        let fd = ours.as_raw_fd();
        driver.add(fd, 1, Interest::READABLE, trigger).unwrap();
        assert!(look(driver).is_empty());
        if has_fired {
            peer.write_all(b"data").unwrap();
            assert!(look(driver)[&1].readiness.readable);
            read_all(&ours);
        }
        driver.remove(fd);
        // Closes the file and uses its number again, at once.
        let (again, mut next_peer) = pair();
        // SAFETY: both are open.
        assert_eq!(unsafe { libc::dup2(again.as_raw_fd(), fd) }, fd);
        drop(again);
        assert!(is_at_end(&peer), "no wait is needed");
        driver.add(fd, 2, Interest::READABLE, trigger).unwrap();
        assert!(look(driver).is_empty(), "nothing is heard of the one that had the number before");
        next_peer.write_all(b"data").unwrap();
        assert!(look(driver)[&2].readiness.readable);
        driver.remove(fd);
        drop(ours);
    }
}

#[test]
fn a_watched_file_is_not_kept_open() {
    let driver = &Epoll::new().unwrap();
    for trigger in [Trigger::Level, Trigger::Edge] {
        let (ours, peer) = pair();
        driver.add(ours.as_raw_fd(), 1, Interest::READABLE, trigger).unwrap();
        assert!(look(driver).is_empty());
        drop(ours);
        assert!(is_at_end(&peer), "closed without a word");
        assert!(look(driver).is_empty());
    }
}

#[test]
fn descriptors_that_cannot_be_watched_are_refused() {
    let driver = &Epoll::new().unwrap();
    let file = std::fs::File::open("Cargo.toml").unwrap();
    // Far above what is open.
    for (fd, code) in [(file.as_raw_fd(), libc::EPERM), (-1, libc::EBADF), (9999, libc::EBADF)] {
        let refused = driver.add(fd, 1, Interest::READABLE, Trigger::Level);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(code), "{fd}");
    }
    assert!(look(driver).is_empty());
}

#[test]
fn a_peer_that_sends_no_more_does_not_keep_a_writer_awake() {
    let driver = &Epoll::new().unwrap();
    let (ours, peer) = pair();
    fill(&ours);
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let fd = ours.as_raw_fd();
    driver.add(fd, 1, Interest::WRITABLE, Trigger::Level).unwrap();
    assert!(look(driver).is_empty() && look(driver).is_empty());
    let begin = Instant::now();
    assert!(wait(driver, Duration::from_millis(30)).is_empty());
    assert!(begin.elapsed() >= Duration::from_millis(30), "it blocks");
    drop(peer);
    assert!(look(driver)[&1].readiness.writable, "the hang-up is for writers, too");
    driver.remove(fd);
}

#[test]
fn a_wait_lasts_as_long_as_it_was_told() {
    let driver = &Epoll::new().unwrap();
    for nanos in [0, 1, 300_000, 2_500_000] {
        let timeout = Duration::from_nanos(nanos);
        let begin = Instant::now();
        assert!(wait(driver, timeout).is_empty());
        let took = begin.elapsed();
        assert!(took >= timeout && took < timeout + Duration::from_secs(2), "{took:?} for {timeout:?}");
    }
}

#[test]
fn a_notifier_ends_the_wait_from_another_thread() {
    let driver = &Epoll::new().unwrap();
    let notifier = Notifier::new().unwrap();
    driver.add(notifier.as_raw_fd(), 7, Interest::READABLE, Trigger::Level).unwrap();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(5));
                notifier.notify();
            });
            let mut events = EventBuffer::with_capacity(8);
            driver.wait(&mut events, None).unwrap();
            assert_eq!(events.get(0).token, 7);
        });
        notifier.drain();
        assert!(look(driver).is_empty());
    }
    notifier.notify();
    assert!(look(driver).contains_key(&7), "what comes between two waits is remembered");
}

#[test]
fn more_events_than_fit_come_with_the_next_waits() {
    let driver = &Epoll::new().unwrap();
    let pairs: Vec<_> = (0..300).map(|_| pair()).collect();
    for (token, (ours, mut peer)) in pairs.iter().map(|(ours, peer)| (ours, peer)).enumerate() {
        let trigger = if token % 2 == 0 { Trigger::Edge } else { Trigger::Level };
        driver.add(ours.as_raw_fd(), token as u64, Interest::READABLE, trigger).unwrap();
        peer.write_all(b"data").unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        for token in look(driver).into_keys() {
            read_all(&pairs[usize::try_from(token).unwrap()].0);
            seen.insert(token);
        }
    }
    assert_eq!(seen.len(), pairs.len());
}

#[test]
fn sources_come_and_go_while_a_wait_is_under_way() {
    let driver = &Epoll::new().unwrap();
    let (late, mut its_peer) = pair();
    let (gone, mut silenced) = pair();
    driver.add(gone.as_raw_fd(), 1, Interest::READABLE, Trigger::Level).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(driver, Duration::from_secs(20)));
        std::thread::sleep(Duration::from_millis(5));
        driver.remove(gone.as_raw_fd());
        silenced.write_all(b"data").unwrap();
        driver.add(late.as_raw_fd(), 2, Interest::WRITABLE, Trigger::Edge).unwrap();
        let events = waiting.join().unwrap();
        assert!(events.len() == 1 && events[&2].readiness.writable, "{events:?}");
        driver.modify(late.as_raw_fd(), 3, Interest::READABLE, Trigger::Level).unwrap();
        let waiting = scope.spawn(|| wait(driver, Duration::from_secs(20)));
        its_peer.write_all(b"data").unwrap();
        assert!(waiting.join().unwrap()[&3].readiness.readable);
    });
}

/// A small generator of its own, so that a seed says all.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Connection {
    ours: UnixStream,
    peer: UnixStream,
    token: u64,
    is_watched: bool,
}

/// Sources come, go, and get data at random; every wait says what `poll(2)` says, and of none that is gone.
#[test]
fn levels_agree_with_poll_whatever_happens() {
    let seed = std::env::var("AIOXIDE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1
    });
    eprintln!("AIOXIDE_SEED={seed}");
    let driver = &Epoll::new().unwrap();
    let mut random = Random(seed);
    let mut connections: Vec<Connection> = Vec::new();
    let mut tokens = 0;
    for _ in 0..4000 {
        if connections.is_empty() || (connections.len() < 40 && random.below(8) == 0) {
            let (ours, peer) = pair();
            connections.push(Connection { ours, peer, token: 0, is_watched: false });
        }
        let index = usize::try_from(random.below(connections.len() as u64)).unwrap();
        let connection = &mut connections[index];
        let fd = connection.ours.as_raw_fd();
        match random.below(7) {
            0 | 1 => drop(connection.peer.write(b"data")),
            2 => drop(read_all(&connection.ours)),
            3 if !connection.is_watched => {
                tokens += 1;
                connection.token = tokens;
                connection.is_watched = true;
                driver.add(fd, tokens, Interest::READABLE, Trigger::Level).unwrap();
            }
            4 if connection.is_watched => {
                driver.remove(fd);
                connection.is_watched = false;
            }
            5 if random.below(4) == 0 => {
                if connection.is_watched {
                    driver.remove(fd);
                }
                let gone = connections.swap_remove(index);
                read_all(&gone.ours);
                drop(gone.ours);
                assert!(is_at_end(&gone.peer));
            }
            _ => agree(driver, &connections),
        }
    }
    agree(driver, &connections);
}

fn agree(driver: &Epoll, connections: &[Connection]) {
    let watched = || connections.iter().filter(|connection| connection.is_watched);
    let readable = watched().filter(|connection| is_readable(connection.ours.as_raw_fd()));
    let mut expected: Vec<u64> = readable.map(|connection| connection.token).collect();
    expected.sort_unstable();
    let is_known = |token: &u64| watched().any(|connection| connection.token == *token);
    for _ in 0..2 {
        let reported: Vec<u64> = look(driver).into_keys().collect();
        assert!(reported.iter().all(is_known), "{reported:?}");
        assert_eq!(reported, expected);
    }
}
