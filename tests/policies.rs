//! The types of cache in a running proxy: the documents they keep, and METRICS and EXPLAIN about them.

use serde_json::{Value, json};

use crate::support::ask::parse;
use crate::support::fake::{Fault, Gate, Hello, answer_soundly};
use crate::support::{Fake, Node, Session, Start, ask, get, until};

fn explain(proxy: &Node, path: &str) -> Value {
    let reply = parse(&ask(proxy.address, &format!("EXPLAIN {path}")));
    assert_eq!(reply["status"], "OK", "{reply}");
    reply["data"].clone()
}

fn is_held(proxy: &Node, path: &str) -> bool {
    explain(proxy, path)["cached"] == true
}

fn numbers<const N: usize>(proxy: &Node, names: [&str; N]) -> [f64; N] {
    let metrics = proxy.metrics();
    names.map(|name| metrics[name].as_f64().unwrap_or_else(|| panic!("no number {name} in {metrics}")))
}

/// Ten documents are requested again and again, then a hundred others once each.
#[test]
fn a_scan_empties_lru_and_ttl_but_not_s3fifo() {
    let origin = Fake::origin();
    for (kind, left) in [("ttl", 0), ("lru", 0), ("s3fifo", 10)] {
        let proxy = Start::proxy(origin.address, &format!("--cache-type {kind} --capacity 50")).run();
        for _ in 0..4 {
            for i in 0..10 {
                get(proxy.address, &format!("hot/{i}"));
            }
        }
        for i in 0..100 {
            get(proxy.address, &format!("cold/{i}"));
        }
        let held = (0..10).filter(|i| is_held(&proxy, &format!("hot/{i}"))).count();
        assert_eq!(held, left, "{kind}");
        assert_eq!(
            numbers(&proxy, ["entries", "evictions"]),
            [50.0, 60.0],
            "{kind}: it keeps to its capacity"
        );
    }
}

#[test]
fn lru_keeps_used_and_ttl_keeps_new_documents() {
    let origin = Fake::origin();
    for (kind, kept) in [("ttl", [false, true, true]), ("lru", [true, false, true])] {
        let proxy = Start::proxy(origin.address, &format!("--cache-type {kind} --capacity 2")).run();
        for path in ["a/1", "a/2", "a/1", "a/3"] {
            get(proxy.address, path);
        }
        assert_eq!(["a/1", "a/2", "a/3"].map(|path| is_held(&proxy, path)), kept, "{kind}");
    }
}

#[test]
fn metrics_count_every_event() {
    let origin = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some("none/1") => asked.reply(r#"{"status":"NOT_FOUND","data":null}"#),
        Some("bad/1") => asked.reply("hello"),
        _ => answer_soundly(asked),
    });
    let proxy =
        Start::proxy(origin.address, "--negative-ttl 10m --ttl 10m --capacity 3 --origin-retry 1ms").run();
    let all = [
        "total_requests",
        "hits",
        "misses",
        "hit_rate",
        "origin_fetches",
        "entries",
        "bytes",
        "evictions",
        "expirations",
        "coalesced",
        "refreshes",
        "stale_served",
        "negative_hits",
        "purged",
    ];
    assert_eq!(numbers(&proxy, all), [0.0; 14]);
    for path in ["a/1", "a/1", "a/1", "none/1", "none/1", "bad/1", "a/2", "a/3"] {
        get(proxy.address, path);
    }
    let told = numbers(&proxy, ["total_requests", "hits", "misses", "hit_rate", "origin_fetches"]);
    assert_eq!(told, [8.0, 3.0, 5.0, 0.375, 5.0]);
    let told = numbers(&proxy, ["entries", "evictions", "negative_hits", "origin_failures", "purged"]);
    assert_eq!(told, [3.0, 1.0, 1.0, 1.0, 0.0]);
    let bytes = proxy.count("bytes");
    assert!((100.0..2000.0).contains(&bytes), "{bytes} bytes of three small entries");
    ask(proxy.address, "PURGE a/*");
    let told = numbers(&proxy, ["entries", "purged", "evictions", "total_requests"]);
    assert_eq!(told, [1.0, 2.0, 1.0, 8.0], "a purge is no eviction and no request");
    assert!(proxy.count("bytes") < bytes);
}

