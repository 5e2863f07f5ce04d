//! The client against the embedded server, and against peers that behave worse than it can.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use aioxide::http::{Body, Client, ErrorKind, Limits, Phase, Request, Server, ServerOptions};
use aioxide::{EventLoop, LoopHandle};

/// Runs `test` on a fresh loop with a client, and checks that it leaves nothing in flight.
fn with_client<T: 'static, F>(limits: Limits, test: impl FnOnce(LoopHandle, Client) -> F) -> T
where
    F: Future<Output = T> + 'static,
{
    let event_loop = EventLoop::new().unwrap();
    let client = Client::new(event_loop.handle(), limits);
    let output = event_loop.block_on(test(event_loop.handle().clone(), client.clone())).unwrap();
    let statistics = client.statistics();
    assert_eq!((statistics.in_flight, statistics.waiting), (0, 0));
    assert_eq!(statistics.open, statistics.idle, "every slot is back, or holds an idle connection");
    output
}

fn server() -> Server {
    Server::start(ServerOptions::default()).unwrap()
}

fn get(server: &Server, path: &str) -> Request {
    Request::get(&format!("{}{path}", server.url())).unwrap()
}

/// A peer of which a thread with a blocking socket takes care; gives its URL.
fn peer(behave: impl FnOnce(TcpListener) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || behave(listener));
    url
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.extend(byte);
    }
}

#[test]
fn answers_come_whole_and_connections_are_used_again() {
    let server = server();
    let requests: Vec<_> = ["/hello", "/bytes/100000", "/stream/3/1000/1", "/stream/0/0/0", "/status/404"]
        .iter()
        .map(|path| get(&server, path))
        .collect();
    with_client(Limits::default(), |_, client| async move {
        let expected = [(200, 6), (200, 100_000), (200, 3000), (200, 0), (404, 9)];
        for (request, (status, length)) in requests.into_iter().zip(expected) {
            let mut response = client.fetch(request).await.unwrap();
            assert_eq!(response.status, status);
            assert_eq!(response.bytes().await.unwrap().len(), length);
            let timings = response.timings();
            assert!(timings.queue <= timings.sent && timings.sent <= timings.first_byte);
            assert!(timings.first_byte <= timings.total && timings.total.is_some());
            assert_eq!(client.statistics().open, 1);
        }
    });
    assert_eq!(server.requests_served(), 5);
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let server = server();
    let url = server.url();
    with_client(Limits::default(), |_, client| async move {
        for (method, path) in [("HEAD", "/bytes/10"), ("GET", "/status/204"), ("GET", "/status/304"), ("HEAD", "/x")] {
            let mut response = client.fetch(Request::new(method, &format!("{url}{path}")).unwrap()).await.unwrap();
            assert!(response.bytes().await.unwrap().is_empty(), "{method} {path}");
        }
        assert_eq!(client.statistics().open, 1);
    });
}

#[test]
fn what_is_sent_arrives() {
    let server = server();
    let mut request = Request::new("POST", &format!("{}/echo?a=b", server.url())).unwrap();
    request.header(b"X-Name", b"value").unwrap();
    request.body = Body::Whole("text".into());
    let mut empty = Request::new("POST", &format!("{}/echo", server.url())).unwrap();
    empty.body = Body::Empty;
    let bodies = with_client(Limits::default(), |_, client| async move {
        let first = client.fetch(request).await.unwrap().bytes().await.unwrap();
        [first, client.fetch(empty).await.unwrap().bytes().await.unwrap()]
    });
    let text = std::str::from_utf8(&bodies[0]).unwrap();
    for part in
        ["\"POST\"", "\"/echo?a=b\"", "[\"x-name\", \"value\"]", "[\"content-length\", \"4\"]", "\"body\": \"text\""]
    {
        assert!(text.contains(part), "{part} is in {text}");
    }
    assert!(std::str::from_utf8(&bodies[1]).unwrap().contains("[\"content-length\", \"0\"]"));
}

#[test]
fn redirects_are_followed_as_far_as_allowed() {
    let server = server();
    let request = |max| {
        let mut request = get(&server, "/redirect/3");
        request.max_redirects = max;
        request
    };
    let (none, enough, few) = (request(0), request(3), request(2));
    with_client(Limits::default(), |_, client| async move {
        assert_eq!(client.fetch(none).await.unwrap().bytes().await.unwrap().len(), 0);
        let mut response = client.fetch(enough).await.unwrap();
        assert_eq!((response.redirects, response.url.path()), (3, "/redirect/0"));
        assert_eq!(response.bytes().await.unwrap(), "arrived");
        assert_eq!(client.statistics().open, 1);
        let error = client.fetch(few).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::TooManyRedirects);
    });
}

