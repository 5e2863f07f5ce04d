//! The rules for stored responses (RFC 9111), one after the other.

use aioxide::http::{AskedOfCache, CachePolicy, Exchanged, Field, Reuse, merged_fields, selecting_values};

/// Sun, 09 Sep 2001 01:46:40 GMT.
const NOW: f64 = 1e9;
const DATE: &str = "Sun, 09 Sep 2001 01:46:40 GMT";

fn fields<'a>(lines: &[&'a str]) -> Vec<Field<'a>> {
    let split = |line: &&'a str| line.split_once(": ").map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    lines.iter().filter_map(split).collect()
}

fn policy_of(status: u16, request: &[&str], response: &[&str], shared: bool) -> CachePolicy {
    let (request, response) = (fields(request), fields(response));
    let exchanged = Exchanged {
        method: "GET",
        request: &request,
        status,
        response: &response,
        requested_at: NOW,
        received_at: NOW,
    };
    CachePolicy::new(&exchanged, shared)
}

fn response(lines: &[&str]) -> CachePolicy {
    policy_of(200, &[], lines, false)
}

/// Until which age it is fresh, to a second.
fn lifetime(policy: &CachePolicy) -> u32 {
    (0..1_000_000).find(|age| reuse(policy, &[], f64::from(*age)) != Reuse::Fresh).unwrap_or(u32::MAX)
}

fn reuse(policy: &CachePolicy, request: &[&str], age: f64) -> Reuse {
    policy.reuse(&AskedOfCache::new("GET", &fields(request)), NOW + age)
}

#[test]
fn what_may_be_stored() {
    let storable =
        |status, request: &[&str], response: &[&str]| policy_of(status, request, response, false).is_storable();
    assert!(storable(200, &[], &[]) && storable(404, &[], &[]) && storable(301, &[], &[]));
    assert!(!storable(302, &[], &[]) && storable(302, &[], &["Cache-Control: max-age=5"]));
    assert!(!storable(500, &[], &[]) && storable(500, &[], &["Expires: 0"]));
    assert!(!storable(206, &[], &["Cache-Control: max-age=5"]) && !storable(304, &[], &["Cache-Control: public"]));
    assert!(!storable(200, &[], &["Cache-Control: No-Store"]) && !storable(200, &["Cache-Control: no-store"], &[]));
    assert!(storable(200, &[], &["Cache-Control: no-store, must-understand"]));
    assert!(!storable(299, &[], &["Cache-Control: max-age=9, must-understand"]));
    assert!(!storable(200, &[], &["Vary: Accept, *"]));
    let post =
        Exchanged { method: "POST", request: &[], status: 200, response: &[], requested_at: NOW, received_at: NOW };
    assert!(!CachePolicy::new(&post, false).is_storable());
}

#[test]
fn what_is_one_users_own_is_not_for_all() {
    let shared = |request: &[&str], response: &[&str]| policy_of(200, request, response, true).is_storable();
    assert!(!shared(&[], &["Cache-Control: private, max-age=5"]));
    assert!(policy_of(500, &[], &["Cache-Control: private"], false).is_storable());
    let authorized = ["Authorization: Basic x"];
    assert!(!shared(&authorized, &["Cache-Control: max-age=5"]));
    for allowed in ["public", "s-maxage=5", "must-revalidate, max-age=5"] {
        assert!(shared(&authorized, &[&format!("Cache-Control: {allowed}")]), "{allowed}");
    }
    assert!(policy_of(200, &authorized, &["Cache-Control: max-age=5"], false).is_storable());
}

