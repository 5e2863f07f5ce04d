//! What a TLS library does for one connection.

use std::mem::MaybeUninit;

/// How far a handshake or a shutdown got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is done.
    Done,
    /// It goes on when more came from the peer.
    Waiting,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// So many bytes of plaintext, at least one.
    Data(usize),
    /// Nothing until more comes from the peer.
    Waiting,
    /// The peer said that nothing more will come (close_notify).
    Closed,
}

/// One connection of a TLS library.
///
/// Every call may put ciphertext for the peer into the output, [`Session::take_output`] is to be asked after each.
pub trait Session {
    /// Why the connection ends, in the host's own terms.
    type Error;

    /// Takes ciphertext that came from the peer, lets `work` use it, and keeps a copy of what is left.
    fn feed<R>(&mut self, ciphertext: &[u8], work: impl FnOnce(&mut Self) -> R) -> R;

    /// The number of bytes that came from the peer and were not used yet.
    fn input_len(&self) -> usize;

    /// Whether a read may give something without more from the peer.
    fn may_have_more(&self) -> bool;

    /// Goes on with the handshake.
    ///
    /// # Errors
    /// Why it failed; the output may hold an alert for the peer.
    fn handshake(&mut self) -> Result<Progress, Self::Error>;

    /// Reads plaintext into `room`.
    ///
    /// # Errors
    /// What ended the connection.
    fn read(&mut self, room: &mut [MaybeUninit<u8>]) -> Result<Input, Self::Error>;

    /// Encrypts some of `data`; 0 when it cannot before more came from the peer.
    ///
    /// # Errors
    /// What ended the connection.
    fn write(&mut self, data: &[u8]) -> Result<usize, Self::Error>;

    /// Says close_notify, and waits for the peer's.
    ///
    /// # Errors
    /// What ended the connection instead.
    fn shutdown(&mut self) -> Result<Progress, Self::Error>;

    /// The number of bytes for the peer.
    fn output_len(&self) -> usize;

    /// Takes the bytes for the peer.
    fn take_output(&mut self) -> Vec<u8>;
}

/// What [`receive`] gave.
#[derive(Debug)]
pub struct Received<E> {
    /// Bytes of plaintext.
    pub count: usize,
    /// Whether the peer said that nothing more will come.
    pub is_closed: bool,
    /// What ended the connection, after those bytes.
    pub error: Option<E>,
}

/// Reads until `room` is full or nothing is left.
pub fn receive<S: Session>(session: &mut S, room: &mut [MaybeUninit<u8>]) -> Received<S::Error> {
    let mut received = Received { count: 0, is_closed: false, error: None };
    while received.count < room.len() {
        match session.read(&mut room[received.count..]) {
            Ok(Input::Data(count)) => {
                received.count += count;
                if !session.may_have_more() {
                    break;
                }
            }
            Ok(Input::Waiting) => break,
            Ok(Input::Closed) => {
                received.is_closed = true;
                break;
            }
            Err(error) => {
                received.error = Some(error);
                break;
            }
        }
    }
    received
}

/// Encrypts `data` until all of it is, the session cannot, or `output_bytes_max` wait for the peer. How much it was.
///
/// # Errors
/// What ended the connection.
pub fn encrypt<S: Session>(session: &mut S, data: &[u8], output_bytes_max: usize) -> Result<usize, S::Error> {
    let mut encrypted = 0;
    while encrypted < data.len() && session.output_len() < output_bytes_max {
        match session.write(&data[encrypted..])? {
            0 => break,
            count => encrypted += count,
        }
    }
    Ok(encrypted)
}
