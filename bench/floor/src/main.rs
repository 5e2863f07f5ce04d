//! The floor: bare servers on epoll, that make the system calls which the work takes, and do nothing else.
//!
//! ```text
//! aioxide-floor tcp
//! aioxide-floor unix /tmp/folder/socket
//! aioxide-floor udp
//! aioxide-floor http 1024
//! ```
//!
//! What a loop uses more than this is the loop's own, and Python's. The address is printed as a line of JSON; the
//! program ends with its standard input. `http` answers each GET with so many bytes, and looks at no more of it than
//! where it ends.

mod datagrams;
mod streams;

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};

use datagrams::Datagrams;
use streams::{Streams, Work};

/// As many connections may wait to be accepted as with the contenders.
const BACKLOG: i32 = 1024;
const INPUT: u64 = u64::MAX;

/// What acts on the events of its descriptors.
trait Server {
    /// Acts on an event; the token is the one that its descriptor was added with.
    fn act(&mut self, epoll: &OwnedFd, token: u64) -> io::Result<()>;
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aioxide-floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    match arguments {
        ["tcp"] => serve_tcp(&epoll, Work::Echo),
        ["http", bytes] => serve_tcp(&epoll, Work::Answer(http_answer(bytes.parse().map_err(io::Error::other)?))),
        ["unix", path] => {
            let listener = UnixListener::bind(path)?;
            rustix::net::listen(&listener, BACKLOG)?;
            listener.set_nonblocking(true)?;
            serve(&epoll, Streams::new(&epoll, listener.into(), Work::Echo)?, path)
        }
        ["udp"] => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?.to_string();
            serve(&epoll, Datagrams::new(&epoll, socket.into())?, &address)
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "wanted: tcp, unix PATH, udp or http BYTES")),
    }
}

fn serve_tcp(epoll: &OwnedFd, work: Work) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?.to_string();
    serve(epoll, Streams::new(epoll, listener.into(), work)?, &address)
}

/// Says the address, and serves until the standard input ends.
fn serve(epoll: &OwnedFd, mut server: impl Server, address: &str) -> io::Result<()> {
    let input = io::stdin();
    epoll::add(epoll, input.as_fd(), EventData::new_u64(INPUT), EventFlags::IN)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, r#"{{"address": "{address}"}}"#)?;
    stdout.flush()?;
    let mut events = [MaybeUninit::uninit(); 256];
    loop {
        let ready = match epoll::wait(epoll, &mut events, None) {
            Ok((ready, _)) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for event in ready {
            match event.data.u64() {
                INPUT => {
                    if rustix::io::read(input.as_fd(), &mut [0; 256])? == 0 {
                        return Ok(());
                    }
                }
                token => server.act(epoll, token)?,
            }
        }
    }
}

fn http_answer(bytes: usize) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").into_bytes();
    answer.extend((0..bytes).map(|n| (n % 251) as u8));
    answer
}
