//! A proxy before an API: what is kept, for how long, and how it is asked for again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::before;
use crate::http::with_http;
use crate::support::api::{Act, Api, ok, response};
use crate::support::ask::parse;
use crate::support::http::fetch;
use crate::support::moody::explain;
use crate::support::{Session, Start, ask, at_once, get, pause, until};

#[test]
fn an_unchanged_document_is_kept_and_its_time_renewed() {
    let api = Api::start(|got| match (got.target.as_str(), got.header("if-none-match")) {
        ("/a/etag", "W/\"1\"") => Act::Say(b"HTTP/1.1 304 Not Modified\r\netag: W/\"1\"\r\n\r\n".to_vec()),
        ("/a/etag", "") => ok("etag: W/\"1\"|last-modified: yesterday", "{\"n\":1}"),
        ("/a/date", "") if got.header("if-modified-since") == "yesterday" => {
            Act::Say(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec())
        }
        ("/a/date", "") => ok("last-modified: yesterday", "{\"n\":2}"),
        _ => Act::Say(response("400 Bad", "", "")),
    });
    let proxy = before(&api.url(), "--ttl 50ms --ttl-jitter 0");
    for (key, n) in [("a/etag", 1), ("a/date", 2)] {
        let target = format!("/{key}");
        assert_eq!(get(proxy.address, key)["data"]["n"], n);
        assert_eq!(explain(&proxy, key)["validator"], true);
        until("it is validated three times", || {
            assert_eq!(get(proxy.address, key)["data"]["n"], n);
            api.requests_for(&target).len() >= 4
        });
        let got = api.requests_for(&target);
        assert!(got[0].header("if-none-match").is_empty() && got[0].header("if-modified-since").is_empty());
        // A date is sent only for want of a tag.
        assert_eq!(got[1].header("if-modified-since").is_empty(), n == 1);
    }
    let (asked, same) = (proxy.count("revalidations"), proxy.count("not_modified"));
    assert!(asked >= 6.0 && same == asked, "{same} of {asked}");
    assert_eq!(proxy.count("origin_failures"), 0.0);
}

#[test]
fn a_document_lives_as_long_as_its_api_says() {
    let api = Api::start(|got| match got.target.as_str() {
        "/a/long" => ok("cache-control: max-age=600", "1"),
        "/a/edge" => ok("cache-control: max-age=600|cdn-cache-control: max-age=60", "1"),
        "/a/aged" => ok("cache-control: max-age=600|age: 500", "1"),
        "/a/none" => ok("", "1"),
        "/a/each" => ok("cache-control: no-cache|etag: \"1\"", "1"),
        _ => Act::Say(response("404 Not Found", "cache-control: max-age=60", "")),
    });
    let proxy = before(&api.url(), "--ttl 30s --ttl-jitter 0 --min-ttl 40s --max-ttl 300s");
    for (key, left) in
        [("a/long", 300.0), ("a/edge", 60.0), ("a/aged", 100.0), ("a/none", 40.0), ("b/none", 60.0)]
    {
        get(proxy.address, key);
        let told = explain(&proxy, key);
        let ttl = told["ttl_left_seconds"].as_f64().unwrap_or_else(|| panic!("{key}: {told}"));
        assert!(ttl <= left && ttl > left - 20.0, "{key}: {ttl} of {left}");
    }
    assert!(get(proxy.address, "b/none")["cache_hit"] == true, "a NOT_FOUND with a time of its own");
    for _ in 0..3 {
        assert_eq!(get(proxy.address, "a/each")["cache_hit"], false, "each use asks first");
    }
    assert_eq!(api.requests_for("/a/each").len(), 3);
}

