//! Faulty proxies under load cost the clients of a balancer no error, and retries, hedges and trials stay bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::cluster::{Cluster, DOCUMENTS, POLLS};
use crate::support::fake::{Fault, Gate, Hello, METRICS, answer_soundly};
use crate::support::load::Load;
use crate::support::{
    Address, Fake, Node, PATIENCE, Session, Start, StopOnDrop, ask, at_once, get, heavy, status_of, timed,
    until,
};

/// Two healthy proxies and one that fails every GET with the fault, but answers METRICS.
fn assert_one_faulty_proxy_costs_no_error(fault: Fault, hello: Hello) {
    let _alone = heavy();
    let cluster = Cluster::start("");
    let bad = Fake::start(hello, move |asked| match asked.path() {
        Some(_) => fault.strike(asked),
        None => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
    });
    let addresses = [cluster.proxies[0].address, bad.address, cluster.proxies[1].address];
    let balancer = Start::balancer(&addresses, POLLS).run();
    let load = Load::plain(balancer.address, DOCUMENTS);
    load.go_on(300);
    load.end_without_errors();
    until("its errors are counted", || {
        balancer.metrics()["proxies"][bad.address.to_string()]["errors"].as_f64() >= Some(3.0)
    });
}

#[test]
fn a_proxy_that_resets_within_a_reply_costs_no_error() {
    assert_one_faulty_proxy_costs_no_error(Fault::HalfLine, Hello::Granted);
    assert_one_faulty_proxy_costs_no_error(Fault::HalfLine, Hello::Refused);
}

#[test]
fn a_proxy_that_sends_garbage_costs_no_error() {
    assert_one_faulty_proxy_costs_no_error(Fault::Line("[]"), Hello::Granted);
    assert_one_faulty_proxy_costs_no_error(Fault::Line("HTTP/1.1 200 OK"), Hello::Ignored);
    assert_one_faulty_proxy_costs_no_error(Fault::Line(r#"{"status":"SPLENDID"}"#), Hello::Granted);
}

#[test]
fn retries_keep_to_their_budget_when_every_proxy_fails() {
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
    // 20 % of the requests, and 10 per second: of the ten seconds saved up, and of the time of this test.
    assert!(sent <= requests + requests / 5 + 400, "{sent} for {requests}");
}

#[test]
fn an_origin_failure_is_tried_elsewhere_and_not_counted_against_the_proxy() {
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
fn a_proxy_that_alone_cannot_reach_the_origin_is_down() {
    let blind = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some(_) => asked.reply(r#"{"status":"ORIGIN_FAILURE","data":null,"cache_hit":false,"node":1}"#),
        None => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
    });
    let fetching = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some(_) => asked.reply(r#"{"status":"OK","data":{},"cache_hit":false,"node":2}"#),
        None => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
    });
    let balancer = Start::balancer(&[blind.address, fetching.address], POLLS).run();
    until("it is down", || {
        assert_eq!(get(balancer.address, "article/1")["status"], "OK");
        !balancer.holds_healthy(blind.address)
    });
}

#[test]
fn a_proxy_that_alone_sends_broken_documents_is_down() {
    for line in [r#"{"status":"OK","data":NaN}"#, r#"{"status":"OK"}"#, r#"{"status":"ERROR","data":null}"#] {
        let broken = Fake::start(Hello::Granted, move |asked| match asked.path() {
            Some(_) => asked.reply(line),
            None => asked.reply(METRICS),
        });
        let sound = Fake::origin();
        let balancer = Start::balancer(&[broken.address, sound.address], POLLS).run();
        until("it is down", || {
            assert_eq!(get(balancer.address, "article/1")["status"], "OK", "{line}");
            !balancer.holds_healthy(broken.address)
        });
    }
}

/// A balancer whose only healthy proxy has died. The other proxy sent garbage and is in back-off for an hour; from now on
/// it replies with `then`.
fn only_a_down_proxy_is_left(then: &'static str) -> (Fake, Node) {
    let is_mended = Arc::new(AtomicBool::new(false));
    let mended = is_mended.clone();
    let given_up = Fake::start(Hello::Granted, move |asked| match asked.path() {
        Some(_) => asked.reply(if mended.load(Ordering::Relaxed) { then } else { "[]" }),
        None => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
    });
    let mut cluster = Cluster::start("");
    let addresses = [given_up.address, cluster.proxies[0].address];
    let balancer = Start::balancer(&addresses, &format!("{POLLS} --backoff 1h --max-backoff 1h")).run();
    until("it is down", || {
        assert_eq!(get(balancer.address, "article/1")["status"], "OK");
        !balancer.holds_healthy(given_up.address)
    });
    is_mended.store(true, Ordering::Relaxed);
    cluster.kill(0);
    (given_up, balancer)
}

#[test]
fn a_back_off_ends_when_no_other_proxy_serves() {
    let (_flaky, balancer) =
        only_a_down_proxy_is_left(r#"{"status":"OK","data":{},"cache_hit":false,"node":1}"#);
    until("it answers again", || get(balancer.address, "article/1")["status"] == "OK");
}

#[test]
fn a_needed_proxy_recovers_while_the_origin_is_away() {
    let failure = r#"{"status":"ORIGIN_FAILURE","data":null,"cache_hit":false,"node":1}"#;
    let (alone, balancer) = only_a_down_proxy_is_left(failure);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whenever a trial is possible, a client sends a request.
        let traffic = || {
            while !done.load(Ordering::Relaxed) {
                get(balancer.address, "article/1");
            }
        };
        scope.spawn(traffic);
        scope.spawn(traffic);
        let _stop = StopOnDrop(&done);
        until("its polls are enough", || balancer.holds_healthy(alone.address));
    });
    assert_eq!(get(balancer.address, "article/1")["status"], "ORIGIN_FAILURE");
}