#[test]
fn metrics_name_the_most_requested_keys() {
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, "").run();
    for i in 0..100 {
        get(proxy.address, &format!("p{i}/1"));
        get(proxy.address, &format!("hot/{}", i % 2));
    }
    let metrics = proxy.metrics();
    let list = |name: &str| metrics[name].as_array().unwrap_or_else(|| panic!("{metrics}")).clone();
    let (prefixes, hot_keys) = (list("prefixes"), list("hot_keys"));
    assert_eq!((prefixes.len(), hot_keys.len()), (64, 20), "bounded");
    assert_eq!(prefixes[0], json!({"prefix": "hot", "share": 0.5, "hit_rate": 0.98}));
    assert_eq!(prefixes[1]["hit_rate"], 0.0, "{metrics}");
    let hottest: Vec<&Value> = hot_keys[..2].iter().map(|hot| &hot["share"]).collect();
    assert_eq!(hottest, [&json!(0.25), &json!(0.25)]);
    assert!(hot_keys[..2].iter().all(|hot| hot["key"].as_str().is_some_and(|key| key.starts_with("hot/"))));
    assert!(hot_keys[2]["share"].as_f64() <= Some(0.01), "{metrics}");
}

#[test]
fn explain_fetches_and_counts_nothing() {
    let gate = Gate::default();
    let origin = gate.peer();
    let proxy = Start::proxy(origin.address, "--ttl 10m --ttl-jitter 0%").run();
    let unknown = explain(&proxy, "article/1");
    let told =
        ["key", "node", "cached", "state", "age_seconds", "size", "hits", "fetch_under_way", "last_error"]
            .map(|name| unknown.get(name).cloned().unwrap_or_else(|| panic!("no {name} in {unknown}")));
    let nothing = Value::Null;
    let port = json!(proxy.address.port());
    let expected = [
        &json!("article/1"),
        &port,
        &json!(false),
        &nothing,
        &nothing,
        &nothing,
        &json!(0),
        &json!(false),
        &nothing,
    ];
    assert_eq!(told.each_ref(), expected);
    assert!(origin.requests().is_empty(), "nothing was fetched");

    let mut waiting = Session::open(proxy.address);
    waiting.send("1 GET article/1\n");
    until("EXPLAIN reports the fetch", || explain(&proxy, "article/1")["fetch_under_way"] == true);
    assert_eq!(explain(&proxy, "article/2")["fetch_under_way"], false);
    gate.open();
    waiting.reply();
    for _ in 0..3 {
        get(proxy.address, "article/1");
    }
    let before = (proxy.count("total_requests"), origin.requests().len());
    let held = explain(&proxy, "article/1");
    let told =
        ["cached", "state", "negative", "hits", "size", "fetch_under_way"].map(|name| held[name].clone());
    let size = r#"{"path":"article/1"}"#.len();
    let expected = [json!(true), json!("fresh"), json!(false), json!(3), json!(size), json!(false)];
    assert_eq!(told, expected, "{held}");
    let [age, left] = ["age_seconds", "ttl_left_seconds"].map(|name| held[name].as_f64().expect("seconds"));
    assert!(age >= 0.0 && (age + left - 600.0).abs() < 0.002, "{held}");
    ask(proxy.address, "PURGE soft article/1");
    assert_eq!(explain(&proxy, "article/1")["state"], "stale");
    assert_eq!((proxy.count("total_requests"), origin.requests().len()), before);
}

/// EXPLAIN is no use of an entry: it does not keep the entry in the cache.
#[test]
fn explain_is_no_use_of_an_entry() {
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, "--cache-type lru --capacity 2").run();
    get(proxy.address, "a/1");
    get(proxy.address, "a/2");
    explain(&proxy, "a/1");
    get(proxy.address, "a/3");
    assert!(!is_held(&proxy, "a/1") && is_held(&proxy, "a/2"));
}

#[test]
fn explain_reports_the_last_error() {
    for (fault, error) in [
        (Fault::Close, "the origin closed the connection before it had answered"),
        (
            Fault::Line("hello"),
            "the origin answered with something that is no reply of dproxy's protocol; HTTP is none",
        ),
        (Fault::Silent, "the origin did not answer in time"),
    ] {
        let origin = Fake::start(Hello::Refused, move |asked| fault.strike(asked));
        let proxy = Start::proxy(origin.address, "--fetch-deadline 300ms").run();
        let reply = get(proxy.address, "article/1");
        assert_eq!((&reply["status"], &reply["data"]), (&json!("ORIGIN_FAILURE"), &json!(error)));
        let explained = explain(&proxy, "article/1");
        assert_eq!((&explained["last_error"], &explained["cached"]), (&json!(error), &json!(false)));
        assert!(explained["last_error_age_seconds"].as_f64().is_some(), "{explained}");
    }
}
