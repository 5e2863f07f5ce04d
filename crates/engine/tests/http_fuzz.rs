//! Random input for whatever of HTTP the engine reads by itself or through others: answers, the replies of proxies,
//! WebSocket frames, requests to the embedded server, URLs, encoded bodies. What is right must be read right, however it
//! is cut; what is damaged must give an answer or an error, in time, and leave the client whole.
//!
//! `AIOXIDE_FUZZ_RUNS=100000` runs more; a failure names its seed, which `AIOXIDE_FUZZ_SEED` begins with.

mod random;

use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use aioxide::EventLoop;
use aioxide::http::{
    Bytes, Client, Decoder, ErrorKind, Message, Proxy, Request, Server, ServerOptions, Settings, WebSocketOptions,
    domain_to_ascii, domain_to_unicode,
};
use random::{Random, fuzz};
use tungstenite::handshake::derive_accept_key;

/// What a server does with a connection: it reads a head before each answer, or one byte before the first, and writes the
/// answers in pieces.
type Script = Vec<Vec<Vec<u8>>>;

/// A server of one thread that is told what to do with the next connection.
struct Scripted {
    port: u16,
    scripts: Sender<Script>,
}

impl Scripted {
    fn start(reads_heads: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (scripts, told) = channel::<Script>();
        std::thread::spawn(move || {
            for script in told {
                let Ok((stream, _)) = listener.accept() else { return };
                // The client may go at any time.
                let _end = play(stream, script, reads_heads);
            }
        });
        Self { port, scripts }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}

fn play(mut stream: TcpStream, script: Script, reads_heads: bool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let mut key = None;
    for (step, answer) in script.into_iter().enumerate() {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && (reads_heads || step > 0 || head.is_empty()) {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        key = key.or_else(|| websocket_key(&head));
        for piece in answer {
            stream.write_all(&with_accept(piece, key.as_deref()))?;
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    match std::io::copy(&mut stream, &mut std::io::sink()) {
        Err(error) if error.kind() != IoErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}

fn websocket_key(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().find(|line| line.to_lowercase().starts_with("sec-websocket-key: "))?;
    Some(line.split_once(": ")?.1.to_owned())
}

/// The place that an answer has for what only the request tells.
const ACCEPT: &[u8] = b"############################";

fn with_accept(mut piece: Vec<u8>, key: Option<&str>) -> Vec<u8> {
    if let Some(at) = piece.windows(ACCEPT.len()).position(|window| window == ACCEPT) {
        piece.splice(at..at + ACCEPT.len(), derive_accept_key(key.unwrap_or_default().as_bytes()).into_bytes());
    }
    piece
}

/// One request of a new client, and whether that is whole again after it.
fn fetch(settings: Settings, request: Request) -> Result<(u16, Vec<u8>), ErrorKind> {
    let event_loop = EventLoop::new().unwrap();
    let client = Client::new(event_loop.handle(), settings);
    let running = client.clone();
    let fetched = event_loop.block_on(async move {
        let mut response = running.fetch(request).await.map_err(|error| error.kind())?;
        let body = response.bytes().await.map_err(|error| error.kind())?;
        Ok((response.status.as_u16(), body.to_vec()))
    });
    let statistics = client.statistics();
    assert_eq!((statistics.in_flight, statistics.waiting), (0, 0));
    assert_eq!(statistics.open, statistics.idle);
    fetched.unwrap()
}

fn request(url: &str) -> Request {
    let mut request = Request::get(url).unwrap();
    request.timeouts.read = Some(Duration::from_secs(5));
    request.timeouts.connect = Some(Duration::from_secs(5));
    request
}

fn fields(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..random.below(4) {
        let name = random.pick(&["Server", "X-A", "Set-Cookie", "x-b", "Via"]);
        let value = random.pick(&["", "a", " \t b", "a, b;c=\"d\"", "\u{e4}"]);
        text += &format!("{name}:{value}\r\n");
    }
    text
}

/// A whole answer, its status and its body.
fn answer(random: &mut Random) -> (Vec<u8>, u16, Vec<u8>) {
    let length = [0, 1, 10, 300, 70_000][random.below(5)];
    let mut body = random.bytes(length.min(1000));
    body.resize(length, b'x');
    let status = [200, 201, 404, 500, 599][random.below(5)];
    let mut data = Vec::new();
    for _ in 0..random.below(3) {
        let interim = random.pick(&["100 Continue", "103 Early Hints"]);
        data.extend(format!("HTTP/1.1 {interim}\r\n{}\r\n", fields(random)).bytes());
    }
    data.extend(format!("HTTP/1.1 {status} {}\r\n{}", random.pick(&["OK", "", "a b c"]), fields(random)).bytes());
    match random.below(3) {
        0 => data.extend(format!("Content-Length: {length}\r\n\r\n").bytes().chain(body.iter().copied())),
        1 => data.extend(b"Connection: close\r\n\r\n".iter().copied().chain(body.iter().copied())),
        _ => {
            data.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in random.cut(&body) {
                let extension = random.pick(&["", ";a=b", " ; x", ";q=\"1\""]);
                data.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                data.extend(chunk);
                data.extend(b"\r\n");
            }
            data.extend(format!("0\r\n{}\r\n", random.pick(&["", "X-Trailer: 1\r\n"])).bytes());
        }
    }
    (data, status, body)
}

#[test]
fn answers() {
    let server = Scripted::start(true);
    fuzz(400, |random| {
        let (mut data, status, body) = answer(random);
        let is_damaged = random.one_in(2);
        if is_damaged {
            let mut head = data.split_off(random.below(200).min(data.len()));
            std::mem::swap(&mut head, &mut data);
            random.damage(&mut head);
            head.extend(data);
            data = head;
        }
        let sent = data.len();
        server.scripts.send(vec![random.cut(&data)]).unwrap();
        let fetched = fetch(Settings::default(), request(&server.url()));
        match fetched {
            Ok(got) if !is_damaged => assert_eq!(got, (status, body)),
            Ok((_, got)) => assert!(got.len() <= sent, "more than there was"),
            Err(kind) => {
                assert!(is_damaged, "{kind:?}");
                assert!(matches!(kind, ErrorKind::RemoteProtocol | ErrorKind::Read), "{kind:?}");
            }
        }
    });
}

const GREETING: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A proxy's replies, then an origin's answer: that waits for its request, unless nobody knows whether one will come.
fn through_tunnel(random: &mut Random, mut replies: Vec<u8>, is_damaged: bool) -> Script {
    if is_damaged {
        replies.extend(GREETING);
        return vec![random.cut(&replies)];
    }
    vec![random.cut(&replies), random.cut(GREETING)]
}

#[test]
fn replies_of_socks_proxies() {
    let server = Scripted::start(false);
    fuzz(400, |random| {
        let mut replies = Vec::new();
        let has_credentials = random.one_in(2);
        replies.extend(if has_credentials { [5, 2, 1, 0].as_slice() } else { &[5, 0] });
        replies.extend([5, 0, 0]);
        let kind = [1, 3, 4][random.below(3)];
        let address = match kind {
            1 => random.bytes(4),
            4 => random.bytes(16),
            _ => {
                let length = random.below(256);
                [vec![u8::try_from(length).unwrap()], random.bytes(length)].concat()
            }
        };
        replies.push(kind);
        replies.extend(address);
        replies.extend(random.bytes(2));
        let is_damaged = random.one_in(2);
        if is_damaged {
            random.damage(&mut replies);
        }
        server.scripts.send(through_tunnel(random, replies, is_damaged)).unwrap();
        let user = if has_credentials { "user:secret@" } else { "" };
        let proxy = Proxy::new(&format!("socks5://{user}127.0.0.1:{}", server.port)).unwrap();
        let settings = Settings { proxy: Some(Arc::new(proxy)), ..Settings::default() };
        match fetch(settings, request("http://origin.test/")) {
            Ok(got) => assert!(is_damaged || got == (200, b"hi".to_vec()), "{got:?}"),
            Err(kind) => {
                assert!(is_damaged, "{kind:?}");
                // Damage may leave a tunnel whose first bytes are no HTTP.
                let kinds = [ErrorKind::Proxy, ErrorKind::RemoteProtocol, ErrorKind::Read, ErrorKind::Write];
                assert!(kinds.contains(&kind), "{kind:?}");
            }
        }
    });
}

#[test]
fn replies_of_http_proxies() {
    let server = Scripted::start(true);
    fuzz(400, |random| {
        let status = ["200 Connection established", "204 x", "407 Proxy Authentication Required", "502 "];
        let mut reply =
            format!("HTTP/1.{} {}\r\n{}", random.below(2), random.pick(&status), fields(random)).into_bytes();
        reply.extend(random.pick(&[b"Content-Length: 5\r\n\r\n".as_slice(), b"\r\n"]));
        let is_damaged = random.one_in(2);
        if is_damaged {
            random.damage(&mut reply);
        }
        let is_tunnel = !is_damaged && (reply[9..12] == *b"200" || reply[9..12] == *b"204");
        server.scripts.send(through_tunnel(random, reply, is_damaged)).unwrap();
        let mut proxy = Proxy::new(&format!("http://user:secret@127.0.0.1:{}", server.port)).unwrap();
        proxy.set_tunnel(true);
        let settings = Settings { proxy: Some(Arc::new(proxy)), ..Settings::default() };
        match fetch(settings, request("http://origin.test/")) {
            Ok(got) => assert!(is_damaged || is_tunnel && got == (200, b"hi".to_vec()), "{got:?}"),
            Err(kind) => {
                assert!(!is_tunnel, "{kind:?}");
                let kinds = [ErrorKind::Proxy, ErrorKind::RemoteProtocol, ErrorKind::Read, ErrorKind::Write];
                assert!(kinds.contains(&kind), "{kind:?}");
            }
        }
    });
}

const AGREEMENT: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";

/// Frames as a server sends them, and the messages that they carry.
fn frames(random: &mut Random) -> (Vec<u8>, Vec<Message>) {
    let (mut data, mut messages) = (Vec::new(), Vec::new());
    let mut put = |kind: u8, is_last: bool, payload: &[u8]| {
        data.push(kind | if is_last { 0x80 } else { 0 });
        match payload.len() {
            length @ 0..126 => data.push(u8::try_from(length).unwrap()),
            length => {
                data.push(126);
                data.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        data.extend(payload);
    };
    for _ in 0..random.below(6) {
        let is_text = random.one_in(2);
        let length = [0, 5, 125, 126, 3000][random.below(5)];
        let payload = if is_text {
            "ä€𝄞x".chars().cycle().take(length).collect::<String>().into_bytes()
        } else {
            random.bytes(length)
        };
        let mut pieces = random.cut(&payload);
        if pieces.is_empty() {
            pieces.push(Vec::new());
        }
        for (place, piece) in pieces.iter().enumerate() {
            if random.one_in(20) {
                put(9, true, b"ping");
            }
            let kind = if place > 0 { 0 } else { 2 - u8::from(is_text) };
            put(kind, place + 1 == pieces.len(), piece);
        }
        messages.push(if is_text {
            Message::Text(String::from_utf8(payload).unwrap().into())
        } else {
            Message::Binary(Bytes::from(payload))
        });
    }
    (data, messages)
}

#[test]
fn websocket_frames() {
    let server = Scripted::start(true);
    fuzz(400, |random| {
        let (mut data, messages) = frames(random);
        let is_damaged = random.one_in(2);
        if is_damaged {
            random.damage(&mut data);
        } else {
            data.extend(b"\x88\x02\x03\xe8");
        }
        let mut script = vec![[AGREEMENT, ACCEPT, b"\r\n\r\n"].concat()];
        script.extend(random.cut(&data));
        server.scripts.send(vec![script]).unwrap();
        let mut request = request(&server.url());
        let close_timeout = Duration::from_millis(200);
        let options = WebSocketOptions { max_message_bytes: 20_000, close_timeout, ..WebSocketOptions::default() };
        request.websocket = Some(Box::new(options));
        let event_loop = EventLoop::new().unwrap();
        let client = Client::new(event_loop.handle(), Settings::default());
        let received = event_loop.block_on(async move {
            let websocket = client.fetch(request).await.unwrap().websocket.expect("the server agrees");
            let mut received = Vec::new();
            loop {
                match websocket.receive().await {
                    Ok(message) => received.push(message),
                    Err(closed) => return (received, closed.code),
                }
            }
        });
        let (received, code) = received.unwrap();
        if is_damaged {
            let size: usize = received
                .iter()
                .map(|each| match each {
                    Message::Text(text) => text.len(),
                    Message::Binary(bytes) => bytes.len(),
                })
                .sum();
            assert!(size <= data.len() && (1000..5000).contains(&code), "{size} bytes, {code}");
        } else {
            assert_eq!((received, code), (messages, 1000));
        }
    });
}

#[test]
fn requests_to_the_embedded_server() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let address = server.url().trim_start_matches("http://").to_owned();
    fuzz(200, |random| {
        let path =
            random.pick(&["/", "/bytes/10", "/stream/2/3/0", "/bytes/99999999999999999999", "/echo", "/status/999"]);
        let method = random.pick(&["GET", "POST", "HEAD", "PUT"]);
        let framing =
            random.pick(&["", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n"]);
        let mut data = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{}{framing}\r\n", fields(random)).into_bytes();
        data.extend(random.pick(&[b"abc".as_slice(), b"3\r\nabc\r\n0\r\n\r\n", b""]));
        random.damage(&mut data);
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for piece in random.cut(&data) {
            // It may have refused it already.
            let _closed = stream.write_all(&piece);
        }
        let _closed = stream.shutdown(std::net::Shutdown::Write);
        match std::io::copy(&mut stream, &mut std::io::sink()) {
            Err(error) => assert_eq!(error.kind(), IoErrorKind::ConnectionReset),
            Ok(received) => assert!(received < 1_000_000, "{received} bytes"),
        }
    });
    assert_eq!(fetch(Settings::default(), request(&format!("{}/bytes/3", server.url()))).unwrap().1.len(), 3);
}

const URL_PARTS: [&str; 34] = [
    "http",
    "https",
    "HTTP",
    "ws",
    "://",
    ":",
    "/",
    "//",
    "\\",
    "?",
    "#",
    "@",
    "a.test",
    "[::1]",
    "127.0.0.1",
    "0x7f.1",
    "xn--",
    "ä",
    "%41",
    "%",
    "%zz",
    "..",
    ".",
    "%2e",
    " ",
    "\t",
    "\n",
    "\0",
    "80",
    "65536",
    "{",
    "^`|",
    "\u{202e}",
    "user:x",
];

#[test]
fn urls() {
    fuzz(3000, |random| {
        let mut make = |most| (0..random.below(most)).map(|_| random.pick(&URL_PARTS)).collect::<String>();
        let (before, text) = (format!("http://a.test{}", make(4)), format!("http://a.test{}", make(8)));
        let wild = make(12);
        for text in [text, wild] {
            let alone = std::thread::scope(|scope| {
                let asked = scope.spawn(|| Request::get(&text).map_err(|error| error.to_string()).map(|each| each.url));
                asked.join().unwrap()
            });
            // What this thread parsed before makes no difference.
            let _before = Request::get(&before);
            let again = Request::get(&text).map_err(|error| error.to_string()).map(|each| each.url);
            assert_eq!(again, alone, "{text:?} after {before:?}");
            if let Ok(url) = again {
                assert_eq!(Request::get(url.as_str()).unwrap().url, url, "{text:?}");
                assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
            }
            if let Ok(proxy) = Proxy::new(&text) {
                assert!(!format!("{proxy:?}").contains("user"), "no secret is shown");
            }
            if let Some(ascii) = domain_to_ascii(&text) {
                assert!(ascii.is_ascii());
                let _readable = domain_to_unicode(&ascii);
            }
        }
    });
}

#[test]
fn heads_of_requests() {
    fuzz(3000, |random| {
        let mut request = Request::get("http://127.0.0.1/").unwrap();
        let (mut name, mut value) = (b"X-Name".to_vec(), b"a value".to_vec());
        let which = if random.one_in(2) { &mut name } else { &mut value };
        random.damage(which);
        let is_sound = |bytes: &[u8]| !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        if request.header(&name, &value).is_ok() {
            assert!(is_sound(&name) && is_sound(&value), "{name:?}: {value:?}");
        }
        let mut method = b"GET".to_vec();
        random.damage(&mut method);
        let method = String::from_utf8_lossy(&method).into_owned();
        if let Ok(request) = Request::new(&method, "http://127.0.0.1/") {
            assert_eq!(request.method.as_str(), method);
            assert!(method.bytes().all(|byte| byte.is_ascii_graphic()), "{method:?}");
        }
    });
}

#[test]
fn encoded_bodies() {
    // "hello" by brotli, and half a kilobyte by zstd.
    let brotli: &[u8] = &[0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03];
    let plain = b"hello, world! ".repeat(40);
    let zstd = zstd::encode_all(plain.as_slice(), 3).unwrap();
    fuzz(2000, |random| {
        let (name, coded, plain): (_, &[u8], &[u8]) =
            if random.one_in(2) { ("br", brotli, b"hello") } else { ("zstd", &zstd, &plain) };
        let mut data = coded.to_vec();
        let is_damaged = random.one_in(2);
        if is_damaged {
            random.damage(&mut data);
        }
        let mut decoder = Decoder::new(name).unwrap();
        let mut decoded = Vec::new();
        let mut has_failed = false;
        'pieces: for piece in random.cut(&data) {
            decoder.feed(&piece);
            loop {
                match decoder.take(1 + random.below(100)) {
                    Ok(more) if more.is_empty() => break,
                    Ok(more) => decoded.extend(more),
                    Err(_) => {
                        has_failed = true;
                        break 'pieces;
                    }
                }
                assert!(decoded.len() < 20_000_000, "it ends by itself");
            }
        }
        if !is_damaged {
            assert!(!has_failed && decoder.is_complete(), "{name}");
            assert_eq!(decoded, plain);
        }
    });
}
