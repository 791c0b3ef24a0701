//! A proxy before bad APIs: whatever they send, a held document is served stale, others get a sentence, memory stays flat, no
//! connection is left, and the next document is served.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use crate::api::before;
use crate::support::api::{Act, Api, Got, ok, response};
use crate::support::{get, until};

const AT_ONCE: Duration = Duration::ZERO;
const EACH_SECOND: Duration = Duration::from_secs(1);

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

/// A response whose bytes are these, and an end of the connection.
fn last(bytes: impl AsRef<[u8]>) -> Act {
    Act::Last(bytes.as_ref().to_vec())
}

/// Bytes, and then others again and again.
fn endless(head: &str, piece: impl AsRef<[u8]>) -> Act {
    Act::Endless(head.into(), piece.as_ref().to_vec(), AT_ONCE)
}

fn drip(text: &'static str) -> Act {
    Act::Endless(text.into(), b" ".to_vec(), EACH_SECOND)
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// A name, what the API sends, and a word of the sentence that a client gets.
type Row = (&'static str, fn() -> Act, &'static str);

const ROWS: &[Row] = &[
    // Responses without an end.
    ("endless-100", || endless("", "HTTP/1.1 100 Continue\r\n\r\n"), ""),
    ("endless-103", || endless("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), ""),
    ("endless-status-line", || endless("HTTP/1.1 200 ", "x".repeat(4096)), ""),
    ("endless-header-lines", || endless("HTTP/1.1 200 OK\r\n", "a: b\r\n".repeat(100)), ""),
    ("endless-header", || endless("HTTP/1.1 200 OK\r\na: ", "x".repeat(4096)), ""),
    ("endless-body", || endless("HTTP/1.1 200 OK\r\n\r\n", "1".repeat(65_536)), "larger"),
    ("endless-chunks", || endless(CHUNKED, format!("1000\r\n{}\r\n", "1".repeat(4096))), "larger"),
    ("endless-tiny-chunks", || endless(CHUNKED, "1\r\n \r\n".repeat(500)), "larger"),
    ("endless-chunk-size", || endless(CHUNKED, "0".repeat(4096)), ""),
    ("endless-chunk-extension", || endless(&format!("{CHUNKED}1;"), "x".repeat(4096)), ""),
    ("endless-trailers", || endless(&format!("{CHUNKED}3\r\n[1]\r\n0\r\n"), "a: b\r\n".repeat(100)), ""),
    ("endless-spaces", || endless("HTTP/1.1 200 OK\r\n\r\n[", " ".repeat(65_536)), "larger"),
    (
        "a-gibibyte",
        || endless("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n", "1".repeat(65_536)),
        "larger",
    ),
    // A byte a second.
    ("drip-head", || drip("HTTP/1.1 200"), "in time"),
    ("drip-header", || drip("HTTP/1.1 200 OK\r\na: b"), "in time"),
    ("drip-body", || drip("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n["), "in time"),
    ("silent", || Act::Hang(Vec::new()), "in time"),
    // Lengths that lie.
    ("length-too-long", || last("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1]"), "within the document"),
    ("length-too-short", || last("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n[1]"), "not JSON"),
    ("length-twice", || last("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 1\r\n\r\n[1]"), ""),
    ("length-negative", || last("HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n[1]"), ""),
    (
        "length-of-2-to-the-64",
        || last("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n[1]"),
        "",
    ),
    (
        "length-of-2-to-the-63",
        || last("HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775807\r\n\r\n[1]"),
        "larger",
    ),
    (
        "chunk-of-2-to-the-64",
        || last(format!("{CHUNKED}10000000000000000\r\n[1]\r\n0\r\n\r\n")),
        "within the document",
    ),
    ("chunk-negative", || last(format!("{CHUNKED}-3\r\n[1]\r\n0\r\n\r\n")), "within the document"),
    ("chunk-without-its-end", || last(format!("{CHUNKED}3\r\n[1]0\r\n\r\n")), "within the document"),
    // Codings that lie.
    // Packed they are smaller than the largest document.
    ("gzip-bomb", || ok("content-encoding: gzip", gzip(&vec![b' '; 1 << 20])), "larger"),
    (
        "zstd-bomb",
        || ok("content-encoding: zstd", zstd::encode_all(&vec![b' '; 8 << 20][..], 1).expect("memory")),
        "larger",
    ),
    ("gzip-twice", || ok("content-encoding: gzip, gzip", gzip(&gzip(b"[1]"))), "coding"),
    ("gzip-cut", || ok("content-encoding: gzip", &gzip(b"[1]")[..12]), "not packed"),
    ("gzip-of-nothing", || ok("content-encoding: gzip", gzip(b"").repeat(90)), "not JSON"),
    ("deflate", || ok("content-encoding: deflate", "x"), "coding"),
    // Other protocols.
    ("http2-preface", || last("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ""),
    ("http2-settings", || last(b"\0\0\0\x04\0\0\0\0\0"), ""),
    ("http09", || last("[1]"), ""),
    ("switching", || last("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"), ""),
    ("tls-alert", || last(b"\x15\x03\x03\0\x02\x02\x28"), ""),
    ("smtp", || last("220 mail.example ESMTP\r\n"), ""),
    // Heads that are none.
    ("header-nul", || last(b"HTTP/1.1 200 OK\r\na: \0\r\ncontent-length: 3\r\n\r\n[1]"), ""),
    ("header-folded-name", || last("HTTP/1.1 200 OK\r\na b: c\r\ncontent-length: 3\r\n\r\n[1]"), ""),
    ("status-of-four-digits", || last("HTTP/1.1 2000 OK\r\ncontent-length: 3\r\n\r\n[1]"), ""),
    ("many-headers", || ok(&"a: b|".repeat(2000), "[1]"), ""),
    // Ways elsewhere.
    (
        "link-local",
        || Act::Say(response("302 Found", "location: http://169.254.169.254/latest/meta-data", "")),
        "another host",
    ),
    ("other-scheme", || Act::Say(response("302 Found", "location: file:///etc/passwd", "")), "another host"),
    ("in-a-circle", || Act::Say(response("302 Found", "location: in-a-circle", "")), "three times"),
    (
        "long-location",
        || Act::Say(response("302 Found", &format!("location: /{}", "a".repeat(50_000)), "")),
        "",
    ),
    // JSON that is none, or too much.
    ("deep", || ok("", "[".repeat(1900)), "not JSON"),
    ("half", || ok("", "{\"a\":"), "not JSON"),
    ("surrogate", || ok("", b"\"\xed\xa0\x80\""), "not JSON"),
    ("closed", || last(b""), "closed the connection"),
];

fn bad(got: &Got) -> Act {
    let (kind, name) = got.target.trim_start_matches('/').split_once('/').unwrap_or_default();
    let is_sound = kind == "sound" || (kind == "held" && got.number_of_its_target == 0);
    let row = ROWS.iter().find(|row| row.0 == name && !is_sound);
    row.map_or_else(|| ok("", "true"), |row| row.1())
}

#[test]
fn whatever_an_api_sends_is_an_error_or_stale() {
    assert!(ROWS.len() >= 30);
    let api = Api::start(bad);
    let words = "--max-document 2KiB --fetch-deadline 800ms --ttl 1ms --ttl-jitter 0";
    let proxy = before(&api.url(), words);
    for (name, ..) in ROWS {
        assert_eq!(get(proxy.address, &format!("held/{name}"))["data"], true, "{name}");
    }
    let resident = proxy.resident_mib();
    for (name, _, told) in ROWS {
        // A document in between: the gate stays open.
        let sound = get(proxy.address, &format!("sound/{name}"));
        assert_eq!(sound["data"], true, "before {name}: {sound}");
        let held = get(proxy.address, &format!("held/{name}"));
        assert_eq!((&held["data"], &held["stale"]), (&json!(true), &json!(true)), "{name}: {held}");
        let sound = get(proxy.address, &format!("sound/again-{name}"));
        assert_eq!(sound["data"], true, "after {name}: {sound}");
        let cold = get(proxy.address, &format!("cold/{name}"));
        assert_eq!(cold["status"], "ORIGIN_FAILURE", "{name}: {cold}");
        assert!(
            cold["data"].as_str().is_some_and(|why| why.contains(told) && why.len() > 10),
            "{name}: {cold}"
        );
    }
    assert!(proxy.resident_mib() < resident + 16, "{} MiB, {resident} before", proxy.resident_mib());
    // Those that are idle and sound are kept.
    until("the others are closed", || api.open() <= 4);
    assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
}
