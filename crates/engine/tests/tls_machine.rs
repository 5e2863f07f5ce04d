//! The TLS state machine under random events, with a session that only plays one: two peers, and between them a network
//! that splits, delays, corrupts and cuts. `AIOXIDE_FUZZ_RUNS=100000` runs more; a failure names its seed, which
//! `AIOXIDE_FUZZ_SEED` begins with.

mod random;

use std::collections::VecDeque;
use std::mem::MaybeUninit;

use aioxide::transport::tls::{
    AtEnd, Closing, Connection, FlowChange, Input, Phase, Progress, Received, Session, encrypt, receive,
};
use random::{Random, fuzz};

const OUTPUT_BYTES_MAX: usize = 3000;
const RECORD_BYTES_MAX: usize = 700;
const HELLO: u8 = 1;
const DATA: u8 = 2;
const GOODBYE: u8 = 3;

/// Records of a kind, a length and a number, masked by that number: one that is lost, doubled or changed is noticed.
#[derive(Default)]
struct FakeSession {
    input: VecDeque<u8>,
    /// The plaintext of a record that did not fit into what was read into.
    opened: VecDeque<u8>,
    output: Vec<u8>,
    sent: u8,
    seen: u8,
    is_greeted: bool,
    has_greeted: bool,
    is_closed: bool,
    has_closed: bool,
}

impl FakeSession {
    fn put(&mut self, kind: u8, plaintext: &[u8]) {
        let mask = self.sent;
        self.sent = self.sent.wrapping_add(1);
        let length = u16::try_from(plaintext.len()).unwrap();
        self.output.extend([kind, mask]);
        self.output.extend(length.to_be_bytes());
        self.output.extend(plaintext.iter().map(|byte| byte ^ mask));
        self.output.push(plaintext.iter().fold(kind ^ mask, |sum, byte| sum.wrapping_add(*byte)));
    }

    /// The next whole record.
    fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, &'static str> {
        if self.input.len() < 5 {
            return Ok(None);
        }
        let (kind, mask) = (self.input[0], self.input[1]);
        let length = usize::from(u16::from_be_bytes([self.input[2], self.input[3]]));
        if !(HELLO..=GOODBYE).contains(&kind) || mask != self.seen || length > RECORD_BYTES_MAX {
            return Err("a record's head");
        }
        if self.input.len() < 5 + length {
            return Ok(None);
        }
        let record: Vec<u8> = self.input.drain(..5 + length).collect();
        self.seen = self.seen.wrapping_add(1);
        let plaintext: Vec<u8> = record[4..4 + length].iter().map(|byte| byte ^ mask).collect();
        let sum = plaintext.iter().fold(kind ^ mask, |sum, byte| sum.wrapping_add(*byte));
        if sum == record[4 + length] { Ok(Some((kind, plaintext))) } else { Err("a record's sum") }
    }
}

impl Session for FakeSession {
    type Error = &'static str;

    fn feed<R>(&mut self, ciphertext: &[u8], work: impl FnOnce(&mut Self) -> R) -> R {
        self.input.extend(ciphertext);
        work(self)
    }

    fn input_len(&self) -> usize {
        self.input.len()
    }

    fn may_have_more(&self) -> bool {
        !self.input.is_empty() || !self.opened.is_empty()
    }

    fn handshake(&mut self) -> Result<Progress, Self::Error> {
        if !std::mem::replace(&mut self.has_greeted, true) {
            self.put(HELLO, b"hello");
        }
        if !self.is_greeted {
            match self.next()? {
                None => return Ok(Progress::Waiting),
                Some((HELLO, _)) => self.is_greeted = true,
                Some(_) => return Err("no hello"),
            }
        }
        Ok(Progress::Done)
    }

    fn read(&mut self, room: &mut [MaybeUninit<u8>]) -> Result<Input, Self::Error> {
        if self.opened.is_empty() {
            match self.next()? {
                _ if self.is_closed => return Ok(Input::Closed),
                None => return Ok(Input::Waiting),
                Some((DATA, plaintext)) => self.opened.extend(plaintext),
                Some((GOODBYE, _)) => {
                    self.is_closed = true;
                    return Ok(Input::Closed);
                }
                Some(_) => return Err("a second hello"),
            }
        }
        let count = room.len().min(self.opened.len());
        for (place, byte) in room.iter_mut().zip(self.opened.drain(..count)) {
            place.write(byte);
        }
        Ok(Input::Data(count))
    }

    fn write(&mut self, data: &[u8]) -> Result<usize, Self::Error> {
        assert!(self.is_greeted && !self.has_closed, "written out of turn");
        let count = data.len().min(RECORD_BYTES_MAX);
        self.put(DATA, &data[..count]);
        Ok(count)
    }

