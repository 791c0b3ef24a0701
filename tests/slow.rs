//! Slow requests are logged by every node under one id, with the time of each step.

use std::time::Duration;

use serde_json::Value;

use crate::support::fake::{Hello, answer_soundly};
use crate::support::{Fake, Node, Session, Start, eventually, get, pause, status_of};

const WORDS: &str = "--slow-log 100ms --log-format json";

/// A slow origin.
fn slow_origin() -> Fake {
    Fake::start(Hello::Refused, |asked| {
        if asked.path().is_some() {
            pause(Duration::from_millis(150));
        }
        answer_soundly(asked);
    })
}

/// The log lines of a node about slow requests.
fn told(node: &Node) -> Vec<Value> {
    let log = node.log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["target"] == "dproxy::slow").map(|mut event| event["fields"].take()).collect()
}

fn one(node: &Node) -> Value {
    eventually("it tells of a slow request", || told(node).pop())
}

#[test]
fn a_slow_request_has_one_id_at_every_node() {
    let origin = slow_origin();
    let proxy = Start::proxy(origin.address, WORDS).run();
    let balancer = Start::balancer(&[proxy.address], WORDS).run();
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    let (front, behind) = (one(&balancer), one(&proxy));
    assert_eq!(front["request"], "GET article/1");
    assert_eq!(front["status"], "OK");
    assert_eq!(front["from"], "127.0.0.1");
    assert!(front["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{front}");
    assert_eq!(front["trace"], behind["trace"]);
    assert!(front["trace"].as_str().is_some_and(|id| id.len() == 16), "{front}");
    assert!(front["took_ms"].as_f64().is_some_and(|took| took >= 150.0), "{front}");
    let steps = |event: &Value| event["steps"].as_str().expect("steps").to_owned();
    assert!(steps(&front).contains(&proxy.address.to_string()), "{front}");
    assert!(steps(&behind).contains(&origin.address.to_string()), "{behind}");
    assert!(steps(&behind).contains("the fetch"), "{behind}");

    // A fast request is not logged.
    for _ in 0..5 {
        assert_eq!(get(balancer.address, "article/1")["cache_hit"], true);
    }
    assert_eq!((told(&balancer).len(), told(&proxy).len()), (1, 1));
}

#[test]
fn the_trace_id_of_the_client_is_kept() {
    let origin = slow_origin();
    let proxy = Start::proxy(origin.address, WORDS).run();
    let balancer = Start::balancer(&[proxy.address], WORDS).run();
    let mut session = Session::open(balancer.address);
    assert_eq!(status_of(&session.ask(1, "GET article/1 trace=from-afar")), "OK");
    assert_eq!(one(&balancer)["trace"], "from-afar");
    assert_eq!(one(&proxy)["trace"], "from-afar");
}

#[test]
fn a_slow_failure_is_logged() {
    let origin = Fake::start(Hello::Refused, |asked| asked.wait_for_close());
    let proxy = Start::proxy(origin.address, &format!("{WORDS} --fetch-deadline 200ms")).run();
    assert_eq!(get(proxy.address, "article/1")["status"], "ORIGIN_FAILURE");
    let event = one(&proxy);
    assert_eq!(event["status"], "ORIGIN_FAILURE");
    assert!(event["steps"].as_str().is_some_and(|steps| steps.contains("the fetch")), "{event}");
}
