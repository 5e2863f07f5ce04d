//! The sending half of a callback-style transport.
//!
//! A write tries the socket first; only what the kernel does not take comes here. Small pieces are copied together,
//! large ones are held by reference, and a flush sends many pieces with one system call.
//!
//! Plaintext that cannot be encrypted yet waits in the same way, and is taken out piece by piece.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use crate::driver::socket;

/// Pieces are gathered into blocks of this size.
const BLOCK_BYTES: usize = 64 * 1024;

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Everything is in the kernel's hands.
    Complete,
    /// The socket takes no more now: wait until it is writable.
    Blocked,
}

/// Bytes that wait: small ones copied together, large ones held by whatever the host holds them by.
enum Piece<B> {
    Copied(Vec<u8>),
    Held(B),
}

impl<B: AsRef<[u8]>> Piece<B> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Held(held) => held.as_ref(),
        }
    }
}

/// Bytes that wait to be sent; `B` is what the host holds large pieces by.
pub struct WriteBuffer<B> {
    pieces: VecDeque<Piece<B>>,
    /// So much of the first piece is sent already.
    sent: usize,
    len: usize,
}

/// The first piece of a buffer, taken out.
pub struct Front<B> {
    piece: Piece<B>,
    sent: usize,
}

impl<B: AsRef<[u8]>> Front<B> {
    /// What is left of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.piece.bytes()[self.sent..]
    }
}

impl<B> Default for WriteBuffer<B> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), sent: 0, len: 0 }
    }
}

impl<B: AsRef<[u8]>> WriteBuffer<B> {
    /// The number of bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a copy of `data`.
    pub fn push_copy(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        if let Some(Piece::Copied(block)) = self.pieces.back_mut() {
            if block.len() + data.len() <= BLOCK_BYTES {
                block.extend_from_slice(data);
                return;
            }
        }
        self.pieces.push_back(Piece::Copied(data.to_vec()));
    }

    /// Appends `held` without its first `skip` bytes, by reference.
    pub fn push_held(&mut self, held: B, skip: usize) {
        let total = held.as_ref().len();
        if skip >= total {
            return;
        }
        if skip > 0 && !self.pieces.is_empty() {
            // Only the first piece may be sent in part.
            let rest = held.as_ref()[skip..].to_vec();
            self.len += rest.len();
            self.pieces.push_back(Piece::Copied(rest));
            return;
        }
        self.len += total - skip;
        if skip > 0 {
            self.sent = skip;
        }
        self.pieces.push_back(Piece::Held(held));
    }

    /// Appends `data` without its first `skip` bytes; it is taken as it is where nothing waits before it.
    pub fn push_owned(&mut self, data: Vec<u8>, skip: usize) {
        if skip >= data.len() || !self.pieces.is_empty() {
            self.push_copy(data.get(skip..).unwrap_or_default());
            return;
        }
        self.len += data.len() - skip;
        self.sent = skip;
        self.pieces.push_back(Piece::Copied(data));
    }

