//! Proves that faults of proxies under load cost the clients of a balancer no error, and that nothing is retried to death.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::fake::{Fault, Hello};
use crate::support::load::Load;
use crate::support::node::own_host;
use crate::support::{Address, Data, Fake, Node, Session, Start, ask, at_once, get, heavy, status_of, until};

const DOCUMENTS: u64 = 20;
const POLLS: &str = "--health-interval 200ms";

fn proxy(origin: &Node, address: Address) -> Node {
    Start::proxy(origin.address, &format!("--host {} --port {}", address.host(), address.port())).run()
}

/// An origin, three proxies, and a balancer that holds them healthy.
fn cluster(words: &str) -> (Data, Node, Vec<Node>, Node) {
    let data = Data::articles(DOCUMENTS as u32);
    let host = own_host();
    let origin = Start::origin(data.path(), &format!("--host {host}")).run();
    let proxies: Vec<Node> = (0..3).map(|_| proxy(&origin, Address((host, 0).into()))).collect();
    let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
    let balancer = Start::balancer(&addresses, &format!("{POLLS} {words}")).run();
    until("all proxies are healthy", || addresses.iter().all(|&address| balancer.holds_healthy(address)));
    (data, origin, proxies, balancer)
}

#[test]
fn kill_9_of_two_of_three() {
    let _alone = heavy();
    let (_data, origin, mut proxies, balancer) = cluster("--strategy p2c");
    let load = Load::sessions(balancer.address, DOCUMENTS);
    load.go_on(200);
    let gone: Vec<Address> = proxies.drain(..2).map(|proxy| (proxy.address, proxy.kill()).0).collect();
    load.go_on(300);
    until("both are down", || gone.iter().all(|&address| !balancer.holds_healthy(address)));
    let _back: Vec<Node> = gone.iter().map(|&address| proxy(&origin, address)).collect();
    until("both are back", || gone.iter().all(|&address| balancer.holds_healthy(address)));
    load.go_on(200);
    load.end_without_errors();
}

#[test]
fn a_rolling_restart_of_all() {
    let _alone = heavy();
    let (_data, origin, mut proxies, balancer) = cluster("--strategy hash");
    let load = Load::plain(balancer.address, DOCUMENTS);
    for _ in 0..3 {
        let mut old = proxies.remove(0);
        load.go_on(60);
        old.signal("TERM");
        assert!(old.ended().success());
        let address = old.address;
        proxies.push(proxy(&origin, address));
        until("it is back", || balancer.holds_healthy(address));
    }
    load.go_on(60);
    load.end_without_errors();
}

#[test]
fn a_proxy_that_flaps() {
    let _alone = heavy();
    let (_data, origin, mut proxies, balancer) = cluster("--strategy least_loaded");
    let load = Load::sessions(balancer.address, DOCUMENTS);
    let address = proxies[0].address;
    for _ in 0..4 {
        load.go_on(100);
        proxies.remove(0).kill();
        load.go_on(100);
        proxies.insert(0, proxy(&origin, address));
    }
    until("it settles", || balancer.holds_healthy(address));
    load.end_without_errors();
}

/// Two sound proxies and one that fails every GET in one way, but answers METRICS.
fn one_that_fails(fault: Fault, hello: Hello) {
    let _alone = heavy();
    let (_data, _origin, proxies, old) = cluster("");
    drop(old);
    let bad = Fake::start(hello, move |asked| match asked.path() {
        Some(_) => fault.strike(asked),
        None => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
    });
    let addresses = [proxies[0].address, bad.address, proxies[1].address];
    let balancer = Start::balancer(&addresses, POLLS).run();
    let load = Load::plain(balancer.address, DOCUMENTS);
    load.go_on(300);
    load.end_without_errors();
    until("it was found out", || {
        balancer.metrics()["proxies"][bad.address.to_string()]["errors"].as_f64() >= Some(3.0)
    });
}

#[test]
fn a_proxy_that_resets_in_mid_reply() {
    one_that_fails(Fault::HalfLine, Hello::Granted);
    one_that_fails(Fault::HalfLine, Hello::Refused);
}

#[test]
fn a_proxy_that_answers_with_garbage() {
    one_that_fails(Fault::Line("[]"), Hello::Granted);
    one_that_fails(Fault::Line("HTTP/1.1 200 OK"), Hello::Ignored);
}

