//! The rules of freshness as a table: the headers of a response, and what they come to.

use super::*;
use crate::fuzz::{Fuzz, outcome};

/// Mon, 30 Nov 2026 12:00:00 GMT.
const NOW: u64 = 1_796_040_000;

/// The headers of lines `name: value`, parted by `|`.
fn headers(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split('|').map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a header");
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, value.trim().parse().expect("a value"));
    }
    headers
}

fn of(lines: &str, always: bool) -> Known {
    known(&headers(lines), SystemTime::UNIX_EPOCH + Duration::from_secs(NOW), always)
}

/// Lifetime, stale-while-revalidate and stale-if-error.
fn times(lines: &str, always: bool) -> (Option<u32>, Option<u32>, Option<u32>) {
    let policy = of(lines, always).policy.map(|policy| *policy).unwrap_or_default();
    let lifetime = policy.lifetime.map(|lifetime| u32::try_from(lifetime.as_secs()).expect("32 bits"));
    (lifetime, policy.stale_while_revalidate, policy.stale_if_error)
}

#[test]
fn a_lifetime_is_the_first_that_is_said_minus_the_age() {
    const MOST: u32 = 1 << 31;
    for (lines, lifetime) in [
        ("", None),
        ("cache-control: public", None),
        ("cache-control: max-age=60", Some(60)),
        ("cache-control: Max-Age=60", Some(60)),
        ("cache-control: max-age=\"60\"", Some(60)),
        ("cache-control: max-age = 60", Some(60)),
        ("cache-control: public,max-age=60,immutable", Some(60)),
        ("cache-control: , max-age=60,,", Some(60)),
        ("cache-control: public | cache-control: max-age=60", Some(60)),
        ("cache-control: max-age=60, s-maxage=5", Some(5)),
        ("cache-control: s-maxage=5, max-age=60", Some(5)),
        ("cache-control: s-maxage=600, max-age=60", Some(600)),
        ("cache-control: x=\"a,max-age=9\", max-age=60", Some(60)),
        ("cache-control: x=\"a\\\",max-age=9\", max-age=60", Some(60)),
        ("cache-control: x-max-age=9, max-age=60", Some(60)),
        // Expires.
        ("expires: Mon, 30 Nov 2026 12:01:00 GMT", Some(60)),
        ("date: Mon, 30 Nov 2026 12:00:30 GMT | expires: Mon, 30 Nov 2026 12:01:00 GMT", Some(30)),
        ("date: nonsense | expires: Mon, 30 Nov 2026 12:01:00 GMT", Some(60)),
        ("expires: Monday, 30-Nov-26 12:01:00 GMT", Some(60)),
        ("expires: Mon Nov 30 12:01:00 2026", Some(60)),
        ("expires: Mon, 30 Nov 2026 11:00:00 GMT", Some(0)),
        ("expires: 0", Some(0)),
        ("expires: -1", Some(0)),
        ("expires: Mon, 30 Nov 2026 12:01:00 GMT | expires: Mon, 30 Nov 2026 12:01:00 GMT", Some(0)),
        ("expires: 0 | cache-control: max-age=60", Some(60)),
        ("expires: Mon, 30 Nov 2026 12:01:00 GMT | cache-control: public", Some(60)),
        ("expires: Mon, 30 Nov 2026 12:01:00 GMT | cache-control: max-age=x", Some(0)),
        // Age.
        ("cache-control: max-age=60 | age: 20", Some(40)),
        ("cache-control: max-age=60 | age: 60", Some(0)),
        ("cache-control: max-age=60 | age: 99999999999999999999", Some(0)),
        ("cache-control: max-age=60 | age: -5", Some(60)),
        ("cache-control: max-age=60 | age: 20.5", Some(60)),
        ("cache-control: max-age=60 | age: 20, 30", Some(40)),
        ("cache-control: max-age=60 | age: 20 | age: 30", Some(40)),
        ("expires: Mon, 30 Nov 2026 12:01:00 GMT | age: 20", Some(40)),
        // Numbers saturate.
        ("cache-control: max-age=2147483647", Some(MOST - 1)),
        ("cache-control: max-age=2147483649", Some(MOST)),
        ("cache-control: max-age=99999999999999999999999999", Some(MOST)),
        ("cache-control: max-age=007", Some(7)),
        // What is invalid or doubled is stale.
        ("cache-control: max-age", Some(0)),
        ("cache-control: max-age=", Some(0)),
        ("cache-control: max-age=-1", Some(0)),
        ("cache-control: max-age=1.5", Some(0)),
        ("cache-control: max-age=60s", Some(0)),
        ("cache-control: max-age=+60", Some(0)),
        ("cache-control: max-age='60'", Some(0)),
        ("cache-control: max-age=60, max-age=60", Some(0)),
        ("cache-control: max-age=60 | cache-control: max-age=61", Some(0)),
        ("cache-control: s-maxage=x, max-age=60", Some(0)),
        ("cache-control: s-maxage=5, max-age=x", Some(5)),
        // The header for caches of our kind counts alone, if it is sound.
        ("cdn-cache-control: max-age=5 | cache-control: max-age=60", Some(5)),
        ("cdn-cache-control: max-age=5 | cache-control: s-maxage=60", Some(5)),
        ("cdn-cache-control: max-age=5 | expires: 0", Some(5)),
        ("cdn-cache-control: max-age=5;x=1, y;z | cache-control: max-age=60", Some(5)),
        ("cdn-cache-control: max-age=5, max-age=7 | cache-control: max-age=60", Some(7)),
        ("cdn-cache-control: max-age=5 | cdn-cache-control: must-revalidate", Some(5)),
        ("cdn-cache-control: max-age=x | cache-control: max-age=60", Some(0)),
        ("cdn-cache-control: public | cache-control: max-age=60", None),
        ("cdn-cache-control: | cache-control: max-age=60", Some(60)),
        ("cdn-cache-control: Max-Age=5 | cache-control: max-age=60", Some(60)),
        ("cdn-cache-control: max-age= | cache-control: max-age=60", Some(60)),
        ("cdn-cache-control: max-age=5 6 | cache-control: max-age=60", Some(60)),
        ("cdn-cache-control: max-age=5 | age: 2", Some(3)),
        ("cache-control: no-cache, max-age=60", Some(0)),
    ] {
        assert_eq!(times(lines, false).0, lifetime, "{lines}");
    }
}

