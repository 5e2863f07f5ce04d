//! Proxies: which there are, and how a request goes through one.

use std::fmt;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use http::{HeaderMap, Uri};
use url::{Host, Url};

use super::error::{Error, ErrorKind, Phase, Result};
use super::request::authority;
use crate::transport::tls::Connector;

/// A proxy. Its `Debug` form shows no credentials.
///
/// ```
/// use aioxide::http::Proxy;
/// let proxy = Proxy::new("http://user:secret@127.0.0.1:3128")?;
/// assert_eq!(format!("{proxy:?}"), "Proxy(http://127.0.0.1:3128)");
/// # Ok::<(), aioxide::http::Error>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    scheme: Scheme,
    host: String,
    port: u16,
    /// User and password.
    pub(super) credentials: Option<(Vec<u8>, Vec<u8>)>,
    headers: HeaderMap,
    tunnel: bool,
    /// For the connections with the proxy itself.
    tls: Option<Arc<dyn Connector>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Socks5,
}

/// How a request reaches its origin.
#[derive(Clone, Copy)]
pub(super) enum Route<'a> {
    /// Straight.
    Direct,
    /// The proxy gets the request and passes it on.
    Forward(&'a Proxy),
    /// The proxy is asked for a tunnel (CONNECT), in which the origin is spoken to.
    Tunnel(&'a Proxy),
    /// The same, by SOCKS 5.
    Socks(&'a Proxy),
}

impl Proxy {
    /// The proxy at `url`: by `http://` or `https://` one that forwards requests, by `socks5://` or `socks5h://` a SOCKS 5
    /// proxy, which looks the names up itself in both cases. User and password are taken from the URL. One by
    /// `https://` needs [`Proxy::set_tls`].
    ///
    /// # Errors
    /// `InvalidUrl`, and `UnsupportedProtocol` for another scheme.
    pub fn new(url: &str) -> Result<Self> {
        let refuse = |kind, detail: String| Error::new(kind, Phase::Preparing, "", detail);
        let parsed = Url::parse(url)
            .map_err(|error| refuse(ErrorKind::InvalidUrl, format!("the proxy's URL cannot be understood: {error}")))?;
        let (scheme, default_port) = match parsed.scheme() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "socks5" | "socks5h" => (Scheme::Socks5, 1080),
            other => {
                let detail = format!("a proxy by {other}:// is not supported; http, https, socks5 and socks5h are");
                return Err(refuse(ErrorKind::UnsupportedProtocol, detail));
            }
        };
        let Some(host) = parsed.host_str().filter(|host| !host.is_empty()) else {
            return Err(refuse(ErrorKind::InvalidUrl, "the proxy's URL names no host".into()));
        };
        let mut proxy = Self {
            scheme,
            host: host.to_owned(),
            port: parsed.port().unwrap_or(default_port),
            credentials: None,
            headers: HeaderMap::new(),
            tunnel: false,
            tls: None,
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            proxy.set_credentials(&unescape(parsed.username()), &unescape(parsed.password().unwrap_or_default()))?;
        }
        Ok(proxy)
    }

    /// Sets user and password: basic authentication, or that of RFC 1929 for SOCKS.
    ///
    /// # Errors
    /// `LocalProtocol` when they are too long for SOCKS.
    pub fn set_credentials(&mut self, user: &[u8], password: &[u8]) -> Result<()> {
        if self.scheme == Scheme::Socks5 && (user.len() > 255 || password.len() > 255 || user.is_empty()) {
            let detail = "user and password for a SOCKS proxy have 1 to 255 bytes";
            return Err(Error::new(ErrorKind::LocalProtocol, Phase::Preparing, &self.name(), detail));
        }
        self.credentials = Some((user.to_vec(), password.to_vec()));
        if self.scheme != Scheme::Socks5 {
            let token = base64(&[user, b":", password].concat());
            if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {token}")) {
                value.set_sensitive(true);
                self.headers.insert(PROXY_AUTHORIZATION, value);
            }
        }
        Ok(())
    }

    /// Adds a header that the proxy gets, and nobody behind it.
    ///
    /// # Errors
    /// `LocalProtocol` for what would break the head of a request.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        match (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
                Ok(())
            }
            _ => {
                let detail = "a header for the proxy holds a character that no header may hold";
                Err(Error::new(ErrorKind::LocalProtocol, Phase::Preparing, &self.name(), detail))
            }
        }
    }

    /// Whether plain HTTP goes through a tunnel too, instead of being forwarded. It is not, at first.
    pub fn set_tunnel(&mut self, tunnel: bool) {
        self.tunnel = tunnel;
    }

    /// What makes the TLS sessions with the proxy itself, if that is by `https://`.
    pub fn set_tls(&mut self, tls: Arc<dyn Connector>) {
        self.tls = Some(tls);
    }

    pub(super) fn is_secure(&self) -> bool {
        self.scheme == Scheme::Https
    }

    pub(super) fn tls(&self) -> Option<&dyn Connector> {
        self.tls.as_deref()
    }

    /// Host and port, for messages.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// An error of the proxy, in the phase in which a connection is made.
    pub(super) fn error(&self, detail: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Proxy, Phase::Connecting, &self.name(), format!("the proxy {detail}"))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Socks5 => "socks5",
        };
        write!(formatter, "Proxy({scheme}://{})", self.name())
    }
}

