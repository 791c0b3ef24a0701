//! What is counted: one rule for hit, stale and miss wherever it is shown, and which limit of the cache binds.

use serde_json::Value;

use crate::http::with_http;
use crate::support::ask::parse;
use crate::support::command::{dproxy, text};
use crate::support::http::fetch;
use crate::support::{Data, Node, Start, TempDir, get, until};

/// A number of `/metrics`.
fn scraped(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn a_hit_is_a_hit_and_a_stale_one_stale_wherever_they_are_shown() {
    let data = Data::articles(2);
    let mut origin = Start::origin(data.path(), "--changes off").run();
    let (proxy, http) = with_http(Start::proxy(origin.address, "--ttl 50ms --origin-retry 20ms"));
    let (balancer, at_balancer) = with_http(Start::balancer(&[proxy.address], "--health-interval 50ms"));
    let words = format!("--metrics --watch --every 100ms --port {}", proxy.port());
    let mut view = Start::role("client", &words).spawn();
    view.prints();
    get(balancer.address, "article/1");
    origin.signal("KILL");
    origin.ended();
    // Some at once and some after a fetch that fails.
    until("it was served stale often", || {
        get(balancer.address, "article/1");
        get(balancer.address, "article/2");
        proxy.count("stale_served") >= 20.0
    });
    let told = proxy.metrics();
    let number = |name: &str| told[name].as_f64().unwrap_or_else(|| panic!("no {name} in {told}"));
    let (hits, stale, misses) = (number("hits"), number("stale_served"), number("misses"));
    assert_eq!(hits + misses, number("total_requests"));
    assert!(stale <= hits && misses > 20.0, "{told}");
    assert_eq!(number("hit_rate"), hits / (hits + misses));
    let prefix = &told["prefixes"][0];
    assert_eq!((&prefix["prefix"], &prefix["hit_rate"]), (&"article".into(), &told["hit_rate"]));
    let scrape = fetch(http, "/metrics");
    for (name, value) in [
        ("dproxy_cache_hits_total", hits),
        ("dproxy_cache_stale_served_total", stale),
        ("dproxy_cache_misses_total", misses),
    ] {
        assert_eq!(scraped(scrape.text(), name), value, "{name}");
    }
    let label = format!("{{node=\"{}\"}}", proxy.address);
    until("the balancer exports the same", || {
        let scrape = fetch(at_balancer, "/metrics");
        let of_node = |name: &str| scraped(scrape.text(), &format!("dproxy_node_cache_{name}{label}"));
        of_node("hits_total") == hits
            && of_node("stale_served_total") == stale
            && of_node("misses_total") == misses
            && of_node("entries") == 1.0
            && of_node("max_entries") == 10_000.0
            && of_node("bytes") > 0.0
            && of_node("evictions_total") == 0.0
    });
    // Page and terminal show ratios of the growth since they began, before the first request.
    let rounded = |ratio: f64| Value::from((ratio * 1e4).round() / 1e4);
    let (hit_ratio, stale_ratio) = (rounded(hits / (hits + misses)), rounded(stale / (hits + misses)));
    until("the terminal shows the same", || {
        let line = parse(&view.prints());
        line["hit_ratio"] == hit_ratio && line["stale_ratio"] == stale_ratio
    });
}

#[test]
fn bytes_alone_mean_bytes() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    for (words, entries, bytes, says) in [
        ("", 10_000.into(), Value::Null, "the cache holds at most 10000 entries and "),
        ("--max-bytes 1GiB", Value::Null, (1_u64 << 30).into(), ""),
        (
            "--max-bytes 1GiB --capacity 7",
            7.into(),
            (1_u64 << 30).into(),
            "the cache holds at most 7 entries and 1024 MiB",
        ),
    ] {
        let proxy = Start::proxy(origin.address, words).run();
        let told = proxy.metrics();
        assert_eq!(told["max_entries"], entries, "{words}");
        assert!(bytes.is_null() || told["max_bytes"] == bytes, "{words}: {told}");
        // The last line of the start comes behind it.
        until("it has told of its limits", || proxy.log().contains("--max-unread is"));
        assert!(proxy.log().contains(says), "{words}: {}", proxy.log());
        assert_eq!(proxy.log().contains("the cache holds"), !says.is_empty(), "{words}: {}", proxy.log());
    }
}

/// A proxy that has evicted.
fn full(words: &str) -> (Data, Node, Node) {
    let data = Data::empty();
    let document = format!("\"{}\"", "x".repeat(700));
    (1..=40).for_each(|i| data.put(&format!("a/{i}"), document.as_bytes()));
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, words).run();
    for i in 1..=40 {
        get(proxy.address, &format!("a/{i}"));
    }
    until("it has evicted", || proxy.count("evictions") > 0.0);
    (data, origin, proxy)
}

#[test]
fn the_first_eviction_says_which_limit_binds() {
    let (_data, _origin, proxy) = full("--capacity 10");
    let told = proxy.metrics();
    assert_eq!(told["evictions_by"]["bytes"], 0, "{told}");
    assert_eq!(told["evictions_by"]["entries"], told["evictions"]);
    until("it says so", || proxy.log().contains("the cache is full by --capacity: 10 entries"));
    assert_eq!(proxy.log().matches("the cache is full").count(), 1, "once");
    let (_data, _origin, proxy) = full("--max-bytes 16KiB");
    let told = proxy.metrics();
    assert_eq!(told["evictions_by"]["entries"], 0, "{told}");
    until("it says so", || proxy.log().contains("the cache is full by --max-bytes"));
}

#[test]
fn check_says_what_is_for_ever_and_what_binds() {
    let directory = TempDir::new();
    let path = directory.path().join("dproxy.toml");
    let row = |settings: &str, name: &str| {
        std::fs::write(&path, settings).expect("settings");
        let output = dproxy(&["check", "proxy", "--config", path.to_str().expect("UTF-8")]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let told = text(&output.stdout);
        let line = told.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in {told}"))
            .split_once(name)
            .expect("a row")
            .1
            .trim()
            .to_owned()
    };
    assert!(row("[proxy]\n", "ttl").starts_with("30s "));
    assert!(row("[proxy]\ncache-type = \"lru\"\n", "ttl").starts_with("for ever "));
    assert!(row("[proxy]\ncache-type = \"lru\"\nttl = 5\n", "ttl").starts_with("5 "));
    assert!(row("[proxy]\n", "capacity").starts_with("10000 "));
    assert!(row("[proxy]\nmax-bytes = \"1GiB\"\n", "capacity").starts_with("no bound "));
}