#[test]
fn a_broken_answer_is_the_servers_fault_and_costs_the_connection() {
    let server = server();
    let requests = ["/garbage", "/close", "/truncate"].map(|path| get(&server, path));
    let messages = with_client(Limits::default(), |_, client| async move {
        let mut messages = Vec::new();
        for request in requests {
            let error = match client.fetch(request).await {
                Ok(mut response) => response.bytes().await.unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(error.kind(), ErrorKind::RemoteProtocol);
            assert_eq!(client.statistics().open, 0);
            messages.push(error.to_string());
        }
        messages
    });
    let host = server.address();
    assert!(messages[0].starts_with(&format!("{host}: the answer is not HTTP/1.1")), "{}", messages[0]);
    assert_eq!(
        messages[1],
        format!("{host}: the server closed the connection without an answer while waiting for the response")
    );
    assert_eq!(
        messages[2],
        format!("{host}: the server closed the connection before the body was whole while receiving the body")
    );
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_replaced_unnoticed() {
    let server = server();
    let requests: Vec<_> = (0..20).map(|_| get(&server, "/last")).collect();
    with_client(Limits::default(), |handle, client| async move {
        for (index, request) in requests.into_iter().enumerate() {
            let mut response = client.fetch(request).await.unwrap();
            assert_eq!(response.bytes().await.unwrap(), "/last");
            if index % 2 == 0 {
                handle.sleep(Duration::from_millis(2)).await;
            }
        }
    });
}

#[test]
fn a_request_is_sent_again_only_if_that_is_harmless() {
    // Answers one request on each of two connections, and closes the first as soon as a second request came.
    let closing = || {
        peer(|listener| {
            for answers in [1, 2] {
                let Ok((mut stream, _)) = listener.accept() else { return };
                for _ in 0..answers {
                    read_head(&mut stream);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
                read_head(&mut stream);
            }
        })
    };
    for (method, outcome) in [("GET", Ok(200)), ("POST", Err(ErrorKind::RemoteProtocol))] {
        let url = closing();
        with_client(Limits::default(), |_, client| async move {
            let request = || Request::new(method, &url).unwrap();
            client.fetch(request()).await.unwrap().bytes().await.unwrap();
            let second = match client.fetch(request()).await {
                Ok(mut response) => {
                    response.bytes().await.unwrap();
                    Ok(response.status.as_u16())
                }
                Err(error) => Err(error.kind()),
            };
            assert_eq!(second, outcome, "{method}");
        });
    }
}

#[test]
fn every_phase_has_its_time_limit_and_its_name() {
    // A backlog that is full takes no further connection, and the kernel does not say so.
    let full = full_backlog();
    let mut connect = Request::get(&full.url).unwrap();
    connect.timeouts.connect = Some(Duration::from_millis(30));

    let deaf = peer(|listener| {
        let kept: Vec<_> = listener.incoming().take(2).collect();
        std::thread::sleep(Duration::from_secs(3));
        drop(kept);
    });
    let mut write = Request::new("POST", &deaf).unwrap();
    write.body = Body::Whole(vec![0; 32 << 20].into());
    write.timeouts.write = Some(Duration::from_millis(50));

    let server = server();
    let mut read = get(&server, "/delay/2000");
    read.timeouts.read = Some(Duration::from_millis(30));
    let mut slow_body = get(&server, "/stream/2/10/2000");
    slow_body.timeouts.read = Some(Duration::from_millis(30));
    let mut total = get(&server, "/delay/2000");
    total.timeouts.total = Some(Duration::from_millis(30));

    with_client(Limits::default(), |_, client| async move {
        for (request, kind, phase, words) in [
            (connect, ErrorKind::ConnectTimeout, Phase::Connecting, "timed out after 0.03 s while connecting"),
            (write, ErrorKind::WriteTimeout, Phase::Sending, "timed out after 0.05 s while sending the request"),
            (read, ErrorKind::ReadTimeout, Phase::Waiting, "timed out after 0.03 s while waiting for the response"),
            (slow_body, ErrorKind::ReadTimeout, Phase::Receiving, "timed out after 0.03 s while receiving the body"),
            (total, ErrorKind::ReadTimeout, Phase::Waiting, "the total of 0.03 s is over while waiting"),
        ] {
            let host = request.authority().to_owned();
            let begun = Instant::now();
            let error = match client.fetch(request).await {
                Ok(mut response) => response.bytes().await.unwrap_err(),
                Err(error) => error,
            };
            assert!(begun.elapsed() < Duration::from_secs(1), "{error}");
            assert_eq!((error.kind(), error.phase()), (kind, phase), "{error}");
            assert!(error.to_string().starts_with(&format!("{host}: {words}")), "{error}");
        }
    });
    drop(full);
}

struct FullBacklog {
    url: String,
    _kept: (std::os::fd::OwnedFd, Vec<TcpStream>),
}

/// A listener that never accepts, with connections that fill its backlog.
fn full_backlog() -> FullBacklog {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    listen(&fd, 0).unwrap();
    let address = std::net::SocketAddr::try_from(getsockname(&fd).unwrap()).unwrap();
    let short = Duration::from_millis(50);
    let connected = std::iter::from_fn(|| TcpStream::connect_timeout(&address, short).ok()).take(16).collect();
    FullBacklog { url: format!("http://{address}"), _kept: (fd, connected) }
}

#[test]
fn who_cannot_be_reached_is_named_with_the_reason() {
    let free_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = Request::get(&format!("http://{free_port}/")).unwrap();
    let unknown = Request::get("http://no-such-host.invalid/").unwrap();
    with_client(Limits::default(), |_, client| async move {
        let error = client.fetch(refused).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(error.to_string(), format!("{free_port}: connection refused while connecting"));
        let error = client.fetch(unknown).await.err().unwrap();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Connect, Phase::Resolving));
        assert_eq!(error.host(), "no-such-host.invalid");
    });
}

#[test]
fn requests_wait_their_turn_and_no_longer_than_they_said() {
    let server = server();
    let limits = Limits { max_connections: Some(1), ..Limits::default() };
    let slow = get(&server, "/delay/100");
    let mut impatient = get(&server, "/");
    impatient.timeouts.pool = Some(Duration::from_millis(20));
    let patient: Vec<_> = (0..5).map(|number| get(&server, &format!("/{number}"))).collect();
    with_client(limits, |handle, client| async move {
        let fetch = |request| {
            let client = client.clone();
            handle.spawn(async move { client.fetch(request).await?.bytes().await })
        };
        let slow = fetch(slow);
        let impatient = fetch(impatient);
        let patient: Vec<_> = patient.into_iter().map(fetch).collect();
        let error = impatient.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PoolTimeout);
        assert_eq!(client.statistics().waiting, 5);
        slow.await.unwrap();
        for (number, task) in patient.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), format!("/{number}"));
        }
        assert_eq!(client.statistics().open, 1);
    });
}

