//! Domains below which anybody may register a name, by Mozilla's public suffix list.

/// Whether `domain` is a public suffix, as `co.uk` and `github.io` are: no cookie may be set for all that is below it.
///
/// The name is one that [`domain_to_ascii`](super::domain_to_ascii) gives; a dot at its end is left aside. A single
/// label that the list does not know (`localhost`) counts as one, as the list's own default rule says.
///
/// ```
/// use aioxide::http::is_public_suffix;
/// assert!(is_public_suffix("co.uk") && is_public_suffix("localhost"));
/// assert!(!is_public_suffix("example.co.uk") && !is_public_suffix("127.0.0.1"));
/// ```
#[must_use]
pub fn is_public_suffix(domain: &str) -> bool {
    psl2::lookup(domain).is_some_and(|found| found.is_public_suffix())
}

#[cfg(test)]
mod tests {
    use super::is_public_suffix;

    #[test]
    fn the_kinds_of_rules_are_told_apart() {
        let suffixes = ["com", "co.uk", "github.io", "xn--55qx5d.cn", "anything.ck", "unknown", "co.uk."];
        let others = ["example.com", "uk.com.example", "me.github.io", "www.ck", "a.b.ck.example", "", ".", "a..b"];
        assert_eq!(suffixes.map(is_public_suffix), [true; 7]);
        assert_eq!(others.map(is_public_suffix), [false; 8]);
    }
}
