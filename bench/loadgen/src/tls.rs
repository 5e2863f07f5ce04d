//! TLS as the load generator speaks it: it believes any server, since all that it measures is on this machine.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned};

use crate::connection::{expect_end, there_and_back};

/// A TLS connection over TCP; it blocks if the socket does.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// What connections share: settings, and sessions to resume.
pub struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    pub fn new(resumes: bool) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring does TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BelieveAll(provider)))
            .with_no_client_auth();
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Self { config: Arc::new(config) }
    }

    /// Connects; the handshake has yet to be done.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TlsStream> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut client = ClientConnection::new(Arc::clone(&self.config), ServerName::IpAddress(address.ip().into()))
            .map_err(io::Error::other)?;
        // A message is taken whole, however long the socket needs.
        client.set_buffer_limit(None);
        Ok(StreamOwned::new(client, socket))
    }

    /// One whole connection: handshake, a message there and back, goodbye. It is an error if it `must_resume` and the
    /// server does not let it.
    pub fn visit(&self, address: SocketAddr, payload: &[u8], scratch: &mut [u8], must_resume: bool) -> io::Result<()> {
        let mut stream = self.connect(address)?;
        there_and_back(&mut stream, payload, scratch)?;
        if must_resume && stream.conn.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the server did not resume the session"));
        }
        stream.conn.send_close_notify();
        stream.flush()?;
        match expect_end(&mut stream, scratch) {
            // A server that says no goodbye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            ended => ended,
        }
    }
}

#[derive(Debug)]
struct BelieveAll(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
