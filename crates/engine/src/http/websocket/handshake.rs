//! The handshake: the fields of a request that asks for a WebSocket, and what its answer must say (RFC 6455, section 4).

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::WebSocketOptions;

/// One handshake: the key that proves that the answer was made for it.
pub(in crate::http) struct Handshake(String);

impl Handshake {
    /// Adds its fields to those of a request.
    ///
    /// # Errors
    /// For a subprotocol whose name is no token.
    pub fn begin(options: &WebSocketOptions, headers: &mut HeaderMap) -> Result<Self, String> {
        let key = generate_key();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, value(&key)?);
        if !options.subprotocols.is_empty() {
            for name in &options.subprotocols {
                if name.is_empty() || !name.bytes().all(is_token) {
                    return Err(format!("{name:?} is not the name of a subprotocol"));
                }
            }
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value(&options.subprotocols.join(", "))?);
        }
        Ok(Self(key))
    }

    /// Checks the answer of a server that says that it switches protocols.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(&self, options: &WebSocketOptions, headers: &HeaderMap) -> Result<(), String> {
        let has = |name, wanted: &str| {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
        };
        if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
            return Err("the server switches to something else than a WebSocket".into());
        }
        let accept = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accept != Some(derive_accept_key(self.0.as_bytes()).as_bytes()) {
            return Err("the server's Sec-WebSocket-Accept is not the answer to this request".into());
        }
        if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Err("the server uses an extension that was not offered".into());
        }
        match subprotocol(headers) {
            Some(chosen) if headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().count() > 1 => {
                Err(format!("the server chose {chosen:?} and another subprotocol"))
            }
            Some(chosen) if !options.subprotocols.contains(&chosen) => {
                Err(format!("the server chose {chosen:?}, a subprotocol that was not offered"))
            }
            _ => Ok(()),
        }
    }
}

/// The subprotocol that an answer names.
pub(super) fn subprotocol(headers: &HeaderMap) -> Option<String> {
    headers.get(SEC_WEBSOCKET_PROTOCOL).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|error| error.to_string())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::{Handshake, WebSocketOptions};
    use http::{HeaderMap, HeaderName, HeaderValue};
    use tungstenite::handshake::derive_accept_key;

    fn answer(fields: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(pair).collect()
    }

    #[test]
    fn an_answer_must_be_one_to_this_request() {
        let options = WebSocketOptions { subprotocols: vec!["a".into(), "b".into()], ..WebSocketOptions::default() };
        let mut headers = HeaderMap::new();
        let handshake = Handshake::begin(&options, &mut headers).unwrap();
        assert_eq!(headers["sec-websocket-protocol"], "a, b");
        let accept = derive_accept_key(headers["sec-websocket-key"].as_bytes());
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-accept", accept.as_str()),
        ];
        assert_eq!(handshake.check(&options, &answer(&good)), Ok(()));
        for missing in 0..good.len() {
            let mut fields = good.to_vec();
            fields.remove(missing);
            assert!(handshake.check(&options, &answer(&fields)).is_err());
        }
        for (more, is_good) in [
            (("sec-websocket-protocol", "b"), true),
            (("sec-websocket-protocol", "c"), false),
            (("sec-websocket-protocol", "a, b"), false),
            (("sec-websocket-extensions", "permessage-deflate"), false),
        ] {
            let fields = [good.as_slice(), &[more]].concat();
            assert_eq!(handshake.check(&options, &answer(&fields)).is_ok(), is_good, "{more:?}");
        }
    }

    #[test]
    fn names_of_subprotocols_are_tokens() {
        for name in ["", "a b", "a\r\nb", "a,b", "ä"] {
            let options = WebSocketOptions { subprotocols: vec![name.into()], ..WebSocketOptions::default() };
            assert!(Handshake::begin(&options, &mut HeaderMap::new()).is_err(), "{name:?}");
        }
    }
}
