//! The HTTP front end: documents with headers for caches, errors as problem+json, limits, deadlines.

use std::time::Duration;

use crate::support::command::run_to_end;
use crate::support::fake::Gate;
use crate::support::http::{Http, fetch, fetch_with};
use crate::support::temp::article;
use crate::support::{Address, Data, Node, Start, ask, eventually, timed, until};

/// A node and its HTTP address.
pub(crate) fn with_http(start: Start) -> (Node, Address) {
    let mut node = start.arg("--http-port").arg("0").run();
    let http = node.serves_http();
    (node, http)
}

/// A proxy with HTTP over three articles.
pub(crate) struct House {
    pub(crate) data: Data,
    origin: Node,
    pub(crate) proxy: Node,
    pub(crate) http: Address,
}

pub(crate) fn house(words: &str) -> House {
    let data = Data::articles(3);
    // Files that are written just before they are asked for are not to be fetched twice.
    let origin = Start::origin(data.path(), "--changes off").run();
    let (proxy, http) = with_http(Start::proxy(origin.address, words));
    House { data, origin, proxy, http }
}

#[test]
fn a_document_has_the_headers_that_caches_need() {
    let house = house("--ttl 60s --ttl-jitter 0 --stale-while-revalidate 5s --stale-if-error 10m");
    let miss = fetch(house.http, "/article/1");
    assert_eq!((miss.code, miss.header("content-type")), (200, "application/json"));
    assert_eq!(miss.text(), article(1), "the document itself");
    let node = format!("dproxy-{}", house.proxy.port());
    assert_eq!(miss.header("cache-status"), format!("{node}; fwd=miss"));
    let hit = fetch(house.http, "/article/1");
    let left: u32 =
        hit.header("cache-status").rsplit_once("ttl=").expect("a time left").1.parse().expect("seconds");
    assert!(
        hit.header("cache-status").starts_with(&format!("{node}; hit; ttl=")) && (50..=60).contains(&left)
    );
    let age: u32 = hit.header("age").parse().expect("an age");
    // A cache downstream subtracts the age: its remaining time is that of the proxy.
    let control = format!("max-age={}, stale-while-revalidate=5, stale-if-error=600", left + age);
    assert_eq!(hit.header("cache-control"), control);
    assert_eq!(house.proxy.count("hits"), 1.0, "both front ends ask the same handler");
}

#[test]
fn times_are_the_same_from_proxy_and_balancer() {
    let house =
        house("--push-ttl off --ttl 1s --ttl-jitter 0 --stale-while-revalidate 5s --stale-if-error 10m");
    let (_balancer, http) = with_http(Start::balancer(&[house.proxy.address], ""));
    let control = "max-age=1, stale-while-revalidate=5, stale-if-error=600";
    for (front, target) in [(house.http, "/article/1"), (http, "/article/2")] {
        let miss = fetch(front, target);
        assert_eq!(
            (miss.header("cache-control"), miss.header("age")),
            (control, ""),
            "fetched for this request"
        );
        let hit = fetch(front, target);
        assert_eq!(hit.header("cache-control"), control, "the whole lifetime");
        let stale = eventually("it is stale", || {
            let response = fetch(front, target);
            response.header("cache-status").contains("stale").then_some(response)
        });
        assert_eq!(stale.header("cache-control"), control);
        let ttl = stale.header("cache-status").split("ttl=").nth(1).expect("a time left");
        let ttl: i64 = ttl.split(';').next().unwrap_or(ttl).parse().expect("seconds");
        assert_eq!(ttl, 1 - stale.header("age").parse::<i64>().expect("an age"));
    }
}

