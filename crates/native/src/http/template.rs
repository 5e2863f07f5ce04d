//! Plain requests: without a body, for a URL that stands for itself, with what a client has for all of them. Nothing of
//! Python's is asked or made for one, which most requests are.

use std::net::Ipv4Addr;

use aioxide::http::{Error, HeaderMap, HeaderName, HeaderValue, Headers, Request, Timeouts};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use super::convert;

/// A longer URL is refused, or looked at more closely, by Python's part.
const URL_LENGTH_MAX: usize = 65_536;

/// What the plain requests of a client have in common, checked and converted once.
#[pyclass(module = "aioxide._native", frozen)]
pub struct Template {
    headers: Headers,
    timeouts: Timeouts,
}

#[pymethods]
impl Template {
    /// None if a header is one that cannot be sent: the request that has it will say so.
    #[staticmethod]
    #[pyo3(signature = (headers, *, connect_timeout, read_timeout, write_timeout, pool_timeout, total_timeout))]
    fn of(
        headers: Vec<(PyBackedBytes, PyBackedBytes)>,
        connect_timeout: Option<f64>,
        read_timeout: Option<f64>,
        write_timeout: Option<f64>,
        pool_timeout: Option<f64>,
        total_timeout: Option<f64>,
    ) -> PyResult<Option<Self>> {
        let timeouts = convert::timeouts(connect_timeout, read_timeout, write_timeout, pool_timeout, total_timeout)?;
        let mut checked = HeaderMap::new();
        for (name, value) in headers {
            let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&name), HeaderValue::from_bytes(&value)) else {
                return Ok(None);
            };
            checked.append(name, value);
        }
        Ok(Some(Self { headers: checked.into(), timeouts }))
    }
}

impl Template {
    /// A request of this kind; `None` if Python's part has to look at the URL.
    pub fn request(&self, method: &str, url: &str) -> Option<Result<Request, Error>> {
        is_plain(url).then(|| {
            let mut request = Request::new(method, url)?;
            request.headers = self.headers.clone();
            request.timeouts = self.timeouts;
            Ok(request)
        })
    }
}

/// Whether the URL is absolute and in its normal form already: `aioxide.http.URL` would change nothing about it, and
/// there are neither credentials nor a fragment.
pub fn is_plain(url: &str) -> bool {
    let Some((rest, default_port)) = strip_scheme(url.as_bytes()) else { return false };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let query = rest.iter().position(|&byte| byte == b'?').unwrap_or(rest.len());
    let (path, query) = rest.split_at(query);
    url.len() <= URL_LENGTH_MAX
        && is_plain_authority(authority, default_port)
        && is_plain_path(path)
        && query.iter().all(|&byte| is_unescaped(byte) || matches!(byte, b'/' | b'?' | b'.'))
}

fn strip_scheme(url: &[u8]) -> Option<(&[u8], u16)> {
    url.strip_prefix(b"http://").map(|rest| (rest, 80)).or_else(|| Some((url.strip_prefix(b"https://")?, 443)))
}

fn is_plain_authority(authority: &[u8], default_port: u16) -> bool {
    let colon = authority.iter().position(|&byte| byte == b':');
    let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
    let is_alphanumeric = |byte: Option<&u8>| matches!(byte, Some(b'a'..=b'z' | b'0'..=b'9'));
    let is_name = is_alphanumeric(host.first())
        && is_alphanumeric(host.last())
        && host.iter().all(|byte| is_alphanumeric(Some(byte)) || matches!(byte, b'.' | b'-'));
    // What ends like a number may be an IPv4 address in one of its odd forms.
    let is_odd = || host.last().is_some_and(u8::is_ascii_digit) && !is_ipv4(host);
    is_name && !is_odd() && (port.is_empty() || is_plain_port(&port[1..], default_port))
}

fn is_ipv4(host: &[u8]) -> bool {
    std::str::from_utf8(host).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok())
}

fn is_plain_port(digits: &[u8], default_port: u16) -> bool {
    digits.first().is_some_and(|&first| matches!(first, b'1'..=b'9'))
        && digits.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(digits).is_ok_and(|text| text.parse().is_ok_and(|port: u16| port != default_port))
}

/// Segments that are not empty and do not begin with a dot, so that none is removed.
fn is_plain_path(path: &[u8]) -> bool {
    let mut before = b'x';
    path.iter().all(|&byte| {
        let fits = match byte {
            b'/' => before != b'/',
            b'.' => before != b'/',
            other => is_unescaped(other),
        };
        before = byte;
        fits
    })
}

/// What stands as it is in a path and in a query.
fn is_unescaped(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'_' | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'-'
        )
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn what_is_plain_stands_for_itself() {
        for url in [
            "http://a",
            "http://a/",
            "https://a.test:8443/b/c.d?e=/f&g",
            "http://127.0.0.1:8000/x",
            "http://a-b.test?q",
            "http://a/b?c..d//e",
        ] {
            assert!(is_plain(url), "{url}");
        }
        for url in [
            "",
            "/a",
            "a.test",
            "ftp://a/",
            "HTTP://a/",
            "http://",
            "http:///a",
            "http://A/",
            "http://-a/",
            "http://a./",
            "http://user@a/",
            "http://a:80/",
            "https://a:443/",
            "http://a:080/",
            "http://a:0/",
            "http://a:65536/",
            "http://a:/",
            "http://127.1/",
            "http://127.0.0.01/",
            "http://1/",
            "http://[::1]/",
            "http://a//b",
            "http://a/./b",
            "http://a/.b",
            "http://a/b#c",
            "http://a/b c",
            "http://a/%41",
            "http://a/?%41",
            "http://a/\u{e4}",
        ] {
            assert!(!is_plain(url), "{url}");
        }
    }
}
