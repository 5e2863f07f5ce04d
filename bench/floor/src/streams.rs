//! Connections, whose bytes go back as they are, or are answered.

use std::io;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt};

use crate::Server;

const LISTENER: u64 = u64::MAX - 1;
/// As much as the contenders' own loops read at once.
const READ_BYTES: usize = 256 * 1024;

/// What is done with what comes.
pub enum Work {
    /// It goes back.
    Echo,
    /// This is sent for each request, which an empty line ends.
    Answer(Vec<u8>),
}

struct Connection {
    socket: OwnedFd,
    /// What the kernel did not take yet. Meanwhile nothing is read.
    unsent: Vec<u8>,
    /// Where of `unsent` the rest begins.
    begin: usize,
}

pub struct Streams {
    listener: OwnedFd,
    work: Work,
    /// By token.
    connections: Vec<Option<Connection>>,
    free_tokens: Vec<usize>,
    scratch: Vec<u8>,
}

impl Streams {
    pub fn new(epoll: &OwnedFd, listener: OwnedFd, work: Work) -> io::Result<Self> {
        epoll::add(epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { listener, work, connections: Vec::new(), free_tokens: Vec::new(), scratch: vec![0; READ_BYTES] })
    }

    fn accept_all(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            match sockopt::set_tcp_nodelay(&socket, true) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
            let token = self.free_tokens.pop().unwrap_or(self.connections.len());
            epoll::add(epoll, &socket, EventData::new_u64(token as u64), EventFlags::IN)?;
            let connection = Some(Connection { socket, unsent: Vec::new(), begin: 0 });
            if token == self.connections.len() {
                self.connections.push(connection);
            } else {
                self.connections[token] = connection;
            }
        }
    }
}

impl Server for Streams {
    fn act(&mut self, epoll: &OwnedFd, token: u64) -> io::Result<()> {
        if token == LISTENER {
            return self.accept_all(epoll);
        }
        let slot = &mut self.connections[token as usize];
        let connection = slot.as_mut().expect("a closed descriptor has no events");
        match connection.turn(epoll, token, &self.work, &mut self.scratch) {
            Ok(true) => Ok(()),
            // The peer closed; one that went away with a message under way is no error either.
            Ok(false) | Err(Errno::CONNRESET | Errno::PIPE) => {
                *slot = None;
                self.free_tokens.push(token as usize);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Connection {
    /// Acts on an event; false once the peer has closed.
    fn turn(&mut self, epoll: &OwnedFd, token: u64, work: &Work, scratch: &mut [u8]) -> Result<bool, Errno> {
        if !self.unsent.is_empty() {
            self.begin += send_some(&self.socket, &self.unsent[self.begin..])?;
            if self.begin == self.unsent.len() {
                self.unsent.clear();
                epoll::modify(epoll, &self.socket, EventData::new_u64(token), EventFlags::IN)?;
            }
            return Ok(true);
        }
        let count = match recv(&self.socket, &mut scratch[..], RecvFlags::empty()) {
            Ok((0, _)) => return Ok(false),
            Ok((count, _)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(error) => return Err(error),
        };
        let answer = match work {
            Work::Echo => &scratch[..count],
            Work::Answer(answer) if scratch[..count].ends_with(b"\r\n\r\n") => answer,
            Work::Answer(_) => return Ok(true),
        };
        let sent = send_some(&self.socket, answer)?;
        if sent < answer.len() {
            self.unsent.extend_from_slice(&answer[sent..]);
            self.begin = 0;
            epoll::modify(epoll, &self.socket, EventData::new_u64(token), EventFlags::OUT)?;
        }
        Ok(true)
    }
}

/// As much as the kernel takes now.
fn send_some(socket: &OwnedFd, data: &[u8]) -> Result<usize, Errno> {
    match send(socket, data, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        sent => sent,
    }
}
