//! How long a response may be kept, by its headers: pure rules of a shared cache (RFC 9111), with the header for such caches
//! (RFC 9213) and the extensions for stale documents (RFC 5861).
//!
//! | rule | where it is from |
//! |---|---|
//! | CDN-Cache-Control counts alone if it is there and sound | RFC 9213, section 2.1 |
//! | else s-maxage, else max-age, else Expires − Date | RFC 9111, section 4.2.1 |
//! | minus Age | RFC 9111, section 4.2.3 |
//! | invalid, or twice: stale | RFC 9111, sections 4.2.1 and 5.3 |
//! | numbers above 2³¹ count as that | RFC 9111, section 1.2.2 |
//! | no-store, private, Set-Cookie, Vary: not stored | RFC 9111, sections 3, 4.1, 5.2.2.5, 5.2.2.7, 7.3 |
//! | no-cache: stored, and validated at each use | RFC 9111, section 5.2.2.4 |
//! | must-revalidate, proxy-revalidate: never stale | RFC 9111, sections 5.2.2.2 and 5.2.2.8; RFC 5861, section 4 |
//!
//! s-maxage is taken for a time alone, although it also says proxy-revalidate (RFC 9111, section 5.2.2.10): APIs send it
//! beside stale-while-revalidate. Authorization is this node's own, so section 3.5 is of no concern: all clients get the
//! same document.

use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::{
    AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES, HeaderName, HeaderValue, LAST_MODIFIED, SET_COOKIE, VARY,
};

use super::directives::{Directives, Seconds};
use super::tags;
use crate::source::{Known, Past, Policy, Validator};

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// A longer validator is not kept.
const LONGEST_VALIDATOR: usize = 256;

/// What the headers of a response say. `now` stands in for a Date that is not there; with `stale_if_error_always` a document
/// is served while the source fails, whatever it says of validation.
pub(super) fn known(headers: &HeaderMap, now: SystemTime, stale_if_error_always: bool) -> Known {
    let directives = match Directives::targeted(headers.get_all(CDN_CACHE_CONTROL)) {
        Some(targeted) => Said { directives: targeted, expires: None },
        None => Said {
            directives: Directives::of(headers.get_all(CACHE_CONTROL)),
            expires: headers.contains_key(EXPIRES).then(|| expires(headers, now)),
        },
    };
    let age = age(headers);
    let (validator, tags) = (validator(headers), tags::of(headers).into());
    let policy = Policy { validator, tags, ..directives.policy(age, stale_if_error_always) };
    Known {
        past: Past { age: Duration::from_secs(age.into()), ..Past::default() },
        policy: (policy != Policy::default()).then(|| Box::new(policy)),
        not_stored: not_stored(headers, &directives.directives),
    }
}

/// The parts of a response that speak of its time.
struct Said {
    directives: Directives,
    /// Seconds from Date to Expires.
    expires: Option<u32>,
}

impl Said {
    /// Without the validator and the tags.
    fn policy(&self, age: u32, stale_if_error_always: bool) -> Policy<'static> {
        let directives = &self.directives;
        let lifetime = match (directives.s_maxage, directives.max_age) {
            (Seconds::Unsaid, Seconds::Unsaid) => self.expires,
            (Seconds::Unsaid, seconds) | (seconds, _) => seconds.or_zero(),
        };
        let lifetime = if directives.no_cache { Some(0) } else { lifetime };
        let is_strict = directives.must_revalidate || directives.no_cache;
        // A document without any time is validated at each use, unless it says otherwise itself.
        let while_revalidate =
            directives.stale_while_revalidate.or_zero().or((lifetime == Some(0)).then_some(0));
        Policy {
            lifetime: lifetime.map(|lifetime| Duration::from_secs(lifetime.saturating_sub(age).into())),
            stale_while_revalidate: if is_strict { Some(0) } else { while_revalidate },
            stale_if_error: match (stale_if_error_always, is_strict) {
                (true, true) => None,
                (true, false) => directives.stale_if_error.or_zero().filter(|&seconds| seconds > 0),
                (false, true) => Some(0),
                (false, false) => directives.stale_if_error.or_zero(),
            },
            is_revalidated: directives.no_cache,
            is_not_stored: false,
            validator: None,
            tags: "".into(),
        }
    }
}

/// Why the response must not be stored.
fn not_stored(headers: &HeaderMap, directives: &Directives) -> Option<&'static str> {
    match () {
        () if directives.no_store => Some("its source says no-store"),
        () if directives.private => Some("its source says private"),
        () if headers.contains_key(SET_COOKIE) => Some("its source sets a cookie with it"),
        () if !headers.get_all(VARY).iter().all(varies_by_encoding) => {
            Some("its source says that it varies by more than Accept-Encoding")
        }
        () => None,
    }
}

/// The coding is undone before a document is stored, so it makes no difference.
fn varies_by_encoding(vary: &HeaderValue) -> bool {
    let is_harmless = |name: &[u8]| name.is_empty() || name.eq_ignore_ascii_case(b"accept-encoding");
    vary.as_bytes().split(|&byte| byte == b',').all(|name| is_harmless(name.trim_ascii()))
}

/// Seconds from Date to Expires; zero where Expires is no date (RFC 9111, section 5.3), twice, or not later.
fn expires(headers: &HeaderMap, now: SystemTime) -> u32 {
    let date = |name| {
        let mut values = headers.get_all(name).iter();
        let date = values.next().and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
        date.filter(|_| values.next().is_none())
    };
    let Some(expires) = date(EXPIRES) else { return 0 };
    let until = expires.duration_since(date(DATE).unwrap_or(now)).unwrap_or_default();
    super::directives::saturated(until.as_secs())
}

/// The Age: the first of several, and none where it is no number (RFC 9111, section 5.1).
fn age(headers: &HeaderMap) -> u32 {
    let value = headers.get(AGE).map(HeaderValue::as_bytes).unwrap_or_default();
    let first = value.split(|&byte| byte == b',').next().unwrap_or_default();
    super::directives::number(first.trim_ascii()).unwrap_or(0)
}

/// The validator, as it came: a tag, or for want of one a date.
fn validator(headers: &HeaderMap) -> Option<Validator<'static>> {
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        let text = values.next().filter(|_| values.next().is_none())?.as_bytes();
        (!text.is_empty() && text.len() <= LONGEST_VALIDATOR).then(|| text.to_owned().into())
    };
    match headers.contains_key(ETAG) {
        true => only(ETAG).map(Validator::Etag),
        false => only(LAST_MODIFIED).map(Validator::LastModified),
    }
}

#[cfg(test)]
#[path = "freshness_tests.rs"]
mod tests;
