//! One connection: a message goes out, and comes back.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use crate::exchange::{Exchange, Progress};
use crate::tls::{Tls, TlsStream};

/// What messages go over. A datagram takes a message whole, and the loopback loses none while few are under way.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
    Tls(Box<TlsStream>),
}

/// What messages go over, as [`Connection::open`] makes it.
#[derive(Clone, Copy)]
pub enum Way<'a> {
    Tcp(SocketAddr),
    Unix(&'a Path),
    Udp(SocketAddr),
    Tls(SocketAddr, &'a Tls),
}

impl Socket {
    fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self::Tcp(stream))
    }

    fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        Ok(Self::Unix(stream))
    }

    fn udp(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Udp(socket))
    }

    fn tls(address: SocketAddr, tls: &Tls) -> io::Result<Self> {
        let stream = tls.connect(address)?;
        stream.sock.set_nonblocking(true)?;
        Ok(Self::Tls(Box::new(stream)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Udp(socket) => socket.recv(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(data),
            Self::Unix(stream) => stream.write(data),
            Self::Udp(socket) => socket.send(data),
            Self::Tls(stream) => stream.write(data),
        }
    }
}

/// A connection to the server, with at most one message under way.
pub struct Connection {
    socket: Socket,
    /// Bytes of the message that the kernel has taken.
    sent: usize,
    /// What came back of the answer.
    received: Progress,
    /// When the message was sent; `None` while none is under way.
    sent_at: Option<Instant>,
}

impl Connection {
    pub fn open(way: Way<'_>) -> io::Result<Self> {
        let socket = match way {
            Way::Tcp(address) => Socket::tcp(address)?,
            Way::Unix(path) => Socket::unix(path)?,
            Way::Udp(address) => Socket::udp(address)?,
            Way::Tls(address, tls) => Socket::tls(address, tls)?,
        };
        Ok(Self { socket, sent: 0, received: Progress::default(), sent_at: None })
    }

    /// Begins to send the message, unless one is under way.
    pub fn send(&mut self, exchange: &Exchange, now: Instant) -> io::Result<()> {
        if self.sent_at.is_some() {
            return Ok(());
        }
        (self.sent, self.sent_at) = (0, Some(now));
        self.write(&exchange.request)
    }

    /// Goes on with the message as far as the kernel lets it. Answers when it was sent, once its answer is whole.
    pub fn turn(&mut self, exchange: &Exchange, scratch: &mut [u8]) -> io::Result<Option<Instant>> {
        self.write(&exchange.request)?;
        loop {
            let count = match self.socket.read(scratch) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a connection")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.sent_at.is_none() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "more came back than was asked for"));
            }
            if exchange.take(&mut self.received, &scratch[..count])? {
                return Ok(self.sent_at.take());
            }
        }
    }

    fn write(&mut self, request: &[u8]) -> io::Result<()> {
        while self.sent_at.is_some() && self.sent < request.len() {
            match self.socket.write(&request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
            Socket::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

/// One whole TCP connection: a message there and back, the end of the stream both ways.
pub fn visit(address: SocketAddr, payload: &[u8], scratch: &mut [u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    there_and_back(&mut stream, payload, scratch)?;
    stream.shutdown(Shutdown::Write)?;
    expect_end(&mut stream, scratch)
}

/// Sends a message over a connection that blocks, and has it come back.
pub fn there_and_back(stream: &mut (impl Read + Write), payload: &[u8], scratch: &mut [u8]) -> io::Result<()> {
    stream.write_all(payload)?;
    stream.flush()?;
    let answer = &mut scratch[..payload.len()];
    stream.read_exact(answer)?;
    if answer == payload {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "what came back is not what was sent"))
}

/// Waits until the server closes, too.
pub fn expect_end(stream: &mut impl Read, scratch: &mut [u8]) -> io::Result<()> {
    match stream.read(scratch)? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "more came back than was sent")),
    }
}
