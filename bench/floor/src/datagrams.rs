//! Datagrams go back to who sent them.

use std::io;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use crate::Server;

const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

pub struct Datagrams {
    socket: OwnedFd,
    scratch: Vec<u8>,
}

impl Datagrams {
    pub fn new(epoll: &OwnedFd, socket: OwnedFd) -> io::Result<Self> {
        epoll::add(epoll, &socket, EventData::new_u64(0), EventFlags::IN)?;
        Ok(Self { socket, scratch: vec![0; DATAGRAM_BYTES_MAX] })
    }
}

impl Server for Datagrams {
    fn act(&mut self, _epoll: &OwnedFd, _token: u64) -> io::Result<()> {
        loop {
            let (_, count, peer) = match recvfrom(&self.socket, &mut self.scratch[..], RecvFlags::empty()) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(()),
                // A peer that went away; the next datagram is another's.
                Err(Errno::CONNREFUSED | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let peer = peer.ok_or_else(|| io::Error::other("a datagram of nobody"))?;
            match sendto(&self.socket, &self.scratch[..count], SendFlags::empty(), &peer) {
                Ok(_) | Err(Errno::CONNREFUSED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
