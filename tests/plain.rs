//! The plain protocol to the byte: golden transcripts of all three roles, and the promised fields of METRICS.

use serde_json::Value;

use crate::support::ask::one_line;
use crate::support::{Address, Data, Node, Start, ask, exchange, get, until};

/// The documents of the transcripts.
pub(crate) fn golden_data() -> Data {
    let data = Data::empty();
    data.put(
        "article/1",
        b"{\r\n\t\"id\": 1,\r\n  \"price\" : 1.10,\r\n  \"title\": \"a  \\u00e9 \\/\"\r\n}\r\n",
    );
    std::fs::create_dir(data.path().join("shopeu")).expect("a directory for nested keys");
    data.put("shop/eu/shoe:42+red", b"[ 1E+2, -0 ]\n");
    data.put("broken/1", b"{\"cut\": ");
    data
}

#[test]
fn an_origin_keeps_to_the_transcript() {
    let data = golden_data();
    let origin = Start::origin(data.path(), "").run();
    play(include_str!("golden/origin.txt"), origin.address, 0);
}

#[test]
fn a_proxy_keeps_to_the_transcript() {
    let data = golden_data();
    let origin = Start::origin(data.path(), "").run();
    for words in ["", "--cache-type lru"] {
        let proxy = Start::proxy(origin.address, words).run();
        play(include_str!("golden/proxy.txt"), proxy.address, proxy.port());
    }
}

#[test]
fn a_balancer_keeps_to_the_transcript() {
    let data = golden_data();
    let origin = Start::origin(data.path(), "").run();
    for strategy in ["round_robin", "least_loaded"] {
        let proxy = Start::proxy(origin.address, "").run();
        let balancer = Start::balancer(&[proxy.address], &format!("--strategy {strategy}")).run();
        play(include_str!("golden/balancer.txt"), balancer.address, proxy.port());
    }
}

#[test]
fn an_origin_counts_its_requests() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    assert_eq!(origin.count("total_requests"), 0.0);
    for path in ["article/1", "article/2", "article/1"] {
        get(origin.address, path);
    }
    assert_eq!(origin.count("total_requests"), 3.0, "GETs count, METRICS do not");
    assert_start_time(&origin.metrics());
}

#[test]
fn a_proxy_counts_its_requests() {
    let data = Data::articles(2);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let fresh = proxy.metrics();
    assert_start_time(&fresh);
    for name in ["total_requests", "hit_rate", "hits", "misses", "origin_fetches"] {
        assert_eq!(fresh[name].as_f64(), Some(0.0), "{name} of {fresh}");
    }
    for path in ["article/1", "article/1", "article/1", "article/2", "article/404"] {
        get(proxy.address, path);
    }
    ask(proxy.address, "no request at all");
    let counted = proxy.metrics();
    assert_eq!(counted["total_requests"], 5, "{counted}");
    assert_eq!((counted["hits"].as_u64(), counted["misses"].as_u64()), (Some(2), Some(3)), "{counted}");
    assert_eq!(counted["hit_rate"].as_f64(), Some(0.4), "{counted}");
    assert_eq!(counted["origin_fetches"], 3, "{counted}");
    assert_eq!(counted["start_time"], fresh["start_time"]);
}

#[test]
fn a_balancer_shows_the_cluster() {
    let data = Data::articles(3);
    let origin = Start::origin(data.path(), "").run();
    let proxies = [(); 2].map(|()| Start::proxy(origin.address, "").run());
    let addresses = proxies.each_ref().map(|proxy| proxy.address);
    let balancer = Start::balancer(&addresses, "--strategy least-loaded --health-interval 100ms").run();
    for i in 0..8 {
        assert_eq!(get(balancer.address, &format!("article/{}", i % 3 + 1))["status"], "OK");
    }
    until("the balancer has polled what its proxies have counted", || polled_requests(&balancer) == 8.0);
    let metrics = balancer.metrics();
    assert_eq!(metrics["strategy"], "least_loaded");
    assert!(metrics["current_index"].is_u64(), "{metrics}");
    assert_eq!(metrics["proxies"].as_object().map(serde_json::Map::len), Some(2));
    for address in addresses {
        let proxy = &metrics["proxies"][address.to_string()];
        assert_eq!(proxy["healthy"], true, "{metrics}");
        assert_start_time(&proxy["metrics"]);
    }
}

fn polled_requests(balancer: &Node) -> f64 {
    let metrics = balancer.metrics();
    let proxies = metrics["proxies"].as_object().expect("proxies");
    proxies.values().filter_map(|proxy| proxy["metrics"]["total_requests"].as_f64()).sum()
}

/// RFC 3339 in UTC, such as `2024-05-01T10:00:00Z`, fractions allowed.
fn assert_start_time(metrics: &Value) {
    let text = metrics["start_time"].as_str().unwrap_or_else(|| panic!("no start_time in {metrics}"));
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let zoned = shape.ends_with('Z') || shape.ends_with("+00:00");
    assert!(shape.starts_with("0000-00-00T00:00:00") && zoned, "{text}");
}

/// Plays a transcript, each pair on its own connection; reports all differences together.
fn play(transcript: &str, node: Address, port: u16) {
    let pairs = pairs(transcript);
    assert!(pairs.len() > 5, "the transcript was read");
    let differences = pairs.into_iter().filter_map(|(request, expected)| {
        let answer = exchange(node, &request);
        let asked = request.escape_ascii().to_string();
        match expected {
            "" => (!answer.is_empty()).then(|| format!("asked {asked:?}, got {}", answer.escape_ascii())),
            expected => difference(&one_line(&answer, &asked), expected, port, &asked),
        }
    });
    assert_none(differences);
}

/// Fails with all differences.
pub(crate) fn assert_none(differences: impl Iterator<Item = String>) {
    let differences: Vec<String> = differences.collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

/// The requests of a transcript as bytes, and the replies as written there.
pub(crate) fn pairs(transcript: &str) -> Vec<(Vec<u8>, &str)> {
    let mut pairs = Vec::new();
    let mut lines = transcript.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let Some(request) = lines.next() {
        let request = request.strip_prefix('>').unwrap_or_else(|| panic!("not a request: {request:?}"));
        let answer = lines.next().and_then(|line| line.strip_prefix('<')).expect("an answer to each request");
        pairs.push((unescape(request.strip_prefix(' ').unwrap_or(request)), answer.trim_start_matches(' ')));
    }
    pairs
}

/// The difference between a reply and the line of a transcript.
pub(crate) fn difference(answer: &str, expected: &str, port: u16, asked: &str) -> Option<String> {
    let expected = expected.replace("<port>", &port.to_string());
    let (mark, null_too) = if expected.contains("<text?>") { ("<text?>", true) } else { ("<text>", false) };
    let fits = match expected.split_once(mark) {
        None => answer == expected,
        Some((before, behind)) => {
            let middle = answer.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
            middle.and_then(|text| serde_json::from_str(text).ok()).is_some_and(|text| match text {
                Value::String(sentence) => !sentence.is_empty(),
                Value::Null => null_too,
                _ => false,
            })
        }
    };
    (!fits).then(|| format!("asked {asked:?}, expected {expected}, got {answer}"))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = match byte {
            b'\\' => rest.next().expect("something behind a backslash"),
            plain => {
                bytes.push(plain);
                continue;
            }
        };
        bytes.push(match escaped {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let mut digit = || char::from(rest.next().expect("two digits")).to_digit(16).expect("hex");
                (digit() * 16 + digit()) as u8
            }
            other => panic!("no escape: {}", char::from(other)),
        });
    }
    bytes
}
