//! One connection of the server: requests in, answers out, one after the other.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::server::ServerOptions;
use super::server_message::{Message, Parsed, echo, parse};
use crate::handle::LoopHandle;
use crate::transport::TcpStream;

/// Room for a request's head; a longer one is refused.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A request's body is held in memory, up to this size.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pieces in which large bodies are sent.
const PIECE_BYTES: usize = 64 * 1024;
/// A read asks for at least so much.
const READ_BYTES: usize = 16 * 1024;

static PIECE: [u8; PIECE_BYTES] = [b'x'; PIECE_BYTES];

/// What all connections share.
#[derive(Clone)]
pub(super) struct Service {
    pub handle: LoopHandle,
    latency: Duration,
    body_bytes: usize,
    /// Head and body of the ordinary answer, if it is the same for all paths.
    canned: Option<Rc<[u8]>>,
    served: Arc<AtomicU64>,
}

impl Service {
    pub fn new(handle: &LoopHandle, options: &ServerOptions, served: &Arc<AtomicU64>) -> Self {
        let canned = (options.body_bytes > 0).then(|| {
            let mut answer = Vec::new();
            push_head(&mut answer, "200 OK", "text/plain", options.body_bytes, "");
            answer.resize(answer.len() + options.body_bytes, b'x');
            answer.into()
        });
        let (latency, body_bytes) = (options.latency, options.body_bytes);
        Self { handle: handle.clone(), latency, body_bytes, canned, served: Arc::clone(served) }
    }

    pub fn spawn(&self, stream: TcpStream) {
        let connection = Connection { stream, service: self.clone(), input: Vec::new(), output: Vec::new() };
        // How a connection ends concerns only its peer.
        self.handle.spawn(async move { drop(connection.serve().await) }).detach();
    }
}

struct Connection {
    stream: TcpStream,
    service: Service,
    /// What was received and not used yet.
    input: Vec<u8>,
    /// Answers that wait to be sent together.
    output: Vec<u8>,
}

/// Whether the connection goes on.
#[derive(PartialEq)]
enum After {
    Next,
    Close,
}

