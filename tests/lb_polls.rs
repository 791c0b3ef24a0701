//! The polls of a balancer, and what it shows of very many proxies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::ask::parse;
use crate::support::cluster::POLLS;
use crate::support::fake::{Hello, METRICS, answer_soundly};
use crate::support::{Address, Data, Fake, Start, TempDir, ask, get, pause, timed, until};

/// Waits for more polls of the node at this address: each brings new METRICS of a proxy, or counts as a request of a fake.
fn await_polls(fake: &Fake, more: usize) {
    let before = fake.polls();
    until("it is polled", || fake.polls() >= before + more);
}

#[test]
fn a_node_with_sessions_is_polled_on_one_and_others_by_a_connection_each() {
    let (new, old) = (Fake::start(Hello::Granted, answer_soundly), Fake::origin());
    let balancer = Start::balancer(&[new.address, old.address], POLLS).run();
    get(balancer.address, "a/1");
    get(balancer.address, "a/2");
    await_polls(&new, 2);
    let before = (new.connections(), old.connections(), old.polls());
    await_polls(&new, 10);
    assert_eq!(new.connections(), before.0, "a connection for a poll of a node that has sessions");
    await_polls(&old, 3);
    assert!(old.connections() - before.1 >= old.polls() - before.2 - 1, "and one session for others");
}

#[test]
fn a_poll_that_waits_behind_a_slow_request_is_asked_again_on_a_connection() {
    // Its session answers one request after the other.
    let node = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some("slow/1") => asked.wait_for_close(),
        _ => answer_soundly(asked),
    });
    let words = format!("{POLLS} --max-failures 1 --try-deadline 3s");
    let balancer = Start::balancer(&[node.address], &words).run();
    assert_eq!(get(balancer.address, "a/1")["status"], "OK");
    let address = balancer.address;
    let slow = std::thread::spawn(move || get(address, "slow/1"));
    until("it is asked", || node.requests().iter().any(|request| request == "GET slow/1"));
    await_polls(&node, 5);
    assert!(balancer.holds_healthy(node.address), "{}", balancer.log());
    drop(slow.join());
}

#[test]
fn a_proxy_that_falls_silent_without_requests_is_out_soon() {
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = silent.clone();
    let node = Fake::start(Hello::Refused, move |asked| match is_silent.load(Ordering::Relaxed) {
        true => asked.wait_for_close(),
        false => answer_soundly(asked),
    });
    let balancer = Start::balancer(&[node.address], "--health-interval 3s --max-failures 4").run();
    assert_eq!(get(balancer.address, "a/1")["status"], "OK");
    silent.store(true, Ordering::Relaxed);
    await_polls(&node, 1);
    let (took, ()) = timed(|| until("it is down", || balancer.log().contains("the node is down")));
    // Four polls of a second each, and no intervals between them.
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_node_whose_metrics_take_more_than_half_of_the_time_stays_healthy() {
    let node = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some(_) => answer_soundly(asked),
        None => asked.answer_soundly_after(|| pause(Duration::from_millis(650))),
    });
    let balancer = Start::balancer(&[node.address], "--health-interval 1s --max-failures 1").run();
    assert_eq!(get(balancer.address, "a/1")["status"], "OK");
    await_polls(&node, 8);
    assert!(!balancer.log().contains("is down"), "{}", balancer.log());
}

#[test]
fn metrics_that_are_no_sound_document_do_not_take_a_node_out() {
    let unsound = METRICS.replace("\"hits\":0", "\"hits\":NaN");
    let node = Fake::start(Hello::Granted, move |asked| match asked.path() {
        Some(_) => answer_soundly(asked),
        None => asked.reply(&unsound),
    });
    let balancer = Start::balancer(&[node.address], &format!("{POLLS} --max-failures 1")).run();
    await_polls(&node, 5);
    assert!(balancer.holds_healthy(node.address), "it is the fault of this document");
    assert_eq!(get(balancer.address, "a/1")["status"], "OK");
}

#[test]
fn metrics_of_hundreds_of_proxies_are_summaries_and_name_the_verb_for_one() {
    let data = Data::articles(3);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "--host 0.0.0.0").run();
    let address = |nth: u8| Address(([127, 0, 0, nth], proxy.port()).into());
    let scratch = TempDir::new();
    let file = scratch.path().join("proxies");
    let listed = |count: u16| -> Vec<String> {
        let one = |nth: u16| format!("127.0.{}.{}:{}", nth / 250, nth % 250 + 1, proxy.port());
        (0..count).map(one).collect()
    };
    let put = |count: u16| {
        let beside = file.with_extension("new");
        std::fs::write(&beside, listed(count).join("\n")).expect("the list is written");
        std::fs::rename(&beside, &file).expect("the list is replaced");
    };
    put(200);
    let start = Start::role("lb", "--health-interval 1s").arg("--proxies-file");
    let balancer = start.arg(file.to_str().expect("UTF-8")).run();
    let name = address(1).to_string();
    let of_one = || -> Value { balancer.metrics()["proxies"][&name]["metrics"].clone() };
    (0..200)
        .for_each(|i| assert_eq!(get(balancer.address, &format!("article/{}", i % 3 + 1))["status"], "OK"));
    until("it reports a key", || of_one()["hot_keys"].as_array().is_some_and(|keys| !keys.is_empty()));
    assert_eq!(balancer.metrics()["more"], Value::Null);

    put(300);
    balancer.signal("HUP");
    until("the list is followed", || balancer.metrics()["cluster"]["nodes"] == 300);
    until("it has reported", || of_one()["hits"].is_number());
    assert_eq!(of_one()["hot_keys"], Value::Null, "no lists of each");
    assert!(balancer.metrics()["more"].as_str().is_some_and(|more| more.contains("METRICS <host:port>")));
    let whole = parse(&ask(balancer.address, &format!("METRICS {name}")));
    assert!(
        whole["data"]["metrics"]["hot_keys"].is_array() && whole["data"]["state"] == "healthy",
        "{whole}"
    );
    let unknown = parse(&ask(balancer.address, "METRICS 10.9.9.9:1"));
    assert_eq!(unknown["status"], "BAD_REQUEST");
    let at_proxy = parse(&ask(proxy.address, &format!("METRICS {name}")));
    assert_eq!(
        (&at_proxy["status"], &at_proxy["data"]),
        (&"BAD_REQUEST".into(), &"METRICS stands alone".into())
    );
}
