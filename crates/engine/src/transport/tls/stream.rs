//! TLS as a stream for Rust futures, over another stream.

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use super::session::{Progress, Received, Session, encrypt, receive};
use super::{AtEnd, Connection, Phase};
use crate::transport::{Addresses, ByteStream};

/// So much ciphertext is received at once: four full records.
const SCRATCH_BYTES: usize = 64 * 1024 + 4 * 64;
/// So much is encrypted before it is handed to the stream below.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Small pieces are gathered up to this size, which is the most that one record holds.
const RECORD_BYTES: usize = 16 * 1024;

thread_local! {
    /// Where ciphertext is received: nothing stays in it between two calls. It is taken out while it is used, so that
    /// TLS in TLS finds none and makes another.
    static SCRATCH: Cell<Option<Box<[MaybeUninit<u8>]>>> = const { Cell::new(None) };
}

/// A stream that is secured by TLS.
pub trait TlsByteStream: ByteStream {
    /// Goes on with the handshake until it is done.
    ///
    /// # Errors
    /// Why it failed; [`TlsFailure`] carries what the library said.
    fn poll_handshake(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// As [`SessionHost::protocol`].
    fn protocol(&self) -> Option<Vec<u8>>;

    /// As [`SessionHost::facts`].
    fn facts(&self) -> Option<Arc<dyn Any + Send + Sync>>;

    /// The same stream, without what is TLS's own.
    fn into_stream(self: Rc<Self>) -> Rc<dyn ByteStream>;
}

/// Makes the client side of TLS connections, as the host has set it up: its certificates, its authorities, its library.
pub trait Connector: Send + Sync {
    /// TLS over `lower`, whose peer must prove to be `server_name`, a host name or an address without brackets. The
    /// handshake has not begun.
    ///
    /// # Errors
    /// Why there can be no such connection; as [`TlsByteStream::poll_handshake`].
    fn connect(&self, lower: Rc<dyn ByteStream>, server_name: &str) -> io::Result<Rc<dyn TlsByteStream>>;
}

/// Who has made a session, and knows what it takes to use it.
pub trait SessionHost {
    /// The library's connection.
    type Session: Session;

    /// Runs `work`, which uses the session; `None` when the library can be used no more.
    fn enter<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        Some(work())
    }

    /// The failure as whoever wanted the connection is told of it.
    fn failure(&self, error: <Self::Session as Session>::Error) -> TlsFailure;

    /// The application protocol that both ends have settled on (ALPN), once the handshake is done.
    fn protocol(&self, session: &Self::Session) -> Option<Vec<u8>>;

    /// The first data came: what the handshake leaves for later connections, such as tickets, mostly came before it.
    fn first_data(&self, _session: &mut Self::Session) {}

    /// What the host wants to know of the connection elsewhere, such as the library's object for it.
    fn facts(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

/// What a TLS library said, as the source of an [`io::Error`].
#[derive(Clone, Debug)]
pub struct TlsFailure {
    words: String,
    error: Arc<dyn Error + Send + Sync>,
}

impl TlsFailure {
    /// A failure in the `words` of the library, and in its own type.
    pub fn new(words: String, error: impl Error + Send + Sync + 'static) -> Self {
        Self { words, error: Arc::new(error) }
    }

    /// The failure in the library's own type.
    #[must_use]
    pub fn error(&self) -> &(dyn Error + 'static) {
        &*self.error
    }

    /// The failure as streams report it.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.words)
    }
}

impl Error for TlsFailure {}

/// A TLS connection over another stream.
///
/// What the peer is told beyond what is written (alerts, key updates) leaves with the next write or flush. An end
/// without close_notify counts as an end, as in asyncio and httpx: HTTP says by itself how long a body is. Dropping the
/// stream closes it without close_notify; [`ByteStream::say_goodbye`] sends that.
pub struct TlsStream<H: SessionHost> {
    below: Below<H>,
    /// Taken out while the session works, which may run the user's code.
    state: Cell<Option<Box<State<H>>>>,
}

/// What a session works with.
struct Below<H> {
    stream: Rc<dyn ByteStream>,
    host: H,
}

struct State<H: SessionHost> {
    session: H::Session,
    connection: Connection<Vec<u8>>,
    /// Ciphertext for the peer, and how much of it was sent.
    output: Vec<u8>,
    sent: usize,
    /// Whether data has come.
    has_read: bool,
}

impl<H: SessionHost> TlsStream<H> {
    /// A connection over `lower` that has not begun its handshake.
    #[must_use]
    pub fn new(lower: Rc<dyn ByteStream>, host: H, session: H::Session) -> Self {
        let state = State { session, connection: Connection::default(), output: Vec::new(), sent: 0, has_read: false };
        Self { below: Below { stream: lower, host }, state: Cell::new(Some(Box::new(state))) }
    }

