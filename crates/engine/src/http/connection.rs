//! One connection: made, used for one exchange after the other, judged for reuse.
//!
//! hyper speaks the protocol. It is not driven by a task of its own: whoever has an exchange under way polls the
//! connection within its own future, so an exchange costs no spawn and no wake-up between tasks. Nobody polls an idle
//! connection; its socket is looked at when it is taken out of the pool.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};

use super::error::{Error, ErrorKind, Phase, Result, io_words};
use super::io::{Direction, Traffic, WatchedStream};
use super::phases::Phases;
use super::request::{Body, Head, SentBody};
use crate::handle::{LoopHandle, now_ns};
use crate::transport::{TcpStream, resolve};

/// A further address is tried when the one before has not answered after this time, without giving that up
/// (RFC 8305, "connection attempt delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A connection that speaks HTTP/1.1.
pub(super) struct Connection {
    sender: SendRequest<SentBody>,
    driver: http1::Connection<WatchedStream, SentBody>,
    /// hyper is done with it.
    finished: bool,
    stream: Rc<TcpStream>,
    pub traffic: Rc<Traffic>,
}

impl Connection {
    /// Looks the host up and connects to it.
    pub async fn open(handle: &LoopHandle, host: &str, port: u16, phases: &mut Phases) -> Result<Box<Self>> {
        phases.enter(Phase::Resolving, now_ns());
        let resolved = phases.limit(resolve(host, port)).await?;
        let name = Rc::clone(&phases.name);
        let addresses = resolved.map_err(|error| Error::io(ErrorKind::Connect, Phase::Resolving, &name, &error))?;
        phases.enter(Phase::Connecting, now_ns());
        let connected = phases.limit(connect_first(handle, interleave(addresses))).await?;
        let stream = connected.map_err(|error| Error::io(ErrorKind::Connect, Phase::Connecting, &name, &error))?;
        let stream = Rc::new(stream);
        let traffic = Rc::new(Traffic::default());
        let watched = WatchedStream { stream: Rc::clone(&stream), traffic: Rc::clone(&traffic) };
        let (sender, driver) =
            http1::handshake(watched).await.map_err(|error| phases.error(ErrorKind::Connect, error.to_string()))?;
        phases.timings.connect = Some(phases.since_start(now_ns()));
        Ok(Box::new(Self { sender, driver, finished: false, stream, traffic }))
    }

    /// Whether another exchange may begin: the last one is over, and the peer has neither closed nor sent anything
    /// that nobody asked for.
    pub fn is_fresh(&self) -> bool {
        !self.finished && self.sender.is_ready() && !self.stream.is_stale()
    }

    /// Whether the last exchange has ended such that another may follow.
    pub fn is_reusable(&mut self, context: &mut Context<'_>) -> bool {
        if !self.finished && !self.sender.is_ready() {
            self.drive(context);
        }
        !self.finished && self.sender.is_ready()
    }

    /// Moves bytes as far as they go now.
    pub fn drive(&mut self, context: &mut Context<'_>) {
        if !self.finished {
            // An error here was given to the exchange already, or concerns nobody.
            self.finished = Pin::new(&mut self.driver).poll(context).is_ready();
        }
    }

    /// Sends a request and waits for the head of the response.
    pub async fn exchange(&mut self, head: Head, body: Body, phases: &mut Phases) -> Result<http::Response<Incoming>> {
        phases.enter(Phase::Sending, now_ns());
        self.traffic.begin();
        let request = head.with_body(SentBody::new(body, &self.traffic));
        let mut response = pin!(self.sender.send_request(request));
        let (driver, traffic, finished) = (&mut self.driver, &self.traffic, &mut self.finished);
        let mut seen = (0, 0);
        std::future::poll_fn(|context| {
            if !*finished {
                *finished = Pin::new(&mut *driver).poll(context).is_ready();
            }
            // The response comes out of the driver, which has just been polled: nobody else needs to wake this task.
            let response = response.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let moved = (traffic.sent.get(), traffic.received.get());
            if moved != seen {
                let now = now_ns();
                if phases.phase() == Phase::Sending && traffic.is_sent() {
                    phases.timings.sent = Some(phases.since_start(now));
                    phases.enter(Phase::Waiting, now);
                } else {
                    phases.progress(now);
                }
                if seen.1 == 0 && moved.1 > 0 {
                    phases.timings.first_byte = Some(phases.since_start(now));
                }
                seen = moved;
            }
            match response {
                Poll::Ready(result) => Poll::Ready(result.map_err(|error| explain(&error, traffic, phases))),
                Poll::Pending => phases.poll_due(context).map(Err),
            }
        })
        .await
    }
}