impl<'a> Route<'a> {
    /// The way to a URL; what is no request and its response cannot be forwarded.
    pub fn new(url: &Url, proxy: Option<&'a Proxy>, may_forward: bool) -> Self {
        match proxy {
            None => Self::Direct,
            Some(proxy) if proxy.scheme == Scheme::Socks5 => Self::Socks(proxy),
            // A proxy cannot forward what it cannot read.
            Some(proxy) if proxy.tunnel || url.scheme() != "http" || !may_forward => Self::Tunnel(proxy),
            Some(proxy) => Self::Forward(proxy),
        }
    }

    /// The proxy, if there is one.
    pub fn proxy(&self) -> Option<&'a Proxy> {
        match *self {
            Self::Direct => None,
            Self::Forward(proxy) | Self::Tunnel(proxy) | Self::Socks(proxy) => Some(proxy),
        }
    }

    /// Changes the head of a request as the route needs it: a forwarding proxy is told the whole URL, and gets its own
    /// headers; whoever else reads the request gets none of these.
    pub fn adapt(&self, url: &Url, target: Uri, headers: &mut HeaderMap) -> Result<Uri> {
        let Self::Forward(proxy) = self else { return Ok(target) };
        for (name, value) in proxy.headers() {
            // What the request itself says goes first.
            headers.entry(name).or_insert_with(|| value.clone());
        }
        let mut parts = target.into_parts();
        let invalid = |error: &dyn fmt::Display| {
            let detail = format!("the URL cannot be told to the proxy: {error}");
            Error::new(ErrorKind::InvalidUrl, Phase::Preparing, authority(url), detail)
        };
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = Some(authority(url).parse().map_err(|error| invalid(&error))?);
        Uri::from_parts(parts).map_err(|error| invalid(&error))
    }
}

/// Host and port of a URL as a tunnel's other end: the port is always there.
pub(super) fn destination(url: &Url) -> (Option<Host<&str>>, u16) {
    (url.host(), url.port_or_known_default().unwrap_or(80))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn base64(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for group in data.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= group.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Proxy, base64, unescape};
    use crate::http::ErrorKind;

    #[test]
    fn urls_of_proxies_are_taken_apart() {
        let proxy = Proxy::new("socks5h://a%40b:c%3A@[::1]").unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("[::1]", 1080));
        assert_eq!(proxy.credentials, Some((b"a@b".to_vec(), b"c:".to_vec())));
        for (url, kind) in [("ftp://h", ErrorKind::UnsupportedProtocol), ("http://", ErrorKind::InvalidUrl)] {
            assert_eq!(Proxy::new(url).unwrap_err().kind(), kind);
        }
        assert!(Proxy::new("http://h").unwrap().header(b"A", b"b\r\nC: d").is_err());
    }

    #[test]
    fn base64_and_escapes() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(unescape("%41%4g%"), b"A%4g%");
    }
}