#[test]
fn a_plain_proxy_that_does_not_close_stays_healthy() {
    let lingering = Fake::start(Hello::Refused, |asked| {
        answer_soundly(asked);
        asked.wait_for_close();
    });
    let balancer = Start::balancer(&[lingering.address], POLLS).run();
    // No client sent a request yet: all of these are polls.
    until("it was polled often", || lingering.connections() >= 10);
    assert!(balancer.holds_healthy(lingering.address));
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
}

#[test]
fn with_hash_a_cold_key_is_fetched_once() {
    let _alone = heavy();
    let cluster = Cluster::start("--strategy hash");
    let replies = at_once(vec![(); 200], |()| ask(cluster.balancer.address, "GET article/7"));
    assert!(replies.iter().all(|reply| status_of(reply) == "OK"));
    assert_eq!(cluster.origin.count("total_requests"), 1.0);
}

#[test]
fn a_slow_request_is_hedged() {
    let (is_slow, gate) = (Arc::new(AtomicBool::new(false)), Gate::default());
    let slow = {
        let (is_slow, gate) = (is_slow.clone(), gate.clone());
        Fake::start(Hello::Granted, move |asked| {
            let (waits, gate) = (is_slow.load(Ordering::Relaxed) && asked.path().is_some(), gate.clone());
            asked.answer_soundly_after(move || {
                if waits {
                    gate.wait();
                }
            });
        })
    };
    let quick = Fake::origin();
    let balancer =
        Start::balancer(&[slow.address, quick.address], &format!("{POLLS} --try-deadline 1m")).run();
    for _ in 0..600 {
        assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    }
    is_slow.store(true, Ordering::Relaxed);
    let (took, _) = timed(|| {
        for _ in 0..4 {
            assert_eq!(get(balancer.address, "article/1")["status"], "OK");
        }
    });
    assert!(took < PATIENCE / 2, "two of them went to a proxy that does not reply: {took:?}");
    assert!(balancer.count("hedges") >= 1.0, "{}", balancer.metrics());
    gate.open();
}

#[test]
fn a_short_client_deadline_is_no_failure_of_the_proxy() {
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
    assert_eq!(errors, 0, "the deadline was the client's");
}