#[test]
fn how_long_a_response_is_fresh() {
    assert_eq!(lifetime(&response(&["cache-control: MAX-AGE=60", "expires: 0"])), 60);
    let both = ["Cache-Control: max-age=60, s-maxage=5"];
    assert_eq!(lifetime(&policy_of(200, &[], &both, true)), 5);
    assert_eq!(lifetime(&policy_of(200, &[], &both, false)), 60);
    let expires = |date| lifetime(&response(&[&format!("Date: {DATE}"), &format!("Expires: {date}")]));
    assert_eq!(expires("Sun, 09 Sep 2001 01:47:40 GMT"), 60);
    assert_eq!(expires("Sunday, 09-Sep-01 01:47:40 GMT"), 60);
    assert_eq!(expires("Sun Sep  9 01:47:40 2001"), 60);
    assert_eq!((expires("0"), expires("Sun, 09 Sep 2001 01:46:00 GMT")), (0, 0));
    // A tenth of 1000 seconds; a week at most; nothing that was modified after it was made.
    let modified = |date, status| {
        lifetime(&policy_of(status, &[], &[&format!("Date: {DATE}"), &format!("Last-Modified: {date}")], false))
    };
    assert_eq!(modified("Sun, 09 Sep 2001 01:30:00 GMT", 200), 100);
    assert_eq!(modified("Sun, 09 Sep 2001 01:30:00 GMT", 302), 0);
    assert_eq!(modified("Sat, 09 Sep 1978 01:30:00 GMT", 200), 7 * 24 * 3600);
    assert_eq!(modified("Sun, 09 Sep 2001 02:30:00 GMT", 200), 0);
    assert_eq!(lifetime(&response(&[])), 0);
}

#[test]
fn age_counts_from_where_the_response_was_made() {
    assert_eq!(lifetime(&response(&["Age: 50", "Cache-Control: max-age=60"])), 10);
    assert_eq!(lifetime(&response(&["Date: Sun, 09 Sep 2001 01:46:00 GMT", "Cache-Control: max-age=60"])), 20);
    // Ages and limits beyond reason neither overflow nor panic.
    let endless = "99999999999999999999999999";
    assert_eq!(lifetime(&response(&[&format!("Age: {endless}"), &format!("Cache-Control: max-age={endless}")])), 0);
    let slow = Exchanged {
        method: "GET",
        request: &[],
        status: 200,
        response: &fields(&["Cache-Control: max-age=60"]),
        requested_at: NOW - 8.0,
        received_at: NOW,
    };
    assert_eq!(lifetime(&CachePolicy::new(&slow, false)), 52);
    // A clock that goes back makes nothing younger than it came.
    assert!(CachePolicy::new(&slow, false).age(NOW - 100.0) >= 8.0);
}

#[test]
fn what_a_request_wants_is_heeded() {
    let policy = response(&["Cache-Control: max-age=60"]);
    assert_eq!(reuse(&policy, &["Cache-Control: no-cache"], 0.0), Reuse::Validate);
    assert_eq!(reuse(&policy, &["Pragma: no-cache"], 0.0), Reuse::Validate);
    assert_eq!(reuse(&policy, &["Cache-Control: max-age=10"], 10.0), Reuse::Fresh);
    assert_eq!(reuse(&policy, &["Cache-Control: max-age=10"], 11.0), Reuse::Validate);
    assert_eq!(reuse(&policy, &["Cache-Control: min-fresh=30"], 30.0), Reuse::Fresh);
    assert_eq!(reuse(&policy, &["Cache-Control: min-fresh=30"], 31.0), Reuse::Validate);
    assert_eq!(reuse(&policy, &["Cache-Control: max-stale"], 9e8), Reuse::Stale);
    assert_eq!(reuse(&policy, &["Cache-Control: max-stale=10"], 69.0), Reuse::Stale);
    assert_eq!(reuse(&policy, &["Cache-Control: max-stale=10"], 70.0), Reuse::Validate);
    assert!(AskedOfCache::new("GET", &fields(&["Cache-Control: only-if-cached"])).only_if_cached());
    for passing in ["Cache-Control: no-store", "Range: bytes=0-1", "If-None-Match: \"a\"", "If-Modified-Since: x"] {
        assert!(!AskedOfCache::new("GET", &fields(&[passing])).is_answerable, "{passing}");
    }
}

