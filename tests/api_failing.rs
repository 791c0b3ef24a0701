//! A proxy before an API that fails for everybody, and how METRICS tell of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::before;
use crate::support::api::{Act, Api, ok, response};
use crate::support::moody::{assert_stale, is_stale};
use crate::support::{get, until};

/// What the API answers to everybody; the first is sound.
const MOODS: [fn() -> Act; 5] = [
    || ok("cache-control: max-age=1", "0"),
    || Act::Say(response("500 Internal Server Error", "", "{\"error\":\"no database\"}")),
    || Act::Say(response("401 Unauthorized", "", "{\"error\":\"this key is revoked\"}")),
    || ok("content-type: text/html", "<html>We are down for maintenance.</html>"),
    || Act::Say(response("302 Found", "location: https://login.example/", "")),
];

#[test]
fn an_api_that_has_no_document_for_anybody_gets_one_probe_per_pause() {
    for (mood, act) in MOODS.iter().enumerate().skip(1) {
        let now = Arc::new(AtomicUsize::new(0));
        let state = now.clone();
        let api = Api::start(move |_| match state.load(SeqCst) {
            0 => MOODS[0](),
            _ => act(),
        });
        let proxy = before(&api.url(), "--ttl-jitter 0 --origin-retry 100ms");
        for i in 0..20 {
            get(proxy.address, &format!("article/{i}"));
        }
        now.store(mood, SeqCst);
        until("all are stale", || (0..20).all(|i| is_stale(&proxy, &format!("article/{i}"))));
        let (before, begun) = (api.requests().len(), Instant::now());
        let mut rounds = 0;
        while begun.elapsed() < Duration::from_millis(1500) {
            assert_stale(&get(proxy.address, &format!("article/{}", rounds % 20)), 0);
            assert_eq!(get(proxy.address, &format!("cold/{rounds}"))["status"], "ORIGIN_FAILURE");
            rounds += 1;
        }
        let asked = api.requests().len() - before;
        // Eight in a row close the gate; then a probe after 0, 200, 400, 800 ms, and trials until eight keys have failed.
        assert!((8..=8 + 4 + 8 + 3).contains(&asked), "{mood}: {rounds} rounds asked {asked} times");
        assert!(rounds > 30, "{rounds} rounds are no load");
        let metrics = proxy.metrics();
        assert_eq!(metrics["origin_failing"], true, "{metrics}");
        assert_eq!(metrics["origin_failures_by"]["unfit"], metrics["origin_failures"], "{metrics}");
        now.store(0, SeqCst);
        until("it is well again", || get(proxy.address, "cold/0")["status"] == "OK");
        assert_eq!(proxy.metrics()["origin_failing"], false);
    }
}

#[test]
fn a_few_broken_documents_close_no_gate() {
    let api = Api::start(|got| match got.target.as_str() {
        "/sound/1" => ok("cache-control: max-age=0", "1"),
        target if target.starts_with("/sound/") => ok("", "1"),
        _ => Act::Say(response("500 Internal Server Error", "", "")),
    });
    let proxy = before(&api.url(), "");
    for i in 0..60 {
        assert_eq!(get(proxy.address, &format!("broken/{}", i % 7))["status"], "ORIGIN_FAILURE");
    }
    assert_eq!(get(proxy.address, "sound/1")["data"], 1);
    for i in 0..60 {
        assert_eq!(get(proxy.address, &format!("broken/{i}"))["status"], "ORIGIN_FAILURE");
        // At worst it waits for a probe with a document that was sound.
        assert_eq!(get(proxy.address, &format!("sound/{i}"))["data"], 1, "{i}");
    }
    assert_eq!(proxy.metrics()["origin_failing"], false);
    assert_eq!(api.requests().iter().filter(|got| got.target.starts_with("/broken/")).count(), 120);
}

#[test]
fn metrics_tell_of_the_source() {
    let api = Api::start(|got| match (got.target.as_str(), got.header("if-none-match")) {
        ("/a/1", "\"7\"") => Act::Say(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()),
        ("/a/1", _) => ok("etag: \"7\"|cache-control: max-age=0, stale-while-revalidate=0", "[1]"),
        ("/a/2", _) => Act::Say(response("503 Busy", "", "")),
        ("/a/3", _) => Act::Last(Vec::new()),
        ("/a/4", _) => Act::Say(response("429 Too Many Requests", "retry-after: 0", "")),
        _ => Act::Last(b"no http".to_vec()),
    });
    let proxy = before(&api.url(), "");
    for key in ["a/1", "a/1", "a/2", "a/3", "a/1", "a/4", "a/1", "a/5"] {
        get(proxy.address, key);
    }
    let metrics = proxy.metrics();
    let told = |name: &str| metrics[name].as_u64().unwrap_or_else(|| panic!("{name}: {metrics}"));
    assert_eq!((told("revalidations"), told("not_modified"), told("origin_bytes")), (3, 3, 3));
    let by = &metrics["origin_failures_by"];
    assert_eq!(
        (&by["unfit"], &by["closed"], &by["full"], &by["garbage"]),
        (&1.into(), &1.into(), &1.into(), &1.into())
    );
    assert_eq!(told("origin_failures"), 4);
}