#[test]
fn a_name_tells_nodes_of_machines_apart() {
    let house = house("--node-name eu-1");
    let (balancer, http) = with_http(Start::balancer(&[house.proxy.address], ""));
    for front in [house.http, http] {
        assert!(fetch(front, "/article/1").header("cache-status").starts_with("eu-1; "));
    }
    assert_eq!(house.proxy.metrics()["node_name"], "eu-1");
    let explained = fetch(house.http, "/explain?key=article/1").json();
    assert_eq!(explained["data"]["name"], "eu-1");
    let plain = ask(balancer.address, "GET article/1");
    assert!(plain.contains(&format!("\"node\":{}", house.proxy.port())), "{plain}");
}

#[test]
fn cache_status_tells_what_a_miss_waited_for() {
    let gate = Gate::default();
    let origin = gate.peer();
    let (_proxy, http) = with_http(Start::proxy(origin.address, "--ttl 50ms --fetch-deadline 20s"));
    let ask = || std::thread::spawn(move || fetch(http, "/article/1").header("cache-status").to_owned());
    let both = [ask(), ask()];
    until("both wait", || fetch(http, "/metrics").text().contains("dproxy_cache_coalesced_total 1.0\n"));
    gate.open();
    let mut both = both.map(|asked| asked.join().expect("a client"));
    both.sort();
    assert!(both[0].ends_with("; fwd=miss") && both[1].ends_with("; fwd=miss; collapsed"), "{both:?}");
    until("it was stale and is fetched anew", || {
        fetch(http, "/article/1").header("cache-status").ends_with("; fwd=stale")
    });
}

#[test]
fn a_client_with_the_current_text_gets_304() {
    let house = house("");
    let mut http = Http::connect(house.http);
    let first = http.ask("GET", "/article/1", &[], "");
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() == 34, "a strong tag: {tag}");
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let again = http.ask("GET", "/article/1", &[&format!("if-none-match: {known}")], "");
        assert_eq!((again.code, again.body.len(), again.header("etag")), (304, 0, tag.as_str()), "{known}");
    }
    assert_eq!(http.ask("GET", "/article/2", &[&format!("if-none-match: {tag}")], "").code, 200);
    let head = http.ask("HEAD", "/article/1", &[], "");
    assert_eq!((head.code, head.header("etag")), (200, tag.as_str()));
    assert_eq!(head.header("content-length"), first.body.len().to_string(), "as for a GET");
    assert_eq!(http.ask("GET", "/article/1", &[], "").code, 200, "HEAD sent no body");
}

#[test]
fn a_balancer_relays_the_same_document() {
    let house = house("");
    let (balancer, http) = with_http(Start::balancer(&[house.proxy.address], ""));
    let there = fetch(house.http, "/article/1");
    let here = fetch(http, "/article/1");
    assert_eq!((here.code, here.text(), here.header("etag")), (200, there.text(), there.header("etag")));
    let status = format!("dproxy-{}; hit; ttl=", house.proxy.port());
    let left = here.header("cache-status").strip_prefix(&status).and_then(|left| left.parse::<u32>().ok());
    let left = left.unwrap_or_else(|| panic!("no time left in {:?}", here.header("cache-status")));
    let age: u32 = here.header("age").parse().expect("an age");
    assert_eq!(here.header("cache-control"), format!("max-age={}, stale-if-error=3600", left + age));
    let line = ask(balancer.address, "GET article/1");
    assert!(!line.contains("age") && !line.contains("fresh_for"), "only on request: {line}");
    assert_eq!(fetch(http, "/article/none").code, 404);
    house.proxy.kill();
    until("no proxy is left", || fetch(http, "/article/1").code == 503);
    let gone = fetch(http, "/article/1");
    assert!(!gone.header("retry-after").is_empty());
    until("the balancer is not ready", || fetch(http, "/readyz").code == 503);
    assert_eq!(fetch(http, "/healthz").code, 200);
}