#[test]
fn stale_responses_are_given_only_by_leave() {
    let revalidated = response(&["Cache-Control: max-age=60, stale-while-revalidate=10"]);
    assert_eq!(reuse(&revalidated, &[], 65.0), Reuse::StaleWhileRevalidate);
    assert_eq!(reuse(&revalidated, &[], 70.0), Reuse::Validate);
    assert_eq!(reuse(&revalidated, &["Cache-Control: max-age=60"], 65.0), Reuse::Validate);
    let asked = AskedOfCache::new("GET", &[]);
    let forgiving = response(&["Cache-Control: max-age=60, stale-if-error=10"]);
    assert!(forgiving.may_stand_in(&asked, NOW + 69.0) && !forgiving.may_stand_in(&asked, NOW + 70.0));
    let wants = AskedOfCache::new("GET", &fields(&["Cache-Control: stale-if-error=100"]));
    assert!(forgiving.may_stand_in(&wants, NOW + 159.0));
    for strict in ["must-revalidate", "no-cache"] {
        let line = format!("Cache-Control: max-age=60, stale-if-error=99, stale-while-revalidate=99, {strict}");
        let policy = response(&[&line]);
        assert_eq!(reuse(&policy, &["Cache-Control: max-stale"], 61.0), Reuse::Validate, "{strict}");
        assert!(!policy.may_stand_in(&asked, NOW + 61.0), "{strict}");
    }
    let line = ["Cache-Control: s-maxage=60, stale-while-revalidate=99"];
    assert_eq!(reuse(&policy_of(200, &[], &line, true), &[], 61.0), Reuse::Validate);
}

#[test]
fn a_304_confirms_what_its_validators_name() {
    let confirmed = |stored: &[&str], update: &[&str]| response(stored).is_confirmed_by(&fields(update));
    assert!(confirmed(&["ETag: \"a\""], &["ETag: \"a\""]) && !confirmed(&["ETag: \"a\""], &["ETag: \"b\""]));
    assert!(!confirmed(&["ETag: W/\"a\""], &["ETag: \"a\""]) && confirmed(&["ETag: \"a\""], &["ETag: W/\"a\""]));
    let modified = format!("Last-Modified: {DATE}");
    assert!(confirmed(&[&modified], &[&modified]) && !confirmed(&[&modified], &["Last-Modified: other"]));
    assert!(confirmed(&["ETag: \"a\""], &["Date: x"]));
    assert_eq!(
        response(&["ETag: \"a\"", &modified]).conditions(),
        [("If-None-Match", "\"a\""), ("If-Modified-Since", DATE)]
    );
    assert!(response(&[]).conditions().is_empty());
}

#[test]
fn a_304_changes_what_it_names_and_nothing_of_the_body() {
    let stored = fields(&["A: 1", "A: 2", "B: 3", "Content-Encoding: gzip"]);
    let update = fields(&["a: 4", "a: 5", "C: 6", "Content-Encoding: br", "Connection: X-Y, close", "x-y: 7"]);
    assert_eq!(merged_fields(&stored, &update), fields(&["B: 3", "Content-Encoding: gzip", "a: 4", "a: 5", "C: 6"]));
}

#[test]
fn requests_select_alike_if_they_agree_in_all_values() {
    let selecting = |lines: &[&str]| selecting_values(&fields(lines), &["Accept".to_owned(), "x".to_owned()]);
    assert_eq!(selecting(&["ACCEPT:  text/html ", "Other: 1"]), selecting(&["accept: text/html"]));
    let different: [&[&str]; 6] =
        [&[], &["X: "], &["Accept: a", "Accept: b"], &["Accept: a"], &["X: a"], &["X: a", "X: "]];
    for (at, one) in different.iter().enumerate() {
        for other in &different[at + 1..] {
            assert_ne!(selecting(one), selecting(other), "{one:?} {other:?}");
        }
    }
}
