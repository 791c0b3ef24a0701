//! The access log: what a line says, its rotation, what it counts, and that `simulate` reads it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::http::with_http;
use crate::support::command::{dproxy, text};
use crate::support::http::{Http, fetch};
use crate::support::temp::article;
use crate::support::{Data, Node, Start, TempDir, ask, eventually, get, until};

/// A directory for the log, and the flag for it.
fn log() -> (TempDir, PathBuf, String) {
    let directory = TempDir::new();
    let path = directory.path().join("access.log");
    let words = format!("--access-log {}", path.display());
    (directory, path, words)
}

/// The log once it has so many lines.
fn lines(path: &Path, count: usize) -> Vec<String> {
    eventually("the log has its lines", || {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (text.ends_with('\n') && lines.len() >= count).then_some(lines)
    })
}

fn origin() -> (Data, Node) {
    let data = Data::articles(2);
    let origin = Start::origin(data.path(), "--changes off").run();
    (data, origin)
}

#[test]
fn a_line_tells_who_asked_for_what_and_how_it_was_served() {
    let (data, mut origin) = origin();
    let (_directory, path, words) = log();
    let words = format!("{words} --access-log-format json --ttl 1ms --ttl-jitter 0 --origin-retry 1m");
    let (proxy, http) = with_http(Start::proxy(origin.address, &words));
    get(proxy.address, "article/1");
    fetch(http, "/article/none");
    drop(data);
    origin.signal("KILL");
    origin.ended();
    until("it is stale", || get(proxy.address, "article/1")["stale"] == true);
    ask(proxy.address, "PURGE soft article/*");
    // Of no document.
    ask(proxy.address, "METRICS");
    ask(proxy.address, "EXPLAIN article/1");
    ask(proxy.address, "PURGE article/2");
    let told: Vec<Value> = eventually("all is logged", || {
        let told: Vec<Value> =
            lines(&path, 5).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (told.last()?["path"] == "/article/2").then_some(told)
    });
    let member = |index: usize, name: &str| told[index][name].clone();
    let of = |index: usize| {
        ["method", "path", "status", "code", "cache"]
            .map(|name| member(index, name).to_string().trim_matches('"').to_owned())
            .join(" ")
    };
    assert_eq!(of(0), "GET /article/1 200 OK miss");
    assert_eq!(of(1), "GET /article/none 404 NOT_FOUND miss");
    assert_eq!(of(2), "GET /article/1 200 OK stale");
    let last = told.len() - 1;
    assert_eq!(of(last - 1), "PURGE soft /article/* 200 OK null");
    assert_eq!(of(last), "PURGE /article/2 200 OK null");
    assert_eq!(member(0, "bytes"), article(1).len());
    assert_eq!(member(0, "address"), "127.0.0.1");
    assert_eq!(member(0, "node"), proxy.port());
    assert!(member(0, "took_ms").as_f64().is_some_and(|took| took > 0.0 && took < 30_000.0));
    assert!(member(0, "time").as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')));
    until("it counts them", || proxy.metrics()["access_log"]["written"] == told.len());
    assert_eq!(proxy.metrics()["access_log"]["dropped"], 0);
}

#[test]
fn every_role_has_one_and_a_cluster_that_of_its_balancer() {
    let data = Data::articles(1);
    let (_directory, path, words) = log();
    let origin = Start::origin(data.path(), &words).run();
    let proxy = Start::proxy(origin.address, "--node-name eu-1").run();
    assert_eq!(get(origin.address, "article/1")["status"], "OK");
    let line = lines(&path, 1).remove(0);
    let length = article(1).len();
    assert!(line.starts_with("127.0.0.1 - - [") && line.contains("] \"GET /article/1\" 200 "), "{line}");
    assert!(line.contains(&format!(" 200 {length} \"-\" \"-\" - - 0.")), "{line}");

    let (_directory, path, words) = log();
    let balancer = Start::balancer(&[proxy.address], &words).run();
    get(balancer.address, "article/1");
    get(balancer.address, "article/1");
    let told = lines(&path, 2);
    assert!(told[0].contains(&format!(" 200 {length} \"-\" \"-\" miss eu-1 0.")), "{told:?}");
    assert!(told[1].contains(&format!(" 200 {length} \"-\" \"-\" hit eu-1 0.")), "{told:?}");

    let (_directory, path, words) = log();
    let words = format!("--origin-port 0 --proxy-port 0 --http-port 0 --proxies 1 {words}");
    let mut cluster =
        Start::role("cluster", &words).arg("--data").arg(data.path().to_str().expect("UTF-8")).spawn();
    let balancer = eventually("the balancer listens", || {
        let (role, address) = cluster.listens();
        (role == "balancer").then_some(address)
    });
    get(balancer, "article/1");
    cluster.signal("TERM");
    assert!(cluster.ended().success());
    assert_eq!(lines(&path, 1).len(), 1, "once, and not at each node");
}

#[test]
fn a_renamed_log_is_left_at_sighup_and_a_stop_writes_the_rest() {
    let (_data, origin) = origin();
    let (_directory, path, words) = log();
    let mut proxy = Start::proxy(origin.address, &words).run();
    get(proxy.address, "article/1");
    lines(&path, 1);
    let old = path.with_extension("1");
    fs::rename(&path, &old).expect("the log is rotated");
    proxy.signal("HUP");
    until("it is opened anew", || path.exists());
    get(proxy.address, "article/2");
    proxy.signal("TERM");
    assert!(proxy.ended().success());
    let read = |path: &Path| fs::read_to_string(path).expect("a log");
    assert!(read(&old).contains("/article/1") && !read(&old).contains("/article/2"));
    assert!(read(&path).contains("/article/2"));
}

#[test]
fn a_share_is_a_share() {
    let (_data, origin) = origin();
    let (_directory, path, words) = log();
    let (proxy, http) = with_http(Start::proxy(origin.address, &format!("{words} --access-log-share 10%")));
    let mut client = Http::connect(http);
    for _ in 0..1_000 {
        assert_eq!(client.ask("GET", "/article/1", &[], "").code, 200);
    }
    let written = eventually("some are written", || {
        let written = proxy.metrics()["access_log"]["written"].as_u64()?;
        (written >= 40).then_some(written)
    });
    assert!(written <= 200, "{written}: seven standard deviations");
    assert!(lines(&path, 40).len() <= 200);
}

#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    let (_data, origin) = origin();
    let proxy = Start::proxy(origin.address, "--access-log /dev/full").run();
    assert_eq!(get(proxy.address, "article/1")["status"], "OK");
    until("it is counted", || proxy.metrics()["access_log"]["dropped"] == 1);
    assert!(proxy.log().contains("the access log cannot be written"), "{}", proxy.log());
    let output = dproxy(&["proxy", "--port", "0", "--access-log", "/no/such/directory/log"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("name another with --access-log"), "{}", text(&output.stderr));
}

#[test]
fn simulate_reads_it() {
    let (_data, origin) = origin();
    for format in ["combined", "json"] {
        let (_directory, path, words) = log();
        let proxy = Start::proxy(origin.address, &format!("{words} --access-log-format {format}")).run();
        for key in ["article/1", "article/2", "article/1", "article/none"] {
            get(proxy.address, key);
        }
        lines(&path, 4);
        let path = path.to_str().expect("UTF-8");
        let output = dproxy(&["simulate", "--trace", path, "--max-bytes", "16KiB", "--cache-type", "lru"]);
        let told = text(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert!(told.contains("3 requests count") && told.contains("1 neither 200 nor 304"), "{told}");
    }
}

#[test]
fn an_origin_serves_http() {
    let data = Data::articles(1);
    let (origin, http) = with_http(Start::origin(data.path(), ""));
    let document = fetch(http, "/article/1");
    assert_eq!((document.code, document.text()), (200, article(1).as_str()));
    assert_eq!((document.header("cache-control"), document.header("cache-status")), ("no-cache", ""));
    assert_eq!(fetch(http, "/article/none").code, 404);
    assert_eq!((fetch(http, "/healthz").code, fetch(http, "/readyz").code), (200, 200));
    let metrics = fetch(http, "/metrics");
    for line in [
        "dproxy_requests_total{status=\"OK\"} 1\n",
        "dproxy_requests_total{status=\"NOT_FOUND\"} 1\n",
        "dproxy_changes_watchers 0",
        "role=\"origin\"} 1\n",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
    assert_eq!(fetch(http, "/").code, 400, "it has no page");
    assert_eq!(origin.count("found"), 1.0);
}