#[test]
fn errors_are_problem_json() {
    let house = house("--max-fetches 1");
    for (target, code, name) in [
        ("/article/none", 404, "NOT_FOUND"),
        ("/article", 400, "BAD_REQUEST"),
        ("/article/", 400, "BAD_REQUEST"),
        ("/article/..%2f..%2fetc", 400, "BAD_REQUEST"),
        ("/article/.hidden", 400, "BAD_REQUEST"),
        ("/%3Cscript%3E/1", 404, "NOT_FOUND"),
        ("/%1Bscript/1", 400, "BAD_REQUEST"),
    ] {
        let response = fetch(house.http, target);
        assert_eq!(
            (response.code, response.header("content-type")),
            (code, "application/problem+json"),
            "{target}"
        );
        let problem = response.json();
        assert_eq!(
            (problem["status"].as_u64(), problem["code"].as_str()),
            (Some(code.into()), Some(name)),
            "{target}"
        );
    }
    for target in ["/article/1", "/metrics", "/"] {
        let response = Http::connect(house.http).ask("DELETE", target, &[], "");
        assert_eq!(response.code, 405, "{target}");
        assert!(
            response.header("allow").contains("GET") && response.header("allow").contains("HEAD"),
            "{target}"
        );
    }
    house.data.put("article/bad", b"{");
    assert_eq!(fetch(house.http, "/article/bad").json()["code"], "ORIGIN_FAILURE");
    house.origin.kill();
    let failed = fetch(house.http, "/article/2");
    assert_eq!((failed.code, failed.json()["code"].as_str()), (502, Some("ORIGIN_FAILURE")));
}

#[test]
fn long_documents_are_compressed_on_request() {
    let house = house("");
    let text = format!("[\"{}\"]", "alpha bravo ".repeat(20_000));
    house.data.put("article/long", text.as_bytes());
    let plain = fetch(house.http, "/article/long");
    assert_eq!((plain.body.len(), plain.header("vary")), (text.len(), "accept-encoding"));
    for coding in ["gzip", "zstd"] {
        let coded = fetch_with(house.http, "/article/long", &[&format!("accept-encoding: {coding}")]);
        assert_eq!(coded.header("content-encoding"), coding);
        assert!(coded.body.len() < text.len() / 10 && coded.header("etag") != plain.header("etag"));
        let tag = format!("if-none-match: {}", coded.header("etag"));
        assert_eq!(fetch_with(house.http, "/article/long", &[&tag]).code, 304);
    }
    let gzip = fetch_with(house.http, "/article/long", &["accept-encoding: gzip"]);
    let mut gunzip = std::process::Command::new("python3");
    gunzip.args(["-c", "import sys,gzip;sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))"]);
    assert_eq!(run_to_end(gunzip, &gzip.body).stdout, plain.body);
    let short = fetch_with(house.http, "/article/1", &["accept-encoding: gzip"]);
    assert_eq!(short.header("content-encoding"), "");
}

#[test]
fn cross_origin_reads_need_cors_origin() {
    let house = house("--cors-origin https://app.example");
    let allowed = |origin: &str| {
        let response = fetch_with(house.http, "/article/1", &[&format!("origin: {origin}")]);
        assert!(response.header("vary").contains("origin"));
        response.header("access-control-allow-origin").to_owned()
    };
    assert_eq!(
        (allowed("https://app.example"), allowed("https://evil.example")),
        ("https://app.example".into(), String::new())
    );
    let headers = ["origin: https://app.example", "access-control-request-method: GET"];
    let preflight = Http::connect(house.http).ask("OPTIONS", "/article/1", &headers, "");
    assert_eq!((preflight.code, preflight.header("access-control-allow-methods")), (204, "GET, HEAD"));
    assert_eq!(preflight.header("access-control-allow-credentials"), "true");
    let read = preflight.header("access-control-allow-headers").to_ascii_lowercase();
    for name in ["traceparent", "tracestate", "baggage", "cache-control", "authorization", "if-none-match"] {
        assert!(read.split(", ").any(|it| it == name), "{name}: {read}");
    }
    let refused = fetch_with(house.http, "/article/.x", &["origin: https://app.example"]);
    assert_eq!((refused.code, refused.header("access-control-allow-origin")), (400, "https://app.example"));
    assert!(refused.header("access-control-expose-headers").contains("Retry-After"));
}

