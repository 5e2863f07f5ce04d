//! A request as a cache sees it.

use super::directives::Directives;
use super::fields::{Field, contains, values};

/// With these a request asks for a part, or has a copy of its own: it is handed on, and its answer is not stored.
const CONDITIONS: [&str; 6] =
    ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

/// What a request wants of a cache.
///
/// ```
/// use aioxide::http::AskedOfCache;
/// assert!(AskedOfCache::new("GET", &[]).is_answerable);
/// assert!(!AskedOfCache::new("GET", &[(b"Range", b"bytes=0-1")]).is_answerable);
/// assert!(AskedOfCache::new("DELETE", &[]).is_unsafe);
/// ```
#[derive(Clone, Debug)]
pub struct AskedOfCache {
    /// Whether a stored response may answer it, and its own may be stored: a GET or HEAD for all of what there is, which
    /// does not say `no-store`.
    pub is_answerable: bool,
    /// Whether it may change what is stored under its URL (RFC 9110, section 9.2.1).
    pub is_unsafe: bool,
    pub(super) directives: Directives,
}

impl AskedOfCache {
    /// Reads a request's method and fields.
    #[must_use]
    pub fn new(method: &str, fields: &[Field<'_>]) -> Self {
        let directives = Directives::of_request(fields);
        let is_whole = !CONDITIONS.iter().any(|name| contains(fields, name));
        Self {
            is_answerable: matches!(method, "GET" | "HEAD") && is_whole && !directives.no_store,
            is_unsafe: !matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY"),
            directives,
        }
    }

    /// Whether nothing may be sent: then it is answered from the store, or by a 504.
    #[must_use]
    pub fn only_if_cached(&self) -> bool {
        self.directives.only_if_cached
    }
}

/// The values that the fields of these names have in a request, as bytes that are equal for requests that agree in all of
/// them: in number, order and value (RFC 9111, section 4.1).
#[must_use]
pub fn selecting_values(fields: &[Field<'_>], names: &[String]) -> Vec<u8> {
    let mut selecting = Vec::with_capacity(64);
    for name in names {
        selecting.extend_from_slice(name.to_ascii_lowercase().as_bytes());
        for (at, value) in values(fields, name).enumerate() {
            selecting.push(if at == 0 { b':' } else { b',' });
            selecting.extend_from_slice(value.trim_ascii());
        }
        selecting.push(b'\n');
    }
    selecting
}
