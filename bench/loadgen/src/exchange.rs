//! What goes out as a message, and what must come back for it.

use std::io;

use httparse::{EMPTY_HEADER, Response, Status};

/// The most that an answer's head may have of header lines.
const HEADERS_MAX: usize = 32;

/// The message that is sent over and over, and the rule that its answer is held against.
pub struct Exchange {
    /// What is sent.
    pub request: Vec<u8>,
    /// The message itself, or the body of an HTTP answer.
    payload: Vec<u8>,
    is_http: bool,
}

/// How much of one answer has come back.
#[derive(Default)]
pub struct Progress {
    /// Bytes of an echo, which are compared as they come and not kept.
    received: usize,
    /// An HTTP answer, as far as it came.
    answer: Vec<u8>,
}

impl Exchange {
    /// A message of so many bytes, which comes back as it is.
    pub fn echo(bytes: usize) -> Self {
        Self { request: payload(bytes), payload: payload(bytes), is_http: false }
    }

    /// A GET over a connection that is kept, answered with those bytes.
    pub fn http(host: &str, bytes: usize) -> Self {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: loadgen\r\nAccept: */*\r\n\r\n");
        Self { request: request.into_bytes(), payload: payload(bytes), is_http: true }
    }

    /// Takes a piece of the answer; whether the answer is whole now. What is not as it must be is an error.
    pub fn take(&self, progress: &mut Progress, piece: &[u8]) -> io::Result<bool> {
        if self.is_http {
            progress.answer.extend_from_slice(piece);
            let is_whole = self.is_whole_answer(&progress.answer)?;
            if is_whole {
                progress.answer.clear();
            }
            return Ok(is_whole);
        }
        let end = progress.received + piece.len();
        if self.payload.get(progress.received..end) != Some(piece) {
            return Err(invalid("what came back is not what was sent"));
        }
        progress.received = end % self.payload.len();
        Ok(end == self.payload.len())
    }

    fn is_whole_answer(&self, answer: &[u8]) -> io::Result<bool> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = Response::new(&mut headers);
        let Status::Complete(head) = response.parse(answer).map_err(io::Error::other)? else {
            return Ok(false);
        };
        let mut lengths = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = lengths.next().and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
        if response.code != Some(200) || length != Some(self.payload.len()) {
            return Err(invalid(&format!("the answer is {:?}, of length {length:?}", response.code)));
        }
        match answer[head..].len().cmp(&self.payload.len()) {
            std::cmp::Ordering::Less => Ok(false),
            std::cmp::Ordering::Equal if answer[head..] == self.payload => Ok(true),
            _ => Err(invalid("the answer's body is not what it must be")),
        }
    }
}

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
        let mut answer = format!("HTTP/1.1 {status}\r\ndate: now\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.extend_from_slice(body);
        answer
    }

    #[test]
    fn an_echo_comes_in_pieces() {
        let exchange = Exchange::echo(4);
        let mut progress = Progress::default();
        for _ in 0..2 {
            assert!(!exchange.take(&mut progress, &[0, 1]).unwrap());
            assert!(exchange.take(&mut progress, &[2, 3]).unwrap());
        }
        assert!(exchange.take(&mut progress, &[1]).is_err());
        assert!(exchange.take(&mut Progress::default(), &[0, 1, 2, 3, 4]).is_err(), "more than was sent");
    }

    #[test]
    fn an_http_answer_comes_byte_by_byte() {
        let exchange = Exchange::http("host", 3);
        let mut progress = Progress::default();
        let whole = answer("200 OK", 3, &[0, 1, 2]);
        for _ in 0..2 {
            for (n, byte) in whole.iter().enumerate() {
                assert_eq!(exchange.take(&mut progress, &[*byte]).unwrap(), n == whole.len() - 1);
            }
        }
    }

    #[test]
    fn a_wrong_http_answer_is_an_error() {
        let exchange = Exchange::http("host", 3);
        for wrong in [
            answer("404 Not Found", 3, &[0, 1, 2]),
            answer("200 OK", 2, &[0, 1]),
            answer("200 OK", 3, &[0, 1, 1]),
            answer("200 OK", 3, &[0, 1, 2, 3]),
            b"no HTTP\r\n\r\n".to_vec(),
        ] {
            assert!(exchange.take(&mut Progress::default(), &wrong).is_err(), "{}", String::from_utf8_lossy(&wrong));
        }
    }
}
