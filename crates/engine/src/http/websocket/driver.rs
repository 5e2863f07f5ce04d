//! The task that drives a WebSocket: it alone touches the connection.

use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message as Frame, Role, WebSocket, WebSocketConfig};

use super::shared::{Command, Pong, Shared};
use super::{Closed, Message, WebSocketOptions};
use crate::handle::{LoopHandle, Sleep, now_ns};
use crate::http::error::io_words;
use crate::transport::ByteStream;

/// So much is received at once.
const READ_BYTES: usize = 16 * 1024;
/// After so many reads in a row the rest of the loop has its turn.
const READS_PER_TURN: u32 = 4;
/// So much is handed over before it is sent.
const BATCH_BYTES: usize = 64 * 1024;
/// While so many answers to pings wait to be sent, no more is read: a server that sends pings has to take their answers.
const PONGS_MAX: u32 = 32;

/// The stream as tungstenite wants to see it: what would block says so, and wakes the driver later.
struct Wire {
    stream: Rc<dyn ByteStream>,
    waker: Waker,
    reads_left: u32,
    /// Something was received or sent since somebody looked.
    has_moved: bool,
}

impl Wire {
    fn finish(&mut self, polled: Poll<io::Result<usize>>) -> io::Result<usize> {
        match polled {
            Poll::Ready(result) => {
                self.has_moved = true;
                result
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.reads_left == 0 {
            self.waker.wake_by_ref();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.reads_left -= 1;
        // SAFETY: bytes are valid as maybe uninitialised ones, and the stream only ever writes received bytes into the
        // room that it is given; nothing initialised there is made uninitialised.
        let room = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<MaybeUninit<u8>>(), room.len()) };
        let polled = self.stream.poll_read(&mut Context::from_waker(&self.waker), room);
        self.finish(polled)
    }
}

impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let polled = self.stream.poll_write(&mut Context::from_waker(&self.waker), data);
        self.finish(polled)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.stream.poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// See the module.
pub(super) struct Driver {
    shared: Arc<Shared>,
    socket: WebSocket<Wire>,
    handle: LoopHandle,
    options: WebSocketOptions,
    /// So much of messages was handed over, and is not known to be sent.
    unsent_bytes: usize,
    pongs_unsent: u32,
    /// Sending has failed; what the server said before is still read.
    send_error: Option<Closed>,
    /// The server's close frame has come.
    has_close: bool,
    /// When closing has had its time.
    closing_due: Option<u64>,
    /// When the next ping is sent.
    ping_due: Option<u64>,
    /// The ping that was sent last by itself.
    ping: Option<Pong>,
    /// When the server gave a sign of life.
    alive_at: u64,
    sleep: Sleep,
}

impl Driver {
    pub fn new(
        handle: &LoopHandle,
        stream: Rc<dyn ByteStream>,
        leftover: Bytes,
        options: &WebSocketOptions,
        shared: Arc<Shared>,
    ) -> Self {
        let wire = Wire { stream, waker: Waker::noop().clone(), reads_left: 0, has_moved: false };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(BATCH_BYTES)
            .max_message_size(Some(options.max_message_bytes))
            .max_frame_size(Some(options.max_message_bytes));
        let socket = WebSocket::from_partially_read(wire, leftover.into(), Role::Client, Some(config));
        let now = now_ns();
        let mut driver = Self {
            shared,
            socket,
            handle: handle.clone(),
            options: options.clone(),
            unsent_bytes: 0,
            pongs_unsent: 0,
            send_error: None,
            has_close: false,
            closing_due: None,
            ping_due: None,
            ping: None,
            alive_at: now,
            sleep: handle.sleep_until(u64::MAX),
        };
        driver.ping_due = driver.after(now, driver.options.ping_interval);
        driver
    }

    /// Drives the connection to its end.
    pub async fn run(mut self) {
        let closed = poll_fn(|context| self.poll(context)).await;
        self.shared.end(closed);
        let stream = Rc::clone(&self.socket.get_ref().stream);
        let goodbye = poll_fn(|context| stream.poll_shutdown(context));
        // Over TLS the peer is told of the end; who does not listen any more is not waited for.
        let _told = self.handle.timeout(Duration::from_secs(1), goodbye).await;
    }