#[test]
fn what_must_not_be_stored_is_served_to_each_by_a_fetch_of_its_own() {
    const MANY: usize = 8;
    let (asking, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, high) = (asking, most.clone());
    let api = Api::start(move |got| {
        let headers = match got.target.as_str() {
            "/a/cookie" => "set-cookie: a=b",
            "/a/vary" => "vary: accept-language",
            "/a/private" => "cache-control: private, max-age=60",
            _ => "cache-control: no-store",
        };
        let at_once = now.fetch_add(1, SeqCst) + 1;
        high.fetch_max(at_once, SeqCst);
        if got.target == "/a/many" {
            // Until all are here, if they come.
            let begun = Instant::now();
            while high.load(SeqCst) < MANY && begun.elapsed() < Duration::from_millis(500) {
                pause(Duration::from_millis(1));
            }
        }
        now.fetch_sub(1, SeqCst);
        ok(headers, "1")
    });
    let proxy = before(&api.url(), "");
    for (key, why) in
        [("a/cookie", "cookie"), ("a/vary", "varies"), ("a/private", "private"), ("a/many", "no-store")]
    {
        for _ in 0..2 {
            let reply = get(proxy.address, key);
            assert_eq!((&reply["data"], &reply["cache_hit"]), (&json!(1), &json!(false)), "{key}");
        }
        let told = explain(&proxy, key);
        assert!(told["not_kept"].as_str().is_some_and(|told| told.contains(why)), "{told}");
        assert_eq!(told["cached"], false, "{key}");
    }
    most.store(0, SeqCst);
    let replies = at_once(vec![(); MANY], |()| get(proxy.address, "a/many"));
    assert!(replies.iter().all(|reply| reply["data"] == 1));
    assert_eq!(most.load(SeqCst), MANY, "none waited for another's fetch");
    assert_eq!(proxy.log().matches("not stored").count(), 1, "{}", proxy.log());
}

#[test]
fn an_api_that_asks_for_a_pause_gets_no_request_meanwhile() {
    let closed = Arc::new(AtomicUsize::new(0));
    let state = closed.clone();
    let api = Api::start(move |_| match state.load(SeqCst) {
        0 => ok("cache-control: max-age=1", "1"),
        _ => Act::Say(response("429 Too Many Requests", "retry-after: 3", "")),
    });
    let proxy = before(&api.url(), "--ttl-jitter 0");
    for i in 0..20 {
        assert_eq!(get(proxy.address, &format!("a/{i}"))["data"], 1);
    }
    closed.store(1, SeqCst);
    until("all are stale", || (0..20).all(|i| explain(&proxy, &format!("a/{i}"))["state"] == "stale"));
    let before = api.requests().len();
    let begun = Instant::now();
    let mut session = Session::open(proxy.address);
    let (mut held, mut cold) = (0, Value::Null);
    while begun.elapsed() < Duration::from_millis(2500) {
        let replies = session.ask_many(0..20, |id| format!("GET a/{id}"));
        assert!(replies.values().all(|reply| reply.contains("\"status\":\"OK\"")), "{replies:?}");
        held += replies.len();
        cold = get(proxy.address, "cold/1");
    }
    let asked = api.requests().len() - before;
    // Those that were on their way when the first answer came.
    assert!((1..=20).contains(&asked), "{held} requests asked {asked} times");
    assert_eq!(cold["status"], "ORIGIN_FAILURE", "{cold}");
    assert!(cold["data"].as_str().is_some_and(|why| why.contains("asked for a pause")), "{cold}");
    closed.store(0, SeqCst);
    until("it is asked again", || get(proxy.address, "cold/1")["status"] == "OK");
    assert!(begun.elapsed() >= Duration::from_secs(3), "after {:?}", begun.elapsed());
    assert_eq!(proxy.metrics()["origin_failing"], false);
}

#[test]
fn a_purge_asks_anew_and_a_soft_one_validates() {
    let api = Api::start(|got| match got.header("if-none-match") {
        "" => ok("etag: \"1\"|cache-control: max-age=600", "1"),
        _ => Act::Say(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()),
    });
    let proxy = before(&api.url(), "");
    get(proxy.address, "a/1");
    ask(proxy.address, "PURGE a/1");
    assert_eq!(get(proxy.address, "a/1")["cache_hit"], false);
    ask(proxy.address, "PURGE soft a/1");
    until("it is fresh again", || {
        get(proxy.address, "a/1");
        explain(&proxy, "a/1")["state"] == "fresh"
    });
    let tags: Vec<String> = api.requests().iter().map(|got| got.header("if-none-match").to_owned()).collect();
    assert_eq!(tags, ["", "", "\"1\""]);
}

