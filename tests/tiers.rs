//! A proxy over a proxy, directly or through a balancer: what is old at one tier is not fresh at the next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ask::parse;
use crate::support::cluster::POLLS;
use crate::support::fake::{Fault, Hello};
use crate::support::moody::{Moody, explain, is_stale};
use crate::support::{Address, Fake, Node, Session, Start, get, pause, until};

/// An inner proxy over `origin`, a balancer over that, and two tiers of proxies over the balancer; the last is on top.
fn tiers(origin: Address, inner: &str, outer: &str) -> [Node; 4] {
    let inner = Start::proxy(origin, inner).run();
    let balancer = Start::balancer(&[inner.address], POLLS).run();
    let middle = Start::proxy(balancer.address, outer).run();
    let top = Start::proxy(middle.address, outer).run();
    [inner, balancer, middle, top]
}

fn seconds(explained: &Value, name: &str) -> f64 {
    explained[name].as_f64().unwrap_or_else(|| panic!("no {name} in {explained}"))
}

#[test]
fn what_is_stale_at_one_tier_gets_no_new_life_at_the_next() {
    for outer in ["--ttl 1h", "--cache-type lru", "--ttl 1h --stale-while-revalidate 10m"] {
        let origin = Moody::start();
        let nodes = tiers(origin.fake.address, "--ttl 200ms --origin-retry 50ms", outer);
        let [inner, _, middle, top] = &nodes;
        get(inner.address, "article/1");
        origin.fails(Fault::Line(r#"{"status":"BAD_DOCUMENT","data":"x"}"#));
        until("it is stale", || is_stale(inner, "article/1"));
        for _ in 0..3 {
            let reply = get(top.address, "article/1");
            assert_eq!((&reply["data"], &reply["stale"]), (&json!(0), &json!(true)), "{outer}: {reply}");
            assert!(reply["age"].is_u64(), "{reply}");
        }
        for node in [middle, top] {
            assert_eq!(explain(node, "article/1")["state"], "stale", "{outer}");
        }
        origin.publish(1);
        origin.recovers();
        until("the new one is on top", || {
            let reply = get(top.address, "article/1");
            reply["data"] == 1 && reply.get("stale").is_none()
        });
        assert_eq!(explain(top, "article/1")["state"], "fresh");
    }
}

#[test]
fn a_document_ages_from_tier_to_tier() {
    let origin = Fake::origin();
    let nodes = tiers(origin.address, "--ttl 1h", "--ttl 1h --ttl-jitter 0%");
    let [inner, _, middle, top] = &nodes;
    get(inner.address, "article/1");
    until("it has aged", || seconds(&explain(inner, "article/1"), "age_seconds") >= 2.0);
    let first = get(top.address, "article/1");
    assert_eq!((&first["cache_hit"], first.get("stale")), (&json!(false), None), "{first}");
    for node in [middle, top] {
        let explained = explain(node, "article/1");
        let (age, left) = (seconds(&explained, "age_seconds"), seconds(&explained, "ttl_left_seconds"));
        assert!(age >= 2.0 && left <= 3598.0, "{explained}");
    }
    let told = Session::open(top.address).ask(1, "GET article/1 tell=times");
    assert!(parse(&told)["age"].as_u64() >= Some(2), "{told}");
}

#[test]
fn a_document_older_than_the_time_to_live_of_a_tier_is_not_fresh_there() {
    let origin = Fake::origin();
    let inner = Start::proxy(origin.address, "--ttl 1h").run();
    let outer = Start::proxy(inner.address, "--ttl 1s").run();
    get(inner.address, "article/1");
    until("it has aged", || seconds(&explain(&inner, "article/1"), "age_seconds") >= 2.0);
    get(outer.address, "article/1");
    let explained = explain(&outer, "article/1");
    assert!(explained["state"] == "stale" && seconds(&explained, "ttl_left_seconds") < 0.0, "{explained}");
}

#[test]
fn a_stale_reply_does_not_replace_a_younger_document() {
    const FETCH: Duration = Duration::from_millis(1_200);
    let asked = AtomicUsize::new(0);
    // Behind one address, two proxies: the second fetched the document long ago, and cannot now.
    let origin = Fake::start(Hello::Refused, move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => {
            pause(FETCH);
            request.reply(r#"{"status":"OK","data":2,"cache_hit":false,"node":1}"#);
        }
        _ => request.reply(r#"{"status":"OK","data":1,"cache_hit":true,"node":2,"stale":true,"age":500}"#),
    });
    let proxy = Start::proxy(origin.address, "--ttl 150ms --fetch-deadline 20s").run();
    assert_eq!(get(proxy.address, "article/1")["data"], 2);
    until("it is stale", || is_stale(&proxy, "article/1"));
    let reply = get(proxy.address, "article/1");
    assert_eq!((&reply["data"], &reply["stale"]), (&json!(2), &json!(true)), "{reply}");
    assert!(reply["age"].as_u64() >= Some(1), "it has the age of its own fetch: {reply}");
    assert!(seconds(&explain(&proxy, "article/1"), "age_seconds") < 400.0);
}

#[test]
fn an_age_of_a_century_is_an_age() {
    let line = r#"{"status":"OK","data":1,"cache_hit":true,"node":2,"stale":true,"age":4294967295}"#;
    let origin = Fake::start(Hello::Refused, move |request| request.reply(line));
    for words in ["--ttl 1h", "--cache-type lru"] {
        let proxy = Start::proxy(origin.address, words).run();
        for _ in 0..2 {
            let reply = get(proxy.address, "article/1");
            assert_eq!((&reply["stale"], &reply["age"]), (&json!(true), &json!(u32::MAX)), "{reply}");
        }
    }
}
