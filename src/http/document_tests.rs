//! Responses to replies: headers, times, codings.

use super::*;
use crate::wire::{Document, Served};

fn respond(reply: Reply, headers: &[(&'static str, &'static str)]) -> Response {
    let pairs =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let headers: HeaderMap = pairs.collect();
    response(reply, &headers, ", stale-if-error=60").unwrap_or_else(|long| long.encode())
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn document(text: &str) -> Document {
    Document::parse(text.as_bytes(), 100_000).unwrap()
}

const NO_TERMS: Terms = Terms {
    lifetime: None,
    stale_while_revalidate: 0,
    stale_if_error: 0,
    must_revalidate: false,
    not_stored: false,
    was_stale: false,
    collapsed: false,
};
const SERVED: Served = Served {
    cache_hit: true,
    node: 8001,
    age: 18,
    stale: false,
    fresh_for: Some(12),
    name: None,
    terms: NO_TERMS,
};

#[test]
fn headers_say_how_a_document_was_served() {
    let hit = respond(Reply::document(document("{}")).with(SERVED), &[]);
    assert_eq!(header(&hit, "cache-status"), "dproxy-8001; hit; ttl=12");
    assert_eq!(header(&hit, "cache-control"), "max-age=30, stale-if-error=60");
    assert_eq!((header(&hit, "age"), header(&hit, "content-type")), ("18", "application/json"));
    let stale = Served { stale: true, fresh_for: Some(0), ..SERVED };
    let stale = respond(Reply::document(document("{}")).with(stale), &[]);
    assert_eq!(header(&stale, "cache-status"), "dproxy-8001; hit; ttl=0; detail=stale");
    assert_eq!(header(&stale, "cache-control"), "max-age=0, stale-if-error=60");
    let kept = Served { fresh_for: None, cache_hit: false, ..SERVED };
    let kept = respond(Reply::document(document("{}")).with(kept), &[]);
    assert_eq!(
        (header(&kept, "cache-control"), header(&kept, "cache-status")),
        ("no-cache", "dproxy-8001; fwd=miss")
    );
}

#[test]
fn a_relayed_line_is_the_same_document() {
    let line =
        br#"{"status": "OK", "data": {"a": 1}, "cache_hit": true, "node": 8002.0, "stale":true, "age":3}"#;
    let relayed = respond(Reply::relayed(Status::Ok, Bytes::from_static(line)), &[]);
    let own = respond(Reply::document(document(r#"{"a":1}"#)).with(SERVED), &[]);
    assert_eq!(header(&relayed, "etag"), header(&own, "etag"));
    assert_eq!(header(&relayed, "cache-status"), "dproxy-8002; hit; ttl=0; detail=stale");
    assert_eq!(header(&relayed, "age"), "3");
    let missing = br#"{"status":"NOT_FOUND","data":null,"cache_hit":false,"node":8002}"#;
    let missing = respond(Reply::relayed(Status::NotFound, Bytes::from_static(missing)), &[]);
    assert_eq!((missing.status(), header(&missing, "cache-control")), (StatusCode::NOT_FOUND, "no-store"));
}

#[test]
fn times_are_told_by_the_whole_lifetime() {
    let terms = Terms { lifetime: Some(30), stale_if_error: 60, ..NO_TERMS };
    let of = |served: Served| respond(Reply::document(document("{}")).with(served), &[]);
    let headers = |response: &Response| {
        ["cache-control", "age", "cache-status"].map(|name| header(response, name).to_owned())
    };
    let young = of(Served { age: 1, fresh_for: Some(28), terms, ..SERVED });
    assert_eq!(headers(&young), ["max-age=30, stale-if-error=60", "1", "dproxy-8001; hit; ttl=29"]);
    let stale = of(Served { age: 37, stale: true, fresh_for: Some(0), terms, ..SERVED });
    let past = "dproxy-8001; hit; ttl=-7; detail=stale";
    assert_eq!(headers(&stale), ["max-age=30, stale-if-error=60", "37", past]);
    let purged = of(Served { age: 10, stale: true, fresh_for: Some(20), terms, ..SERVED });
    let now = "dproxy-8001; hit; ttl=0; detail=stale";
    assert_eq!(headers(&purged), ["max-age=10, stale-if-error=60", "10", now], "stale in front, too");
    let just = of(Served { age: 29, stale: true, fresh_for: Some(0), terms, ..SERVED });
    assert_eq!(headers(&just), ["max-age=30, stale-if-error=60", "30", now], "the lifetime stays whole");
    let fetched = Served { cache_hit: false, age: 0, ..SERVED };
    let missed = of(Served { terms, ..fetched });
    assert_eq!(headers(&missed), ["max-age=30, stale-if-error=60", "", "dproxy-8001; fwd=miss"]);
    let waited = of(Served { terms: Terms { was_stale: true, collapsed: true, ..terms }, ..fetched });
    assert_eq!(header(&waited, "cache-status"), "dproxy-8001; fwd=stale; collapsed");
}

#[test]
fn what_a_source_forbids_is_forbidden_to_caches_in_front() {
    let control = |terms: Terms| {
        let terms = Terms { lifetime: Some(30), ..terms };
        let own = respond(Reply::document(document("{}")).with(Served { terms, ..SERVED }), &[]);
        let line = Reply::document(document("{}")).with(Served { terms, ..SERVED });
        let mut bytes = Vec::new();
        line.frame(None, true, &mut bytes);
        bytes.pop();
        let relayed = respond(Reply::relayed(Status::Ok, Bytes::from(bytes)), &[]);
        assert_eq!(header(&own, "cache-control"), header(&relayed, "cache-control"));
        header(&own, "cache-control").to_owned()
    };
    assert_eq!(control(NO_TERMS), "max-age=30", "the flags say more, and its source less");
    assert_eq!(control(Terms { must_revalidate: true, ..NO_TERMS }), "max-age=30, must-revalidate");
    assert_eq!(control(Terms { not_stored: true, ..NO_TERMS }), "no-store");
    let both = Terms { stale_while_revalidate: 5, stale_if_error: 600, ..NO_TERMS };
    assert_eq!(control(both), "max-age=30, stale-while-revalidate=5, stale-if-error=600");
}

#[test]
fn a_balancer_tells_the_staleness_that_its_proxy_allows() {
    let line = br#"{"status":"OK","data":{},"cache_hit":true,"node":8002,"age":3,"fresh_for":6,"lifetime":10,"stale_while_revalidate":5,"stale_if_error":600}"#;
    let relayed = respond(Reply::relayed(Status::Ok, Bytes::from_static(line)), &[]);
    assert_eq!(header(&relayed, "cache-control"), "max-age=10, stale-while-revalidate=5, stale-if-error=600");
    assert_eq!(header(&relayed, "cache-status"), "dproxy-8002; hit; ttl=7");
}
