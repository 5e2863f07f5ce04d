//! The request: what the caller gives, checked before anything is asked of the network.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use url::{Position, Url};

use super::error::{Error, ErrorKind, Phase, Result};
use super::proxy::Route;
use super::websocket::{Handshake, WebSocketOptions};
use crate::timeline::LaneId;

/// One request, and how long each of its phases may take.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// The headers. `Host` and the framing (`Content-Length`, `Transfer-Encoding`) are added where they are missing.
    pub headers: Headers,
    /// The body.
    pub body: Body,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// So many redirects in a row are followed; 0 gives the redirect itself as the response.
    pub max_redirects: u32,
    /// A successful response that begins before the whole body was sent is given out only once it was. Else it is given
    /// out at once, and the rest of the body is sent while the response is read.
    pub sends_first: bool,
    /// Asks for a WebSocket instead of a response: [`Response::websocket`](super::Response::websocket) is there if the
    /// server agrees. Such requests have connections of their own, count as another host in the limits of the pool, and go
    /// through proxies by a tunnel. The method is GET, without a body.
    pub websocket: Option<Box<WebSocketOptions>>,
    /// Whom the server of an https URL must prove to be, and is asked for by name (SNI), if it is not the URL's host.
    pub server_name: Option<String>,
    /// If no answer has come after this time, the request is sent a second time, and the sooner answer is taken. Only if
    /// sending it twice is harmless: its method is idempotent and its body not streamed; if a connection is to be had at
    /// once; and while [`Settings::hedge_budget`](super::Settings) lasts.
    pub hedge_after: Option<Duration>,
    /// While the timeline records: the lane that shows what the request waits for, such as that of a thread that
    /// blocks on it. `None` gives the request a lane of its own.
    pub lane: Option<LaneId>,
}

/// Header fields. Clones share theirs until one of them changes its own.
#[derive(Clone, Debug, Default)]
pub struct Headers(Arc<HeaderMap>);

impl From<HeaderMap> for Headers {
    fn from(fields: HeaderMap) -> Self {
        Self(Arc::new(fields))
    }
}

impl Deref for Headers {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        &self.0
    }
}

impl DerefMut for Headers {
    fn deref_mut(&mut self) -> &mut HeaderMap {
        Arc::make_mut(&mut self.0)
    }
}

/// Limits on time; `None` waits without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Waiting for a connection of the pool.
    pub pool: Option<Duration>,
    /// Looking up the host and connecting.
    pub connect: Option<Duration>,
    /// The peer takes not a byte of the request.
    pub write: Option<Duration>,
    /// The peer sends not a byte of the response.
    pub read: Option<Duration>,
    /// From the start until the body is whole, redirects and all.
    pub total: Option<Duration>,
}

/// A chunked body's source, see [`Body::Stream`].
pub type BodyStream = Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>;

/// What a streamed body may fail with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
#[derive(Default)]
pub enum Body {
    /// No body.
    #[default]
    Empty,
    /// A body that is there as a whole: it can be sent again, should the connection turn out to be stale.
    Whole(Bytes),
    /// A body that is asked for as the peer takes it. It can be sent only once, so it stops at a redirect that would
    /// need it again. Once a response other than a success is there, it is asked no more.
    Stream(BodyStream),
    /// A stream that was sent already.
    Spent,
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("Empty"),
            Self::Whole(bytes) => write!(formatter, "Whole({} bytes)", bytes.len()),
            Self::Stream(_) => formatter.write_str("Stream"),
            Self::Spent => formatter.write_str("Spent"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Whole(bytes) }
    }
}

impl Body {
    /// The body for sending. What can be sent again stays here as well.
    pub(super) fn take_or_share(&mut self) -> Self {
        match self {
            Self::Empty | Self::Spent => Self::Empty,
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Stream(_) => std::mem::replace(self, Self::Spent),
        }
    }

    /// The same body once more, if it is there as a whole.
    pub(super) fn copy_of_whole(&self) -> Self {
        match self {
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            _ => Self::Empty,
        }
    }

    /// Whether it can be sent once at most.
    pub(super) fn is_once(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Spent)
    }

    /// Whether it was a stream, and is used up.
    pub(super) fn is_spent(&self) -> bool {
        matches!(self, Self::Spent)
    }
}