#[test]
fn options_is_answered_everywhere() {
    let house = house("");
    for target in ["/article/1", "/", "/metrics", "/nothing", "*", "/article/..%2f"] {
        let response = Http::connect(house.http).ask("OPTIONS", target, &[], "");
        assert_eq!((response.code, response.header("allow")), (204, "GET, HEAD, OPTIONS"), "{target}");
    }
    for (method, code) in [("OPTIONS", 204), ("GET", 405), ("PUT", 405)] {
        let response = Http::connect(house.http).ask(method, "/changed", &[], "");
        assert_eq!((response.code, response.header("allow")), (code, "POST, OPTIONS"), "{method}");
    }
}

#[test]
fn no_header_of_a_list_comes_in_two_lines() {
    let house = house("--cors-origin https://app.example,https://b.example");
    house.data.put("article/long", format!("[\"{}\"]", "alpha bravo ".repeat(500)).as_bytes());
    for target in
        ["/article/long", "/article/1", "/article/none", "/metrics", "/", "/app.js", "/nothing", "/healthz"]
    {
        for method in ["GET", "HEAD", "OPTIONS", "PUT"] {
            let headers = ["origin: https://b.example", "accept-encoding: gzip"];
            let response = Http::connect(house.http).ask(method, target, &headers, "");
            let mut names = response.names();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{method} {target}: {names:?}");
        }
    }
    let long = fetch_with(house.http, "/article/long", &["origin: https://b.example"]);
    assert_eq!(long.header("vary"), "accept-encoding, origin");
}

#[test]
fn slow_and_huge_request_heads_are_refused() {
    let house = house("--line-deadline 300ms --idle-deadline 600ms");
    let mut slow = Http::connect(house.http);
    slow.send(b"GET /article/1 HTTP/1.1\r\nhost:");
    let (time, closed) = timed(|| slow.is_closed());
    assert!(closed && time < Duration::from_secs(10), "{time:?}");
    let mut idle = Http::connect(house.http);
    assert_eq!(idle.ask("GET", "/article/1", &[], "").code, 200);
    assert!(idle.is_closed());
    let mut huge = Http::connect(house.http);
    let response = huge.ask("GET", "/article/1", &[&format!("x: {}", "a".repeat(20_000))], "");
    assert_eq!(response.code, 431);
    let many: Vec<String> = (0..200).map(|i| format!("x-{i}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(Http::connect(house.http).ask("GET", "/article/1", &many, "").code, 431);
}

#[test]
fn one_connection_too_many_gets_503() {
    let house = house("--max-connections 1");
    let mut first = Http::connect(house.http);
    assert_eq!(first.ask("GET", "/healthz", &[], "").code, 200);
    let told = Http::connect(house.http).response(false);
    assert_eq!(
        (told.code, told.json()["code"].as_str(), told.header("retry-after")),
        (503, Some("OVERLOADED"), "1")
    );
}

#[test]
fn a_draining_node_is_not_ready() {
    let gate = Gate::default();
    let origin = gate.peer();
    let (mut proxy, http) = with_http(Start::proxy(origin.address, "--fetch-deadline 20s"));
    assert_eq!(fetch(http, "/readyz").code, 200);
    let address = proxy.address;
    let waiting = std::thread::spawn(move || ask(address, "GET article/1"));
    until("the request is at the origin", || !origin.requests().is_empty());
    proxy.signal("TERM");
    until("it says that it is not ready", || fetch(http, "/readyz").code == 503);
    assert_eq!(fetch(http, "/healthz").code, 200);
    gate.open();
    assert!(waiting.join().expect("a client").contains("\"OK\""), "the open request is answered");
    assert!(proxy.ended().success());
}