#[test]
fn trials_of_a_mute_proxy_delay_no_client() {
    let _alone = heavy();
    let mute = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some(_) => {}
        None => asked.reply(METRICS),
    });
    let others = [Fake::origin(), Fake::origin()];
    let words = "--hedge off --try-deadline 1500ms --backoff 300ms --max-backoff 300ms";
    let addresses = [others[0].address, mute.address, others[1].address];
    let balancer = Start::balancer(&addresses, &format!("{POLLS} {words}")).run();
    let load = Load::plain(balancer.address, DOCUMENTS);
    until("it is down", || balancer.log().contains("the node is down"));
    load.end_without_errors();
    let trials = || balancer.count("trials");
    let before = trials();
    let load = Load::plain(balancer.address, DOCUMENTS);
    until("it had four more trials", || trials() >= before + 4.0);
    let (_, slow) = load.end_without_errors();
    assert!(slow < 2, "{slow} clients waited for a node that was tried");
    assert!(!balancer.holds_healthy(mute.address));
}

#[test]
fn slow_admin_requests_delay_no_poll() {
    let (polls, gate) = (Arc::new(AtomicUsize::new(0)), Gate::default());
    let slow = Fake::start(Hello::Granted, {
        let (polls, gate) = (polls.clone(), gate.clone());
        move |asked| match asked.request {
            "METRICS" => {
                polls.fetch_add(1, Ordering::SeqCst);
                asked.reply(METRICS);
            }
            request if request.starts_with("GET") => answer_soundly(asked),
            _ => {
                let gate = gate.clone();
                asked.answer_soundly_after(move || gate.wait());
            }
        }
    });
    let words = "--health-interval 400ms --max-failures 2 --purge-deadline 2s";
    let balancer = Start::balancer(&[slow.address], words).run();
    for verb in ["EXPLAIN", "PURGE"] {
        let mut session = Session::open(balancer.address);
        session.send_many(0..40, |id| format!("{verb} a/{id}"));
        let asked = || slow.requests().iter().filter(|line| line.starts_with(verb)).count();
        until("it has its maximum of requests", || asked() >= 8);
        let before = polls.load(Ordering::SeqCst);
        until("polls go on", || polls.load(Ordering::SeqCst) >= before + 3);
        assert!(!balancer.log().contains("the node is down"), "{verb}: {}", balancer.log());
        session.replies_to(0..40);
    }
    gate.open();
    until("the purges are made up for", || get(balancer.address, "article/1")["status"] == "OK");
}

#[test]
fn a_request_that_no_node_took_tries_all_nodes() {
    let host = crate::support::node::own_host();
    let gone: Vec<Address> = (1..=6).map(|port| Address((host, port).into())).collect();
    let here = Fake::origin();
    let all: Vec<Address> = gone.iter().copied().chain([here.address]).collect();
    // Neither polls nor failures mark a node down.
    let words = "--health-interval 1h --max-failures 100000 --strategy round_robin";
    let balancer = Start::balancer(&all, words).run();
    for i in 0..all.len() {
        assert_eq!(get(balancer.address, &format!("article/{i}"))["status"], "OK");
    }
    assert_eq!(here.requests().len(), all.len());
}

#[test]
fn a_proxy_that_is_full_of_connections_stays_healthy() {
    let polls = AtomicUsize::new(0);
    let full = Fake::start(Hello::Granted, move |asked| {
        match (asked.path(), polls.fetch_add(1, Ordering::SeqCst) % 2) {
            (Some(_), _) => answer_soundly(asked),
            (None, 0) => asked.reply(r#"{"status":"OVERLOADED","data":"too many connections"}"#),
            // Beyond the clients that are told so, others are closed unheard.
            (None, _) => {
                crate::support::pause(Duration::from_millis(30));
                asked.close();
            }
        }
    });
    let balancer = Start::balancer(&[full.address], POLLS).run();
    let mut session = Session::open(balancer.address);
    let mut id = 0;
    until("it was polled often", || {
        id += 1;
        assert_eq!(status_of(&session.ask(id, "GET article/1")), "OK");
        full.connections() >= 16
    });
    assert!(!balancer.log().contains("the node is down"), "{}", balancer.log());
}