    fn shutdown(&mut self) -> Result<Progress, Self::Error> {
        if !std::mem::replace(&mut self.has_closed, true) {
            self.put(GOODBYE, b"");
        }
        while !self.is_closed {
            match self.next()? {
                None => return Ok(Progress::Waiting),
                Some((kind, _)) => self.is_closed = kind == GOODBYE,
            }
        }
        Ok(Progress::Done)
    }

    fn output_len(&self) -> usize {
        self.output.len()
    }

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }
}

/// What a transport does with the machine: the events of the transport below and of the protocol above.
#[derive(Default)]
struct Peer {
    connection: Connection<Vec<u8>>,
    session: FakeSession,
    /// On its way to the other.
    wire: VecDeque<u8>,
    wrote: Vec<u8>,
    heard: Vec<u8>,
    is_eof_told: bool,
    error: Option<&'static str>,
    /// The transport below is to be closed once it has sent all.
    is_done: bool,
    last: u8,
}

impl Peer {
    fn begin(&mut self) {
        if self.connection.begin_handshake() {
            self.receive(&[]);
        }
    }

    fn receive(&mut self, ciphertext: &[u8]) {
        match self.connection.phase() {
            Phase::Handshaking => match self.session.feed(ciphertext, FakeSession::handshake) {
                Ok(Progress::Waiting) => self.flush_output(),
                Ok(Progress::Done) => {
                    assert!(self.connection.handshake_done());
                    self.pump();
                    self.receive(&[]);
                }
                Err(error) => self.fail(error),
            },
            Phase::Open => self.read(ciphertext),
            Phase::Flushing => self.flush(ciphertext),
            Phase::ShuttingDown => self.shut_down(ciphertext),
            Phase::Idle | Phase::Closed => {}
        }
    }

    fn read(&mut self, ciphertext: &[u8]) {
        if !self.connection.may_read() {
            return self.session.feed(ciphertext, |_| ());
        }
        let mut room = [MaybeUninit::uninit(); 500];
        let mut ciphertext = ciphertext;
        loop {
            let Received { count, is_closed, error } =
                self.session.feed(std::mem::take(&mut ciphertext), |session| receive(session, &mut room));
            assert!(count == 0 || !self.is_eof_told, "data after the end");
            // SAFETY: `receive` says how many of them were written.
            self.heard.extend(room[..count].iter().map(|byte| unsafe { byte.assume_init() }));
            if let Some(error) = error {
                return self.fail(error);
            }
            if is_closed {
                self.is_eof_told = true;
                return self.close();
            }
            if count < room.len() {
                return self.pump();
            }
        }
    }

    fn resume(&mut self) {
        if self.connection.resume_reading() {
            self.receive(&[]);
        }
    }

    fn write(&mut self, data: &[u8], is_held: bool) {
        if !self.connection.accepts_writes() {
            return;
        }
        self.wrote.extend(data);
        if is_held {
            self.connection.backlog.push_held(data.to_vec(), 0);
        } else {
            self.connection.backlog.push_copy(data);
        }
        self.pump();
    }

    fn pump(&mut self) {
        while let Some(front) = if self.connection.may_encrypt() { self.connection.backlog.take_front() } else { None }
        {
            let count = encrypt(&mut self.session, front.bytes(), OUTPUT_BYTES_MAX).expect("it encrypts");
            drop(self.connection.backlog.put_back(front, count));
            self.flush_output();
        }
        self.flush_output();
        let waiting = self.connection.backlog.len();
        let was_paused = self.connection.write_marks.is_paused();
        match self.connection.write_marks.update(waiting) {
            Some(FlowChange::Pause) => assert!(!was_paused && waiting > 0),
            Some(FlowChange::Resume) => assert!(was_paused),
            None => assert!(waiting > 0 || !was_paused, "held back for nothing"),
        }
    }

    fn flush_output(&mut self) {
        if !self.connection.is_lower_paused {
            self.wire.extend(self.session.take_output());
        }
    }

    fn flush(&mut self, ciphertext: &[u8]) {
        self.read(ciphertext);
        if self.connection.begin_shutdown() {
            self.shut_down(&[]);
        }
    }

    fn shut_down(&mut self, ciphertext: &[u8]) {
        let is_over = self.connection.is_input_ended();
        match if is_over { Ok(Progress::Done) } else { self.session.feed(ciphertext, FakeSession::shutdown) } {
            Ok(Progress::Waiting) => self.flush_output(),
            Ok(Progress::Done) => {
                self.flush_output();
                self.connection.abort();
                self.is_done = true;
            }
            Err(error) => self.fail(error),
        }
    }

    fn close(&mut self) {
        match self.connection.close() {
            Closing::Already => {}
            Closing::Abort => self.is_done = true,
            Closing::Flush => self.flush(&[]),
        }
    }

    fn end_input(&mut self) {
        match self.connection.input_ended() {
            AtEnd::HandshakeFails => self.fail("the end in the handshake"),
            AtEnd::WaitForReader | AtEnd::Nothing => {}
            AtEnd::Flush => self.flush(&[]),
        }
    }