    /// Sends until all is gone or the socket blocks.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn flush(&mut self, fd: RawFd) -> io::Result<Flush> {
        while self.len > 0 {
            let result = if self.pieces.len() == 1 {
                socket::send(fd, &self.pieces[0].bytes()[self.sent..])
            } else {
                let mut slices = [IoSlice::new(&[]); socket::MAX_IO_SLICES];
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                    let skip = if count == 0 { self.sent } else { 0 };
                    *slice = IoSlice::new(&piece.bytes()[skip..]);
                    count += 1;
                }
                socket::send_vectored(fd, &slices[..count])
            };
            match result {
                Ok(sent) => self.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flush::Blocked),
                Err(error) => return Err(error),
            }
        }
        Ok(Flush::Complete)
    }

    /// Takes the first piece out: for whoever runs code of others with it, which may push more meanwhile.
    pub fn take_front(&mut self) -> Option<Front<B>> {
        let piece = self.pieces.pop_front()?;
        let sent = std::mem::take(&mut self.sent);
        self.len -= piece.bytes().len() - sent;
        Some(Front { piece, sent })
    }

    /// Puts back what is left of a piece after `sent` more of its bytes are gone; gives it back when nothing is left, for
    /// dropping outside any borrow.
    pub fn put_back(&mut self, front: Front<B>, sent: usize) -> Option<Front<B>> {
        let front = Front { sent: front.sent + sent, ..front };
        if front.bytes().is_empty() {
            return Some(front);
        }
        if let Some(pushed) = self.pieces.front_mut().filter(|_| self.sent > 0) {
            // Only the first piece may be sent in part.
            *pushed = Piece::Copied(pushed.bytes()[self.sent..].to_vec());
        }
        self.len += front.bytes().len();
        self.sent = front.sent;
        self.pieces.push_front(front.piece);
        None
    }

    /// Puts `held` without its first `skip` bytes before all that waits.
    pub fn push_first(&mut self, held: B, skip: usize) {
        let spent = self.put_back(Front { piece: Piece::Held(held), sent: 0 }, skip);
        debug_assert!(spent.is_none(), "nothing is left of it");
    }

    /// Forgets everything; the pieces are given back for dropping outside any borrow.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    fn advance(&mut self, mut sent: usize) {
        self.len -= sent;
        while let Some(first) = self.pieces.front() {
            let left = first.bytes().len() - self.sent;
            if sent < left {
                self.sent += sent;
                return;
            }
            sent -= left;
            self.sent = 0;
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::{Flush, WriteBuffer};

    #[test]
    fn bytes_arrive_in_order_however_they_were_pushed() {
        let (sender, mut receiver) = UnixStream::pair().unwrap();
        sender.set_nonblocking(true).unwrap();
        let mut buffer = WriteBuffer::<Vec<u8>>::default();
        let mut expected = Vec::new();
        buffer.push_held(b"skipped, then held".to_vec(), 9);
        expected.extend_from_slice(b"then held");
        for i in 0..2000_u32 {
            let piece = vec![u8::try_from(i % 251).unwrap(); (i as usize * 37) % 3000];
            expected.extend_from_slice(&piece);
            if i % 3 == 0 { buffer.push_held(piece, 0) } else { buffer.push_copy(&piece) }
        }
        assert_eq!(buffer.len(), expected.len());
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            receiver.read_to_end(&mut received).unwrap();
            received
        });
        while buffer.flush(sender.as_raw_fd()).unwrap() == Flush::Blocked {
            std::thread::yield_now();
        }
        assert!(buffer.is_empty());
        drop(sender);
        assert_eq!(reader.join().unwrap(), expected);
    }

    #[test]
    fn a_piece_that_was_put_back_comes_before_what_was_pushed_meanwhile() {
        let mut buffer = WriteBuffer::<Vec<u8>>::default();
        buffer.push_held(b"skipped, then held".to_vec(), 9);
        let front = buffer.take_front().unwrap();
        assert!(buffer.is_empty());
        buffer.push_held(b"without: pushed".to_vec(), 9);
        assert!(buffer.put_back(front, 5).is_none());
        assert_eq!(buffer.len(), b"held".len() + b"pushed".len());
        assert_eq!(buffer.take_front().unwrap().bytes(), b"held");
        assert_eq!(buffer.take_front().unwrap().bytes(), b"pushed");
        assert!(buffer.is_empty() && buffer.take_front().is_none());
    }

    #[test]
    fn pieces_are_taken_out_in_order_and_put_back() {
        let mut buffer = WriteBuffer::<Vec<u8>>::default();
        let mut expected = Vec::new();
        for n in 0..500_usize {
            let piece = vec![u8::try_from(n % 251).unwrap(); n * 13 % 40_000];
            expected.extend_from_slice(if n % 3 == 0 { piece.get(n % 7..).unwrap_or_default() } else { &piece });
            if n % 3 == 0 { buffer.push_held(piece, n % 7) } else { buffer.push_copy(&piece) }
        }
        assert_eq!(buffer.len(), expected.len());
        let mut seen = Vec::new();
        let mut step = 1;
        while let Some(front) = buffer.take_front() {
            step = step * 7 % 9973 + 1;
            let count = front.bytes().len().min(step);
            seen.extend_from_slice(&front.bytes()[..count]);
            drop(buffer.put_back(front, count));
            assert_eq!(buffer.len(), expected.len() - seen.len());
        }
        assert!(buffer.is_empty());
        assert_eq!(seen, expected);
    }
}
