//! HTTP by RFC 9110 and RFC 9112, byte for byte, over a plain socket.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::http::house;
use crate::support::http::{Http, fetch, fetch_with};
use crate::support::temp::article;
use crate::support::{Address, pause, until};

/// All bytes until the node closes the connection, which it must.
fn said(to: Address, request: &str) -> String {
    let mut stream = to.connect().expect("a connection");
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).expect("a node that reads");
    let mut said = Vec::new();
    // A node that has not read everything may close with a reset after its reply.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8(said).expect("text")
}

/// The codes of all responses.
fn codes(to: Address, request: &str) -> Vec<u16> {
    let said = said(to, request);
    let lines =
        said.match_indices("HTTP/1.").filter_map(|(at, _)| said[at..].split(' ').nth(1)?.parse().ok());
    lines.collect()
}

const LAST: &str = "GET /article/2 HTTP/1.1\nhost: x\nconnection: close\n\n";

#[test]
fn requests_are_answered_in_their_order() {
    let house = house("");
    let http = house.http;
    let three = format!("GET /article/1 HTTP/1.1\nhost: x\n\nHEAD /article/none HTTP/1.1\nhost: x\n\n{LAST}");
    assert_eq!(codes(http, &three), [200, 404, 200]);
    let all = said(http, &three);
    let (first, last) = (all.find(&article(1)).expect("the first"), all.find(&article(2)).expect("the last"));
    assert!(first < last && all.ends_with(&article(2)), "{all}");
}

#[test]
fn http_1_0_and_absolute_targets_are_served() {
    let house = house("--ignore-query x");
    let http = house.http;
    let old = said(http, "GET /article/1 HTTP/1.0\n\n");
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with(&article(1)), "{old}");
    let kept = format!("GET /article/1 HTTP/1.0\nconnection: keep-alive\n\n{LAST}");
    assert_eq!(codes(http, &kept), [200, 200]);
    // The host of the target counts, and the header does not (RFC 9112, 3.2.2).
    let absolute = |target: &str, host: &str| {
        format!("GET http://{target}/article/1?x=1 HTTP/1.1\nhost: {host}\nconnection: close\n\n")
    };
    assert!(said(http, &absolute("x", "elsewhere.example")).ends_with(&article(1)));
    assert_eq!(codes(http, &absolute("elsewhere.example", "x")), [421]);
}

#[test]
fn a_host_that_is_none_is_refused() {
    let house = house("");
    for (host, code) in [
        ("a b", 400),
        ("a/b", 400),
        ("a@b", 400),
        ("a\"b", 400),
        ("a?b", 400),
        ("a, b", 400),
        ("", 200),
        ("a:80", 200),
        ("[::1]:80", 200),
        ("a%20b", 200),
    ] {
        for version in ["1.0", "1.1"] {
            let request = format!("GET /article/1 HTTP/{version}\nhost: {host}\nconnection: close\n\n");
            assert_eq!(codes(house.http, &request), [code], "{host:?} {version}");
        }
    }
}

#[test]
fn ambiguous_requests_are_refused() {
    let house = house("");
    let http = house.http;
    for hosts in ["", "host: a\nhost: b\n"] {
        assert_eq!(
            codes(http, &format!("GET /article/1 HTTP/1.1\n{hosts}connection: close\n\n")),
            [400],
            "{hosts:?}"
        );
    }
    // A request without a clear end is the last one: bytes after it are never another request (RFC 9112, 6.3).
    for lengths in ["content-length: 4\ncontent-length: 5", "content-length: x", "transfer-encoding: gzip"] {
        let request = format!("GET /article/1 HTTP/1.1\nhost: x\n{lengths}\n\nabcd{LAST}");
        assert_eq!(codes(http, &request), [400], "{lengths}");
    }
    for wrong in ["hello", "GET article/1 HTTP/1.1", "GET /article/1 HTTP/3.0", "GET /article/1"] {
        assert_eq!(codes(http, &format!("{wrong}\nhost: x\n\n{LAST}")), [400], "{wrong}");
    }
}

