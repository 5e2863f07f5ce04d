//! TLS by rustls: the session behind the policy's trait, the stream for futures, and https in the client.

mod random;

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use aioxide::EventLoop;
use aioxide::http::{Body, Client, ErrorKind, Phase, Request, Settings};
use aioxide::transport::tls::{Progress, RustlsConnector, RustlsSession, Session, encrypt, receive};
use random::Random;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

const TLS12: Versions = &[&rustls::version::TLS12];
const TLS13: Versions = &[&rustls::version::TLS13];

type Versions = &'static [&'static SupportedProtocolVersion];

/// The two sides' settings; the server's certificate names `name`.
fn configurations(name: &str, versions: Versions) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client =
        ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots).with_no_client_auth();
    let server = ServerConfig::builder_with_protocol_versions(versions)
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    (Arc::new(client), Arc::new(server))
}

/// Moves what one session has for the other, cut into random pieces; what they decrypt to is appended to `plaintext`.
fn carry(from: &mut RustlsSession, to: &mut RustlsSession, plaintext: &mut Vec<u8>, random: &mut Random) -> bool {
    let mut closed = false;
    let output = from.take_output();
    let mut rest = &output[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((random.below(3000) + 1).min(rest.len()));
        rest = after;
        to.feed(piece, |session| {
            if session.handshake().unwrap() == Progress::Waiting {
                return;
            }
            loop {
                let mut room = vec![MaybeUninit::uninit(); random.below(5000) + 1];
                let received = receive(session, &mut room);
                assert!(received.error.is_none());
                // SAFETY: a session has filled the first `count` bytes.
                plaintext.extend(room[..received.count].iter().map(|byte| unsafe { byte.assume_init() }));
                closed |= received.is_closed;
                if received.count == 0 {
                    break;
                }
            }
        });
    }
    closed
}

#[test]
fn what_one_session_encrypts_the_other_decrypts_however_it_is_cut() {
    for (seed, versions) in [(1, rustls::ALL_VERSIONS), (2, TLS12), (3, rustls::ALL_VERSIONS)] {
        let mut random = Random(seed);
        let (client, server) = configurations("localhost", versions);
        let mut client = RustlsSession::new(ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap());
        let mut server = RustlsSession::new(ServerConnection::new(server).unwrap());
        let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let _goes_on = client.handshake().unwrap();
            carry(&mut client, &mut server, &mut at_server, &mut random);
            carry(&mut server, &mut client, &mut at_client, &mut random);
        }
        assert_eq!(client.handshake().unwrap(), Progress::Done);
        assert_eq!(server.handshake().unwrap(), Progress::Done);
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            for (session, sent) in [(&mut client, &mut to_server), (&mut server, &mut to_client)] {
                let data: Vec<u8> = (0..random.below(100_000)).map(|n| u8::try_from(n % 251).unwrap()).collect();
                let encrypted = encrypt(session, &data, 40_000).unwrap();
                sent.extend_from_slice(&data[..encrypted]);
            }
            assert!(!carry(&mut client, &mut server, &mut at_server, &mut random));
            assert!(!carry(&mut server, &mut client, &mut at_client, &mut random));
        }
        assert!(to_server.len() > 100_000 && at_server == to_server && at_client == to_client);
        assert_eq!(client.shutdown().unwrap(), Progress::Waiting, "the peer has not said the same yet");
        assert!(carry(&mut client, &mut server, &mut at_server, &mut random));
        assert_eq!(server.shutdown().unwrap(), Progress::Done);
        carry(&mut server, &mut client, &mut at_client, &mut random);
        assert_eq!(client.shutdown().unwrap(), Progress::Done);
    }
}

#[test]
fn corrupted_records_are_an_error_that_stays() {
    let (client, server) = configurations("localhost", rustls::ALL_VERSIONS);
    let mut client = RustlsSession::new(ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap());
    let mut server = RustlsSession::new(ServerConnection::new(server).unwrap());
    let _goes_on = client.handshake().unwrap();
    let hello = client.take_output();
    server.feed(&hello, |session| session.handshake()).unwrap();
    let mut flight = server.take_output();
    let middle = flight.len() / 2;
    flight[middle] ^= 1;
    assert!(client.feed(&flight, |session| session.handshake()).is_err());
    assert!(client.output_len() > 0, "an alert says why");
    assert!(client.handshake().is_err());
}

/// A server of which threads with blocking sockets take care, one connection after the other; gives its URL.
fn serve(
    server: Arc<ServerConfig>,
    mut behave: impl FnMut(&mut StreamOwned<ServerConnection, TcpStream>) + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let connection = ServerConnection::new(Arc::clone(&server)).unwrap();
            behave(&mut StreamOwned::new(connection, stream));
        }
    });
    format!("https://127.0.0.1:{port}")
}

fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

/// Answers with the request's body, or with `body` when there is none, until the client goes.
fn echo(body: Vec<u8>) -> impl FnMut(&mut StreamOwned<ServerConnection, TcpStream>) + Send + 'static {
    move |stream| {
        while let Some(head) = read_head(stream) {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            let mut received = vec![0; length];
            if stream.read_exact(&mut received).is_err() {
                return;
            }
            let answer = if length > 0 { &received } else { &body };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
            if stream.write_all(head.as_bytes()).is_err() || stream.write_all(answer).is_err() {
                return;
            }
            let _gone = stream.flush();
        }
    }
}