#[test]
fn with_every_proxy_failing_retries_keep_to_their_budget() {
    let bad = || {
        Fake::start(Hello::Granted, |asked| match asked.path() {
            Some(_) => asked.reply("[]"),
            None => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
        })
    };
    let fakes = [bad(), bad(), bad()];
    let balancer = Start::balancer(&fakes.each_ref().map(|fake| fake.address), "--max-failures 100000").run();
    let requests = 1_000;
    for _ in 0..requests {
        assert_eq!(get(balancer.address, "article/1")["status"], "PROXY_UNREACHABLE");
    }
    let gets = |fake: &Fake| fake.requests().iter().filter(|line| line.starts_with("GET")).count();
    let sent: usize = fakes.iter().map(gets).sum();
    // A fifth of the requests, and ten a second over ten seconds and as long as the test may have run.
    assert!(sent <= requests + requests / 5 + 400, "{sent} for {requests}");
}

#[test]
fn an_origin_failure_is_no_fault_of_a_proxy_and_another_may_know_better() {
    let failing = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some(_) => asked.reply(r#"{"status":"ORIGIN_FAILURE","data":null,"cache_hit":false,"node":1}"#),
        None => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
    });
    let holding = Fake::origin();
    let balancer = Start::balancer(&[failing.address, holding.address], POLLS).run();
    for _ in 0..10 {
        assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    }
    assert!(balancer.holds_healthy(failing.address));
    let alone = Start::balancer(&[failing.address], POLLS).run();
    assert_eq!(get(alone.address, "article/1")["status"], "ORIGIN_FAILURE");
}

#[test]
fn a_proxy_that_does_not_reach_the_origin_is_given_up_when_others_do() {
    let blind = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some(_) => asked.reply(r#"{"status":"ORIGIN_FAILURE","data":null,"cache_hit":false,"node":1}"#),
        None => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
    });
    let fetching = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some(_) => asked.reply(r#"{"status":"OK","data":{},"cache_hit":false,"node":2}"#),
        None => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
    });
    let balancer = Start::balancer(&[blind.address, fetching.address], POLLS).run();
    until("it is given up", || {
        assert_eq!(get(balancer.address, "article/1")["status"], "OK");
        !balancer.holds_healthy(blind.address)
    });
}

#[test]
fn with_hash_a_cold_key_is_fetched_once() {
    let _alone = heavy();
    let (data, origin, _proxies, balancer) = cluster("--strategy hash");
    let replies = at_once(vec![(); 200], |()| ask(balancer.address, "GET article/7"));
    assert!(replies.iter().all(|reply| status_of(reply) == "OK"));
    assert_eq!(origin.count("total_requests"), 1.0);
    drop(data);
}

#[test]
fn a_slow_answer_is_asked_of_a_second_proxy() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = {
        let is_slow = is_slow.clone();
        Fake::start(Hello::Granted, move |asked| {
            let wait = if is_slow.load(Ordering::Relaxed) && asked.path().is_some() { 1_500 } else { 0 };
            asked.answer_soundly_after(move || crate::support::pause(Duration::from_millis(wait)));
        })
    };
    let quick = Fake::origin();
    let balancer = Start::balancer(&[slow.address, quick.address], POLLS).run();
    for _ in 0..600 {
        assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    }
    is_slow.store(true, Ordering::Relaxed);
    let (took, _) = crate::support::timed(|| {
        for _ in 0..4 {
            assert_eq!(get(balancer.address, "article/1")["status"], "OK");
        }
    });
    assert!(took < Duration::from_millis(1_400), "two of them would have taken 3 s: {took:?}");
    assert!(balancer.count("hedges") >= 1.0, "{}", balancer.metrics());
}

#[test]
fn an_impatient_client_costs_the_others_nothing() {
    let slow = Fake::start(Hello::Granted, |asked| {
        let is_slow = asked.path().is_some();
        asked.answer_soundly_after(move || {
            crate::support::pause(Duration::from_millis(if is_slow { 400 } else { 0 }));
        });
    });
    let balancer = Start::balancer(&[slow.address], &format!("{POLLS} --hedge off")).run();
    let mut session = Session::open(balancer.address);
    session.send("1 GET article/1\n2 GET article/2\n3 GET article/3\n4 GET article/4 deadline=5\n5 GET article/5 deadline=0\n");
    let replies = session.replies_to(1..=5);
    for id in 1..=3 {
        assert_eq!(status_of(&replies[&id]), "OK", "{replies:?}");
    }
    for id in 4..=5 {
        assert_eq!(status_of(&replies[&id]), "PROXY_UNREACHABLE", "{replies:?}");
    }
    let errors = &balancer.metrics()["proxies"][&slow.address.to_string()]["errors"];
    assert_eq!(errors, 0, "its time was the client's");
}
