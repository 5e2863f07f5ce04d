//! Requests as the server reads them.

use std::fmt::Write as _;

use super::server_connection::BODY_BYTES_MAX;

/// Headers of a request; one with more is refused.
const HEADERS_MAX: usize = 100;

/// One request, whole.
pub(super) struct Message {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The path alone.
    pub path: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub is_head: bool,
    pub keep_alive: bool,
}

/// What the bytes received so far are.
pub(super) enum Parsed {
    /// A request, and its length.
    Whole(Message, usize),
    /// The beginning of one.
    Partial {
        /// The client holds the body back until it is asked for it.
        expects_continue: bool,
    },
    /// Something else.
    Invalid,
}

/// Reads the first request of `input`.
pub(super) fn parse(input: &[u8]) -> Parsed {
    let mut room = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut room);
    let head_len = match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial { expects_continue: false },
        Err(_) => return Parsed::Invalid,
    };
    let framing = match Framing::of(request.headers) {
        Some(framing) => framing,
        None => return Parsed::Invalid,
    };
    let rest = &input[head_len..];
    let body = if framing.chunked {
        dechunk(rest)
    } else if framing.length > BODY_BYTES_MAX {
        return Parsed::Invalid;
    } else {
        match rest.get(..framing.length) {
            Some(body) => Dechunked::Whole(body.to_vec(), framing.length),
            None => Dechunked::Partial,
        }
    };
    let (body, body_len) = match body {
        Dechunked::Whole(body, length) => (body, length),
        Dechunked::Partial => return Parsed::Partial { expects_continue: framing.expects_continue && rest.is_empty() },
        Dechunked::Invalid => return Parsed::Invalid,
    };
    let target = request.path.unwrap_or("/").to_owned();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let method = request.method.unwrap_or_default().to_owned();
    // Only the echo needs them.
    let headers = if path == "/echo" {
        request.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect()
    } else {
        Vec::new()
    };
    let keep_alive = match framing.connection {
        Some(Connection::Close) => false,
        Some(Connection::KeepAlive) => true,
        None => request.version == Some(1),
    };
    let is_head = method == "HEAD";
    Parsed::Whole(Message { method, target, path, headers, body, is_head, keep_alive }, head_len + body_len)
}

enum Connection {
    Close,
    KeepAlive,
}

#[derive(Default)]
struct Framing {
    length: usize,
    chunked: bool,
    expects_continue: bool,
    connection: Option<Connection>,
}

impl Framing {
    /// What the headers say; `None` if they contradict themselves.
    fn of(headers: &[httparse::Header<'_>]) -> Option<Self> {
        let mut framing = Self::default();
        let mut has_length = false;
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let length = std::str::from_utf8(header.value).ok()?.parse().ok()?;
                if has_length && length != framing.length {
                    return None;
                }
                (framing.length, has_length) = (length, true);
            } else if is("transfer-encoding") {
                framing.chunked = header.value.eq_ignore_ascii_case(b"chunked");
                if !framing.chunked {
                    return None;
                }
            } else if is("expect") {
                framing.expects_continue = header.value.eq_ignore_ascii_case(b"100-continue");
            } else if is("connection") {
                if header.value.eq_ignore_ascii_case(b"close") {
                    framing.connection = Some(Connection::Close);
                } else if header.value.eq_ignore_ascii_case(b"keep-alive") {
                    framing.connection = Some(Connection::KeepAlive);
                }
            }
        }
        (!(framing.chunked && has_length)).then_some(framing)
    }
}

enum Dechunked {
    /// The body, and the length of its encoding.
    Whole(Vec<u8>, usize),
    Partial,
    Invalid,
}

fn dechunk(input: &[u8]) -> Dechunked {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (line_len, size) = match httparse::parse_chunk_size(&input[at..]) {
            Ok(httparse::Status::Complete((line_len, size))) => (line_len, size),
            Ok(httparse::Status::Partial) => return Dechunked::Partial,
            Err(_) => return Dechunked::Invalid,
        };
        let Ok(size) = usize::try_from(size) else { return Dechunked::Invalid };
        if size > BODY_BYTES_MAX || body.len() + size > BODY_BYTES_MAX {
            return Dechunked::Invalid;
        }
        at += line_len;
        if size == 0 {
            return end_of_trailers(input, at).map_or(Dechunked::Partial, |end| Dechunked::Whole(body, end));
        }
        match input.get(at..at + size + 2) {
            Some(chunk) if chunk.ends_with(b"\r\n") => body.extend_from_slice(&chunk[..size]),
            Some(_) => return Dechunked::Invalid,
            None => return Dechunked::Partial,
        }
        at += size + 2;
    }
}

/// Where the trailers that begin at `at` end. They are not used.
fn end_of_trailers(input: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let line = input[at..].windows(2).position(|pair| pair == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}

/// The request as JSON. What is not UTF-8 is shown with replacement characters.
pub(super) fn echo(message: &Message) -> Vec<u8> {
    let mut json = String::from("{\"method\": ");
    push_json(&mut json, &message.method);
    json.push_str(", \"path\": ");
    push_json(&mut json, &message.target);
    json.push_str(", \"headers\": [");
    for (index, (name, value)) in message.headers.iter().enumerate() {
        json.push_str(if index == 0 { "[" } else { ", [" });
        push_json(&mut json, name);
        json.push_str(", ");
        push_json(&mut json, &String::from_utf8_lossy(value));
        json.push(']');
    }
    json.push_str("], \"body\": ");
    push_json(&mut json, &String::from_utf8_lossy(&message.body));
    json.push('}');
    json.into_bytes()
}

fn push_json(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\u{0}'..'\u{20}' => {
                // Writing to a string does not fail.
                let _ = write!(json, "\\u{:04x}", character as u32);
            }
            _ => json.push(character),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::{Parsed, echo, parse};

    fn whole(input: &[u8]) -> (super::Message, usize) {
        match parse(input) {
            Parsed::Whole(message, length) => (message, length),
            _ => panic!("{:?} is one request", String::from_utf8_lossy(input)),
        }
    }

    #[test]
    fn every_prefix_of_a_request_is_partial() {
        let requests: [&[u8]; 2] = [
            b"POST /echo HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody",
            b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbod\r\n1\r\ny\r\n0\r\nx: y\r\n\r\n",
        ];
        for request in requests {
            for end in 0..request.len() {
                assert!(matches!(parse(&request[..end]), Parsed::Partial { .. }), "{end}");
            }
            let (message, length) = whole(&[request, b"GET / HTTP/1.1"].concat());
            assert_eq!((message.body.as_slice(), length), (b"body".as_slice(), request.len()));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for headers in [
            "content-length: 1\r\ncontent-length: 2",
            "content-length: 1\r\ntransfer-encoding: chunked",
            "content-length: -1",
            "transfer-encoding: gzip",
        ] {
            let request = format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
            assert!(matches!(parse(request.as_bytes()), Parsed::Invalid), "{headers}");
        }
    }

    #[test]
    fn the_echo_is_json_whatever_comes() {
        let (message, _) = whole(b"GET /echo?a=\"b\" HTTP/1.1\r\nx: \"\\\x09\xff\r\n\r\n");
        let json = String::from_utf8(echo(&message)).unwrap();
        assert_eq!(
            json,
            "{\"method\": \"GET\", \"path\": \"/echo?a=\\\"b\\\"\", \
             \"headers\": [[\"x\", \"\\\"\\\\\\u0009\u{fffd}\"]], \"body\": \"\"}"
        );
    }
}
