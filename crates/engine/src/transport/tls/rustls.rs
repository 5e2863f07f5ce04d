//! rustls as the TLS library, for programs without Python (the feature `tls-rustls`).
//!
//! Which cryptography rustls uses is the program's choice: it depends on rustls itself, with `ring` or `aws_lc_rs`.

use std::io::{self, BufRead, Write};
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection};

use super::session::{Input, Progress, Session};
use super::stream::{Connector, SessionHost, TlsByteStream, TlsFailure, TlsStream};
use crate::transport::ByteStream;

/// Makes the client side of TLS connections with rustls.
///
/// ```
/// use std::sync::Arc;
/// use aioxide::http::{Client, Request, Settings};
/// use aioxide::transport::tls::RustlsConnector;
/// use rustls::{ClientConfig, RootCertStore};
///
/// // The authorities that are trusted go in here: rustls-platform-verifier and webpki-roots have some.
/// let authorities = RootCertStore::empty();
/// let config = ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth();
/// let tls = Some(Arc::new(RustlsConnector::new(config)) as Arc<_>);
/// let event_loop = aioxide::EventLoop::new()?;
/// let client = Client::new(event_loop.handle(), Settings { tls, ..Settings::default() });
/// let request = Request::get("https://127.0.0.1:9/").unwrap();
/// assert!(event_loop.block_on(async move { client.fetch(request).await })?.is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RustlsConnector {
    config: Arc<ClientConfig>,
}

impl RustlsConnector {
    /// One whose connections are set up by `config`. They resume sessions where the config keeps them.
    pub fn new(config: impl Into<Arc<ClientConfig>>) -> Self {
        Self { config: config.into() }
    }
}

impl Connector for RustlsConnector {
    fn connect(&self, lower: Rc<dyn ByteStream>, server_name: &str) -> io::Result<Rc<dyn TlsByteStream>> {
        let failed = |words: String, error: rustls::Error| TlsFailure::new(words, error).into_io();
        let name = ServerName::try_from(server_name.to_owned()).map_err(|error| {
            let words = format!("{server_name:?} is no name that a certificate can have ({error})");
            failed(words.clone(), rustls::Error::General(words))
        })?;
        let connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| failed(error.to_string(), error))?;
        Ok(Rc::new(TlsStream::new(lower, RustlsHost, RustlsSession::new(connection))))
    }
}

struct RustlsHost;

impl SessionHost for RustlsHost {
    type Session = RustlsSession;

    fn failure(&self, error: rustls::Error) -> TlsFailure {
        TlsFailure::new(error.to_string(), error)
    }

    fn protocol(&self, session: &RustlsSession) -> Option<Vec<u8>> {
        session.connection.alpn_protocol().map(<[u8]>::to_vec)
    }
}

/// One connection of rustls, of either side.
pub struct RustlsSession {
    connection: Connection,
    /// Ciphertext from the peer, and how much of it rustls has.
    input: Vec<u8>,
    used: usize,
    /// Ciphertext for the peer.
    output: Vec<u8>,
    /// Whether there may be plaintext that was not read.
    is_readable: bool,
    /// What it failed with, and fails with from then on.
    failure: Option<rustls::Error>,
}

impl RustlsSession {
    /// A session that has not begun its handshake.
    #[must_use]
    pub fn new(connection: impl Into<Connection>) -> Self {
        let connection = connection.into();
        Self { connection, input: Vec::new(), used: 0, output: Vec::new(), is_readable: false, failure: None }
    }

    /// Gives rustls the next of the input; whether it took any.
    fn advance(&mut self) -> Result<bool, rustls::Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mut rest = &self.input[self.used..];
        if rest.is_empty() {
            return Ok(false);
        }
        let before = rest.len();
        // It takes no more while its plaintext waits to be read.
        let taken = self.connection.read_tls(&mut rest).map(|_| before - rest.len()).unwrap_or(0);
        self.used += taken;
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        }
        let state = self.connection.process_new_packets();
        // An alert, if it failed.
        self.collect();
        match state {
            Ok(state) => self.is_readable |= state.plaintext_bytes_to_read() > 0,
            Err(error) => {
                self.failure = Some(error.clone());
                return Err(error);
            }
        }
        Ok(taken > 0)
    }

    fn collect(&mut self) {
        while self.connection.wants_write() {
            // Writing into memory does not fail.
            if self.connection.write_tls(&mut self.output).is_err() {
                return;
            }
        }
    }
}

impl Session for RustlsSession {
    type Error = rustls::Error;

    fn feed<R>(&mut self, ciphertext: &[u8], work: impl FnOnce(&mut Self) -> R) -> R {
        self.input.drain(..self.used);
        self.used = 0;
        self.input.extend_from_slice(ciphertext);
        work(self)
    }

    fn input_len(&self) -> usize {
        self.input.len() - self.used
    }

    fn may_have_more(&self) -> bool {
        self.is_readable || self.input_len() > 0
    }

    fn handshake(&mut self) -> Result<Progress, rustls::Error> {
        self.collect();
        while self.connection.is_handshaking() {
            if !self.advance()? {
                return Ok(Progress::Waiting);
            }
        }
        Ok(Progress::Done)
    }

    fn read(&mut self, room: &mut [MaybeUninit<u8>]) -> Result<Input, rustls::Error> {
        loop {
            let mut reader = self.connection.reader();
            match reader.fill_buf() {
                // What came without close_notify does not end here: the stream below tells of its end.
                Ok([]) => return Ok(Input::Closed),
                Ok(plaintext) => {
                    let count = plaintext.len().min(room.len());
                    for (place, byte) in room.iter_mut().zip(plaintext) {
                        place.write(*byte);
                    }
                    reader.consume(count);
                    return Ok(Input::Data(count));
                }
                Err(_) => {
                    self.is_readable = false;
                    if !self.advance()? {
                        return Ok(Input::Waiting);
                    }
                }
            }
        }
    }

    fn write(&mut self, data: &[u8]) -> Result<usize, rustls::Error> {
        let written = self.connection.writer().write(data);
        self.collect();
        written.map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn shutdown(&mut self) -> Result<Progress, rustls::Error> {
        self.connection.send_close_notify();
        self.collect();
        while self.advance()? {}
        let is_closed = matches!(self.connection.reader().fill_buf(), Ok([]));
        Ok(if is_closed { Progress::Done } else { Progress::Waiting })
    }

    fn output_len(&self) -> usize {
        self.output.len()
    }

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }
}
