//! The policy of a TLS connection: its phase, and what the next event means in it.

use super::flow::Watermarks;
use crate::transport::WriteBuffer;

/// The default high-water mark for plaintext that waits to be sent; asyncio's.
pub const WRITE_HIGH_WATER_BYTES: usize = 512 * 1024;
/// The default high-water mark for ciphertext that waits to be read; asyncio's.
pub const READ_HIGH_WATER_BYTES: usize = 256 * 1024;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was sent yet.
    Idle,
    /// The handshake goes on.
    Handshaking,
    /// Plaintext flows.
    Open,
    /// Closing: what was written still goes out.
    Flushing,
    /// Closing: close_notify was sent, the peer's is awaited.
    ShuttingDown,
    /// Nothing flows any more.
    Closed,
}

/// What a wish to close leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Nothing: it closes or is closed already.
    Already,
    /// The handshake is given up, so that there is nobody to say goodbye to.
    Abort,
    /// What was written goes out, then close_notify.
    Flush,
}

/// What the end of the peer's bytes leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// The handshake failed.
    HandshakeFails,
    /// What came before it must still be read, once the protocol reads again.
    WaitForReader,
    /// Read what is left, send what is left, then close.
    Flush,
    /// Nothing is left to do.
    Nothing,
}

/// A TLS connection without its session: see the [module](super).
pub struct Connection<B> {
    phase: Phase,
    /// The peer's bytes have ended, with or without close_notify.
    is_input_ended: bool,
    /// The protocol wants no data now.
    is_reading_paused: bool,
    /// The peer's bytes have ended while the protocol did not read: closing waits for it.
    waits_for_reader: bool,
    /// The transport below takes no more now.
    pub is_lower_paused: bool,
    /// What the protocol wrote.
    pub backlog: WriteBuffer<B>,
    /// For the protocol's writes.
    pub write_marks: Watermarks,
    /// For reads from below, while the protocol does not read.
    pub read_marks: Watermarks,
}

impl<B: AsRef<[u8]>> Default for Connection<B> {
    fn default() -> Self {
        Self {
            phase: Phase::Idle,
            is_input_ended: false,
            is_reading_paused: false,
            waits_for_reader: false,
            is_lower_paused: false,
            backlog: WriteBuffer::default(),
            write_marks: Watermarks::new(WRITE_HIGH_WATER_BYTES),
            read_marks: Watermarks::new(READ_HIGH_WATER_BYTES),
        }
    }
}

impl<B: AsRef<[u8]>> Connection<B> {
    /// Where it is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the peer's bytes have ended.
    #[must_use]
    pub fn is_input_ended(&self) -> bool {
        self.is_input_ended
    }

    /// Begins the handshake; whether it was time to.
    pub fn begin_handshake(&mut self) -> bool {
        self.step(Phase::Idle, Phase::Handshaking)
    }

    /// The handshake is done; whether it was still wanted.
    pub fn handshake_done(&mut self) -> bool {
        self.step(Phase::Handshaking, Phase::Open)
    }