/// An error of hyper in the client's own terms.
pub(super) fn explain(error: &hyper::Error, traffic: &Traffic, phases: &Phases) -> Error {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            if cause.kind() == io::ErrorKind::UnexpectedEof {
                break;
            }
            let kind = match traffic.failed.get() {
                Some(Direction::Sending) => ErrorKind::Write,
                Some(Direction::Receiving) => ErrorKind::Read,
                None => ErrorKind::RemoteProtocol,
            };
            return phases.error(kind, io_words(cause));
        }
        source = cause.source();
    }
    if error.is_user() {
        let detail = source_words(error).unwrap_or_else(|| error.to_string());
        return phases.error(ErrorKind::LocalProtocol, format!("the request's body failed: {detail}"));
    }
    if error.is_parse() {
        return phases.error(ErrorKind::RemoteProtocol, format!("the answer is not HTTP/1.1 ({error})"));
    }
    let detail = match traffic.received.get() {
        0 => "the server closed the connection without an answer",
        _ if phases.phase() == Phase::Receiving => "the server closed the connection before the body was whole",
        _ => "the server closed the connection before the answer was whole",
    };
    phases.error(ErrorKind::RemoteProtocol, detail)
}

fn source_words(error: &hyper::Error) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

/// Alternates between the address families, beginning with that of the first address.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv4) else { return addresses };
    let count = addresses.len();
    let (preferred, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|each| each.is_ipv4() == first);
    let mut mixed = Vec::with_capacity(count);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    while mixed.len() < count {
        mixed.extend(preferred.next());
        mixed.extend(others.next());
    }
    mixed
}

type Attempt<'a> = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + 'a>>;

/// The first connection to succeed. The next address is tried as soon as one fails, or when the last one tried has
/// not answered within [`ATTEMPT_DELAY`]. The error is that of the first failure: it names the preferred address.
async fn connect_first(handle: &LoopHandle, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [address] = addresses[..] {
        return TcpStream::connect(handle, address).await;
    }
    let mut addresses = addresses.into_iter();
    let mut attempts: Vec<Attempt<'_>> = Vec::new();
    let mut failure = None;
    let mut next = handle.sleep(Duration::ZERO);
    std::future::poll_fn(|context| {
        loop {
            let mut failed = attempts.is_empty();
            let mut index = 0;
            while index < attempts.len() {
                match Future::poll(attempts[index].as_mut(), context) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        drop(attempts.swap_remove(index));
                        failure.get_or_insert(error);
                        failed = true;
                    }
                    Poll::Pending => index += 1,
                }
            }
            if !failed && Pin::new(&mut next).poll(context).is_pending() {
                return Poll::Pending;
            }
            match addresses.next() {
                Some(address) => {
                    attempts.push(Box::pin(TcpStream::connect(handle, address)));
                    next = handle.sleep(ATTEMPT_DELAY);
                }
                None if attempts.is_empty() => {
                    let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                    return Poll::Ready(Err(failure.take().unwrap_or_else(none)));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::interleave;

    #[test]
    fn address_families_take_turns() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let mixed = interleave(parse(&["[::1]:1", "[::2]:1", "127.0.0.1:1", "[::3]:1"]));
        assert_eq!(mixed, parse(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]));
        assert!(interleave(Vec::new()).is_empty());
    }
}
