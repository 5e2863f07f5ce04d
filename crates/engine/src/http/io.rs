//! A connection's bytes as hyper wants to see them, and what the client learns from watching them pass.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::handle::now_ns;
use crate::transport::ByteStream;

/// What passed through a connection since [`Traffic::begin`]: the phase of a request, and whether it goes on, can be
/// told from this alone.
#[derive(Default)]
pub(super) struct Traffic {
    /// Bytes taken by the kernel, or by TLS on their way there.
    pub sent: Cell<u64>,
    /// Bytes received.
    pub received: Cell<u64>,
    /// The kernel takes no more for now.
    pub blocked: Cell<bool>,
    /// The last of the request's body was handed to the connection.
    pub body_taken: Cell<bool>,
    /// The request's body is not asked for: the server has not agreed to it yet, or does not want it any more.
    pub body_held: Cell<bool>,
    /// The next piece of the request's body is not there yet.
    pub body_awaited: Cell<bool>,
    /// The direction that failed first.
    pub failed: Cell<Option<Direction>>,
    /// Why sending failed. That counts only when no answer comes: a server may have given one, and then closed.
    pub sending_error: RefCell<Option<io::Error>>,
    /// So many reads are still made before others have their turn; `None` does not count them.
    pub reads_left: Cell<Option<u32>>,
    /// It is that of one stream among others, of which bytes cannot be told apart; what follows counts there alone.
    pub is_stream: Cell<bool>,
    /// When the last piece of the request's body was taken, in nanoseconds of the loop's clock.
    pub taken_at: Cell<u64>,
    /// Nobody wants the rest of the request's body to be sent.
    given_up: Cell<bool>,
    /// Whoever sends the request's body, while it waits for the next piece.
    sender: RefCell<Option<Waker>>,
    /// Whoever waits for the end of the request's body.
    watcher: RefCell<Option<Waker>>,
}

/// The two halves of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Receiving,
    Sending,
}

impl Traffic {
    /// Starts to count for another request.
    pub fn begin(&self) {
        self.sent.set(0);
        self.received.set(0);
        self.body_taken.set(false);
        self.body_held.set(false);
        self.body_awaited.set(false);
    }

    /// Whether all of the request is in the kernel's hands, or beyond.
    pub fn is_sent(&self) -> bool {
        self.body_taken.get() && !self.blocked.get() && self.sent.get() > 0
    }

    /// Whether nothing but the source of the request's body is waited for: that is no fault of the peer's.
    pub fn awaits_body(&self) -> bool {
        self.body_awaited.get() && !self.blocked.get()
    }

    /// Wakes whoever polls in `context` when the last of the request's body was taken.
    pub fn watch_body(&self, context: &Context<'_>) {
        if !self.body_taken.get() {
            self.watcher.replace(Some(context.waker().clone()));
        }
    }

    /// The last of the request's body was taken.
    pub fn finish_body(&self) {
        self.body_taken.set(true);
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }

    /// Has the sending of a stream's body stop, if it goes on.
    pub fn give_up_body(&self) {
        self.given_up.set(true);
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }

    /// Whether the sending of a stream's body has to stop. If not, whoever polls in `context` is woken should it.
    pub fn is_given_up(&self, context: &Context<'_>) -> bool {
        if self.is_stream.get() && !self.given_up.get() {
            self.taken_at.set(now_ns());
            self.sender.replace(Some(context.waker().clone()));
        }
        self.given_up.get()
    }

    fn fail(&self, direction: Direction) {
        if self.failed.get().is_none() {
            self.failed.set(Some(direction));
        }
    }
}

/// A stream that is watched by [`Traffic`].
pub(super) struct WatchedStream {
    pub stream: Rc<dyn ByteStream>,
    pub traffic: Rc<Traffic>,
}

impl WatchedStream {
    fn wrote(&self, result: Poll<io::Result<usize>>, tried: usize) -> Poll<io::Result<usize>> {
        self.traffic.blocked.set(result.is_pending());
        match result {
            Poll::Ready(Ok(count)) => {
                self.traffic.sent.set(self.traffic.sent.get() + count as u64);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => {
                self.traffic.fail(Direction::Sending);
                // Nothing more is sent, but what the server sent before it closed is still read.
                self.traffic.body_held.set(true);
                self.traffic.sending_error.replace(Some(error));
                Poll::Ready(Ok(tried))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for WatchedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(left) = self.traffic.reads_left.get() {
            if left == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.traffic.reads_left.set(Some(left - 1));
        }
        // SAFETY: the stream only ever writes received bytes into the room it is given; nothing initialised there is
        // made uninitialised again.
        let room = unsafe { buffer.as_mut() };
        match ready!(self.stream.poll_read(context, room)) {
            Ok(count) => {
                // SAFETY: the kernel has just filled the first `count` bytes of the room.
                unsafe { buffer.advance(count) };
                self.traffic.received.set(self.traffic.received.get() + count as u64);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.traffic.fail(Direction::Receiving);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl Write for WatchedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.traffic.failed.get() == Some(Direction::Sending) {
            return Poll::Ready(Ok(data.len()));
        }
        let result = self.stream.poll_write(context, data);
        self.wrote(result, data.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.traffic.failed.get() == Some(Direction::Sending) {
            return Poll::Ready(Ok(length));
        }
        let result = self.stream.poll_write_vectored(context, slices);
        self.wrote(result, length)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.traffic.failed.get() == Some(Direction::Sending) {
            return Poll::Ready(Ok(()));
        }
        let result = self.stream.poll_flush(context);
        self.wrote(result.map_ok(|()| 0), 0).map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(context)
    }
}