    fn pause_lower(&mut self, is_paused: bool) {
        self.connection.is_lower_paused = is_paused;
        if !is_paused {
            self.pump();
            if self.connection.phase() == Phase::Flushing && self.connection.begin_shutdown() {
                self.shut_down(&[]);
            }
        }
    }

    fn fail(&mut self, error: &'static str) {
        self.error = Some(error);
        self.connection.abort();
        self.is_done = true;
    }

    fn check(&mut self) {
        let place = self.connection.phase() as u8;
        assert!(place >= self.last, "a phase came back: {:?}", self.connection.phase());
        assert!(place != Phase::ShuttingDown as u8 || self.connection.backlog.is_empty(), "left unsent");
        self.last = place;
    }
}

/// Moves some bytes from one peer to the other; whether the network has changed one.
fn deliver(random: &mut Random, peers: &mut [Peer; 2], from: usize, corrupts: bool) -> bool {
    let most = if random.one_in(3) { 1 } else { 4000 };
    let count = (1 + random.below(most)).min(peers[from].wire.len());
    let mut bytes: Vec<u8> = peers[from].wire.drain(..count).collect();
    let is_corrupt = corrupts && count > 0 && random.one_in(40);
    if is_corrupt {
        let place = random.below(count);
        bytes[place] ^= 1 << random.below(8);
    }
    if count > 0 {
        peers[1 - from].receive(&bytes);
    }
    is_corrupt
}

fn act(random: &mut Random, peer: &mut Peer) {
    match random.below(12) {
        0..=4 => {
            let most = if random.one_in(4) { 9000 } else { 50 };
            let length = random.below(most);
            let data: Vec<u8> = (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
            peer.write(&data, random.one_in(2));
        }
        5 => drop(peer.connection.pause_reading()),
        6 | 7 => peer.resume(),
        8 => peer.pause_lower(true),
        9 | 10 => peer.pause_lower(false),
        _ if random.one_in(8) => peer.close(),
        _ => {}
    }
}

/// Lets both finish: everybody reads, and what is on its way arrives; a peer that is done ends the other's input.
///
/// A record whose length was changed is waited for in vain: only then may time have to end it.
fn settle(random: &mut Random, peers: &mut [Peer; 2], is_corrupt: bool) {
    let mut is_ended = [false; 2];
    let mut idle_rounds = 0;
    while idle_rounds < 100 {
        let is_idle = peers.iter().all(|peer| peer.wire.is_empty());
        idle_rounds = if is_idle { idle_rounds + 1 } else { 0 };
        for peer in peers.iter_mut().filter(|_| is_corrupt && idle_rounds > 50) {
            if peer.connection.handshake_overdue() || peer.connection.shutdown_overdue() {
                peer.fail("overdue");
            }
        }
        for from in [0, 1] {
            peers[from].pause_lower(false);
            peers[from].resume();
            deliver(random, peers, from, false);
            if peers[from].is_done && peers[from].wire.is_empty() && !std::mem::replace(&mut is_ended[1 - from], true) {
                peers[1 - from].end_input();
            }
            peers[from].check();
        }
        if peers.iter().all(|peer| peer.is_done && peer.wire.is_empty()) {
            return;
        }
    }
    panic!("it does not end: {:?}", peers.each_ref().map(|peer| peer.connection.phase()));
}

fn one_run(random: &mut Random) {
    let faults = random.below(4);
    let mut peers = [Peer::default(), Peer::default()];
    for peer in &mut peers {
        let high = random.below(6000);
        peer.connection.write_marks.set(high, random.below(high + 1));
        peer.begin();
    }
    let mut is_corrupt = false;
    for _ in 0..random.below(300) {
        let which = random.below(2);
        if random.one_in(2) {
            is_corrupt |= deliver(random, &mut peers, which, faults == 1);
        } else {
            act(random, &mut peers[which]);
        }
        peers.iter_mut().for_each(Peer::check);
        if faults == 2 && random.one_in(200) {
            // Cut: what was on its way is lost, and each finds the end of its input.
            for peer in &mut peers {
                peer.wire.clear();
                peer.end_input();
                peer.is_done |= peer.connection.phase() == Phase::Flushing && peer.connection.is_reading_paused();
            }
            break;
        }
    }
    let is_cut = peers.iter().any(|peer| peer.connection.is_input_ended());
    peers[random.below(2)].close();
    settle(random, &mut peers, is_corrupt);
    for (peer, other) in [(&peers[0], &peers[1]), (&peers[1], &peers[0])] {
        assert!(peer.heard.len() <= other.wrote.len() && other.wrote.starts_with(&peer.heard), "not what was written");
        let may_fail = is_corrupt || is_cut || other.error.is_some() || !peer.is_eof_told && !other.is_eof_told;
        assert!(may_fail || peer.error.is_none(), "{:?}", peer.error);
    }
}

#[test]
fn random_events_between_two_peers() {
    fuzz(1000, one_run);
}
