//! Documents reach the client with their text unchanged, except for white space, over every hop.

use crate::support::api::{Api, ok};
use crate::support::http::fetch;
use crate::support::temp::article;
use crate::support::{Address, Data, Session, Start, ask, get};

/// The stored text and the served text.
const TEXTS: [(&str, &str); 14] = [
    ("{\r\n  \"a\": 1,\r\n\t\"b\": [ 1, 2 ]\r\n}\r\n", r#"{"a":1,"b":[1,2]}"#),
    ("[1.10, 1E+2, 1e-07, -0, 0.0, -0.0]", "[1.10,1E+2,1e-07,-0,0.0,-0.0]"),
    ("[123456789012345678901234567890, 1e999]", "[123456789012345678901234567890,1e999]"),
    (r#"{"z": 1, "a": 2, "z": 3, "": 4}"#, r#"{"z":1,"a":2,"z":3,"":4}"#),
    (r#""\u00e9 \/ \" \\ \ud83d\ude00 é 😀""#, r#""\u00e9 \/ \" \\ \ud83d\ude00 é 😀""#),
    (r#"{" spaced  name " : "  two  spaces\tand a \\"}"#, r#"{" spaced  name ":"  two  spaces\tand a \\"}"#),
    ("\"\u{2028}\u{7f}\u{a0}\"", "\"\u{2028}\u{7f}\u{a0}\""),
    (r#"["\ud800", "\u0000"]"#, r#"["\ud800","\u0000"]"#),
    ("  \"text\"  ", "\"text\""),
    ("42", "42"),
    ("null", "null"),
    ("true", "true"),
    ("{}", "{}"),
    ("[[ ], { } , [ [ ] ] ]", "[[],{},[[]]]"),
];

/// The texts as `doc/0`, `doc/1`, …, then one as deep as allowed and one close to the limit of size.
fn stored() -> (Data, Vec<String>) {
    let data = Data::empty();
    let deep = format!("{}1{}", "[".repeat(128), "]".repeat(128));
    let large = format!("{{\"fill\":\"{}\"}}", "é".repeat(500_000));
    let both = [(deep.as_str(), deep.as_str()), (large.as_str(), large.as_str())];
    let mut expected = Vec::new();
    for (i, (file, text)) in TEXTS.into_iter().chain(both).enumerate() {
        data.put(&format!("doc/{i}"), file.as_bytes());
        expected.push(text.to_owned());
    }
    (data, expected)
}

fn assert_unchanged(node: Address, texts: &[String], tail: &str) {
    let mut session = Session::open(node);
    for (i, text) in texts.iter().enumerate() {
        let asked = format!("GET doc/{i}");
        let expected = format!("{{\"status\":\"OK\",\"data\":{text}{tail}}}");
        let excerpt = || text.chars().take(60).collect::<String>();
        assert!(ask(node, &asked) == expected, "plain, {}", excerpt());
        assert!(session.ask(i as u64, &asked) == expected, "in a session, {}", excerpt());
    }
}

#[test]
fn every_text_survives_every_hop() {
    let (data, texts) = stored();
    let origin = Start::origin(data.path(), "").run();
    assert_unchanged(origin.address, &texts, "");
    for words in ["", "--cache-type lru"] {
        let proxy = Start::proxy(origin.address, words).run();
        let balancer = Start::balancer(&[proxy.address], "").run();
        // The first round fills the cache through the balancer, the second is served from it.
        for (i, text) in texts.iter().enumerate() {
            let cold = ask(balancer.address, &format!("GET doc/{i}"));
            let expected = format!(
                "{{\"status\":\"OK\",\"data\":{},\"cache_hit\":false,\"node\":{}}}",
                text,
                proxy.port()
            );
            assert!(cold == expected, "cold, doc/{i}");
        }
        let tail = format!(",\"cache_hit\":true,\"node\":{}", proxy.port());
        assert_unchanged(proxy.address, &texts, &tail);
        assert_unchanged(balancer.address, &texts, &tail);
    }
}

#[test]
fn a_changed_file_is_seen_by_the_next_request() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    for version in 0..50 {
        // Of equal length, within one tick of the file system's clock.
        data.put("article/1", format!("{{\"version\":{}}}", 100 + version).as_bytes());
        assert_eq!(get(origin.address, "article/1")["data"]["version"], 100 + version);
    }
    std::fs::remove_file(data.file("article/1")).expect("the file");
    assert_eq!(get(origin.address, "article/1")["status"], "NOT_FOUND");
    data.put("article/1", b"true");
    assert_eq!(get(origin.address, "article/1")["data"], true);
}

#[test]
fn both_layouts_find_their_files() {
    let data = Data::articles(1);
    let nested = data.path().join("article/eu");
    std::fs::create_dir_all(&nested).expect("directories");
    std::fs::write(data.path().join("article/1.json"), "\"nested\"").expect("a file");
    std::fs::write(nested.join("2.json"), "\"deeper\"").expect("a file");
    let flat = Start::origin(data.path(), "--layout flat").run();
    assert_eq!(ask(flat.address, "GET article/1"), format!("{{\"status\":\"OK\",\"data\":{}}}", article(1)));
    let nested = Start::origin(data.path(), "--layout nested").run();
    assert_eq!(get(nested.address, "article/1")["data"], "nested");
    assert_eq!(get(nested.address, "article/eu/2")["data"], "deeper");
}

#[test]
fn names_beyond_the_alphabet_of_keys_are_escaped_on_every_hop() {
    let data = Data::empty();
    std::fs::create_dir_all(data.path().join("menü")).expect("a directory");
    std::fs::write(data.path().join("menü/café noir?.json"), "\"noir\"").expect("a file");
    std::fs::write(data.path().join("menü/100%.json"), "100").expect("a file");
    let origin = Start::origin(data.path(), "--layout nested").run();
    let mut proxy = Start::proxy(origin.address, "--http-port 0").run();
    let mut balancer = Start::balancer(&[proxy.address], "--http-port 0").run();
    let (key, percent) = ("men%C3%BC/caf%C3%A9%20noir%3F", "men%C3%BC/100%25");
    for node in [origin.address, proxy.address, balancer.address] {
        assert_eq!((&get(node, key)["data"], &get(node, percent)["data"]), (&"noir".into(), &100.into()));
        for other in
            ["men%c3%bc/100%25", "men%C3%BC/%31", "men%C3%BC%2F100%25", "men%C3/1", "a/%00", "a/%0A", "a/%"]
        {
            let refused = get(node, other);
            assert_eq!(refused["status"], "BAD_REQUEST", "{other}");
            assert!(refused["data"].as_str().unwrap().contains("%20 is a space"), "{refused}");
        }
    }
    // One document has one key, however a client writes its path.
    for http in [proxy.serves_http(), balancer.serves_http()] {
        for path in ["/men%c3%bc/caf%C3%A9%20noir%3f", "/%6Den%C3%BC/caf%c3%a9%20noir%3F"] {
            assert_eq!(fetch(http, path).text(), "\"noir\"", "{path}");
        }
        for path in ["/men%C3%BC%2F100%25", "/men%C3%BC/100%", "/men%C3%BC/%FF", "/men%C3%BC/%00"] {
            assert_eq!(fetch(http, path).code, 400, "{path}");
        }
    }
    assert_eq!(proxy.count("entries"), 2.0);
}

#[test]
fn the_names_that_a_key_may_have_reach_an_api_as_they_are() {
    let api = Api::start(|got| ok("", format!("\"{}\"", got.target)));
    let proxy = Start::role("proxy", &format!("--origin {}/v1", api.url())).run();
    assert_eq!(get(proxy.address, "product/caf%C3%A9%20noir")["data"], "/v1/product/caf%C3%A9%20noir");
}

#[test]
fn every_allowed_key_names_its_own_file() {
    let data = Data::empty();
    let long = "k".repeat(128);
    let keys = ["a/B-c_d.e~f@g:h+i=j,k", "a/0", "a/b..", "a/x.json", &format!("a/{long}")];
    for key in keys {
        data.put(key, format!("\"{key}\"").as_bytes());
    }
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let mut session = Session::open(proxy.address);
    for key in keys {
        assert_eq!(get(origin.address, key)["data"], *key);
        assert_eq!(get(proxy.address, key)["data"], *key);
        assert!(session.ask(1, &format!("GET {key}")).contains("\"cache_hit\":true"));
    }
}
