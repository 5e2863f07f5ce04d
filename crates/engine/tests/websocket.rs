//! WebSockets against servers of every kind: those that keep the rules, those that break them, those that are silent.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aioxide::EventLoop;
use aioxide::http::{
    Bytes, Client, Closed, Error, ErrorKind, Limits, Message, Request, Response, WebSocket, WebSocketOptions,
};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message as Frame, WebSocket as ServerSocket};

/// Serves one connection.
fn serve<R: Send + 'static>(behave: impl FnOnce(TcpStream) -> R + Send + 'static) -> (String, JoinHandle<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ws", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        behave(stream)
    });
    (url, thread)
}

/// Serves one WebSocket by tungstenite's server.
fn serve_socket<R: Send + 'static>(
    behave: impl FnOnce(ServerSocket<TcpStream>) -> R + Send + 'static,
) -> (String, JoinHandle<R>) {
    serve(|stream| behave(tungstenite::accept(stream).unwrap()))
}

/// Agrees to a WebSocket by hand, and sends `then` in the same piece.
fn agree(stream: &mut TcpStream, then: &[u8]) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {head}")).split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!((field("upgrade").as_str(), field("connection").as_str()), ("websocket", "Upgrade"));
    let accept = derive_accept_key(field("sec-websocket-key").as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(&[answer.as_bytes(), then].concat()).unwrap();
}

/// What the client sends from now on, until it closes.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let _reset_counts_as_well = stream.read_to_end(&mut received);
    received
}

/// The code of the close frame among what the client has sent: frames that are masked, and short.
fn close_code(sent: &[u8]) -> u16 {
    let mut rest = sent;
    while let [kind, length, mask @ .., _] = rest {
        if *kind == 0x88 {
            return u16::from_be_bytes([mask[4] ^ mask[0], mask[5] ^ mask[1]]);
        }
        rest = &rest[6 + usize::from(length & 127)..];
    }
    panic!("no close frame in {sent:?}");
}

