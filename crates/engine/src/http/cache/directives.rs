//! Cache-Control (RFC 9111, section 5.2; RFC 5861 and RFC 8246 for what they add).

use super::fields::{Field, contains, values};

/// More seconds than this count as so many (RFC 9111, section 1.2.2).
pub(super) const SECONDS_MAX: u64 = 1 << 31;

/// The directives of a message. Those that a cache has no use for are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Directives {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub only_if_cached: bool,
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub min_fresh: Option<u64>,
    pub max_stale: Option<u64>,
    pub stale_while_revalidate: Option<u64>,
    pub stale_if_error: Option<u64>,
}

impl Directives {
    /// The directives of a response.
    pub(super) fn of_response(fields: &[Field<'_>]) -> Self {
        let mut found = Self::default();
        for value in values(fields, "cache-control") {
            split_unquoted(value, |directive| found.add(directive));
        }
        found
    }

    /// The directives of a request; `Pragma: no-cache` stands for one where there are none (section 5.4).
    pub(super) fn of_request(fields: &[Field<'_>]) -> Self {
        let mut found = Self::of_response(fields);
        if !contains(fields, "cache-control") {
            found.no_cache = values(fields, "pragma").any(|value| value.trim_ascii().eq_ignore_ascii_case(b"no-cache"));
        }
        found
    }

    fn add(&mut self, directive: &[u8]) {
        let equals = directive.iter().position(|byte| *byte == b'=');
        let (name, argument) = match equals {
            Some(at) => (directive[..at].trim_ascii(), Some(unquoted(directive[at + 1..].trim_ascii()))),
            None => (directive.trim_ascii(), None),
        };
        // A number that is none allows nothing; of two that differ, the stricter one holds.
        let seconds = argument.and_then(parse_seconds);
        let at_most = |before: Option<u64>| Some(before.map_or(u64::MAX, |before| before).min(seconds.unwrap_or(0)));
        match name.to_ascii_lowercase().as_slice() {
            b"no-store" => self.no_store = true,
            // With names of fields too: to have all of it validated is simpler, and allowed (section 5.2.2.4).
            b"no-cache" => self.no_cache = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"max-age" => self.max_age = at_most(self.max_age),
            b"s-maxage" => self.s_maxage = at_most(self.s_maxage),
            b"min-fresh" => self.min_fresh = self.min_fresh.max(Some(seconds.unwrap_or(SECONDS_MAX))),
            b"max-stale" if argument.is_none() => self.max_stale = self.max_stale.or(Some(u64::MAX)),
            b"max-stale" => self.max_stale = at_most(self.max_stale),
            b"stale-while-revalidate" => self.stale_while_revalidate = at_most(self.stale_while_revalidate),
            b"stale-if-error" => self.stale_if_error = at_most(self.stale_if_error),
            _ => {}
        }
    }
}

/// What stands between the commas that no quotes hold.
fn split_unquoted(value: &[u8], mut each: impl FnMut(&[u8])) {
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                each(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    each(&value[start..]);
}

fn unquoted(argument: &[u8]) -> &[u8] {
    argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(argument)
}

/// A number of seconds, `SECONDS_MAX` at most.
pub(super) fn parse_seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(seconds.min(SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&'static str]) -> Directives {
        let fields: Vec<Field<'_>> = lines.iter().map(|line| (&b"Cache-Control"[..], line.as_bytes())).collect();
        Directives::of_response(&fields)
    }

    #[test]
    fn names_are_of_any_case_and_values_may_be_quoted() {
        let found = of(&["Max-Age=\"60\" , NO-CACHE=\"set-cookie, max-age=1\"", "S-MaxAge = 5"]);
        assert_eq!((found.max_age, found.s_maxage, found.no_cache), (Some(60), Some(5), true));
    }

    #[test]
    fn what_is_wrong_or_said_twice_allows_the_least() {
        assert_eq!(of(&["max-age=10", "max-age=5, max-age=7"]).max_age, Some(5));
        assert_eq!(of(&["max-age=ten"]).max_age, Some(0));
        assert_eq!(of(&["max-age"]).max_age, Some(0));
        assert_eq!(of(&["stale-if-error=-1"]).stale_if_error, Some(0));
        assert_eq!(of(&["min-fresh=1, min-fresh=x"]).min_fresh, Some(SECONDS_MAX));
        assert_eq!(of(&["max-age=99999999999999999999999"]).max_age, Some(SECONDS_MAX));
        assert_eq!(of(&["max-stale, max-stale=3"]).max_stale, Some(3));
        assert_eq!(of(&["max-stale"]).max_stale, Some(u64::MAX));
        assert!(of(&["x=\"unclosed, no-store"]).no_store.eq(&false));
    }

    #[test]
    fn pragma_counts_in_a_request_that_says_nothing_else() {
        let pragma: Field<'_> = (b"Pragma", b"No-Cache");
        assert!(Directives::of_request(&[pragma]).no_cache);
        assert!(!Directives::of_request(&[pragma, (b"cache-control", b"max-age=1")]).no_cache);
    }
}