impl Connection {
    async fn serve(mut self) -> io::Result<()> {
        loop {
            let (message, length) = match parse(&self.input) {
                Parsed::Whole(message, length) => (message, length),
                Parsed::Partial { expects_continue } => {
                    if expects_continue && self.output.is_empty() {
                        self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    let head_is_endless = self.input.len() > HEAD_BYTES_MAX && !self.input.contains(&b'\n');
                    if head_is_endless || self.input.len() > HEAD_BYTES_MAX + BODY_BYTES_MAX {
                        return self.refuse().await;
                    }
                    self.flush().await?;
                    if self.receive().await? == 0 {
                        return Ok(());
                    }
                    continue;
                }
                Parsed::Invalid => return self.refuse().await,
            };
            self.service.served.fetch_add(1, Ordering::Relaxed);
            if !self.service.latency.is_zero() {
                self.flush().await?;
                self.service.handle.sleep(self.service.latency).await;
            }
            let keep_alive = message.keep_alive;
            let after = self.answer(message).await?;
            self.input.drain(..length);
            if after == After::Close || !keep_alive {
                self.flush().await?;
                return Ok(());
            }
        }
    }

    /// Answers an ordinary request at once, hands the others on.
    async fn answer(&mut self, message: Message) -> io::Result<After> {
        let segments: Vec<&str> = message.path.split('/').skip(1).collect();
        let number = |index: usize| segments.get(index).and_then(|text| text.parse::<usize>().ok());
        match (segments.first().copied().unwrap_or_default(), number(1), number(2), number(3)) {
            ("status", Some(code @ 200..=999), ..) => self.status(code, &message),
            ("redirect", Some(0), ..) => self.text("200 OK", b"arrived", "", &message),
            ("redirect", Some(left), ..) => {
                let location = format!("location: /redirect/{}\r\n", left - 1);
                self.text("302 Found", b"", &location, &message);
            }
            ("bytes", Some(bytes), ..) => self.bytes(bytes, &message).await?,
            ("stream", Some(chunks), Some(bytes), Some(delay)) => {
                self.stream(chunks, bytes, Duration::from_millis(delay as u64), &message).await?;
            }
            ("echo", ..) => {
                let body = echo(&message);
                self.head("200 OK", "application/json", body.len(), "", &message);
                self.body(&body, &message);
            }
            ("delay", Some(delay), ..) => {
                self.flush().await?;
                self.service.handle.sleep(Duration::from_millis(delay as u64)).await;
                self.ordinary(&message);
            }
            ("close", ..) => return Ok(After::Close),
            ("last", ..) => {
                self.ordinary(&message);
                return Ok(After::Close);
            }
            ("truncate", ..) => {
                self.head("200 OK", "text/plain", 1000, "", &message);
                self.output.extend_from_slice(b"too short");
                return Ok(After::Close);
            }
            ("garbage", ..) => {
                self.output.extend_from_slice(b"this is not HTTP, whatever you may have hoped\r\n\r\n");
                return Ok(After::Close);
            }
            _ => self.ordinary(&message),
        }
        Ok(After::Next)
    }

    fn ordinary(&mut self, message: &Message) {
        match self.service.canned.clone() {
            Some(canned) if message.keep_alive && !message.is_head => self.output.extend_from_slice(&canned),
            Some(canned) => {
                let body = &canned[canned.len() - self.service.body_bytes..];
                self.head("200 OK", "text/plain", body.len(), "", message);
                self.body(body, message);
            }
            None => self.text("200 OK", message.path.as_bytes(), "", message),
        }
    }

    fn status(&mut self, code: usize, message: &Message) {
        let status = u16::try_from(code).ok().and_then(|code| http::StatusCode::from_u16(code).ok());
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or("Whatever");
        let line = format!("{code} {reason}");
        if matches!(code, 204 | 304) {
            self.output.extend_from_slice(format!("HTTP/1.1 {line}\r\n\r\n").as_bytes());
        } else {
            self.text(&line, reason.as_bytes(), "", message);
        }
    }

    async fn bytes(&mut self, mut left: usize, message: &Message) -> io::Result<()> {
        self.head("200 OK", "application/octet-stream", left, "", message);
        while left > 0 && !message.is_head {
            let piece = left.min(PIECE_BYTES);
            self.output.extend_from_slice(&PIECE[..piece]);
            left -= piece;
            if self.output.len() >= PIECE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn stream(&mut self, chunks: usize, bytes: usize, delay: Duration, message: &Message) -> io::Result<()> {
        self.output.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n");
        self.output.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        if message.is_head {
            return Ok(());
        }
        for _ in 0..chunks {
            self.flush().await?;
            if !delay.is_zero() {
                self.service.handle.sleep(delay).await;
            }
            // An empty chunk would be the end.
            if bytes > 0 {
                self.output.extend_from_slice(format!("{bytes:x}\r\n").as_bytes());
                let mut left = bytes;
                while left > 0 {
                    let piece = left.min(PIECE_BYTES);
                    self.output.extend_from_slice(&PIECE[..piece]);
                    left -= piece;
                    self.flush().await?;
                }
                self.output.extend_from_slice(b"\r\n");
            }
        }
        self.output.extend_from_slice(b"0\r\n\r\n");
        Ok(())
    }

    async fn refuse(&mut self) -> io::Result<()> {
        self.output.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        self.flush().await
    }

    fn text(&mut self, status: &str, body: &[u8], extra: &str, message: &Message) {
        self.head(status, "text/plain; charset=utf-8", body.len(), extra, message);
        self.body(body, message);
    }

    fn head(&mut self, status: &str, content_type: &str, length: usize, extra: &str, message: &Message) {
        let close = if message.keep_alive { "" } else { "connection: close\r\n" };
        push_head(&mut self.output, status, content_type, length, extra);
        if !close.is_empty() {
            let end = self.output.len() - 2;
            self.output.splice(end..end, close.bytes());
        }
    }

    fn body(&mut self, body: &[u8], message: &Message) {
        if !message.is_head {
            self.output.extend_from_slice(body);
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.output.len() {
            let rest = &self.output[sent..];
            sent += std::future::poll_fn(|context| self.stream.poll_write(context, rest)).await?;
        }
        self.output.clear();
        Ok(())
    }

    /// Receives more; 0 is the end.
    async fn receive(&mut self) -> io::Result<usize> {
        self.input.reserve(READ_BYTES);
        let (stream, room) = (&self.stream, self.input.spare_capacity_mut());
        let count = std::future::poll_fn(|context| stream.poll_read(context, room)).await?;
        // SAFETY: the kernel has just filled so many bytes after the vector's end, within its capacity.
        unsafe { self.input.set_len(self.input.len() + count) };
        Ok(count)
    }
}

/// Appends status line and headers.
fn push_head(output: &mut Vec<u8>, status: &str, content_type: &str, length: usize, extra: &str) {
    output.extend_from_slice(b"HTTP/1.1 ");
    output.extend_from_slice(status.as_bytes());
    output.extend_from_slice(b"\r\ncontent-type: ");
    output.extend_from_slice(content_type.as_bytes());
    output.extend_from_slice(b"\r\ncontent-length: ");
    output.extend_from_slice(length.to_string().as_bytes());
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(extra.as_bytes());
    output.extend_from_slice(b"\r\n");
}