#[test]
fn stale_documents_are_served_as_the_source_says() {
    for (lines, stale, always) in [
        ("cache-control: max-age=60", (None, None), (None, None)),
        ("cache-control: max-age=60, stale-while-revalidate=5", (Some(5), None), (Some(5), None)),
        ("cache-control: max-age=60, stale-if-error=9", (None, Some(9)), (None, Some(9))),
        ("cache-control: max-age=60, stale-if-error=0", (None, Some(0)), (None, None)),
        ("cache-control: max-age=60, stale-while-revalidate", (Some(0), None), (Some(0), None)),
        ("cache-control: stale-if-error=9, stale-if-error=9", (None, Some(0)), (None, None)),
        ("cache-control: max-age=60, must-revalidate", (Some(0), Some(0)), (Some(0), None)),
        ("cache-control: max-age=60, proxy-revalidate", (Some(0), Some(0)), (Some(0), None)),
        ("cache-control: must-revalidate, stale-while-revalidate=5", (Some(0), Some(0)), (Some(0), None)),
        ("cache-control: must-revalidate, stale-if-error=5", (Some(0), Some(0)), (Some(0), None)),
        ("cache-control: no-cache", (Some(0), Some(0)), (Some(0), None)),
        ("cache-control: no-cache=\"set-cookie\"", (Some(0), Some(0)), (Some(0), None)),
        ("cache-control: max-age=0", (Some(0), None), (Some(0), None)),
        ("cache-control: max-age=0, stale-while-revalidate=5", (Some(5), None), (Some(5), None)),
        ("expires: 0", (Some(0), None), (Some(0), None)),
        ("cache-control: s-maxage=9, stale-while-revalidate=5", (Some(5), None), (Some(5), None)),
        ("cdn-cache-control: max-age=9, must-revalidate=?0", (None, None), (None, None)),
        ("cdn-cache-control: max-age=9 | cache-control: must-revalidate", (None, None), (None, None)),
    ] {
        let told = |always| (times(lines, always).1, times(lines, always).2);
        assert_eq!((told(false), told(true)), (stale, always), "{lines}");
    }
}

