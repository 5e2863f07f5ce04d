//! Making a connection, step by step: look the host up, connect to it, and go through a proxy where there is one.
//!
//! ```text
//!   resolve ─▶ connect ─▶ [TLS with the proxy] ─▶ CONNECT or SOCKS ─▶ [TLS with the origin] ─▶ HTTP
//! ```
//!
//! What stands in brackets is left out where neither proxy nor origin is spoken to by TLS. The sessions come from the
//! host's [`Connector`].

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use url::Url;

use super::client::Http2Use;
use super::error::{Error, ErrorKind, Phase, Result};
use super::phases::Phases;
use super::proxy::{Proxy, Route};
use super::request::NO_TLS;
use super::{socks, tunnel};
use crate::handle::{LoopHandle, now_ns};
use crate::transport::tls::{Connector, TlsByteStream};
use crate::transport::{ByteStream, SocketSetup, TcpStream, UnixStream, forget, resolve};

/// A further address is tried when the one before has not answered after this time, without giving that up
/// (RFC 8305, "connection attempt delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A connection that HTTP can be spoken on.
pub(super) struct Dialed {
    /// With the URL's origin, or the proxy that forwards to it.
    pub stream: Rc<dyn ByteStream>,
    /// What the host wants to know of the TLS session with the origin.
    pub facts: Option<Arc<dyn Any + Send + Sync>>,
    /// Whether it is HTTP/2 that is spoken.
    pub speaks_http2: bool,
}

/// What a connection is made by.
#[derive(Clone, Copy)]
pub(super) struct Dialer<'a> {
    pub handle: &'a LoopHandle,
    pub route: Route<'a>,
    pub tls: Option<&'a dyn Connector>,
    pub http2: Http2Use,
    pub sockets: &'a Sockets,
}

/// What kind of sockets connections are made with.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// The Unix domain socket that every request goes to, whatever host its URL names. Proxies are left aside.
    pub unix_path: Option<PathBuf>,
    /// How they are set up. A `local` address rules out the host's addresses of the other family.
    pub setup: SocketSetup,
}

impl Dialer<'_> {
    /// Makes a connection for `url`, whose server is to prove that it is `server_name` if that is not the URL's host.
    pub async fn dial(&self, url: &Url, server_name: Option<&str>, phases: &mut Phases) -> Result<Dialed> {
        let stream = self.connect(url, phases).await?;
        match self.route {
            Route::Direct | Route::Forward(_) => {}
            Route::Tunnel(proxy) => phases.limit(tunnel::connect(Rc::clone(&stream), proxy, url)).await??,
            Route::Socks(proxy) => phases.limit(socks::connect(&*stream, proxy, url)).await??,
        }
        phases.timings.connect = Some(phases.since_start(now_ns()));
        if url.scheme() != "https" {
            let speaks_http2 = self.http2 == Http2Use::Always && !matches!(self.route, Route::Forward(_));
            return Ok(Dialed { stream, facts: None, speaks_http2 });
        }
        let server_name = server_name.map_or_else(|| bare_host(url.host_str().unwrap_or_default()), str::to_owned);
        let secured = secure(stream, self.tls, &server_name, phases).await?;
        phases.timings.tls = Some(phases.since_start(now_ns()));
        let speaks_http2 = match self.http2 {
            Http2Use::Never => false,
            Http2Use::Negotiated => secured.protocol().is_some_and(|protocol| protocol == b"h2"),
            Http2Use::Always => true,
        };
        Ok(Dialed { facts: secured.facts(), stream: secured.into_stream(), speaks_http2 })
    }

    /// A stream to the URL's origin, or to the proxy, secured where the proxy is spoken to by TLS.
    async fn connect(&self, url: &Url, phases: &mut Phases) -> Result<Rc<dyn ByteStream>> {
        let Self { handle, route, sockets, .. } = *self;
        if let Some(path) = &sockets.unix_path {
            return self.connect_unix(path, phases).await;
        }
        let (host, port) = match route.proxy() {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(80)),
        };
        phases.enter(Phase::Resolving, now_ns());
        let resolved = phases.limit(resolve(host, port)).await?;
        let addresses = resolved.map_err(|error| failure(Phase::Resolving, route, phases, &error))?;
        let now = now_ns();
        phases.timings.resolved = Some(phases.since_start(now));
        phases.enter(Phase::Connecting, now);
        let connected = phases.limit(connect_first(handle, self.reachable(addresses), &sockets.setup)).await?;
        let stream = connected.map_err(|error| {
            forget(host);
            failure(Phase::Connecting, route, phases, &error)
        })?;
        let stream: Rc<dyn ByteStream> = Rc::new(stream);
        match route.proxy() {
            Some(proxy) if proxy.is_secure() => {
                let secured = secure(stream, proxy.tls(), &bare_host(host), phases).await;
                let secured = secured.map_err(|error| error.of(&proxy_words(proxy)))?;
                phases.enter(Phase::Connecting, now_ns());
                Ok(secured.into_stream())
            }
            _ => Ok(stream),
        }
    }

    async fn connect_unix(&self, path: &Path, phases: &mut Phases) -> Result<Rc<dyn ByteStream>> {
        phases.enter(Phase::Connecting, now_ns());
        let connect = UnixStream::connect(self.handle, path.to_owned(), &self.sockets.setup.options);
        let stream = phases.limit(connect).await?.map_err(|error| {
            Error::io(ErrorKind::Connect, Phase::Connecting, &format!("{}: {}", phases.name, path.display()), &error)
        })?;
        Ok(Rc::new(stream))
    }

    /// The addresses that may be tried, in their order.
    fn reachable(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if let Some(local) = self.sockets.setup.local {
            addresses.retain(|address| address.is_ipv4() == local.is_ipv4());
        }
        interleave(addresses)
    }
}

