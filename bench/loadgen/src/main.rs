//! Keeps a number of connections to a server busy, one message under way on each, and says how many were answered.
//!
//! ```text
//! aioxide-loadgen --protocol tcp --address 127.0.0.1:9000 --connections 100 --bytes 1024 --seconds 0.3
//! ```
//!
//! It connects, sends one message over each connection to warm the server up, prints `ready`, and waits for a line
//! on its standard input. Then it measures, prints one line of JSON, and waits for the end of its input before it
//! closes the connections, so that neither connecting nor closing falls into the measured time.
//!
//! The server echoes, and every byte that comes back is compared with what was sent. `--protocol unix`, `udp` and `tls`
//! do the same over these; `connections`, `handshakes` and `resumptions` open and close a connection (with TLS) for each
//! message, one after the other. `http` sends a GET, and wants the same bytes as the answer's body.

mod arguments;
mod connection;
mod exchange;
mod report;
mod tls;

use std::io::{self, BufRead, Write};
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use arguments::{Address, Arguments, Protocol};
use connection::{Connection, Way};
use exchange::Exchange;
use report::Report;
use tls::Tls;

/// A server that answers nothing for this long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aioxide-loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let echo = Exchange::echo(arguments.bytes);
    match (arguments.protocol, &arguments.address) {
        (Protocol::Tcp, &Address::Ip(address)) => run_exchanges(arguments, Way::Tcp(address), echo),
        (Protocol::Unix, Address::Path(path)) => run_exchanges(arguments, Way::Unix(path), echo),
        (Protocol::Udp, &Address::Ip(address)) => run_exchanges(arguments, Way::Udp(address), echo),
        (Protocol::Tls, &Address::Ip(address)) => run_exchanges(arguments, Way::Tls(address, &Tls::new(false)), echo),
        (Protocol::Http, &Address::Ip(address)) => {
            run_exchanges(arguments, Way::Tcp(address), Exchange::http(&address.to_string(), arguments.bytes))
        }
        (Protocol::Connections, &Address::Ip(address)) => {
            run_visits(arguments, |scratch, _| connection::visit(address, &echo.request, scratch))
        }
        (Protocol::Handshakes, &Address::Ip(address)) => {
            let tls = Tls::new(false);
            run_visits(arguments, |scratch, _| tls.visit(address, &echo.request, scratch, false))
        }
        (Protocol::Resumptions, &Address::Ip(address)) => {
            let tls = Tls::new(true);
            run_visits(arguments, |scratch, is_first| tls.visit(address, &echo.request, scratch, !is_first))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "--protocol unix, and no other, wants a path")),
    }
}

/// A connection for each message; `visit` is told whether it is the first, which is not counted.
fn run_visits(arguments: &Arguments, visit: impl Fn(&mut [u8], bool) -> io::Result<()>) -> io::Result<()> {
    let mut scratch = vec![0; arguments.bytes + 1];
    visit(&mut scratch, true)?;
    measure(|report| {
        let begin = Instant::now();
        while begin.elapsed() < arguments.duration {
            let sent_at = Instant::now();
            visit(&mut scratch, false)?;
            report.record(sent_at.elapsed());
        }
        Ok(())
    })
}

/// Messages over connections that stay.
fn run_exchanges(arguments: &Arguments, way: Way<'_>, exchange: Exchange) -> io::Result<()> {
    let mut load = Load::connect(arguments, way, exchange)?;
    load.turn_until(&mut Report::default(), |report| report.operations() >= arguments.connections)?;
    measure(|report| {
        let end = Instant::now() + arguments.duration;
        load.send_all()?;
        load.turn_until(report, |_| Instant::now() >= end)
    })
}

/// Says `ready`, and once told to go on does the work, says what it gave, and waits for the end of the input.
fn measure(work: impl FnOnce(&mut Report) -> io::Result<()>) -> io::Result<()> {
    let stdin = io::stdin();
    let mut lines = stdin.lock().lines();
    say("ready")?;
    if lines.next().transpose()?.is_none() {
        return Ok(()); // the harness went away
    }

    let mut report = Report::default();
    let begin = Instant::now();
    work(&mut report)?;
    say(&report.to_json(begin.elapsed()))?;
    // Whatever still arrives on the input, its end is what is waited for.
    for line in lines {
        line?;
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// The connections, and the epoll instance that watches them.
struct Load {
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    exchange: Exchange,
    /// Where the bytes that came back are read to; they are checked at once, so one serves all connections.
    scratch: Vec<u8>,
}

impl Load {
    /// Opens every connection and sends one message on each.
    fn connect(arguments: &Arguments, way: Way<'_>, exchange: Exchange) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(arguments.connections);
        for number in 0..arguments.connections {
            let connection = Connection::open(way)?;
            // Edge-triggered, so that a connection is never watched anew.
            let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, &connection, epoll::EventData::new_u64(number as u64), interest)?;
            connections.push(connection);
        }
        let scratch = vec![0; arguments.bytes.max(64 * 1024)];
        let mut load = Self { epoll, connections, exchange, scratch };
        load.send_all()?;
        Ok(load)
    }

    /// Sends one message on each connection that has none under way.
    fn send_all(&mut self) -> io::Result<()> {
        for connection in &mut self.connections {
            connection.send(&self.exchange, Instant::now())?;
        }
        Ok(())
    }

    /// Answers what is ready until `done` says so; a message that came back whole is sent again at once, but for
    /// those that came back after `done`.
    fn turn_until(&mut self, report: &mut Report, done: impl Fn(&Report) -> bool) -> io::Result<()> {
        let mut events = [MaybeUninit::uninit(); 256];
        let silence_max = rustix::event::Timespec { tv_sec: SILENCE_MAX.as_secs() as i64, tv_nsec: 0 };
        loop {
            let ready = match epoll::wait(&self.epoll, &mut events, Some(&silence_max)) {
                Ok((ready, _)) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if ready.is_empty() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the server answered nothing for 10 seconds"));
            }
            let now = Instant::now();
            for event in ready {
                let connection = &mut self.connections[event.data.u64() as usize];
                if let Some(sent_at) = connection.turn(&self.exchange, &mut self.scratch)? {
                    report.record(now.duration_since(sent_at));
                    if !done(report) {
                        connection.send(&self.exchange, now)?;
                    }
                }
            }
            if done(report) {
                return Ok(());
            }
        }
    }
}