#[test]
fn a_body_is_not_read_as_a_request() {
    let house = house("");
    let http = house.http;
    let body = "GET /article/3 HTTP/1.1\nhost: x\n\n".replace('\n', "\r\n");
    let length = body.len();
    let with_body = format!(
        "GET /article/1 HTTP/1.1\nhost: x\ncontent-length: {length}\n\n{}{LAST}",
        body.replace("\r\n", "\n")
    );
    let said = said(http, &with_body);
    assert!(said.contains(&article(1)) && !said.contains(&article(3)), "{said}");
    let posted =
        format!("POST /article/1 HTTP/1.1\nhost: x\ncontent-length: {length}\nexpect: 100-continue\n\n");
    assert_eq!(codes(http, &posted), [405], "it is not waited for, and no 100 asks for it");
    let both = format!(
        "POST /article/1 HTTP/1.1\nhost: x\ncontent-length: 4\ntransfer-encoding: chunked\n\n0\n\n{LAST}"
    );
    assert_eq!(codes(http, &both), [405], "two lengths are one too many: the connection ends");
}

/// nc sends the end of its input at once: a miss, which takes a moment, had no response then.
#[test]
fn a_client_that_has_closed_its_half_reads_the_response() {
    let house = house("");
    for (version, target, code) in
        [("1.1", "/article/2", " 200 "), ("1.0", "/article/3", " 200 "), ("1.1", "/article/none", " 404 ")]
    {
        let head = format!("GET {target} HTTP/{version}\r\nhost: x\r\n\r\n");
        let mut http = house.http.connect().expect("a node");
        http.write_all(head.as_bytes()).expect("a node");
        http.shutdown(Shutdown::Write).expect("a connection");
        let mut said = String::new();
        http.read_to_string(&mut said).expect("text");
        assert!(said.lines().next().is_some_and(|line| line.contains(code)), "{target}: {said}");
    }
}

#[test]
fn paths_may_be_percent_encoded() {
    let house = house("--ignore-query x");
    house.data.put("article/a@b:c", b"[7]");
    for target in ["/article/a@b:c", "/article/a%40b%3ac", "/%61rticle/a%40b:c", "/article/a@b:c?x=%"] {
        assert_eq!(fetch(house.http, target).text(), "[7]", "{target}");
    }
    for target in [
        "/article%2f1",
        "/article/%",
        "/article/%zz",
        "/article/%00",
        "/article/%c3",
        "/article/%1b",
        "/article/1/",
        "//article/1",
    ] {
        assert_eq!(fetch(house.http, target).code, 400, "{target}");
    }
}

#[test]
fn slow_writers_and_readers_are_disconnected() {
    let house = house("--line-deadline 400ms --write-deadline 400ms");
    let text = format!("[\"{}\"]", "alpha bravo ".repeat(60_000));
    house.data.put("article/long", text.as_bytes());
    let mut dripping = house.http.connect().expect("a connection");
    // Single bytes do not extend the deadline of the head.
    let cut = (0..400).any(|_| {
        pause(Duration::from_millis(50));
        dripping.write_all(b"G").is_err()
    });
    assert!(cut, "twenty seconds of a head");
    let mut deaf = Http::connect(house.http);
    for _ in 0..40 {
        deaf.send(b"GET /article/long HTTP/1.1\r\nhost: x\r\n\r\n");
    }
    let open = || fetch(house.http, "/metrics").text().contains("\ndproxy_http_connections 1\n");
    until("only one connection is left", open);
}

#[test]
fn codings_are_negotiated() {
    let house = house("");
    let text = format!("[\"{}\"]", "alpha bravo ".repeat(500));
    house.data.put("article/long", text.as_bytes());
    for (lines, coding) in [
        (&["accept-encoding: gzip;q=0.5, zstd;q=0.4"][..], "gzip"),
        (&["accept-encoding: gzip", "accept-encoding: zstd"], "zstd"),
        (&["accept-encoding: zstd;q=0", "accept-encoding: gzip"], "gzip"),
        (&["accept-encoding: br, identity"], ""),
        (&["accept-encoding: *;q=0"], ""),
        (&[], ""),
    ] {
        let response = fetch_with(house.http, "/article/long", lines);
        assert_eq!(
            (response.header("content-encoding"), response.header("vary")),
            (coding, "accept-encoding"),
            "{lines:?}"
        );
    }
}
