//! A proxy before an API: what a response stands for, one row each.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::api::{Act, Api, Got, ok, response};
use crate::support::moody::explain;
use crate::support::{Node, Start, ask, eventually, get, until};

/// A proxy before a URL.
pub(crate) fn before(url: &str, words: &str) -> Node {
    Start::role("proxy", &format!("--origin {url} {words}")).run()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn chunked(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}").into_bytes()
}

/// What comes for a key, and what the client gets: status, data if it is a document, else a word of the sentence.
type Row = (&'static str, fn() -> Act, &'static str, &'static str);

const ROWS: &[Row] = &[
    ("200", || ok("", "{ \"n\": 1.10 }"), "OK", r#"{"n":1.10}"#),
    ("200-text-plain", || ok("content-type: text/plain", "[1]"), "OK", "[1]"),
    ("200-to-the-end", || Act::Last(b"HTTP/1.0 200 OK\r\n\r\n[1]".to_vec()), "OK", "[1]"),
    ("200-chunked", || Act::Say(chunked("1\r\n[\r\n2\r\n1]\r\n0\r\n\r\n")), "OK", "[1]"),
    ("200-gzip", || ok("content-encoding: gzip", gzip(b"[ 1 ]")), "OK", "[1]"),
    (
        "200-zstd",
        || ok("content-encoding: zstd", zstd::encode_all(&b"[ 1 ]"[..], 1).expect("memory")),
        "OK",
        "[1]",
    ),
    ("200-x-gzip", || ok("content-encoding: X-Gzip", gzip(b"[1]")), "OK", "[1]"),
    ("200-identity", || ok("content-encoding: identity", "[1]"), "OK", "[1]"),
    (
        "200-after-100",
        || Act::Say([&b"HTTP/1.1 100 Continue\r\n\r\n"[..], &response("200 OK", "", "[1]")].concat()),
        "OK",
        "[1]",
    ),
    ("301", || Act::Say(response("301 Moved", "location: /v1/row/200", "")), "OK", r#"{"n":1.10}"#),
    ("302", || Act::Say(response("302 Found", "location: 200?x=1", "")), "OK", r#"{"n":1.10}"#),
    ("307", || Act::Say(response("307 Temporary", "location: 308", "")), "OK", r#"{"n":1.10}"#),
    ("308", || Act::Say(response("308 Permanent", "location: 302", "")), "OK", r#"{"n":1.10}"#),
    ("404", || Act::Say(response("404 Not Found", "", "<html>")), "NOT_FOUND", ""),
    ("410", || Act::Say(response("410 Gone", "", "")), "NOT_FOUND", ""),
    ("301-nowhere", || Act::Say(response("301 Moved", "", "")), "ORIGIN_FAILURE", "another host"),
    (
        "301-round",
        || Act::Say(response("301 Moved", "location: 301-round", "")),
        "ORIGIN_FAILURE",
        "three times",
    ),
    (
        "304-unasked",
        || Act::Say(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()),
        "ORIGIN_FAILURE",
        "status 304",
    ),
    ("204", || Act::Say(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), "ORIGIN_FAILURE", "status 204"),
    ("206", || Act::Say(response("206 Partial", "", "[1]")), "ORIGIN_FAILURE", "status 206"),
    ("300", || Act::Say(response("300 Choices", "location: 200", "")), "ORIGIN_FAILURE", "status 300"),
    ("400", || Act::Say(response("400 Bad", "", "")), "ORIGIN_FAILURE", "status 400"),
    ("401", || Act::Say(response("401 Unauthorized", "", "{}")), "ORIGIN_FAILURE", "status 401"),
    ("403", || Act::Say(response("403 Forbidden", "", "{}")), "ORIGIN_FAILURE", "status 403"),
    ("500", || Act::Say(response("500 Oops", "", "{}")), "ORIGIN_FAILURE", "status 500"),
    ("502", || Act::Say(response("502 Bad Gateway", "", "{}")), "ORIGIN_FAILURE", "status 502"),
    ("503", || Act::Say(response("503 Unavailable", "", "{}")), "ORIGIN_FAILURE", "status 503"),
    ("599", || Act::Say(response("599 What", "", "{}")), "ORIGIN_FAILURE", "status 599"),
    ("html", || ok("content-type: text/html", "<html>"), "ORIGIN_FAILURE", "not JSON"),
    ("empty", || ok("", ""), "ORIGIN_FAILURE", "not JSON"),
    ("latin-1", || ok("", b"\"\xe9\""), "ORIGIN_FAILURE", "not JSON"),
    ("nan", || ok("", "NaN"), "ORIGIN_FAILURE", "not JSON"),
    ("two", || ok("", "{}{}"), "ORIGIN_FAILURE", "not JSON"),
    ("large", || ok("", "1".repeat(3000)), "ORIGIN_FAILURE", "larger than 2048"),
    (
        "large-chunked",
        || Act::Say(chunked(&format!("1000\r\n{}\r\n0\r\n\r\n", "1".repeat(4096)))),
        "ORIGIN_FAILURE",
        "larger than 2048",
    ),
    ("brotli", || ok("content-encoding: br", "[1]"), "ORIGIN_FAILURE", "coding"),
    ("cut-chunk", || Act::Last(chunked("9\r\n[1")), "ORIGIN_FAILURE", "within the document"),
    (
        "cut-head",
        || Act::Last(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
        "ORIGIN_FAILURE",
        "closed the connection",
    ),
    ("long-header", || ok(&format!("a: {}", "b".repeat(200_000)), "[1]"), "ORIGIN_FAILURE", ""),
];

fn by_rows(got: &Got) -> Act {
    let name = got.target.trim_start_matches("/v1/row/").split('?').next().unwrap_or_default();
    ROWS.iter().find(|row| row.0 == name).map_or_else(|| ok("", "true"), |row| row.1())
}

#[test]
fn a_response_is_a_document_or_none_or_a_failure() {
    let api = Api::start(by_rows);
    let url = format!("{}/v1/{{path}}", api.url());
    let proxy = before(&url, "--max-document 2KiB --fetch-deadline 900ms");
    for (name, _, status, told) in ROWS {
        // Any answer ends a row of failures, so the gate stays open.
        assert_eq!(get(proxy.address, &format!("sound/{name}"))["data"], true);
        let reply = ask(proxy.address, &format!("GET row/{name}"));
        assert!(reply.starts_with(&format!("{{\"status\":\"{status}\",\"data\":")), "{name}: {reply}");
        assert!(reply.contains(told), "{name}: {reply}");
        let is_document = *status == "OK";
        assert_eq!(explain(&proxy, &format!("row/{name}"))["cached"], is_document, "{name}");
        if is_document {
            let again = ask(proxy.address, &format!("GET row/{name}"));
            assert!(again.contains("\"cache_hit\":true") && again.contains(told), "{name}: {again}");
        }
    }
    assert_eq!(api.requests_for("/v1/row/301-round").len(), 4, "it and three redirects");
    assert_eq!(proxy.metrics()["source"], "http");
    assert!(proxy.resident_mib() < 100, "{} MiB", proxy.resident_mib());
}

#[test]
fn a_request_is_a_get_with_the_headers_of_the_flags_and_no_others() {
    let api = Api::start(|_| ok("", "1"));
    let secret = crate::support::TempDir::new();
    let file = secret.path().join("token");
    std::fs::write(&file, "s3cret-one\n").expect("a file");
    let url = format!("{}/{{resource}}/of/{{key}}?a=b", api.url());
    let proxy = Start::role("proxy", &format!("--origin {url} --ttl 1ms"))
        .arg("--origin-header")
        .arg(&format!("Authorization: Bearer @{}", file.display()))
        .arg("--origin-header")
        .arg("X-Team: shop")
        .run();
    assert_eq!(get(proxy.address, "a/b:c/d")["data"], 1);
    let got = api.requests().remove(0);
    assert_eq!((&*got.target, got.header("host")), ("/a/of/b%3Ac/d?a=b", &*api.address.to_string()));
    assert_eq!((got.header("authorization"), got.header("x-team")), ("Bearer s3cret-one", "shop"));
    let mut names = got.names();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "authorization", "host", "user-agent", "x-team"]);
    std::fs::write(&file, "s3cret-two").expect("a file");
    until("the file is read anew", || {
        get(proxy.address, "a/b");
        api.requests().last().is_some_and(|got| got.header("authorization") == "Bearer s3cret-two")
    });
    assert!(!proxy.log().contains("s3cret"), "{}", proxy.log());
    assert!(!ask(proxy.address, "METRICS").contains("Bearer"));
}

#[test]
fn a_connection_is_used_again_and_one_that_was_closed_meanwhile_costs_no_failure() {
    let api = Api::start(|got| match got.before {
        // Each carries two requests, and is closed when a third comes.
        0 | 1 => ok("", "1"),
        _ => Act::Last(Vec::new()),
    });
    let proxy = before(&api.url(), "");
    for i in 0..7 {
        assert_eq!(get(proxy.address, &format!("a/{i}"))["data"], 1, "{i}");
    }
    assert_eq!(api.connections(), 4);
    assert_eq!((proxy.count("origin_fetches"), proxy.count("origin_failures")), (7.0, 0.0));
}

#[test]
fn a_bad_url_is_refused_in_one_line() {
    use crate::support::command::{dproxy, text};
    for (words, word) in [
        (&["proxy", "--origin", "http://a/{id}"][..], "{path}"),
        (&["proxy", "--origin", "s3://B"], "no bucket"),
        (&["proxy", "--origin", "http://me:secret@a/"], "--origin-header"),
        (&["proxy", "--origin", "http://a", "--origin-port", "80"], "cannot be used with"),
        (&["proxy", "--origin", "http://a", "--origin-header", "Host: x"], "itself"),
        (&["cluster", "--data", "az://account/docs"], "blob.core.windows.net"),
        (&["cluster", "--data", "ftp://a/"], "no source"),
        (&["origin", "--data", "http://a/"], "dproxy proxy --origin"),
        (&["proxy", "--origin", "http://a", "--origin-header", "A: @/no/such/file"], "/no/such/file"),
        (&["proxy", "--origin", "https://a", "--origin-ca", "/no/such/file"], "/no/such/file"),
    ] {
        let output = dproxy(&[words, if words[0] == "cluster" { &[] } else { &["--port", "0"] }].concat());
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(word), "{words:?}: {said}");
        let lines = said.lines().filter(|line| !line.is_empty() && !line.contains("INFO"));
        assert!(lines.clone().count() <= 1 || said.contains("Usage"), "{words:?}: {said}");
    }
    let settings = crate::support::TempDir::new();
    let file = settings.path().join("dproxy.toml");
    std::fs::write(&file, "[proxy]\norigin = \"http://a/{id}\"\n").expect("a file");
    let output = dproxy(&["check", "--config", file.to_str().expect("a path")]);
    assert!(!output.status.success() && text(&output.stderr).contains("{path}"), "{}", text(&output.stderr));
    std::fs::write(&file, "[proxy]\norigin = \"http://a\"\norigin-header = [\"X-Key: secret\"]\n")
        .expect("a file");
    let shown = text(&dproxy(&["check", "--config", file.to_str().expect("a path")]).stdout);
    assert!(shown.contains("x-key: …") || shown.contains("X-Key: …"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn what_fails_is_served_stale_and_tells_whose_fault_it_is() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let state = is_broken.clone();
    let api = Api::start(move |got| match (got.target.as_str(), state.load(Ordering::SeqCst)) {
        ("/a/1", true) => Act::Say(response("500 Oops", "", "")),
        ("/a/2", true) => Act::Say(response("502 Bad Gateway", "", "")),
        _ => ok("cache-control: max-age=1", "1"),
    });
    let proxy = before(&api.url(), "");
    for key in ["a/1", "a/2"] {
        assert_eq!(get(proxy.address, key)["data"], 1);
    }
    is_broken.store(true, Ordering::SeqCst);
    for key in ["a/1", "a/2"] {
        let stale = eventually("it is stale", || {
            let reply = get(proxy.address, key);
            (reply["stale"] == json!(true)).then_some(reply)
        });
        assert_eq!((&stale["status"], &stale["data"]), (&json!("OK"), &json!(1)), "{stale}");
    }
    assert!(explain(&proxy, "a/1")["last_error"].as_str().is_some_and(|why| why.contains("500")));
}