/// TLS over `stream`, with its handshake done.
async fn secure(
    stream: Rc<dyn ByteStream>,
    connector: Option<&dyn Connector>,
    server_name: &str,
    phases: &mut Phases,
) -> Result<Rc<dyn TlsByteStream>> {
    phases.enter(Phase::Securing, now_ns());
    let failed =
        |phases: &Phases, error: &io::Error| Error::io(ErrorKind::Connect, Phase::Securing, &phases.name, error);
    let Some(connector) = connector else {
        return Err(phases.error(ErrorKind::UnsupportedProtocol, NO_TLS));
    };
    let secured = connector.connect(stream, server_name).map_err(|error| failed(phases, &error))?;
    let handshake = std::future::poll_fn(|context| secured.poll_handshake(context));
    phases.limit(handshake).await?.map_err(|error| failed(phases, &error))?;
    Ok(secured)
}

/// A host as certificates name it: an address without brackets, a name without the dot that may end it.
fn bare_host(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.strip_suffix('.').unwrap_or(bare).to_owned()
}

fn proxy_words(proxy: &Proxy) -> String {
    format!("the proxy {}", proxy.name())
}

fn failure(phase: Phase, route: Route<'_>, phases: &Phases, error: &io::Error) -> Error {
    match route.proxy() {
        Some(proxy) => Error::io(ErrorKind::Connect, phase, &proxy_words(proxy), error),
        None => Error::io(ErrorKind::Connect, phase, &phases.name, error),
    }
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
async fn connect_first(handle: &LoopHandle, addresses: Vec<SocketAddr>, setup: &SocketSetup) -> io::Result<TcpStream> {
    if let [address] = addresses[..] {
        return TcpStream::connect(handle, address, setup).await;
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
                    attempts.push(Box::pin(TcpStream::connect(handle, address, setup)));
                    next = handle.sleep(ATTEMPT_DELAY);
                }
                None if attempts.is_empty() => {
                    let none = || {
                        io::Error::new(io::ErrorKind::NotFound, "the name has no address that can be reached from here")
                    };
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
    use super::{bare_host, interleave};

    #[test]
    fn certificates_name_hosts_without_brackets_and_dot() {
        for (host, bare) in [("[::1]", "::1"), ("a.test.", "a.test"), ("127.0.0.1", "127.0.0.1")] {
            assert_eq!(bare_host(host), bare);
        }
    }

    #[test]
    fn address_families_take_turns() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let mixed = interleave(parse(&["[::1]:1", "[::2]:1", "127.0.0.1:1", "[::3]:1"]));
        assert_eq!(mixed, parse(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]));
        assert!(interleave(Vec::new()).is_empty());
    }
}