/// What comes of one request after the other, from one client.
fn fetch_all(client: Arc<ClientConfig>, requests: Vec<Request>) -> Vec<aioxide::http::Result<Vec<u8>>> {
    let event_loop = EventLoop::new().unwrap();
    let settings = Settings { tls: Some(Arc::new(RustlsConnector::new(client))), ..Settings::default() };
    let client = Client::new(event_loop.handle(), settings);
    let results = event_loop.block_on({
        let client = client.clone();
        async move {
            let mut results = Vec::new();
            for request in requests {
                results.push(match client.fetch(request).await {
                    Ok(mut response) => response.bytes().await.map(|bytes| bytes.to_vec()),
                    Err(error) => Err(error),
                });
            }
            results
        }
    });
    assert_eq!(client.statistics().open, client.statistics().idle);
    results.unwrap()
}

fn get(url: &str) -> Request {
    let mut request = Request::get(url).unwrap();
    request.timeouts.total = Some(Duration::from_secs(20));
    request
}

#[test]
fn https_goes_both_ways_with_either_version() {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for versions in [TLS12, TLS13] {
        let (client, server) = configurations("127.0.0.1", versions);
        let url = serve(server, echo(large.clone()));
        let mut post = get(&url);
        post.method = aioxide::http::Method::POST;
        post.body = Body::from(aioxide::http::Bytes::from(large.clone()));
        let results = fetch_all(client, vec![get(&url), post, get(&url)]);
        assert!(results.iter().all(|result| result.as_ref().unwrap() == &large));
    }
}

#[test]
fn whoever_cannot_prove_its_name_is_refused() {
    let (client, server) = configurations("other.test", rustls::ALL_VERSIONS);
    let (stranger, _) = configurations("other.test", rustls::ALL_VERSIONS);
    let url = serve(server, echo(b"secret".to_vec()));
    let results = fetch_all(Arc::clone(&client), vec![get(&url)]);
    let error = results[0].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Connect, Phase::Securing));
    assert!(error.to_string().ends_with("in the TLS handshake"), "{error}");
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<rustls::Error>());
    assert!(matches!(source, Some(rustls::Error::InvalidCertificate(_))), "{source:?}");
    let mut named = get(&url);
    named.server_name = Some("other.test".into());
    assert_eq!(fetch_all(client, vec![named]).remove(0).unwrap(), b"secret");
    let mut named = get(&url);
    named.server_name = Some("other.test".into());
    assert!(fetch_all(stranger, vec![named]).remove(0).is_err(), "another authority's");
    let mut impossible = get(&url);
    impossible.server_name = Some("not a name".into());
    let (client, _) = configurations("other.test", rustls::ALL_VERSIONS);
    assert_eq!(fetch_all(client, vec![impossible]).remove(0).unwrap_err().kind(), ErrorKind::Connect);
}

#[test]
fn bodies_cut_short_are_told_from_whole_ones() {
    let (client, server) = configurations("127.0.0.1", rustls::ALL_VERSIONS);
    let mut answers = ["HTTP/1.1 200 OK\r\n\r\nall", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"].into_iter();
    let url = serve(server, move |stream| {
        if read_head(stream).is_some() {
            stream.write_all(answers.next().unwrap_or_default().as_bytes()).unwrap();
            stream.flush().unwrap();
        }
    });
    let results = fetch_all(client, vec![get(&url), get(&url)]);
    assert_eq!(results[0].as_ref().unwrap(), b"all");
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::RemoteProtocol);
}

#[test]
fn the_handshake_has_the_time_for_connecting() {
    let (client, _) = configurations("127.0.0.1", rustls::ALL_VERSIONS);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut request = get(&format!("https://{}", listener.local_addr().unwrap()));
    request.timeouts.connect = Some(Duration::from_millis(100));
    let error = fetch_all(client, vec![request]).remove(0).unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::ConnectTimeout, Phase::Securing));
}

#[test]
fn single_bytes_are_enough() {
    let (client, server) = configurations("127.0.0.1", rustls::ALL_VERSIONS);
    let url = serve(server, echo(b"in pieces".to_vec()));
    let upstream = url.trim_start_matches("https://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let through = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(upstream).unwrap();
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let pump = |mut from: TcpStream, mut to: TcpStream| {
            let mut byte = [0];
            while matches!(from.read(&mut byte), Ok(1)) && to.write_all(&byte).is_ok() {}
        };
        let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let back = std::thread::spawn(move || pump(far_too, near_too));
        pump(near, far);
        back.join().unwrap();
    });
    assert_eq!(fetch_all(client, vec![get(&through)]).remove(0).unwrap(), b"in pieces");
}

#[test]
fn without_tls_https_is_refused() {
    let event_loop = EventLoop::new().unwrap();
    let client = Client::new(event_loop.handle(), Settings::default());
    let fetched = event_loop.block_on(async move { client.fetch(get("https://127.0.0.1:1/")).await }).unwrap();
    assert_eq!(fetched.unwrap_err().kind(), ErrorKind::UnsupportedProtocol);
}