#[test]
fn some_responses_are_not_stored_and_say_why() {
    for (lines, word) in [
        ("cache-control: max-age=60", None),
        ("cache-control: no-store", Some("no-store")),
        ("cache-control: NO-STORE, max-age=60", Some("no-store")),
        ("cache-control: x=\"no-store\"", None),
        ("cache-control: private, max-age=60", Some("private")),
        ("cache-control: private=\"x-user\"", Some("private")),
        ("cdn-cache-control: max-age=5 | cache-control: no-store", None),
        ("cdn-cache-control: no-store | cache-control: max-age=60", Some("no-store")),
        ("set-cookie: a=b | cache-control: max-age=60", Some("cookie")),
        ("vary: accept-encoding", None),
        ("vary: Accept-Encoding, accept-encoding | vary: Accept-Encoding", None),
        ("vary: *", Some("varies")),
        ("vary: accept-encoding, accept-language", Some("varies")),
        ("vary: accept-encoding | vary: cookie", Some("varies")),
        ("pragma: no-cache", None),
    ] {
        let why = of(lines, false).not_stored;
        assert_eq!(why.is_some(), word.is_some(), "{lines}: {why:?}");
        assert!(why.unwrap_or_default().contains(word.unwrap_or_default()), "{lines}: {why:?}");
    }
}

#[test]
fn a_validator_is_kept_as_it_came() {
    let long = format!("etag: \"{}\"", "x".repeat(LONGEST_VALIDATOR));
    for (lines, etag, date) in [
        ("", None, None),
        ("etag: \"1\"", Some("\"1\""), None),
        ("etag: W/\"1\"", Some("W/\"1\""), None),
        ("etag: unquoted", Some("unquoted"), None),
        ("etag: \"1\" | etag: \"2\"", None, None),
        ("etag: \"1\" | last-modified: yesterday", Some("\"1\""), None),
        ("last-modified: yesterday", None, Some("yesterday")),
        (&*long, None, None),
    ] {
        let expected = etag
            .map(|text| Validator::Etag(text.as_bytes().into()))
            .or(date.map(|text: &str| Validator::LastModified(text.as_bytes().into())));
        assert_eq!(of(lines, false).policy.and_then(|policy| policy.validator), expected, "{lines}");
    }
    assert!(of("", false).policy.is_none(), "a document of which nothing is said costs nothing");
}

#[test]
fn headers_survive_any_bytes() {
    let fuzz = Fuzz {
        samples: &[
            b"cache-control: public, max-age=60, s-maxage=\"5\", stale-while-revalidate=3\nage: 7",
            b"cdn-cache-control: max-age=9, must-revalidate\netag: W/\"x\"\nsurrogate-key: a b",
            b"date: Mon, 30 Nov 2026 12:00:30 GMT\nexpires: Mon Nov 30 12:01:00 2026\nlast-modified: 0",
            b"vary: accept-encoding, cookie\nset-cookie: a=b\ncache-tag: x, y\ncache-groups: \"g\"",
        ],
        words: &[
            "max-age=",
            "s-maxage=",
            "no-store",
            "no-cache",
            "private",
            "=\"",
            "\"",
            "\\",
            ",",
            ";",
            "99999999999999999999",
            "-1",
            "stale-if-error=",
            "cache-control: ",
            "age: ",
            "\n",
            "vary: *",
            "Thu, 31 Feb 9999 99:99:99 GMT",
        ],
    };
    fuzz.run(|bytes| {
        let mut headers = HeaderMap::new();
        for line in bytes.split(|&byte| byte == b'\n') {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let (name, value) = (HeaderName::from_bytes(&line[..colon]), line[colon + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        let known = known(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW), false);
        let policy = known.policy.map(|policy| *policy).unwrap_or_default();
        let lifetime = policy.lifetime.map(|lifetime| u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX));
        let times = [lifetime, policy.stale_while_revalidate, policy.stale_if_error];
        assert!(times.iter().flatten().all(|&seconds| seconds <= 1 << 31), "{headers:?}");
        let has = times.map(|time| time.map(|seconds| seconds > 0));
        outcome((has, policy.validator.is_some(), known.not_stored.is_some()))
    });
}