    fn after(&self, now: u64, duration: Option<Duration>) -> Option<u64> {
        duration.map(|duration| now.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Closed> {
        self.shared.watch(context);
        let wire = self.socket.get_mut();
        wire.reads_left = READS_PER_TURN;
        if !wire.waker.will_wake(context.waker()) {
            wire.waker = context.waker().clone();
        }
        match self.turn() {
            Ok(()) => {}
            Err(closed) => return Poll::Ready(closed),
        }
        if std::mem::take(&mut self.socket.get_mut().has_moved) {
            self.alive_at = now_ns();
        }
        loop {
            let due = match self.keep_time(now_ns()) {
                Ok(due) => due,
                Err(closed) => return Poll::Ready(closed),
            };
            let Some(due) = due else { return Poll::Pending };
            self.sleep.reset(due);
            ready!(Pin::new(&mut self.sleep).poll(context));
        }
    }

    /// Moves what can be moved now.
    fn turn(&mut self) -> Result<(), Closed> {
        if self.shared.is_aborted() {
            return Err(self.hang_up(1001, "", Closed::abnormal("this end gave it up")));
        }
        // What the server says goes first: it may be why sending fails.
        self.receive()?;
        if let Err(closed) = self.send() {
            self.send_error.get_or_insert(closed);
            self.receive()?;
        }
        match &self.send_error {
            Some(closed) if !self.may_read() || self.socket.get_ref().reads_left > 0 => Err(closed.clone()),
            _ => Ok(()),
        }
    }

    fn may_read(&self) -> bool {
        self.pongs_unsent < PONGS_MAX
            && (self.has_close || self.closing_due.is_some() || self.shared.has_room(self.options.queue_messages_max))
    }

    fn receive(&mut self) -> Result<(), Closed> {
        while self.may_read() {
            match self.socket.read() {
                Ok(Frame::Text(text)) => self.deliver(Message::Text(text)),
                Ok(Frame::Binary(bytes)) => self.deliver(Message::Binary(bytes)),
                Ok(Frame::Pong(payload)) => self.shared.answered(&payload),
                Ok(Frame::Close(frame)) => self.close_came(frame),
                // It is answered by the next read or flush.
                Ok(_) => self.pongs_unsent += 1,
                Err(error) if would_block(&error) => break,
                Err(error) => return Err(self.explain(error)),
            }
        }
        Ok(())
    }

    /// Once this end is closing, nobody wants more messages.
    fn deliver(&self, message: Message) {
        if self.closing_due.is_none() {
            self.shared.received(message);
        }
    }

    fn close_came(&mut self, frame: Option<CloseFrame>) {
        self.has_close = true;
        // The answer is sent, and then the server closes the connection; those who wait need not wait for that.
        let closed = frame.map_or(Closed::new(1005, ""), |frame| Closed::new(frame.code.into(), frame.reason.as_str()));
        self.begin_closing();
        self.shared.end(closed);
    }

    fn begin_closing(&mut self) {
        if self.closing_due.is_none() {
            self.closing_due = self.after(now_ns(), Some(self.options.close_timeout));
        }
    }

    fn send(&mut self) -> Result<(), Closed> {
        if self.send_error.is_some() {
            return Ok(());
        }
        loop {
            match self.socket.flush() {
                Ok(()) => {}
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(self.explain(error)),
            }
            self.pongs_unsent = 0;
            if self.unsent_bytes > 0 {
                self.shared.sent(std::mem::take(&mut self.unsent_bytes));
            }
            let mut is_idle = true;
            while self.unsent_bytes < BATCH_BYTES {
                let Some(command) = self.shared.next_command() else { break };
                is_idle = false;
                match self.carry_out(command) {
                    Ok(()) => {}
                    // It is in tungstenite's buffer.
                    Err(error) if would_block(&error) => {}
                    Err(error) => return Err(self.explain(error)),
                }
            }
            if is_idle {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Send(message) => {
                self.unsent_bytes += message.size();
                self.socket.write(match message {
                    Message::Text(text) => Frame::Text(text),
                    Message::Binary(bytes) => Frame::Binary(bytes),
                })
            }
            Command::Ping(payload) => self.socket.write(Frame::Ping(payload)),
            Command::Close(frame) => self.socket.close(Some(frame)),
        }
    }

    /// Sends pings when they are due, and says when to look again. The error is that time is up.
    fn keep_time(&mut self, now: u64) -> Result<Option<u64>, Closed> {
        if self.closing_due.is_none() && self.shared.is_closing() {
            self.begin_closing();
        }
        if let Some(due) = self.closing_due {
            if due <= now {
                let seconds = self.options.close_timeout.as_secs_f64();
                return Err(Closed::abnormal(format!("the server did not answer the close within {seconds} s")));
            }
            return Ok(Some(due));
        }
        if self.ping.as_ref().is_some_and(|ping| ping.answer().is_some()) {
            self.ping = None;
        }
        if !self.shared.has_room(self.options.queue_messages_max) {
            // The answer may be in what nobody reads: that is no fault of the server's.
            self.alive_at = now;
        }
        let dead_at = self.ping.as_ref().and_then(|_| self.after(self.alive_at, self.options.ping_timeout));
        if dead_at.is_some_and(|dead_at| dead_at <= now) {
            let seconds = self.options.ping_timeout.unwrap_or_default().as_secs_f64();
            let reason = format!("no answer to a ping within {seconds} s");
            return Err(self.hang_up(1011, "no answer to a ping", Closed::abnormal(reason)));
        }
        if self.ping_due.is_some_and(|due| due <= now) {
            if self.ping.is_none() {
                self.ping = Some(Pong::new(&self.shared, Bytes::new()));
                self.alive_at = now;
            }
            self.ping_due = self.after(now, self.options.ping_interval);
            self.turn()?;
            return self.keep_time(now);
        }
        Ok([self.ping_due, dead_at].into_iter().flatten().min())
    }

    /// Ends the connection from this end: the server is told, if it takes that at once.
    fn hang_up(&mut self, code: u16, reason: &'static str, closed: Closed) -> Closed {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        let _told = self.socket.close(Some(frame));
        closed
    }

    fn explain(&mut self, error: Error) -> Closed {
        match error {
            // Its close frame was told already.
            Error::ConnectionClosed => Closed::new(1000, ""),
            Error::Io(error) => Closed::abnormal(io_words(&error)),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
                Closed::abnormal("the server closed the connection without a close frame")
            }
            Error::Utf8(_) => {
                self.hang_up(1007, "invalid UTF-8", Closed::new(1007, "the server sent text that is not UTF-8"))
            }
            Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
                let words = format!("the server sent a message of more than {max_size} bytes");
                self.hang_up(1009, "message too big", Closed::new(1009, words))
            }
            error => {
                let words = format!("the server broke the rules of WebSocket: {error}");
                self.hang_up(1002, "protocol error", Closed::new(1002, words))
            }
        }
    }
}

impl Drop for Driver {
    /// Where the loop is closed meanwhile, those who wait must hear of it.
    fn drop(&mut self) {
        self.shared.end(Closed::abnormal("the loop that carried the connection is gone"));
    }
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}