#[test]
fn another_origins_idle_connection_makes_room() {
    let (one, other) = (server(), server());
    let limits = Limits { max_connections: Some(1), ..Limits::default() };
    let requests: Vec<_> = (0..6).map(|turn| get(if turn % 2 == 0 { &one } else { &other }, "/")).collect();
    with_client(limits, |_, client| async move {
        for request in requests {
            client.fetch(request).await.unwrap().bytes().await.unwrap();
            assert_eq!(client.statistics().open, 1);
        }
    });
}

#[test]
fn idle_connections_expire_and_surplus_ones_are_trimmed() {
    let server = server();
    let expiry = Some(Duration::from_millis(600));
    let limits = Limits { max_keepalive: Some(2), keepalive_expiry: expiry, ..Limits::default() };
    let requests: Vec<_> = (0..5).map(|_| get(&server, "/delay/20")).collect();
    with_client(limits, |handle, client| async move {
        let tasks: Vec<_> = requests
            .into_iter()
            .map(|request| {
                let client = client.clone();
                handle.spawn(async move { client.fetch(request).await?.bytes().await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(client.statistics().idle, 5);
        handle.sleep(Duration::from_millis(350)).await;
        assert_eq!(client.statistics().idle, 2);
        handle.sleep(Duration::from_millis(400)).await;
        assert_eq!(client.statistics().idle, 0);
    });
}

#[test]
fn a_closed_client_refuses_and_forgets() {
    let server = server();
    let (first, running, last) = (get(&server, "/"), get(&server, "/delay/50"), get(&server, "/"));
    with_client(Limits::default(), |handle, client| async move {
        client.fetch(first).await.unwrap().bytes().await.unwrap();
        let running = handle.spawn({
            let client = client.clone();
            async move { client.fetch(running).await?.bytes().await }
        });
        handle.sleep(Duration::from_millis(10)).await;
        let control = client.control();
        std::thread::spawn(move || control.close()).join().unwrap();
        assert_eq!(client.fetch(last).await.err().unwrap().kind(), ErrorKind::ClientClosed);
        assert_eq!(running.await.unwrap(), "/delay/50");
        handle.sleep(Duration::from_millis(10)).await;
        assert_eq!(client.statistics().open, 0);
    });
    assert_eq!(server.requests_served(), 2);
}

#[test]
fn a_response_nobody_reads_costs_its_connection_and_holds_the_server_back() {
    let server = server();
    let request = get(&server, "/bytes/1000000000");
    let next = get(&server, "/");
    with_client(Limits::default(), |handle, client| async move {
        let mut response = client.fetch(request).await.unwrap();
        assert!(!response.chunk().await.unwrap().unwrap().is_empty());
        handle.sleep(Duration::from_millis(30)).await;
        assert_eq!(client.statistics().open, 1);
        drop(response);
        assert_eq!(client.statistics().open, 0);
        client.fetch(next).await.unwrap().bytes().await.unwrap();
    });
}

#[test]
fn a_peer_that_stops_in_the_middle_runs_into_the_read_timeout() {
    // One that never answers, one that stops in the head, one in the body; none of them closes.
    for beginning in ["", "HTTP/1.1 200 OK\r\ncont", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let url = peer(move |listener| {
            let Ok((mut stream, _)) = listener.accept() else { return };
            // What comes before the request is no answer to it.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(beginning.as_bytes());
            std::thread::sleep(Duration::from_secs(2));
        });
        let mut request = Request::get(&url).unwrap();
        request.timeouts.read = Some(Duration::from_millis(50));
        with_client(Limits::default(), |_, client| async move {
            let error = match client.fetch(request).await {
                Ok(mut response) => response.bytes().await.unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(error.kind(), ErrorKind::ReadTimeout, "{error}");
        });
    }
}

#[test]
fn framing_that_contradicts_itself_is_refused_on_both_sides() {
    let mut wrong_length = Request::new("POST", "http://127.0.0.1:9/").unwrap();
    wrong_length.header(b"content-length", b"3").unwrap();
    wrong_length.body = Body::Whole("four".into());
    let mut both = Request::new("POST", "http://127.0.0.1:9/").unwrap();
    both.header(b"content-length", b"4").unwrap();
    both.header(b"transfer-encoding", b"chunked").unwrap();
    both.body = Body::Whole("four".into());
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\n bad: header\r\n\r\n",
    ]
    .map(|answer| {
        peer(move |listener| {
            let Ok((mut stream, _)) = listener.accept() else { return };
            read_head(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
            read_head(&mut stream);
        })
    });
    with_client(Limits::default(), |_, client| async move {
        for request in [wrong_length, both] {
            let error = client.fetch(request).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::LocalProtocol, "{error}");
        }
        for url in answers {
            let error = match client.fetch(Request::get(&url).unwrap()).await {
                Ok(mut response) => response.bytes().await.unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(error.kind(), ErrorKind::RemoteProtocol, "{error}");
        }
    });
}

#[test]
fn informational_answers_are_passed_over_and_http_1_0_closes() {
    let url = peer(|listener| {
        for answer in [
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.0 200 Fine\r\n\r\nok",
        ] {
            let Ok((mut stream, _)) = listener.accept() else { return };
            read_head(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    with_client(Limits { max_keepalive: Some(0), ..Limits::default() }, |_, client| async move {
        for reason in ["OK", "Fine"] {
            let mut response = client.fetch(Request::get(&url).unwrap()).await.unwrap();
            assert_eq!((response.status.as_u16(), response.reason()), (200, reason.as_bytes()));
            assert_eq!(response.bytes().await.unwrap(), "ok");
            assert_eq!(client.statistics().open, 0);
        }
    });
}

#[test]
fn an_answer_that_comes_before_all_is_sent_is_heard() {
    for last_words in ["", "connection: close\r\n"] {
        let url = peer(move |listener| {
            let Ok((mut stream, _)) = listener.accept() else { return };
            read_head(&mut stream);
            let answer = format!("HTTP/1.1 413 Too Large\r\n{last_words}content-length: 2\r\n\r\nno");
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            std::thread::sleep(Duration::from_secs(1));
        });
        let mut request = Request::new("POST", &url).unwrap();
        request.body = Body::Whole(vec![0; 32 << 20].into());
        with_client(Limits::default(), |_, client| async move {
            let mut response = client.fetch(request).await.unwrap();
            assert_eq!((response.status.as_u16(), response.bytes().await.unwrap().as_ref()), (413, b"no".as_slice()));
            assert_eq!(client.statistics().open, 0, "half of a request is left to send: the connection is of no use");
        });
    }
}

#[test]
fn a_head_without_end_is_refused_before_it_fills_the_memory() {
    let url = peer(|listener| {
        let Ok((mut stream, _)) = listener.accept() else { return };
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    with_client(Limits::default(), |_, client| async move {
        let error = client.fetch(Request::get(&url).unwrap()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::RemoteProtocol, "{error}");
    });
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    let answer: &[u8] =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n!!!\r\n0\r\nx: y\r\n\r\n";
    let url = peer(move |listener| {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let _ = stream.set_nodelay(true);
        read_head(&mut stream);
        for byte in answer {
            let _ = stream.write_all(&[*byte]);
            std::thread::sleep(Duration::from_micros(300));
        }
        read_head(&mut stream);
    });
    with_client(Limits::default(), |_, client| async move {
        let mut response = client.fetch(Request::get(&url).unwrap()).await.unwrap();
        assert_eq!(response.bytes().await.unwrap(), "ok!!!");
        assert_eq!(client.statistics().idle, 1);
    });
}