    /// Whether plaintext may be read and given to the protocol.
    #[must_use]
    pub fn may_read(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Flushing) && !self.is_reading_paused
    }

    /// Whether the protocol wants no data now.
    #[must_use]
    pub fn is_reading_paused(&self) -> bool {
        self.is_reading_paused
    }

    /// The protocol wants no data; whether that is new.
    pub fn pause_reading(&mut self) -> bool {
        !std::mem::replace(&mut self.is_reading_paused, true)
    }

    /// The protocol wants data again; whether that is new.
    pub fn resume_reading(&mut self) -> bool {
        self.waits_for_reader = false;
        std::mem::replace(&mut self.is_reading_paused, false)
    }

    /// Whether plaintext may be encrypted now.
    #[must_use]
    pub fn may_encrypt(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Flushing) && !self.is_lower_paused
    }

    /// Whether the protocol may write: what it writes before the handshake is done waits.
    #[must_use]
    pub fn accepts_writes(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Handshaking | Phase::Open)
    }

    /// Somebody wants to close.
    pub fn close(&mut self) -> Closing {
        match self.phase {
            // Whoever closes without having read on does not want the rest.
            Phase::Flushing if std::mem::take(&mut self.waits_for_reader) => Closing::Flush,
            Phase::Flushing | Phase::ShuttingDown | Phase::Closed => Closing::Already,
            Phase::Idle | Phase::Handshaking => {
                self.phase = Phase::Closed;
                Closing::Abort
            }
            Phase::Open => {
                self.phase = Phase::Flushing;
                Closing::Flush
            }
        }
    }

    /// Ends at once.
    pub fn abort(&mut self) {
        self.phase = Phase::Closed;
    }

    /// The peer's bytes have ended.
    pub fn input_ended(&mut self) -> AtEnd {
        self.is_input_ended = true;
        match self.phase {
            Phase::Idle | Phase::Handshaking => AtEnd::HandshakeFails,
            Phase::Open => {
                self.phase = Phase::Flushing;
                self.waits_for_reader = self.is_reading_paused;
                if self.waits_for_reader { AtEnd::WaitForReader } else { AtEnd::Flush }
            }
            Phase::Flushing | Phase::ShuttingDown => AtEnd::Flush,
            Phase::Closed => AtEnd::Nothing,
        }
    }

    /// Goes from flushing to shutting down as soon as nothing waits; whether it is shutting down now.
    pub fn begin_shutdown(&mut self) -> bool {
        if self.phase == Phase::Flushing && self.backlog.is_empty() && !self.waits_for_reader {
            self.phase = Phase::ShuttingDown;
        }
        self.phase == Phase::ShuttingDown
    }

    /// Whether a handshake whose time is up has to be given up.
    #[must_use]
    pub fn handshake_overdue(&self) -> bool {
        self.phase == Phase::Handshaking
    }

    /// Whether a shutdown whose time is up has to be given up.
    #[must_use]
    pub fn shutdown_overdue(&self) -> bool {
        matches!(self.phase, Phase::Flushing | Phase::ShuttingDown)
    }

    fn step(&mut self, from: Phase, to: Phase) -> bool {
        let fits = self.phase == from;
        if fits {
            self.phase = to;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::{AtEnd, Closing, Connection, Phase};

    fn open() -> Connection<Vec<u8>> {
        let mut connection = Connection::default();
        assert!(connection.begin_handshake());
        assert!(connection.handshake_done());
        connection
    }

    #[test]
    fn a_life_from_begin_to_end() {
        let mut connection = open();
        connection.backlog.push_copy(b"last words");
        assert_eq!(connection.close(), Closing::Flush);
        assert!(!connection.begin_shutdown(), "what was written goes out first");
        let front = connection.backlog.take_front().unwrap();
        drop(connection.backlog.put_back(front, 10));
        assert!(connection.begin_shutdown());
        assert!(connection.shutdown_overdue());
        assert_eq!(connection.close(), Closing::Already);
    }

    #[test]
    fn a_handshake_is_not_closed_but_given_up() {
        let mut connection = Connection::<Vec<u8>>::default();
        assert!(connection.begin_handshake());
        assert!(connection.handshake_overdue());
        assert_eq!(connection.close(), Closing::Abort);
        assert!(!connection.handshake_done(), "too late");
        assert_eq!(connection.phase(), Phase::Closed);
    }

    #[test]
    fn the_end_of_the_input_waits_for_a_reader_that_pauses() {
        let mut connection = open();
        assert!(connection.pause_reading());
        assert_eq!(connection.input_ended(), AtEnd::WaitForReader);
        assert!(!connection.begin_shutdown());
        assert!(connection.resume_reading());
        assert!(connection.may_read());
        assert!(!connection.accepts_writes());
        assert!(connection.begin_shutdown());
    }

    #[test]
    fn closing_does_not_wait_for_a_reader_that_will_not_read() {
        let mut connection = open();
        connection.pause_reading();
        assert_eq!(connection.input_ended(), AtEnd::WaitForReader);
        assert_eq!(connection.close(), Closing::Flush);
        assert!(connection.begin_shutdown());
    }

    #[test]
    fn random_events_never_leave_the_way() {
        // A closed connection stays closed, and a phase never goes back.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..2000 {
            let mut connection = Connection::<Vec<u8>>::default();
            let mut last = 0;
            for _ in 0..40 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                match seed >> 60 {
                    0 | 1 => drop(connection.begin_handshake()),
                    2 | 3 => drop(connection.handshake_done()),
                    4 => drop(connection.close()),
                    5 => drop(connection.input_ended()),
                    6 => drop(connection.begin_shutdown()),
                    7 => drop(connection.pause_reading() || connection.resume_reading()),
                    8 => connection.is_lower_paused ^= true,
                    9 if seed & 0xf00 == 0 => connection.abort(),
                    10 if connection.accepts_writes() => connection.backlog.push_copy(b"data"),
                    _ => {
                        if connection.may_encrypt() {
                            let taken = connection.backlog.take_front();
                            drop(taken);
                        }
                    }
                }
                let place = connection.phase() as u8;
                assert!(place >= last, "from {last} to {:?}", connection.phase());
                assert!(place != Phase::ShuttingDown as u8 || connection.backlog.is_empty());
                last = place;
            }
        }
    }
}
