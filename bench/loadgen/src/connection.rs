//! One connection: a message goes out, and comes back.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::tls::{Tls, TlsStream};

/// What messages go over. A datagram takes a message whole, and the loopback loses none while few are under way.
enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Tls(Box<TlsStream>),
}

/// What messages go over, as [`Connection::open`] makes it.
#[derive(Clone, Copy)]
pub enum Way<'a> {
    Tcp,
    Udp,
    Tls(&'a Tls),
}

impl Socket {
    fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self::Tcp(stream))
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
            Self::Udp(socket) => socket.recv(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(data),
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
    /// Bytes of the message that came back.
    received: usize,
    /// When the message was sent; `None` while none is under way.
    sent_at: Option<Instant>,
}

impl Connection {
    pub fn open(address: SocketAddr, way: Way<'_>) -> io::Result<Self> {
        let socket = match way {
            Way::Tcp => Socket::tcp(address)?,
            Way::Udp => Socket::udp(address)?,
            Way::Tls(tls) => Socket::tls(address, tls)?,
        };
        Ok(Self { socket, sent: 0, received: 0, sent_at: None })
    }

    /// Begins to send the message, unless one is under way.
    pub fn send(&mut self, payload: &[u8], now: Instant) -> io::Result<()> {
        if self.sent_at.is_some() {
            return Ok(());
        }
        (self.sent, self.received, self.sent_at) = (0, 0, Some(now));
        self.write(payload)
    }

    /// Goes on with the message as far as the kernel lets it. Answers when it was sent, once it is back whole.
    pub fn turn(&mut self, payload: &[u8], scratch: &mut [u8]) -> io::Result<Option<Instant>> {
        self.write(payload)?;
        loop {
            let count = match self.socket.read(scratch) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a connection")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = self.received + count;
            if payload.get(self.received..end) != Some(&scratch[..count]) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "what came back is not what was sent"));
            }
            self.received = end;
            if end == payload.len() {
                return Ok(self.sent_at.take());
            }
        }
    }

    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        while self.sent_at.is_some() && self.sent < payload.len() {
            match self.socket.write(&payload[self.sent..]) {
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
            Socket::Udp(socket) => socket.as_fd(),
            Socket::Tls(stream) => stream.sock.as_fd(),
        }
    }
}
