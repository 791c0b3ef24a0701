//! A proxy behind a proxy before an API, a shield: the lifetimes, validators and tags of the API are those at the edge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::{Value, json};

use crate::api::before;
use crate::support::api::{Act, Api, ok, response};
use crate::support::ask::parse;
use crate::support::fake::Hello;
use crate::support::moody::explain;
use crate::support::{Fake, Node, Session, Start, ask, get, until};

/// The `revalidations` and `not_modified` of a proxy, and the bytes that it fetched.
fn fetched(node: &Node) -> [f64; 3] {
    ["revalidations", "not_modified", "origin_bytes"].map(|name| node.count(name))
}

#[test]
fn an_edge_holds_each_document_as_its_api_says() {
    let api = Api::start(|got| match got.target.as_str() {
        "/a/long" => ok("cache-control: max-age=600, stale-if-error=7|surrogate-key: eu de", "1"),
        "/a/aged" => ok("cache-control: max-age=600|age: 500", "1"),
        "/a/silent" => ok("surrogate-key: de", "1"),
        "/a/private" => ok("cache-control: private, max-age=60", "1"),
        "/a/strict" => ok("cache-control: max-age=50, must-revalidate", "1"),
        _ => Act::Say(response("404 Not Found", "cache-control: max-age=60", "")),
    });
    let shield = before(&api.url(), "--ttl 2h --ttl-jitter 0 --max-ttl 300s");
    let edge = Start::proxy(shield.address, "--ttl 1h --ttl-jitter 0 --min-ttl 10s").run();
    let far = Start::proxy(edge.address, "--ttl 1h --ttl-jitter 0").run();
    for (key, left, rule) in [
        // The shield's own bounds are passed on; where the API says nothing, each node has its own time.
        ("a/long", 300.0, "header"),
        ("a/aged", 100.0, "header"),
        ("a/silent", 3600.0, "flag"),
        ("a/strict", 50.0, "header"),
        ("b/none", 60.0, "header"),
    ] {
        get(far.address, key);
        for node in [&edge, &far] {
            let told = explain(node, key);
            let ttl = told["ttl_left_seconds"].as_f64().unwrap_or_else(|| panic!("{key}: {told}"));
            assert!(ttl <= left && ttl > left - 20.0 && told["rule"] == rule, "{key}: {left} and {told}");
        }
    }
    for _ in 0..2 {
        assert_eq!(get(far.address, "a/private")["cache_hit"], false, "it is stored nowhere");
    }
    assert_eq!(api.requests_for("/a/private").len(), 2);
    let told =
        |node: &Node, key: &str| parse(&Session::open(node.address).ask(1, &format!("GET {key} tell=times")));
    for node in [&shield, &edge, &far] {
        assert_eq!(told(node, "a/long")["stale_if_error"], 7);
        assert_eq!(told(node, "a/strict")["must_revalidate"], true);
    }
    for key in ["a/long", "a/silent", "a/aged"] {
        assert_eq!(get(far.address, key)["cache_hit"], true);
    }
    for node in [&shield, &edge, &far] {
        assert_eq!(parse(&ask(node.address, "PURGE tag:de"))["status"], "OK");
    }
    for (key, hit) in [("a/long", false), ("a/silent", false), ("a/aged", true)] {
        assert_eq!(get(far.address, key)["cache_hit"], hit, "{key}");
    }
}

#[test]
fn an_unchanged_document_is_not_sent_again() {
    let edition = Arc::new(AtomicUsize::new(1));
    let now = edition.clone();
    let api = Api::start(move |got| {
        let (edition, date) = (now.load(SeqCst), got.target == "/a/date");
        let (name, asked) = match date {
            true => ("last-modified", "if-modified-since"),
            false => ("etag", "if-none-match"),
        };
        let validator = format!("W/\"%20 é{edition}\"");
        match got.header(asked) == validator {
            true => Act::Say(response("304 Not Modified", "cache-control: no-cache", "")),
            false => ok(&format!("cache-control: no-cache|{name}: {validator}"), edition.to_string()),
        }
    });
    let shield = before(&api.url(), "");
    let edge = Start::proxy(shield.address, "--min-ttl 1h").run();
    for key in ["a/tag", "a/date"] {
        edition.store(1, SeqCst);
        let ([began, same, bytes], at_shield) = (fetched(&edge), fetched(&shield));
        for _ in 0..3 {
            let reply = get(edge.address, key);
            assert_eq!((&reply["data"], &reply["cache_hit"]), (&json!(1), &json!(false)), "{reply}");
        }
        assert_eq!(fetched(&edge), [began + 2.0, same + 2.0, bytes + 1.0], "one body in three fetches");
        assert_eq!(fetched(&shield)[1], at_shield[1] + 2.0, "each use asks the API");
        edition.store(2, SeqCst);
        assert_eq!(get(edge.address, key)["data"], 2);
        assert_eq!(fetched(&edge)[2], bytes + 2.0);
    }
    let mut session = Session::open(shield.address);
    let mut tells = |options: &str| parse(&session.ask(1, &format!("GET a/tag {options}")));
    let all = tells("tell=times meta=1");
    assert_eq!((&all["data"], &all["etag"]), (&json!(2), &json!("W/%22%2520%20%C3%A92%22")), "{all}");
    assert_eq!([&all["ttl_ms"], &all["swr_ms"], &all["sie_ms"]], [&json!(0); 3], "{all}");
    let same = tells("meta=1 if=W/%22%2520%20%C3%A92%22");
    assert_eq!((&same["status"], &same["data"]), (&json!("NOT_MODIFIED"), &Value::Null), "{same}");
    assert_eq!(tells("if=W/%22%2520%20%C3%A92%22")["data"], 2, "not without meta=1");
    assert_eq!(tells("meta=1 if=x")["status"], "OK");
}

#[test]
fn who_does_not_ask_sees_what_he_always_saw() {
    let api = Api::start(|_| ok("cache-control: max-age=600|etag: \"1\"|surrogate-key: de", "1"));
    let shield = before(&api.url(), "");
    get(shield.address, "a/1");
    let plain = format!(r#"{{"status":"OK","data":1,"cache_hit":true,"node":{}}}"#, shield.port());
    let mut session = Session::open(shield.address);
    for (options, reply) in [("", plain.clone()), (" deadline=900 if=x", plain.clone())] {
        assert_eq!(session.ask(1, &format!("GET a/1{options}")), reply);
    }
    assert_eq!(ask(shield.address, "GET a/1"), plain);
    // An older node at the other end knows neither option, and is asked for no more than what it has.
    let older = Fake::start(Hello::Granted, |asked| {
        asked.reply(r#"{"status":"OK","data":1,"cache_hit":true,"node":1,"age":5,"lifetime":600}"#);
    });
    let edge = Start::proxy(older.address, "--ttl 1s --ttl-jitter 0").run();
    get(edge.address, "a/1");
    let told = explain(&edge, "a/1");
    assert_eq!(
        (&told["rule"], &told["validator"], &told["state"]),
        (&json!("flag"), &json!(false), &json!("stale"))
    );
    until("it is fetched again", || {
        get(edge.address, "a/1");
        older.requests().len() >= 3
    });
}