    fn with<R>(&self, work: impl FnOnce(&Below<H>, &mut State<H>) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.state.take().ok_or_else(|| io::Error::other("the TLS session is in use"))?;
        let result = self.below.host.enter(|| work(&self.below, &mut state));
        self.state.set(Some(state));
        result.unwrap_or_else(|| Err(io::Error::other("the program is ending: TLS can be used no more")))
    }

    fn with_poll<R>(&self, work: impl FnOnce(&Below<H>, &mut State<H>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match self.with(|below, state| Ok(work(below, state))) {
            Ok(result) => result,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<H: SessionHost> State<H> {
    /// Receives ciphertext by `recv` and lets `work` use it: the end of the input is an empty piece.
    fn take_in<R>(
        &mut self,
        recv: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<usize>,
        work: impl FnOnce(&mut Self, &[u8]) -> R,
    ) -> io::Result<R> {
        let mut scratch = SCRATCH.take().unwrap_or_else(|| Box::new_uninit_slice(SCRATCH_BYTES));
        let result = recv(&mut scratch).map(|count| {
            // SAFETY: the stream below has just filled the first `count` bytes.
            let ciphertext = unsafe { std::slice::from_raw_parts(scratch.as_ptr().cast::<u8>(), count) };
            work(self, ciphertext)
        });
        SCRATCH.set(Some(scratch));
        result
    }

    /// Takes what the session has for the peer.
    fn collect(&mut self) {
        if self.session.output_len() == 0 {
            return;
        }
        let taken = self.session.take_output();
        if self.output.is_empty() {
            self.output = taken;
        } else {
            self.output.extend_from_slice(&taken);
        }
    }

    /// Sends what is there for the peer.
    fn poll_flush(&mut self, below: &Below<H>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.collect();
        while self.sent < self.output.len() {
            match ready!(below.stream.poll_write(context, &self.output[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        below.stream.poll_flush(context)
    }

    fn poll_handshake(&mut self, below: &Below<H>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.begin_handshake();
        let mut progress = self.session.handshake();
        loop {
            match progress {
                Err(error) => {
                    self.connection.abort();
                    // An alert tells the peer why, if it still listens.
                    let _told = self.poll_flush(below, context);
                    return Poll::Ready(Err(below.host.failure(error).into_io()));
                }
                Ok(Progress::Done) => {
                    ready!(self.poll_flush(below, context))?;
                    self.connection.handshake_done();
                    return Poll::Ready(Ok(()));
                }
                Ok(Progress::Waiting) => ready!(self.poll_flush(below, context))?,
            }
            let polled = self.poll_take_in(below, context, |state, ciphertext| {
                (!ciphertext.is_empty()).then(|| state.session.feed(ciphertext, |session| session.handshake()))
            });
            match ready!(polled)? {
                Some(next) => progress = next,
                None => {
                    self.connection.input_ended();
                    let detail = "the peer ended the connection in the TLS handshake";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, detail)));
                }
            }
        }
    }

    fn poll_take_in<R>(
        &mut self,
        below: &Below<H>,
        context: &mut Context<'_>,
        work: impl FnOnce(&mut Self, &[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        let recv = |scratch: &mut [MaybeUninit<u8>]| match below.stream.poll_read(context, scratch) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        };
        match self.take_in(recv, work) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    /// What a read gave, if it is anything: plaintext, the end, or a failure.
    fn outcome(
        &mut self,
        below: &Below<H>,
        received: Received<<H::Session as Session>::Error>,
    ) -> Option<io::Result<usize>> {
        if received.count > 0 {
            if !std::mem::replace(&mut self.has_read, true) {
                below.host.first_data(&mut self.session);
            }
            return Some(Ok(received.count));
        }
        if let Some(error) = received.error {
            self.connection.abort();
            return Some(Err(below.host.failure(error).into_io()));
        }
        received.is_closed.then(|| {
            self.connection.input_ended();
            Ok(0)
        })
    }

    /// Reads plaintext: from what is there already, else from what `take_in` gives of the peer's.
    fn read(
        &mut self,
        below: &Below<H>,
        room: &mut [MaybeUninit<u8>],
        mut recv: impl FnMut(&mut [MaybeUninit<u8>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.connection.is_input_ended() || self.connection.phase() == Phase::Closed {
            return Ok(0);
        }
        if self.session.may_have_more() {
            let received = self.session.feed(&[], |session| receive(session, room));
            if let Some(outcome) = self.outcome(below, received) {
                return outcome;
            }
        }
        loop {
            let received = self.take_in(&mut recv, |state, ciphertext| {
                (!ciphertext.is_empty()).then(|| state.session.feed(ciphertext, |session| receive(session, room)))
            })?;
            let Some(received) = received else {
                let at_end = self.connection.input_ended();
                debug_assert!(at_end != AtEnd::HandshakeFails, "reading begins after the handshake");
                return Ok(0);
            };
            if let Some(outcome) = self.outcome(below, received) {
                return outcome;
            }
        }
    }

    fn poll_write(&mut self, below: &Below<H>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(below, context))?;
        if !self.connection.accepts_writes() && !self.connection.may_encrypt() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let encrypted = match encrypt(&mut self.session, data, OUTPUT_BYTES_MAX) {
            Ok(encrypted) => encrypted,
            Err(error) => {
                self.connection.abort();
                let _told = self.poll_flush(below, context);
                return Poll::Ready(Err(below.host.failure(error).into_io()));
            }
        };
        // What does not fit now leaves with the next flush.
        if let Poll::Ready(Err(error)) = self.poll_flush(below, context) {
            return Poll::Ready(Err(error));
        }
        if encrypted == 0 && !data.is_empty() {
            // A renegotiation of TLS 1.2: it goes on when the reader has received more, which wakes this task too.
            return Poll::Pending;
        }
        Poll::Ready(Ok(encrypted))
    }

    fn is_stale(&mut self, below: &Below<H>) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        // Tickets and key updates may have come; anything else was not asked for.
        match self.read(below, &mut byte, |scratch| below.stream.try_read(scratch)) {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

impl<H: SessionHost> ByteStream for TlsStream<H> {
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        self.with_poll(|below, state| {
            let read = state.read(below, room, |scratch| match below.stream.poll_read(context, scratch) {
                Poll::Ready(result) => result,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                read => Poll::Ready(read),
            }
        })
    }

    fn try_read(&self, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        self.with(|below, state| state.read(below, room, |scratch| below.stream.try_read(scratch)))
    }

    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.with_poll(|below, state| state.poll_write(below, context, data))
    }

    fn poll_write_vectored(&self, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        let Some(first) = filled.next() else { return Poll::Ready(Ok(0)) };
        let second = filled.next();
        let Some(second) = second.filter(|_| first.len() < RECORD_BYTES) else {
            return self.poll_write(context, first);
        };
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.extend_from_slice(first);
        for slice in std::iter::once(second).chain(filled) {
            let room = RECORD_BYTES - record.len();
            record.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.poll_write(context, &record)
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_poll(|below, state| state.poll_flush(below, context))
    }

    fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_poll(|below, state| {
            state.connection.close();
            if state.connection.begin_shutdown() && !state.connection.is_input_ended() {
                if let Err(error) = state.session.shutdown() {
                    state.connection.abort();
                    return Poll::Ready(Err(below.host.failure(error).into_io()));
                }
            }
            state.connection.abort();
            ready!(state.poll_flush(below, context))?;
            below.stream.poll_shutdown(context)
        })
    }

    fn say_goodbye(&self) {
        // Who does not listen any more need not be told.
        let _told = self.poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }

    fn is_stale(&self) -> bool {
        self.with(|below, state| Ok(state.is_stale(below))).unwrap_or(true)
    }

    fn has_input(&self) -> bool {
        self.below.stream.has_input()
    }

    fn addresses(&self) -> Addresses {
        self.below.stream.addresses()
    }
}

impl<H: SessionHost + 'static> TlsByteStream for TlsStream<H> {
    fn poll_handshake(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_poll(|below, state| state.poll_handshake(below, context))
    }

    fn protocol(&self) -> Option<Vec<u8>> {
        self.with(|below, state| Ok(below.host.protocol(&state.session))).ok().flatten()
    }

    fn facts(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.below.host.facts()
    }

    fn into_stream(self: Rc<Self>) -> Rc<dyn ByteStream> {
        self
    }
}
