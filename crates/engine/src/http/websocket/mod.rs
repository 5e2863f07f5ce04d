//! WebSockets (RFC 6455): messages in both directions over a connection that began with an HTTP request.
//!
//! ```text
//!   request ── pool ── dial ── 101 Switching Protocols      as every request of HTTP/1.1; `handshake` makes and checks
//!                                      │                    the fields that are WebSocket's own
//!      any thread                      │            the loop's thread
//!   WebSocket ── Receive, Send ──▶ `shared` ◀── `driver`: a task that moves the bytes, answers pings,
//!                                                         sends its own, and ends the connection
//! ```
//!
//! The protocol itself, its frames and their masking, is tungstenite's.

mod driver;
mod handshake;
mod shared;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
pub use tungstenite::Utf8Bytes;

use super::pool::Lease;
use crate::handle::LoopHandle;
use crate::transport::ByteStream;
pub(super) use handshake::Handshake;
use shared::{CloseRequest, Shared};
pub use shared::{Closing, Pong, Receive, Send};

/// How a request asks for a WebSocket, and what limits it has.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// The subprotocols that are offered, the preferred first.
    pub subprotocols: Vec<String>,
    /// A longer message of the server's ends the connection.
    pub max_message_bytes: usize,
    /// So many messages wait for their reader; then the server has to wait.
    pub queue_messages_max: usize,
    /// A ping is sent this long after the last; `None` sends none.
    pub ping_interval: Option<Duration>,
    /// A server from which nothing comes, and which takes nothing, for this long after a ping is gone; `None` never
    /// thinks so.
    pub ping_timeout: Option<Duration>,
    /// So long does closing wait for the server.
    pub close_timeout: Duration,
}

impl Default for WebSocketOptions {
    /// Messages up to 16 MiB, 512 of them in the queue; a ping every 20 seconds, 20 seconds for its answer; 10 seconds to
    /// close.
    fn default() -> Self {
        Self {
            subprotocols: Vec::new(),
            max_message_bytes: 16 * 1024 * 1024,
            queue_messages_max: 512,
            ping_interval: Some(Duration::from_secs(20)),
            ping_timeout: Some(Duration::from_secs(20)),
            close_timeout: Duration::from_secs(10),
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text; it is valid UTF-8.
    Text(Utf8Bytes),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    /// So much of a queue does it take.
    fn size(&self) -> usize {
        // Many small messages are not for free.
        const OVERHEAD_BYTES: usize = 64;
        OVERHEAD_BYTES
            + match self {
                Self::Text(text) => text.len(),
                Self::Binary(bytes) => bytes.len(),
            }
    }
}

/// How the connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code of the server's close frame, 1005 if that had none; without such a frame 1006, or what this end found
    /// wrong with what the server sent (1002, 1007, 1009).
    pub code: u16,
    /// The server's reason, or what was wrong.
    pub reason: String,
}

impl Closed {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// An end without a close frame.
    fn abnormal(reason: impl Into<String>) -> Self {
        Self::new(1006, reason)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the WebSocket is closed ({}", self.code)?;
        if !self.reason.is_empty() {
            write!(formatter, ": {}", self.reason)?;
        }
        formatter.write_str(")")
    }
}

impl std::error::Error for Closed {}

/// A message that cannot be sent, or a close that cannot be asked for: it would break the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

/// A WebSocket, to be used from any thread; the loop that it was opened on moves its bytes.
///
/// What is received waits in a queue until somebody asks for it; then the server waits. Dropping it ends the connection
/// at once; [`WebSocket::close`] does so in order.
///
/// ```no_run
/// use aioxide::http::{Client, Limits, Message, Request, WebSocketOptions};
///
/// let mut request = Request::get("http://127.0.0.1:8000/chat").unwrap();
/// request.websocket = Some(Box::new(WebSocketOptions::default()));
/// let event_loop = aioxide::EventLoop::new()?;
/// let client = Client::new(event_loop.handle(), Limits::default());
/// let answer = event_loop.block_on(async move {
///     let websocket = client.fetch(request).await.unwrap().websocket.expect("the server speaks WebSocket");
///     websocket.send(Message::Text("hello".into())).await?;
///     websocket.receive().await
/// })?;
/// println!("{answer:?}");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct WebSocket {
    shared: Arc<Shared>,
    subprotocol: Option<String>,
}

impl WebSocket {
    /// Begins on a stream of which both ends have just agreed that it is a WebSocket; `leftover` was read of it already.
    /// The `lease` ends with the connection.
    pub(super) fn start(
        handle: &LoopHandle,
        stream: Rc<dyn ByteStream>,
        leftover: Bytes,
        lease: Lease,
        options: &WebSocketOptions,
        head: &HeaderMap,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let driver = driver::Driver::new(handle, stream, leftover, options, Arc::clone(&shared));
        handle
            .spawn(async move {
                driver.run().await;
                drop(lease);
            })
            .detach();
        Self { shared, subprotocol: handshake::subprotocol(head) }
    }

    /// The subprotocol that the server has chosen.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The next message. Dropping the future loses none.
    pub fn receive(&self) -> Receive {
        Receive::new(&self.shared)
    }

    /// Sends a message: the future is ready once the message has its place in the queue, which has one when the server
    /// takes what was sent before. A future that is dropped before has sent nothing.
    pub fn send(&self, message: Message) -> Send {
        Send::new(&self.shared, message)
    }

    /// Sends a ping; the future gives the time until its answer. Without a `payload` it has one of its own.
    ///
    /// # Errors
    /// For a payload of more than 125 bytes.
    pub fn ping(&self, payload: Bytes) -> Result<Pong, Refused> {
        if payload.len() > 125 {
            return Err(Refused("the payload of a ping has at most 125 bytes"));
        }
        Ok(Pong::new(&self.shared, payload))
    }

    /// Closes the connection in order: what was sent goes first, then the close frame with `code` and `reason`; the
    /// future is ready once the server has answered that, or had its time. Only the first call has its say.
    ///
    /// # Errors
    /// For a code that may not be sent, and a reason of more than 123 bytes.
    pub fn close(&self, code: u16, reason: &str) -> Result<Closing, Refused> {
        self.shared.ask_to_close(CloseRequest::new(code, reason)?);
        Ok(Closing::new(&self.shared))
    }

    /// Ends the connection at once.
    pub fn abort(&self) {
        self.shared.abort();
    }

    /// How it ended, if it has; messages that came before may still be received.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        self.shared.closed()
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        self.abort();
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebSocket").field("closed", &self.closed()).finish_non_exhaustive()
    }
}
