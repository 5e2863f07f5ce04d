//! Plaintext that waits to be encrypted.

use std::collections::VecDeque;

use crate::transport::piece::Piece;

/// Small pieces are gathered up to this size, which is the most that one TLS record holds.
const RECORD_BYTES: usize = 16 * 1024;

/// A queue of plaintext; `B` is what the owner holds large pieces by.
///
/// A piece is taken out while it is being encrypted, and what is left of it put back, since the session may run the
/// user's code meanwhile, which may write more.
pub struct Backlog<B> {
    pieces: VecDeque<Piece<B>>,
    /// How much of the first piece is encrypted.
    done: usize,
    len: usize,
}

/// The first piece of a backlog, taken out.
pub struct Front<B> {
    piece: Piece<B>,
    done: usize,
}

impl<B: AsRef<[u8]>> Front<B> {
    /// What is left of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.piece.bytes()[self.done..]
    }
}

impl<B> Default for Backlog<B> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), done: 0, len: 0 }
    }
}

impl<B: AsRef<[u8]>> Backlog<B> {
    /// The number of bytes that wait, without those of a piece that is taken out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `held`, by reference.
    pub fn push_held(&mut self, held: B) {
        let len = held.as_ref().len();
        if len > 0 {
            self.len += len;
            self.pieces.push_back(Piece::Held(held));
        }
    }

    /// Appends a copy; small pieces share a record.
    pub fn push_copy(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        if let Some(Piece::Copied(last)) = self.pieces.back_mut() {
            if last.len() + data.len() <= RECORD_BYTES {
                last.extend_from_slice(data);
                return;
            }
        }
        self.pieces.push_back(Piece::Copied(data.to_vec()));
    }

    /// Takes the first piece out.
    pub fn take_front(&mut self) -> Option<Front<B>> {
        let piece = self.pieces.pop_front()?;
        let done = std::mem::take(&mut self.done);
        self.len -= piece.bytes().len() - done;
        Some(Front { piece, done })
    }

    /// Puts back what is left of a piece after its next `encrypted` bytes were encrypted; gives it back when nothing
    /// is left, for dropping outside any borrow.
    pub fn put_back(&mut self, front: Front<B>, encrypted: usize) -> Option<Front<B>> {
        let Front { piece, done } = front;
        let done = done + encrypted;
        if done >= piece.bytes().len() {
            return Some(Front { piece, done });
        }
        self.len += piece.bytes().len() - done;
        self.done = done;
        self.pieces.push_front(piece);
        None
    }

    /// Forgets everything; the pieces are given back for dropping outside any borrow.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Backlog;

    #[test]
    fn what_comes_out_is_what_went_in() {
        let mut backlog = Backlog::<Vec<u8>>::default();
        let mut expected = Vec::new();
        for n in 0..500_usize {
            let piece = vec![u8::try_from(n % 251).unwrap(); n * 13 % 40_000];
            expected.extend_from_slice(&piece);
            if n % 3 == 0 { backlog.push_held(piece) } else { backlog.push_copy(&piece) }
        }
        assert_eq!(backlog.len(), expected.len());
        let mut seen = Vec::new();
        let mut step = 1;
        while let Some(front) = backlog.take_front() {
            step = step * 7 % 9973 + 1;
            let count = front.bytes().len().min(step);
            seen.extend_from_slice(&front.bytes()[..count]);
            drop(backlog.put_back(front, count));
            assert_eq!(backlog.len(), expected.len() - seen.len());
        }
        assert!(backlog.is_empty());
        assert_eq!(seen, expected);
    }
}
