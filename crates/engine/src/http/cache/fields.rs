//! Header fields as a cache sees them.

/// A field: its name, in any case, and its value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// Fields of one connection, not of the message (RFC 9110, section 7.6.1, and RFC 9111, section 3.1).
const OF_THE_CONNECTION: [&[u8]; 10] = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// What belongs to the stored body, whatever a 304 says of it (RFC 9111, section 3.2).
const OF_THE_BODY: [&[u8]; 3] = [b"content-encoding", b"content-length", b"content-range"];

/// The values of all fields of this name, in order.
pub(super) fn values<'a>(fields: &[Field<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |(each, _)| each.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| *value)
}

/// The value of the first field of this name, if it is text, without the space around it.
pub(super) fn value<'a>(fields: &[Field<'a>], name: &str) -> Option<&'a str> {
    values(fields, name).next().and_then(|value| std::str::from_utf8(value).ok()).map(str::trim)
}

pub(super) fn contains(fields: &[Field<'_>], name: &str) -> bool {
    values(fields, name).next().is_some()
}

/// The members of all comma-separated lists of this name.
pub(super) fn members<'a>(fields: &[Field<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    values(fields, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// The fields of a response that are stored: all but those of its connection.
///
/// ```
/// use aioxide::http::storable_fields;
/// let fields: [(&[u8], &[u8]); 3] = [(b"ETag", b"1"), (b"Connection", b"X-Hop"), (b"x-hop", b"a")];
/// assert_eq!(storable_fields(&fields), [(&b"ETag"[..], &b"1"[..])]);
/// ```
#[must_use]
pub fn storable_fields<'a>(fields: &[Field<'a>]) -> Vec<Field<'a>> {
    let nominated: Vec<&[u8]> = members(fields, "connection").collect();
    let is_of = |names: &[&[u8]], name: &[u8]| names.iter().any(|each| each.eq_ignore_ascii_case(name));
    let is_kept = |name: &[u8]| !is_of(&OF_THE_CONNECTION, name) && !is_of(&nominated, name);
    fields.iter().copied().filter(|(name, _)| is_kept(name)).collect()
}

/// The fields of a stored response after a 304 came for it: what the 304 names takes the place of what was stored, but
/// for what describes the body.
///
/// ```
/// use aioxide::http::merged_fields;
/// let stored: [(&[u8], &[u8]); 2] = [(b"Date", b"old"), (b"Content-Length", b"5")];
/// let update: [(&[u8], &[u8]); 2] = [(b"date", b"new"), (b"Content-Length", b"0")];
/// assert_eq!(merged_fields(&stored, &update), [(&b"Content-Length"[..], &b"5"[..]), (b"date", b"new")]);
/// ```
#[must_use]
pub fn merged_fields<'a>(stored: &[Field<'a>], update: &[Field<'a>]) -> Vec<Field<'a>> {
    let mut news = storable_fields(update);
    news.retain(|(name, _)| !OF_THE_BODY.iter().any(|each| each.eq_ignore_ascii_case(name)));
    let is_replaced = |name: &[u8]| news.iter().any(|(new, _)| new.eq_ignore_ascii_case(name));
    let mut merged: Vec<Field<'a>> = stored.iter().copied().filter(|(name, _)| !is_replaced(name)).collect();
    merged.extend(news);
    merged
}
