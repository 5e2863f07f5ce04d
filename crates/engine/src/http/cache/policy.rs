//! What may be done with a stored response (RFC 9111, sections 3, 4.2 and 4.3).

use std::time::UNIX_EPOCH;

use super::asked::AskedOfCache;
use super::directives::{Directives, SECONDS_MAX, parse_seconds};
use super::fields::{Field, contains, members, value};

/// Statuses that may be stored though nothing says for how long (RFC 9110, section 15.1), but for 206.
const HEURISTIC_STATUSES: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// Of the time since a response was modified this part is taken for how long it stays as it is.
const HEURISTIC_PART: f64 = 0.1;

/// Nothing is guessed to stay as it is for longer than a week.
const HEURISTIC_SECONDS_MAX: f64 = 7.0 * 24.0 * 3600.0;

/// A request and its response, of which a policy is made.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's fields.
    pub request: &'a [Field<'a>],
    /// The response's status.
    pub status: u16,
    /// The response's fields.
    pub response: &'a [Field<'a>],
    /// When the request was sent, in seconds since 1970.
    pub requested_at: f64,
    /// When the head of the response had come.
    pub received_at: f64,
}

/// What a cache may do for a request with what it has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Give it: it is fresh.
    Fresh,
    /// Give it although it is stale, as the request allows (`max-stale`).
    Stale,
    /// Give it although it is stale, and ask the server meanwhile (`stale-while-revalidate`).
    StaleWhileRevalidate,
    /// Ask the server first.
    Validate,
}

/// The rules for one response, as the cache of one user or one that users share sees them.
///
/// ```
/// use aioxide::http::{AskedOfCache, CachePolicy, Exchanged, Reuse};
/// let exchanged = Exchanged {
///     method: "GET",
///     request: &[],
///     status: 200,
///     response: &[(b"Cache-Control", b"max-age=60")],
///     requested_at: 1e9,
///     received_at: 1e9,
/// };
/// let policy = CachePolicy::new(&exchanged, false);
/// let asked = AskedOfCache::new("GET", &[]);
/// assert!(policy.is_storable());
/// assert_eq!(policy.reuse(&asked, 1e9 + 59.0), Reuse::Fresh);
/// assert_eq!(policy.reuse(&asked, 1e9 + 60.0), Reuse::Validate);
/// ```
#[derive(Clone, Debug)]
pub struct CachePolicy {
    shared: bool,
    storable: bool,
    directives: Directives,
    vary: Vec<String>,
    etag: Option<String>,
    last_modified: Option<String>,
    /// In seconds, from when it was made.
    lifetime: f64,
    age_when_received: f64,
    received_at: f64,
}

impl CachePolicy {
    /// Reads what a response says. A `shared` cache stores nothing that is one user's own.
    #[must_use]
    pub fn new(exchanged: &Exchanged<'_>, shared: bool) -> Self {
        let response = exchanged.response;
        let mut vary: Vec<String> =
            members(response, "vary").map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
        vary.sort_unstable();
        vary.dedup();
        let mut policy = Self {
            shared,
            storable: false,
            directives: Directives::of_response(response),
            vary,
            etag: value(response, "etag").map(str::to_owned),
            last_modified: value(response, "last-modified").map(str::to_owned),
            lifetime: 0.0,
            age_when_received: age_when_received(exchanged),
            received_at: exchanged.received_at,
        };
        policy.storable = policy.may_store(exchanged);
        policy.lifetime = policy.lifetime_of(exchanged);
        policy
    }

    /// Whether the response may be stored at all.
    #[must_use]
    pub fn is_storable(&self) -> bool {
        self.storable
    }

    /// The request's fields by which this response was chosen, in lower case and in order.
    #[must_use]
    pub fn vary(&self) -> &[String] {
        &self.vary
    }

    /// Seconds since the response was made or last confirmed by its server.
    #[must_use]
    pub fn age(&self, now: f64) -> f64 {
        self.age_when_received + (now - self.received_at).max(0.0)
    }

    /// What may be done for a request that comes at `now`, and which the stored response was chosen for.
    #[must_use]
    pub fn reuse(&self, asked: &AskedOfCache, now: f64) -> Reuse {
        let wants = &asked.directives;
        if self.directives.no_cache || wants.no_cache {
            return Reuse::Validate;
        }
        let age = self.age(now);
        let stale_for = age - self.lifetime;
        let is_too_old = wants.max_age.is_some_and(|limit| age > seconds(limit));
        if let Some(left) = wants.min_fresh {
            return if !is_too_old && stale_for < 0.0 && -stale_for >= seconds(left) {
                Reuse::Fresh
            } else {
                Reuse::Validate
            };
        }
        if stale_for < 0.0 && !is_too_old {
            return Reuse::Fresh;
        }
        if is_too_old || self.forbids_stale() {
            return Reuse::Validate;
        }
        let is_within = |limit: Option<u64>| limit.is_some_and(|limit| stale_for < seconds(limit));
        if is_within(wants.max_stale) {
            Reuse::Stale
        } else if is_within(self.directives.stale_while_revalidate) {
            Reuse::StaleWhileRevalidate
        } else {
            Reuse::Validate
        }
    }

