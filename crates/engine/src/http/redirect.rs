//! Where a redirect leads, and what of the request may go there.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION, PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::error::{Error, ErrorKind, Phase, Result};
use super::request::{Request, authority, check_scheme};

/// Where `status` and `headers` redirect a request to; `None` if they don't.
pub(super) fn location(status: StatusCode, headers: &HeaderMap, url: &Url) -> Result<Option<Url>> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = headers.get(LOCATION) else { return Ok(None) };
    let refuse = |detail| Error::new(ErrorKind::RemoteProtocol, Phase::Waiting, authority(url), detail);
    let text = std::str::from_utf8(location.as_bytes()).map_err(|_| refuse("the redirect's URL is not text".into()))?;
    let mut target = url.join(text).map_err(|error| refuse(format!("the redirect leads nowhere: {error}")))?;
    check_scheme(&target)?;
    if target.fragment().is_none() {
        target.set_fragment(url.fragment());
    }
    Ok(Some(target))
}

/// Whether the body of the request is sent again after a redirect of this status.
pub(super) fn keeps_body(status: StatusCode, method: &Method) -> bool {
    redirected_method(status, method) == *method
}

/// Browsers turn most redirected methods into GET, and so does everybody else; 307 and 308 forbid it.
fn redirected_method(status: StatusCode, method: &Method) -> Method {
    match (status.as_u16(), method) {
        (302 | 303, method) if method != Method::HEAD => Method::GET,
        (301, &Method::POST) => Method::GET,
        _ => method.clone(),
    }
}

/// Points `request` at `target`. Credentials stay with the origin that they were meant for.
pub(super) fn follow(request: &mut Request, status: StatusCode, target: Url) {
    let method = redirected_method(status, &request.method);
    if method != request.method {
        request.method = method;
        request.body = super::request::Body::Empty;
        for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, TRANSFER_ENCODING] {
            request.headers.remove(name);
        }
    }
    if request.url.origin() != target.origin() {
        for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
            request.headers.remove(name);
        }
        request.server_name = None;
    }
    request.headers.remove(HOST);
    request.url = target;
}

#[cfg(test)]
mod tests {
    use super::{Request, follow, location};
    use crate::http::Body;
    use http::{HeaderMap, HeaderValue, StatusCode};

    fn redirected(method: &str, status: u16, to: &'static str) -> Request {
        let mut request = Request::new(method, "http://a.test/from#part").unwrap();
        request.body = Body::Whole("data".into());
        for name in ["Authorization", "Cookie", "Content-Type", "Accept"] {
            request.header(name.as_bytes(), b"x").unwrap();
        }
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static(to));
        let status = StatusCode::from_u16(status).unwrap();
        let target = location(status, &headers, &request.url).unwrap().unwrap();
        follow(&mut request, status, target);
        request
    }

    #[test]
    fn methods_and_bodies_change_as_in_browsers() {
        for (method, status, expected) in [
            ("POST", 301, "GET"),
            ("PUT", 301, "PUT"),
            ("PUT", 302, "GET"),
            ("HEAD", 303, "HEAD"),
            ("POST", 303, "GET"),
            ("POST", 307, "POST"),
            ("POST", 308, "POST"),
        ] {
            let request = redirected(method, status, "/to");
            assert_eq!(request.method, expected, "{method} {status}");
            assert_eq!(matches!(request.body, Body::Empty), expected != method, "{method} {status}");
            assert_eq!(request.headers.contains_key("content-type"), expected == method);
            assert!(request.headers.contains_key("authorization"), "same origin");
            assert_eq!(request.url.as_str(), "http://a.test/to#part");
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        for target in ["http://b.test/", "http://a.test:81/"] {
            let request = redirected("GET", 302, target);
            assert!(!request.headers.contains_key("authorization") && !request.headers.contains_key("cookie"));
            assert!(request.headers.contains_key("accept"));
        }
    }

    #[test]
    fn only_redirects_with_a_place_to_go_are_followed() {
        let url = url::Url::parse("http://a.test/").unwrap();
        assert!(location(StatusCode::FOUND, &HeaderMap::new(), &url).unwrap().is_none());
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static("ftp://a.test/"));
        assert!(location(StatusCode::OK, &headers, &url).unwrap().is_none());
        assert!(location(StatusCode::FOUND, &headers, &url).is_err());
    }
}
