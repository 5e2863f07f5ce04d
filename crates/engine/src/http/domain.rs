//! International domain names (UTS 46, the processing of browsers).

use url::Host;

/// A domain name as it goes over the wire; `None` for what is no domain name.
///
/// ```
/// use aioxide::http::domain_to_ascii;
/// assert_eq!(domain_to_ascii("Faß.example").as_deref(), Some("xn--fa-hia.example"));
/// assert_eq!(domain_to_ascii("a b"), None);
/// ```
#[must_use]
pub fn domain_to_ascii(domain: &str) -> Option<String> {
    match Host::parse(domain) {
        Ok(Host::Domain(ascii)) => Some(ascii),
        _ => None,
    }
}

/// A domain name as people read it. What cannot be decoded stays as it is.
///
/// ```
/// assert_eq!(aioxide::http::domain_to_unicode("xn--fa-hia.example"), "faß.example");
/// ```
#[must_use]
pub fn domain_to_unicode(domain: &str) -> String {
    let (unicode, result) = idna::domain_to_unicode(domain);
    if result.is_ok() { unicode } else { domain.to_owned() }
}