impl Request {
    /// A request without headers, body or limits on time.
    ///
    /// ```
    /// use aioxide::http::{ErrorKind, Request};
    /// let request = Request::new("PUT", "http://127.0.0.1:8000/a?b=c#d")?;
    /// assert_eq!(request.url.path(), "/a");
    /// assert_eq!(Request::new("GET", "ftp://127.0.0.1/").unwrap_err().kind(), ErrorKind::UnsupportedProtocol);
    /// # Ok::<(), aioxide::http::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidUrl`, `UnsupportedProtocol`, and `LocalProtocol` for a method that is not a token.
    pub fn new(method: &str, url: &str) -> Result<Self> {
        let url = parse_url(url)?;
        let method = Method::from_bytes(method.as_bytes())
            .ok()
            .filter(|method| method != Method::CONNECT)
            .ok_or_else(|| refuse(authority(&url), format!("{method:?} is not a method that can be sent")))?;
        Ok(Self {
            method,
            url,
            headers: Headers::default(),
            body: Body::Empty,
            timeouts: Timeouts::default(),
            max_redirects: 0,
            sends_first: false,
            websocket: None,
            server_name: None,
            hedge_after: None,
            lane: None,
        })
    }

    /// A GET request.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn get(url: &str) -> Result<Self> {
        Self::new("GET", url)
    }

    /// Adds a header, as often as it is called; refuses what would break the head of the request.
    ///
    /// ```
    /// use aioxide::http::{ErrorKind, Request};
    /// let mut request = Request::get("http://127.0.0.1/")?;
    /// request.header(b"Accept", b"*/*")?;
    /// let error = request.header(b"X-Name", b"a\r\nX-Injected: b").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::LocalProtocol);
    /// # Ok::<(), aioxide::http::Error>(())
    /// ```
    ///
    /// # Errors
    /// `LocalProtocol`. The message does not repeat the value, which may be a secret.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        let Ok(name) = HeaderName::from_bytes(name) else {
            let name = String::from_utf8_lossy(name);
            return Err(refuse(self.authority(), format!("{name:?} is not a header name")));
        };
        let Ok(value) = HeaderValue::from_bytes(value) else {
            return Err(refuse(self.authority(), format!("the value of header {name} holds a control character")));
        };
        self.headers.append(name, value);
        Ok(())
    }

    /// Host and port, as the URL names them.
    #[must_use]
    pub fn authority(&self) -> &str {
        authority(&self.url)
    }

    /// What requests must have in common to share connections: scheme, host and port, what they want of the connection,
    /// and a server name of their own.
    pub(super) fn pool_key(&self) -> Cow<'_, str> {
        let url = &self.url;
        let has_user = !url.username().is_empty() || url.password().is_some();
        match &self.server_name {
            None if !has_user && self.websocket.is_none() => Cow::Borrowed(&url[..Position::AfterPort]),
            name => {
                let name = name.as_ref().map_or_else(String::new, |name| format!(" {name}"));
                let kind = if self.websocket.is_some() { " websocket" } else { "" };
                Cow::Owned(format!("{}://{}{kind}{name}", url.scheme(), authority(url)))
            }
        }
    }
}

fn refuse(authority: &str, detail: String) -> Error {
    Error::new(ErrorKind::LocalProtocol, Phase::Preparing, authority, detail)
}

/// Host and port; the port is left out where it is the scheme's own.
pub(super) fn authority(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

thread_local! {
    /// The URL that this thread parsed last, how much of it comes before its path, and what it stands for: most requests go
    /// where the one before went, and the host is what is costly to parse.
    static LAST: RefCell<Option<(String, usize, Url)>> = const { RefCell::new(None) };
}

/// Parses an absolute URL and refuses what this client cannot fetch.
pub(super) fn parse_url(text: &str) -> Result<Url> {
    if let Some(url) = parse_like_last(text) {
        return Ok(url);
    }
    let url = parse_whole_url(text)?;
    let origin_end = text.find("://").and_then(|colon| {
        let rest = &text[colon + 3..];
        Some(colon + 3 + rest.find(['/', '?', '#', '\\'])?)
    });
    if let Some(end) = origin_end {
        LAST.set(Some((text.to_owned(), end, url.clone())));
    }
    Ok(url)
}

/// A path that follows the same text as last time, and cannot be taken for anything but a path.
fn parse_like_last(text: &str) -> Option<Url> {
    LAST.with_borrow(|last| {
        let (known, origin_end, url) = last.as_ref()?;
        if text == known {
            return Some(url.clone());
        }
        let path = text.strip_prefix(&known[..*origin_end])?;
        // Two slashes of either kind, even with a tab or line break between them, would begin another host.
        match path.as_bytes() {
            [b'/'] => {}
            [b'/', next, ..] if next.is_ascii_graphic() && !matches!(next, b'/' | b'\\') => {}
            _ => return None,
        }
        url.join(path).ok()
    })
}

fn parse_whole_url(text: &str) -> Result<Url> {
    let invalid = |detail: String| Error::new(ErrorKind::InvalidUrl, Phase::Preparing, "", detail);
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            let detail = format!("the URL {text:?} names no scheme: it must begin with http://");
            return Err(Error::new(ErrorKind::UnsupportedProtocol, Phase::Preparing, "", detail));
        }
        Err(error) => return Err(invalid(format!("the URL {text:?} cannot be understood: {error}"))),
    };
    check_scheme(&url)?;
    Ok(url)
}