    /// Whether it may be given when the server cannot be asked, or answers with an error (`stale-if-error`).
    #[must_use]
    pub fn may_stand_in(&self, asked: &AskedOfCache, now: f64) -> bool {
        if self.directives.no_cache || asked.directives.no_cache || self.forbids_stale() {
            return false;
        }
        let stale_for = self.age(now) - self.lifetime;
        let limits = [self.directives.stale_if_error, asked.directives.stale_if_error];
        limits.into_iter().flatten().any(|limit| stale_for < seconds(limit))
    }

    /// The fields that ask the server whether the response is still what it would answer.
    #[must_use]
    pub fn conditions(&self) -> Vec<(&'static str, &str)> {
        let etag = self.etag.as_deref().map(|etag| ("If-None-Match", etag));
        let last_modified = self.last_modified.as_deref().map(|date| ("If-Modified-Since", date));
        etag.into_iter().chain(last_modified).collect()
    }

    /// Whether a 304 with these fields, which came upon [`conditions`](Self::conditions), means this response (section
    /// 4.3.4). One that names no validator means the one that it was asked about.
    #[must_use]
    pub fn is_confirmed_by(&self, update: &[Field<'_>]) -> bool {
        if let Some(etag) = value(update, "etag") {
            let ours = self.etag.as_deref();
            return match etag.strip_prefix("W/") {
                None => ours == Some(etag),
                Some(weak) => ours.is_some_and(|ours| ours.strip_prefix("W/").unwrap_or(ours) == weak),
            };
        }
        value(update, "last-modified").is_none_or(|date| self.last_modified.as_deref() == Some(date))
    }

    /// Section 4.2.4.
    fn forbids_stale(&self) -> bool {
        let of_shared = self.directives.proxy_revalidate || self.directives.s_maxage.is_some();
        self.directives.must_revalidate || self.shared && of_shared
    }

    /// Section 3.
    fn may_store(&self, exchanged: &Exchanged<'_>) -> bool {
        let said = &self.directives;
        let asked = Directives::of_request(exchanged.request);
        let is_understood =
            HEURISTIC_STATUSES.contains(&exchanged.status) || matches!(exchanged.status, 302 | 303 | 307);
        let is_forbidden = asked.no_store || said.no_store && !(said.must_understand && is_understood);
        let is_of_one_user = said.private
            || contains(exchanged.request, "authorization")
                && !(said.public || said.must_revalidate || said.s_maxage.is_some());
        exchanged.method == "GET"
            && exchanged.status >= 200
            && !matches!(exchanged.status, 206 | 304)
            && (is_understood || !said.must_understand)
            && !is_forbidden
            && !(self.shared && is_of_one_user)
            // What varies by everything is never chosen again.
            && !self.vary.iter().any(|name| name == "*")
            && (said.public
                || said.private && !self.shared
                || said.max_age.is_some()
                || said.s_maxage.is_some() && self.shared
                || contains(exchanged.response, "expires")
                || HEURISTIC_STATUSES.contains(&exchanged.status))
    }

    /// Sections 4.2.1 and 4.2.2.
    fn lifetime_of(&self, exchanged: &Exchanged<'_>) -> f64 {
        let response = exchanged.response;
        let said = self.directives.s_maxage.filter(|_| self.shared).or(self.directives.max_age);
        if let Some(said) = said {
            return seconds(said);
        }
        let made_at = date(response, "date").unwrap_or(exchanged.received_at);
        if contains(response, "expires") {
            // What is no date means the past.
            return date(response, "expires").map_or(0.0, |expires| (expires - made_at).max(0.0));
        }
        if !HEURISTIC_STATUSES.contains(&exchanged.status) && !self.directives.public {
            return 0.0;
        }
        let unchanged_for = date(response, "last-modified").map_or(0.0, |modified| (made_at - modified).max(0.0));
        (unchanged_for * HEURISTIC_PART).min(HEURISTIC_SECONDS_MAX)
    }
}

/// Section 4.2.3. What `Date` says is known to a second alone, in which a response may have been made at any time.
fn age_when_received(exchanged: &Exchanged<'_>) -> f64 {
    let apparent = date(exchanged.response, "date").map_or(0.0, |made_at| (exchanged.received_at - made_at).floor());
    let said = value(exchanged.response, "age").and_then(|age| parse_seconds(age.as_bytes())).unwrap_or(0);
    let delay = (exchanged.received_at - exchanged.requested_at).max(0.0);
    apparent.max(seconds(said) + delay).min(seconds(SECONDS_MAX))
}

/// A date in any of HTTP's three forms.
fn date(fields: &[Field<'_>], name: &str) -> Option<f64> {
    let moment = httpdate::parse_http_date(value(fields, name)?).ok()?;
    moment.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

/// Exact: no number of seconds is greater than 2^53.
fn seconds(whole: u64) -> f64 {
    whole as f64
}