fn run<T: 'static, F: Future<Output = T> + 'static>(work: impl FnOnce(Client) -> F) -> T {
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let client = Client::new(&handle, Limits::default());
    let future = work(client.clone());
    event_loop
        .block_on(async move {
            let result = handle.timeout(Duration::from_secs(20), future).await.expect("no test takes so long");
            for _ in 0..500 {
                if client.statistics().open == 0 {
                    break;
                }
                handle.sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(client.statistics().open, 0, "the slot of the pool is free again");
            result
        })
        .unwrap()
}

async fn ask(client: &Client, url: &str, options: WebSocketOptions) -> Result<Response, Error> {
    let mut request = Request::get(url).unwrap();
    request.timeouts.read = Some(Duration::from_secs(5));
    request.websocket = Some(Box::new(options));
    client.fetch(request).await
}

async fn open(client: &Client, url: &str) -> WebSocket {
    open_with(client, url, WebSocketOptions::default()).await
}

async fn open_with(client: &Client, url: &str, options: WebSocketOptions) -> WebSocket {
    ask(client, url, options).await.unwrap().websocket.expect("the server agrees")
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

fn echo(mut socket: ServerSocket<TcpStream>) -> u16 {
    loop {
        match socket.read().unwrap() {
            Frame::Close(frame) => {
                let _end = socket.flush();
                return frame.map_or(1005, |frame| frame.code.into());
            }
            message @ (Frame::Text(_) | Frame::Binary(_)) => socket.send(message).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn messages_go_both_ways_in_order() {
    let (url, server) = serve_socket(echo);
    run(|client| async move {
        let socket = open(&client, &url).await;
        assert_eq!(socket.subprotocol(), None);
        let large: Bytes = (0..5_000_000_u32).map(|n| n as u8).collect::<Vec<_>>().into();
        let mut messages: Vec<_> = (0..300).map(|n| text(&format!("{n} ä"))).collect();
        messages.extend([Message::Binary(Bytes::new()), text(""), Message::Binary(large)]);
        for message in &messages {
            socket.send(message.clone()).await.unwrap();
        }
        for message in &messages {
            assert_eq!(socket.receive().await.as_ref(), Ok(message));
        }
        assert!(socket.ping(Bytes::from_static(b"?")).unwrap().await.unwrap() < Duration::from_secs(5));
        let closed = socket.close(3000, "enough").unwrap().await;
        assert_eq!((closed.code, closed.reason.as_str()), (3000, "enough"));
        assert_eq!(socket.receive().await, Err(closed.clone()));
        assert_eq!(socket.send(text("late")).await, Err(closed));
    });
    assert_eq!(server.join().unwrap(), 3000);
}

#[test]
fn what_came_before_the_close_is_still_received() {
    let (url, server) = serve_socket(|mut socket| {
        socket.send(Frame::text("one")).unwrap();
        socket.send(Frame::text("two")).unwrap();
        socket.close(Some(CloseFrame { code: CloseCode::Restart, reason: "again".into() })).unwrap();
        matches!(socket.read(), Ok(Frame::Close(Some(frame))) if frame.code == CloseCode::Restart)
    });
    run(|client| async move {
        let socket = open(&client, &url).await;
        while socket.closed().is_none() {
            let _wait = socket.ping(Bytes::new()).unwrap().await;
        }
        assert_eq!(socket.receive().await, Ok(text("one")));
        assert_eq!(socket.receive().await, Ok(text("two")));
        let closed = socket.receive().await.unwrap_err();
        assert_eq!(closed, Closed { code: 1012, reason: "again".into() });
        assert_eq!(socket.send(text("x")).await.unwrap_err().code, 1012);
        assert_eq!(socket.ping(Bytes::new()).unwrap().await.unwrap_err().code, 1012);
    });
    assert!(server.join().unwrap(), "the close was answered");
}

#[test]
fn frames_that_come_with_the_handshake_and_in_fragments() {
    let (url, server) = serve(|mut stream| {
        // "h" + ping + "i", then a close without a code.
        agree(&mut stream, b"\x01\x01h\x89\x01p\x80\x01i\x81\x02\xc3\xa4\x88\x00");
        rest(stream)
    });
    run(|client| async move {
        let socket = open(&client, &url).await;
        assert_eq!(socket.receive().await, Ok(text("hi")));
        assert_eq!(socket.receive().await, Ok(text("ä")));
        assert_eq!(socket.receive().await.unwrap_err().code, 1005);
    });
    let sent = server.join().unwrap();
    assert_eq!((sent[0], sent[1]), (0x8A, 0x81), "the ping is answered, masked");
}

/// What the server sends, and the code that the client finds and answers.
const BREACHES: [(&str, &[u8], u16); 11] = [
    ("invalid UTF-8", b"\x81\x02\xff\xff", 1007),
    ("invalid UTF-8 across fragments", b"\x01\x01\xc3\x80\x01(", 1007),
    ("invalid UTF-8 as a reason", b"\x88\x04\x03\xe8\xff\xff", 1007),
    ("a message too large", b"\x82\x7e\x04\x00", 1009),
    ("a message of 2^63 bytes", b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 1009),
    ("a masked frame", b"\x81\x81\0\0\0\0x", 1002),
    ("a fragment of nothing", b"\x80\x01x", 1002),
    ("a message in the middle of another", b"\x01\x01x\x81\x01y", 1002),
    ("a reserved bit", b"\xc1\x01x", 1002),
    ("an unknown kind", b"\x83\x01x", 1002),
    ("a ping in fragments", b"\x09\x01x", 1002),
];

#[test]
fn a_server_that_breaks_the_rules_is_told_so() {
    for (breach, frames, code) in BREACHES {
        let (url, server) = serve(move |mut stream| {
            agree(&mut stream, frames);
            rest(stream)
        });
        let closed = run(|client| async move {
            let options = WebSocketOptions { max_message_bytes: 700, ..WebSocketOptions::default() };
            open_with(&client, &url, options).await.receive().await.unwrap_err()
        });
        assert_eq!(closed.code, code, "{breach}: {closed}");
        assert!(!closed.reason.is_empty());
        assert_eq!(close_code(&server.join().unwrap()), code, "{breach}");
    }
}

#[test]
fn fragments_count_together() {
    let (url, server) = serve(|mut stream| {
        agree(&mut stream, b"");
        let _ended = (0..5).try_for_each(|n| {
            let kind = if n == 0 { 2 } else { 0 };
            stream.write_all(&[&[kind, 126, 1, 0][..], &[7; 256]].concat())
        });
        rest(stream)
    });
    let closed = run(|client| async move {
        let options = WebSocketOptions { max_message_bytes: 1000, ..WebSocketOptions::default() };
        open_with(&client, &url, options).await.receive().await.unwrap_err()
    });
    assert_eq!((closed.code, close_code(&server.join().unwrap())), (1009, 1009));
}

#[test]
fn a_server_that_vanishes() {
    let (url, _server) = serve(|mut stream| agree(&mut stream, b"\x81\x05hal"));
    let closed = run(|client| async move { open(&client, &url).await.receive().await.unwrap_err() });
    assert_eq!(closed.code, 1006, "{closed}");
}

#[test]
fn a_server_that_is_silent_is_given_up() {
    let (url, server) = serve(|mut stream| {
        agree(&mut stream, b"");
        rest(stream)
    });
    let started = Instant::now();
    let closed = run(|client| async move {
        let options = WebSocketOptions {
            ping_interval: Some(Duration::from_millis(100)),
            ping_timeout: Some(Duration::from_millis(200)),
            ..WebSocketOptions::default()
        };
        open_with(&client, &url, options).await.receive().await.unwrap_err()
    });
    assert_eq!(closed, Closed { code: 1006, reason: "no answer to a ping within 0.2 s".into() });
    assert!(started.elapsed() < Duration::from_secs(5));
    let sent = server.join().unwrap();
    assert_eq!((sent[0], close_code(&sent)), (0x89, 1011));
}

#[test]
fn pings_that_are_answered_keep_it_open() {
    let (url, server) = serve_socket(echo);
    run(|client| async move {
        let options = WebSocketOptions {
            ping_interval: Some(Duration::from_millis(20)),
            ping_timeout: Some(Duration::from_millis(500)),
            ..WebSocketOptions::default()
        };
        let socket = open_with(&client, &url, options).await;
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(800) {
            socket.ping(Bytes::new()).unwrap().await.unwrap();
        }
        socket.send(text("still")).await.unwrap();
        assert_eq!(socket.receive().await, Ok(text("still")));
        assert_eq!(socket.close(1000, "").unwrap().await.code, 1000);
    });
    assert_eq!(server.join().unwrap(), 1000);
}

#[test]
fn closing_has_its_time() {
    let (url, server) = serve(|mut stream| {
        agree(&mut stream, b"");
        rest(stream)
    });
    let started = Instant::now();
    let closed = run(|client| async move {
        let options = WebSocketOptions { close_timeout: Duration::from_millis(200), ..WebSocketOptions::default() };
        open_with(&client, &url, options).await.close(1001, "bye").unwrap().await
    });
    assert_eq!((closed.code, started.elapsed() < Duration::from_secs(5)), (1006, true), "{closed}");
    assert_eq!(close_code(&server.join().unwrap()), 1001);
}

#[test]
fn closing_what_talks_on_and_on() {
    let (url, server) = serve(|mut stream| {
        agree(&mut stream, b"");
        while stream.write_all(&b"\x82\x04data".repeat(1000)).is_ok() {}
    });
    let closed = run(|client| async move {
        let options = WebSocketOptions { close_timeout: Duration::from_millis(300), ..WebSocketOptions::default() };
        let socket = open_with(&client, &url, options).await;
        assert!(socket.receive().await.is_ok());
        socket.close(1000, "").unwrap().await
    });
    assert_eq!(closed.code, 1006, "{closed}");
    server.join().unwrap();
}

#[test]
fn a_server_that_takes_nothing_holds_up_the_sender() {
    let (url, server) = serve(|mut stream| {
        agree(&mut stream, b"");
        std::thread::sleep(Duration::from_millis(500));
        rest(stream).len()
    });
    let sent = run(|client| async move {
        let socket = open(&client, &url).await;
        let piece = Bytes::from(vec![0; 100_000]);
        let mut sent = 0;
        loop {
            let mut sending = std::pin::pin!(socket.send(Message::Binary(piece.clone())));
            // A future that has to wait and is dropped has sent nothing.
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(sending.as_mut().poll(context))).await;
            if polled.is_pending() {
                if sent > 20 {
                    break;
                }
                let _pause = socket.ping(Bytes::new());
                let handle_turn = sending.await;
                handle_turn.unwrap();
            }
            sent += 1;
            assert!(sent < 1000, "somebody keeps a hundred megabytes");
        }
        socket.close(1000, "").unwrap().await;
        sent
    });
    let received = server.join().unwrap();
    assert!(received >= sent * 100_000 && received < sent * 100_020 + 1000, "{sent} messages, {received} bytes");
}

#[test]
fn a_reader_that_does_not_keep_up_holds_up_the_server() {
    let (url, server) = serve(|mut stream| {
        agree(&mut stream, b"");
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let block = [&[0x82, 126, 0x27, 0x10][..], &[1; 10_000]].concat();
        (0..10_000).take_while(|_| stream.write_all(&block).is_ok()).count()
    });
    run(|client| async move {
        let socket = open(&client, &url).await;
        let held = server.join().unwrap();
        assert!(held < 2000, "{held} messages of 10 kB were taken, and nobody read one");
        for _ in 0..held.min(100) {
            assert!(socket.receive().await.is_ok());
        }
    });
}

#[test]
fn pings_without_end() {
    let (url, server) = serve(|mut stream| {
        agree(&mut stream, b"");
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let block = [&[0x89, 125][..], &[1; 125]].concat().repeat(1000);
        // It takes no answers; so it is not read any more.
        (0..10_000).take_while(|_| stream.write_all(&block).is_ok()).count()
    });
    run(|client| async move {
        let options = WebSocketOptions {
            ping_interval: Some(Duration::from_millis(100)),
            ping_timeout: Some(Duration::from_millis(100)),
            ..WebSocketOptions::default()
        };
        let socket = open_with(&client, &url, options).await;
        let closed = socket.receive().await.unwrap_err();
        assert_eq!(closed.code, 1006);
    });
    let blocks = server.join().unwrap();
    assert!(blocks < 200, "{blocks} times 127 kB of pings");
}

#[test]
fn empty_fragments_without_end_do_not_stop_the_loop() {
    let (url, server) = serve(|mut stream| {
        agree(&mut stream, b"\x01\x00");
        while stream.write_all(&[0; 100_000]).is_ok() {}
    });
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let client = Client::new(&handle, Limits::default());
    event_loop
        .block_on(async move {
            let socket = open(&client, &url).await;
            let started = Instant::now();
            for _ in 0..20 {
                handle.sleep(Duration::from_millis(5)).await;
            }
            assert!(started.elapsed() < Duration::from_secs(15));
            assert_eq!(socket.closed(), None);
        })
        .unwrap();
    drop(event_loop);
    server.join().unwrap();
}

#[test]
fn a_server_that_does_not_agree() {
    for (answer, status) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", Some(403)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Some(200)),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", None),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", None),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            None,
        ),
    ] {
        let (url, _server) = serve(move |mut stream| {
            let mut head = [0; 4096];
            let _length = stream.read(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            rest(stream)
        });
        run(|client| async move {
            let asked = ask(&client, &url, WebSocketOptions::default()).await;
            match status {
                Some(status) => {
                    let mut response = asked.unwrap();
                    assert!(response.websocket.is_none());
                    assert_eq!((response.status.as_u16(), response.bytes().await.unwrap().len()), (status, 2));
                    client.close();
                }
                None => assert_eq!(asked.unwrap_err().kind(), ErrorKind::RemoteProtocol),
            }
        });
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let (url, server) = serve_socket(echo);
    run(|client| async move {
        let mut post = Request::new("POST", &url).unwrap();
        post.websocket = Some(Box::default());
        assert_eq!(client.fetch(post).await.unwrap_err().kind(), ErrorKind::LocalProtocol);
        let socket = open(&client, &url).await;
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert!(socket.close(code, "").is_err(), "{code}");
        }
        assert!(socket.close(1000, &"x".repeat(124)).is_err());
        assert!(socket.ping(vec![0; 126].into()).is_err());
        assert_eq!(socket.closed(), None);
        // Dropped, it ends at once.
    });
    assert_eq!(server.join().unwrap(), 1001);
}

#[test]
fn waiting_futures_may_be_dropped() {
    let (url, server) = serve_socket(echo);
    run(|client| async move {
        let socket = open(&client, &url).await;
        for n in 0..200 {
            let mut receiving = Box::pin(socket.receive());
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(receiving.as_mut().poll(context))).await;
            assert!(polled.is_pending());
            drop(receiving);
            drop(socket.ping(Bytes::new()).unwrap());
            if n % 10 == 0 {
                socket.send(text(&n.to_string())).await.unwrap();
                assert_eq!(socket.receive().await, Ok(text(&n.to_string())));
            }
        }
        drop(socket.close(1000, "").unwrap());
        assert_eq!(socket.close(4000, "").unwrap().await.code, 1000);
    });
    assert_eq!(server.join().unwrap(), 1000);
}