/// Refuses schemes other than `http` and `https`.
pub(super) fn check_scheme(url: &Url) -> Result<()> {
    let detail = match url.scheme() {
        "http" | "https" => return Ok(()),
        other => format!("the scheme {other:?} is not http or https"),
    };
    Err(Error::new(ErrorKind::UnsupportedProtocol, Phase::Preparing, authority(url), detail))
}

/// Why https cannot be fetched by a client without TLS.
pub(super) const NO_TLS: &str = "https cannot be fetched: this client was made without TLS";

/// Refuses `https` where there is no TLS.
pub(super) fn check_tls(url: &Url, has_tls: bool) -> Result<()> {
    if has_tls || url.scheme() != "https" {
        return Ok(());
    }
    Err(Error::new(ErrorKind::UnsupportedProtocol, Phase::Preparing, authority(url), NO_TLS))
}

/// What goes over the wire, apart from the body.
pub(super) struct Head {
    pub method: Method,
    pub target: Uri,
    pub headers: HeaderMap,
    /// If it asks for a WebSocket.
    pub handshake: Option<Handshake>,
}

impl Head {
    /// Makes the head of `request`, and checks that its framing is sound.
    pub fn new(request: &Request, host: &HeaderValue, route: Route<'_>) -> Result<Self> {
        let mut headers = with_host(&request.headers, host);
        let target = route.adapt(&request.url, target(&request.url)?, &mut headers)?;
        check_framing(&headers, &request.body, authority(&request.url))?;
        if matches!(request.body, Body::Empty) && expects_body(&request.method) {
            // Without it, some servers would wait for a body that never comes.
            headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        let begin = |options: &WebSocketOptions| {
            if request.method != Method::GET || !matches!(request.body, Body::Empty) {
                return Err("a WebSocket is asked for by GET, without a body".to_owned());
            }
            Handshake::begin(options, &mut headers)
        };
        let handshake = request.websocket.as_deref().map(begin).transpose();
        let handshake = handshake.map_err(|detail| refuse(authority(&request.url), detail))?;
        Ok(Self { method: request.method.clone(), target, headers, handshake })
    }

    /// The same for HTTP/2, where the target names the host too, and the framing is the protocol's own.
    pub fn for_http2(mut self, url: &Url) -> Result<Self> {
        let host = self.headers.remove(HOST);
        for name in [TRANSFER_ENCODING, CONNECTION, UPGRADE] {
            self.headers.remove(name);
        }
        let invalid = || refuse(authority(url), "the Host header is no host".into());
        let host = host.as_ref().and_then(|host| host.to_str().ok()).ok_or_else(invalid)?;
        let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
        let mut parts = self.target.into_parts();
        parts.scheme = Some(scheme);
        parts.authority = Some(host.parse().map_err(|_| invalid())?);
        self.target = Uri::from_parts(parts).map_err(|_| invalid())?;
        Ok(self)
    }

    pub fn with_body<B>(self, body: B) -> http::Request<B> {
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target;
        *request.headers_mut() = self.headers;
        request
    }
}

/// The headers, with `Host` in front if it is not among them (RFC 9110, section 7.2, would have it first).
fn with_host(headers: &HeaderMap, host: &HeaderValue) -> HeaderMap {
    if headers.contains_key(HOST) {
        return headers.clone();
    }
    let mut with_host = HeaderMap::with_capacity(headers.len() + 2);
    with_host.insert(HOST, host.clone());
    for (name, value) in headers {
        with_host.append(name.clone(), value.clone());
    }
    with_host
}

fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Path and query, as they stand in the request line.
fn target(url: &Url) -> Result<Uri> {
    let text = &url[Position::BeforePath..Position::AfterQuery];
    let parsed = PathAndQuery::try_from(text).or_else(|error| {
        // URLs may hold a few characters that a request line may not.
        let escaped = text.replace('`', "%60").replace('^', "%5E").replace('{', "%7B").replace('}', "%7D");
        PathAndQuery::try_from(escaped).map_err(|_| error)
    });
    parsed.map(Uri::from).map_err(|error| {
        let detail = format!("the URL's path or query cannot be sent: {error}");
        Error::new(ErrorKind::InvalidUrl, Phase::Preparing, authority(url), detail)
    })
}

/// The framing that the headers announce must be that of the body, or the peer would misunderstand where it ends.
fn check_framing(headers: &HeaderMap, body: &Body, authority: &str) -> Result<()> {
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    if chunked {
        return Err(refuse(authority, "Content-Length and Transfer-Encoding exclude each other".into()));
    }
    // Digits alone: other readers of the request may understand "+3" otherwise.
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let announced = digits.and_then(|text| text.parse::<u64>().ok());
    let Some(announced) = announced.filter(|_| lengths.next().is_none()) else {
        return Err(refuse(authority, "Content-Length is not one number".into()));
    };
    let real = match body {
        Body::Empty | Body::Spent => Some(0),
        Body::Whole(bytes) => Some(bytes.len() as u64),
        Body::Stream(stream) => stream.size_hint().exact(),
    };
    match real {
        Some(real) if real != announced => {
            Err(refuse(authority, format!("Content-Length says {announced}, but the body has {real} bytes")))
        }
        _ => Ok(()),
    }
}

/// A whole body is given to a stream of HTTP/2 in pieces of this size.
const STREAM_PIECE_BYTES: usize = 64 * 1024;

/// A body as hyper sends it; it tells the connection's traffic when its last piece was taken.
pub(super) struct SentBody {
    body: Body,
    traffic: std::rc::Rc<super::io::Traffic>,
}

impl SentBody {
    pub fn new(body: Body, traffic: &std::rc::Rc<super::io::Traffic>) -> Self {
        if matches!(body, Body::Empty) {
            traffic.finish_body();
        }
        Self { body, traffic: std::rc::Rc::clone(traffic) }
    }
}

impl SentBody {
    /// The body of a request that was not sent.
    pub fn into_inner(mut self) -> Body {
        std::mem::take(&mut self.body)
    }
}

impl Drop for SentBody {
    /// A connection that has as much as was announced does not ask for more.
    fn drop(&mut self) {
        self.traffic.finish_body();
    }
}

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BodyError>>> {
        if self.traffic.is_given_up(context) {
            return Poll::Ready(Some(Err("nobody waits for the answer any more".into())));
        }
        if self.traffic.body_held.get() {
            return Poll::Pending;
        }
        let frame = match std::mem::take(&mut self.body) {
            Body::Empty | Body::Spent => Poll::Ready(None),
            Body::Whole(mut bytes) => {
                // A stream takes what it is given at once, and sends it when it may: that the body goes on can only be
                // told from the pieces.
                if self.traffic.is_stream.get() && bytes.len() > STREAM_PIECE_BYTES {
                    let rest = bytes.split_off(STREAM_PIECE_BYTES);
                    self.body = Body::Whole(rest);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Body::Stream(mut stream) => {
                let frame = stream.as_mut().poll_frame(context);
                if !matches!(frame, Poll::Ready(None)) {
                    self.body = Body::Stream(stream);
                }
                frame
            }
        };
        self.traffic.body_awaited.set(frame.is_pending());
        if !frame.is_pending() && self.is_end_stream() {
            self.traffic.finish_body();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Body::Empty | Body::Spent => true,
            Body::Whole(_) => false,
            Body::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Empty | Body::Spent => SizeHint::with_exact(0),
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(stream) => stream.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_url, parse_whole_url};

    #[test]
    fn a_url_means_the_same_whatever_was_parsed_before() {
        let origins = ["http://a.test", "http://user:secret@A.TEST:81", "http://[::1]:80", "HTTP://127.1"];
        let rests = [
            "",
            "/",
            "/a/../b?c#d",
            "//b.test/",
            "/\\b.test/",
            "/\t/b.test/",
            "/\n\\b.test",
            "\\b.test",
            "?q",
            "#f",
            ".b.test/",
            "/ä ?ö",
            "/%2e%2e/x",
            "/a//b",
            "/`^{}|\"<>",
            ":82/",
            "@b.test/",
        ];
        for before in origins {
            for origin in origins {
                for rest in rests {
                    let _ = parse_url(&format!("{before}/before"));
                    let text = format!("{origin}{rest}");
                    let expected = parse_whole_url(&text).map_err(|error| error.to_string());
                    assert_eq!(parse_url(&text).map_err(|error| error.to_string()), expected, "{text:?}");
                }
            }
        }
    }
}
