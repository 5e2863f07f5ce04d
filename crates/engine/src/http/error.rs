//! Why no response came: what failed, with whom, in which phase.

use std::fmt;
use std::io;
use std::sync::OnceLock;

use crate::timeline::{self, NameId};
use crate::transport::tls::TlsFailure;

/// A [`std::result::Result`] of this client.
pub type Result<T> = std::result::Result<T, Error>;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The URL cannot be understood.
    InvalidUrl,
    /// The URL's scheme is not one that the client speaks.
    UnsupportedProtocol,
    /// The request would break the protocol, and was not sent.
    LocalProtocol,
    /// The client was closed.
    ClientClosed,
    /// No connection of the pool became free in time.
    PoolTimeout,
    /// No connection was made in time.
    ConnectTimeout,
    /// The peer did not take the request in time.
    WriteTimeout,
    /// The peer did not answer in time.
    ReadTimeout,
    /// The connection could not be made.
    Connect,
    /// The proxy did not carry the request.
    Proxy,
    /// Sending failed.
    Write,
    /// Receiving failed.
    Read,
    /// The answer is not HTTP, or ended before it was whole.
    RemoteProtocol,
    /// More redirects than allowed were answered in a row.
    TooManyRedirects,
    /// The loop or thread that carried the connection is gone.
    Aborted,
}

/// What a request is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Being made ready, before anything is asked of the network.
    Preparing,
    /// Waiting for a connection of the pool.
    Queueing,
    /// Looking up the host's addresses.
    Resolving,
    /// Connecting.
    Connecting,
    /// Making the connection secure: the TLS handshake.
    Securing,
    /// Sending head and body.
    Sending,
    /// Waiting for the head of the response.
    Waiting,
    /// Receiving the body.
    Receiving,
}

impl Phase {
    /// The phase as an error's message tells it.
    fn words(self) -> &'static str {
        match self {
            Self::Preparing => "while preparing the request",
            Self::Queueing => "while waiting for a connection of the pool",
            Self::Resolving => "while looking up the host",
            Self::Connecting => "while connecting",
            Self::Securing => "in the TLS handshake",
            Self::Sending => "while sending the request",
            Self::Waiting => "while waiting for the response",
            Self::Receiving => "while receiving the body",
        }
    }

    /// The phase as the timeline calls its wait.
    pub(super) fn lane_name(self) -> NameId {
        static NAMES: OnceLock<[NameId; 7]> = OnceLock::new();
        let names =
            NAMES.get_or_init(|| ["queue", "DNS", "connect", "TLS", "send", "first byte", "body"].map(timeline::name));
        names[match self {
            Self::Preparing | Self::Queueing => 0,
            Self::Resolving => 1,
            Self::Connecting => 2,
            Self::Securing => 3,
            Self::Sending => 4,
            Self::Waiting => 5,
            Self::Receiving => 6,
        }]
    }

    /// What it means when the time is up in this phase.
    pub(super) fn timeout_kind(self) -> ErrorKind {
        match self {
            Self::Preparing | Self::Queueing => ErrorKind::PoolTimeout,
            Self::Resolving | Self::Connecting | Self::Securing => ErrorKind::ConnectTimeout,
            Self::Sending => ErrorKind::WriteTimeout,
            Self::Waiting | Self::Receiving => ErrorKind::ReadTimeout,
        }
    }
}

/// Why a request failed. Its message names the host and the phase:
///
/// ```
/// use aioxide::http::{Client, ErrorKind, Limits, Request};
///
/// let event_loop = aioxide::EventLoop::new()?;
/// let client = Client::new(event_loop.handle(), Limits::default());
/// let request = Request::get("http://127.0.0.1:9/").unwrap();
/// let error = event_loop.block_on(async move { client.fetch(request).await })?.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Connect);
/// assert_eq!(error.to_string(), "127.0.0.1:9: connection refused while connecting");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Error(Box<Facts>);

#[derive(Clone, Debug)]
struct Facts {
    kind: ErrorKind,
    phase: Phase,
    host: String,
    detail: String,
    /// What the TLS library said.
    source: Option<TlsFailure>,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, phase: Phase, host: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Facts { kind, phase, host: host.to_owned(), detail: detail.into(), source: None }))
    }

    pub(super) fn io(kind: ErrorKind, phase: Phase, host: &str, error: &io::Error) -> Self {
        let mut made = Self::new(kind, phase, host, io_words(error));
        made.0.source = error.get_ref().and_then(|source| source.downcast_ref::<TlsFailure>()).cloned();
        made
    }

    /// The same, as an error of whoever is named.
    pub(super) fn of(mut self, host: &str) -> Self {
        host.clone_into(&mut self.0.host);
        self
    }

    pub(super) fn closed(host: &str) -> Self {
        Self::new(ErrorKind::ClientClosed, Phase::Preparing, host, "the client is closed")
    }

    /// What failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the request was doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// The host and port, as the URL names them; empty when the URL could not be understood.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { phase, host, detail, .. } = &*self.0;
        if !host.is_empty() {
            write!(formatter, "{host}: ")?;
        }
        formatter.write_str(detail)?;
        if *phase == Phase::Preparing { Ok(()) } else { write!(formatter, " {}", phase.words()) }
    }
}

impl std::error::Error for Error {
    /// What the TLS library said, if it is the cause: in its own type.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(TlsFailure::error)
    }
}

/// An error of the system in a few words, without its number; one of a TLS library in that library's words.
pub(super) fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    if error.get_ref().is_some_and(|source| source.is::<TlsFailure>()) {
        return text;
    }
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        // Acronyms keep their capitals.
        Some(first) if !characters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Seconds as a person writes them.
pub(super) fn seconds(nanos: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a message needs no more than a few digits")]
    let seconds = nanos as f64 / 1e9;
    format!("{} s", (seconds * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::{Error, ErrorKind, Phase, io_words, seconds};
    use std::io;

    #[test]
    fn messages_name_host_reason_and_phase() {
        let refused = io::Error::from_raw_os_error(111);
        let error = Error::io(ErrorKind::Connect, Phase::Connecting, "example:80", &refused);
        assert_eq!(error.to_string(), "example:80: connection refused while connecting");
        let error = Error::new(ErrorKind::InvalidUrl, Phase::Preparing, "", "no host in the URL");
        assert_eq!(error.to_string(), "no host in the URL");
        assert_eq!(io_words(&io::Error::other("DNS is down")), "DNS is down");
        assert_eq!(seconds(1_500_000_000), "1.5 s");
    }
}