#[test]
fn the_first_not_found_of_an_api_that_was_failing_removes_nothing() {
    let mood = Arc::new(AtomicUsize::new(0));
    let state = mood.clone();
    let api = Api::start(move |_| match state.load(SeqCst) {
        0 => ok("cache-control: max-age=1", "1"),
        1 => Act::Say(response("502 Bad Gateway", "", "")),
        _ => Act::Say(response("404 Not Found", "", "")),
    });
    let proxy = before(&api.url(), "--ttl-jitter 0 --origin-retry 100ms");
    get(proxy.address, "a/1");
    mood.store(1, SeqCst);
    until("the API is held to fail", || {
        get(proxy.address, "cold/1");
        proxy.metrics()["origin_failing"] == true
    });
    until("it is stale", || explain(&proxy, "a/1")["state"] == "stale");
    mood.store(2, SeqCst);
    until("the API answers again", || {
        assert_eq!(get(proxy.address, "a/1")["status"], "OK");
        proxy.metrics()["origin_failing"] == false
    });
    until("it is believed", || get(proxy.address, "a/1")["status"] == "NOT_FOUND");
}

#[test]
fn what_an_api_says_is_passed_on_to_caches_in_front() {
    let api = Api::start(|got| {
        let control = match got.target.as_str() {
            "/a/strict" => "max-age=60, must-revalidate",
            "/a/each" => "no-cache",
            "/a/none" => "no-store",
            "/a/says" => "max-age=60, stale-while-revalidate=7, stale-if-error=0",
            _ => "max-age=60",
        };
        ok(&format!("cache-control: {control}|age: 9|etag: \"1\""), "1")
    });
    let words = "--ttl-jitter 0 --stale-while-revalidate 5s --stale-if-error 10m";
    let (proxy, http) = with_http(Start::role("proxy", &format!("--origin {} {words}", api.url())));
    let (_balancer, over) = with_http(Start::balancer(&[proxy.address], ""));
    for front in [http, over] {
        for (key, control) in [
            ("strict", "max-age=60, must-revalidate"),
            ("each", "max-age=9, must-revalidate"),
            ("none", "no-store"),
            ("says", "max-age=60, stale-while-revalidate=7"),
            ("usual", "max-age=60, stale-while-revalidate=5, stale-if-error=600"),
        ] {
            let response = fetch(front, &format!("/a/{key}"));
            assert_eq!((response.header("cache-control"), response.text()), (control, "1"), "{key}");
            let age: u32 = response.header("age").parse().unwrap_or_default();
            assert!((9..40).contains(&age), "{key}: {age}");
        }
    }
}

#[test]
fn a_purge_of_a_tag_takes_the_documents_that_the_api_gave_it_and_no_others() {
    let api = Api::start(|got| match (got.target.as_str(), got.header("if-none-match")) {
        ("/a/1", "") => {
            ok("etag: \"1\"|surrogate-key: eu de/berlin|cache-control: max-age=0, stale-if-error=60", "1")
        }
        // What it leaves out is as it was.
        ("/a/1", _) => Act::Say(b"HTTP/1.1 304 Not Modified\r\ncache-control: max-age=60\r\n\r\n".to_vec()),
        ("/a/2", _) => ok("cache-tag: us, eu", "2"),
        ("/a/3", _) => ok("cache-groups: \"us\"", "3"),
        _ => ok("", "4"),
    });
    let proxy = before(&api.url(), "--ttl 1h");
    let balancer = Start::balancer(&[proxy.address], "").run();
    let fetched = || {
        ["a/1", "a/2", "a/3", "b/eu"].map(|key| {
            assert_eq!(get(balancer.address, key)["status"], "OK");
            api.requests_for(&format!("/{key}")).len()
        })
    };
    let purged = |what: &str| parse(&ask(balancer.address, &format!("PURGE {what}")));
    assert_eq!((fetched(), fetched()), ([1, 1, 1, 1], [2, 1, 1, 1]), "the first was validated");
    assert_eq!(explain(&proxy, "a/1")["tags"], json!(["eu", "de/berlin"]));
    assert_eq!(purged("tag:eu")["data"]["purged"], 2);
    assert_eq!(fetched(), [3, 2, 1, 1]);
    assert_eq!(purged("tag:de/berlin")["data"]["purged"], 1);
    assert_eq!(purged("soft tag:us")["data"]["purged"], 2);
    assert_eq!(explain(&proxy, "a/2")["state"], "stale");
    assert_eq!(get(proxy.address, "a/3")["stale"], true);
    assert_eq!(purged("tag:nobody")["data"]["purged"], 0);
    assert_eq!(purged("tag:")["status"], "BAD_REQUEST");
}
