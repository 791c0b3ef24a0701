//! Faulty upstreams, plain and in sessions: within the deadline the client gets a clear error or the reply of another
//! node, and no failure is cached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use crate::support::ask::parse;
use crate::support::fake::{Fault, Hello, answer_soundly};
use crate::support::node::own_host;
use crate::support::{Address, Fake, Session, Start, at_once, get, pause, timed, until};

/// Deadlines short enough for a test; those of the balancer are the outer ones.
const PROXY: &str = "--fetch-deadline 1s --connect-deadline 800ms";
const BALANCER: &str = "--try-deadline 1500ms --connect-deadline 1s";
/// Far above the deadlines of all tries, far below the wait for a silent upstream.
const IN_TIME: Duration = Duration::from_secs(12);
/// The most memory that an upstream may make a node use, in MiB.
const MEMORY: u64 = 100;

/// An upstream that answers METRICS and fails GETs with the fault while the flag is set.
fn faulty(hello: Hello, fault: Fault) -> (Fake, Arc<AtomicBool>) {
    let failing = Arc::new(AtomicBool::new(true));
    let fake = Fake::start(hello, {
        let failing = failing.clone();
        move |asked| match asked.path().is_some() && failing.load(Ordering::SeqCst) {
            true => fault.strike(asked),
            false => answer_soundly(asked),
        }
    });
    (fake, failing)
}

#[test]
fn a_proxy_survives_every_fault_of_its_origin() {
    assert_every_case(|hello, fault| {
        let (origin, failing) = faulty(hello, fault);
        let proxy = Start::proxy(origin.address, PROXY).run();
        let (took, reply) = timed(|| get(proxy.address, "article/1"));
        let told = reply["status"] == "ORIGIN_FAILURE" && reply["cache_hit"] == false;
        ensure!(told && reply["node"] == proxy.port(), "{reply}");
        ensure!(took < IN_TIME, "it took {took:?}");
        ensure!(proxy.resident_mib() < MEMORY, "it holds {} MiB", proxy.resident_mib());
        failing.store(false, Ordering::SeqCst);
        // More than one: the thread and the session of the node that meet the fault are random.
        for path in ["article/1", "article/2", "article/3", "article/4", "article/5", "article/6"] {
            let mended = get(proxy.address, path);
            ensure!(mended["data"]["path"] == path, "the next requests, of a sound peer, got {mended}");
        }
        Ok(())
    });
}

#[test]
fn a_balancer_hides_every_fault_of_one_proxy() {
    assert_every_case(|hello, fault| {
        let (bad, _) = faulty(hello, fault);
        let good = Fake::start(Hello::Granted, answer_soundly);
        let balancer = Start::balancer(&[bad.address, good.address], BALANCER).run();
        for i in 0..4 {
            let (took, reply) = timed(|| get(balancer.address, &format!("article/{i}")));
            ensure!(reply["status"] == "OK", "{reply}");
            ensure!(took < IN_TIME, "it took {took:?}");
        }
        ensure!(!bad.requests().is_empty(), "it was never tried");
        ensure!(balancer.resident_mib() < MEMORY, "it holds {} MiB", balancer.resident_mib());
        Ok(())
    });
}

#[test]
fn a_balancer_replies_with_an_error_when_every_proxy_fails() {
    let faults = [Fault::Close, Fault::Silent, Fault::Endless, Fault::Line("hello")];
    at_once(faults.to_vec(), |fault| {
        let (one, failing) = faulty(Hello::Refused, fault);
        let (two, failing_too) = faulty(Hello::Granted, fault);
        let balancer = Start::balancer(&[one.address, two.address], BALANCER).run();
        let (took, reply) = timed(|| get(balancer.address, "article/1"));
        assert_eq!(reply["status"], "PROXY_UNREACHABLE", "{fault:?}: {reply}");
        assert!(reply["data"].is_string(), "{reply}");
        assert!(took < IN_TIME, "{fault:?} took {took:?}");
        failing.store(false, Ordering::SeqCst);
        failing_too.store(false, Ordering::SeqCst);
        until("the balancer uses them again", || get(balancer.address, "article/1")["status"] == "OK");
    });
}

#[test]
fn two_lines_are_no_plain_reply() {
    let line = r#"{"status":"OK","data":{}}"#;
    let origin = Fake::start(Hello::Refused, move |asked| asked.reply(&format!("{line}\n{line}")));
    let proxy = Start::proxy(origin.address, PROXY).run();
    let reply = get(proxy.address, "article/1");
    assert_eq!(reply["status"], "ORIGIN_FAILURE", "two lines are not one reply: {reply}");
    let origin = Fake::start(Hello::Refused, move |asked| {
        asked.reply(line);
        pause(Duration::from_millis(20));
        asked.reply(line);
    });
    let proxy = Start::proxy(origin.address, PROXY).run();
    let reply = get(proxy.address, "article/1");
    assert_eq!(reply["status"], "ORIGIN_FAILURE", "nor are two that come apart: {reply}");
}

#[test]
fn a_plain_reply_counts_before_the_upstream_closes() {
    let origin = Fake::start(Hello::Refused, |asked| {
        answer_soundly(asked);
        asked.wait_for_close();
    });
    let proxy = Start::proxy(origin.address, "").run();
    let (took, ()) = timed(|| {
        for i in 0..20 {
            let path = format!("article/{i}");
            assert_eq!(get(proxy.address, &path)["data"]["path"], path);
        }
    });
    assert!(took < Duration::from_secs(6), "20 answers of one that closes when it is told to took {took:?}");
}

#[test]
fn a_late_reply_answers_no_other_request() {
    let origin = Fake::start(Hello::Granted, |asked| {
        match asked.path().is_some_and(|path| path.starts_with("slow")) {
            true => asked.answer_soundly_after(|| pause(Duration::from_millis(900))),
            false => answer_soundly(asked),
        }
    });
    let words = "--try-deadline 300ms --max-failures 1000 --hedge off";
    let balancer = Start::balancer(&[origin.address], words).run();
    let mut session = Session::open(balancer.address);
    for round in 0..3 {
        session.send_many(0..10, |id| format!("GET slow/{round}-{id}"));
        // These run while the slow requests wait, and while their late replies arrive.
        for id in 10..200 {
            let path = format!("fast/{round}-{id}");
            let reply = get(balancer.address, &path);
            assert_eq!(reply["data"]["path"], path, "a reply to another request: {reply}");
            pause(Duration::from_millis(5));
        }
        for (id, reply) in session.replies_to(0..10) {
            assert_eq!(parse(&reply)["status"], "PROXY_UNREACHABLE", "{id}: {reply}");
        }
    }
}

#[test]
fn a_status_that_is_not_an_origins_is_a_failure() {
    for status in
        ["PROXY_ERROR", "FORBIDDEN", "OVERLOADED", "WRONG_METHOD: GET", "BAD_REQUEST", "BAD_DOCUMENT"]
    {
        let line = format!("{{\"status\": \"{status}\", \"data\": null}}");
        let origin = Fake::start(Hello::Refused, move |asked| asked.reply(&line));
        let proxy = Start::proxy(origin.address, PROXY).run();
        assert_eq!(get(proxy.address, "article/1")["status"], "ORIGIN_FAILURE", "{status}");
        get(proxy.address, "article/1");
        assert_eq!(origin.requests().len(), 2, "{status} was kept as a document");
    }
}

#[test]
fn a_closed_port_upstream_is_a_failure_at_once() {
    let gone = Address((own_host(), 9).into());
    let proxy = Start::proxy(gone, PROXY).run();
    let (took, reply) = timed(|| get(proxy.address, "article/1"));
    assert_eq!(reply["status"], "ORIGIN_FAILURE");
    assert!(took < IN_TIME, "{took:?}");
    let balancer = Start::balancer(&[gone], BALANCER).run();
    let (took, reply) = timed(|| get(balancer.address, "article/1"));
    assert!(
        ["PROXY_UNREACHABLE", "PROXY_ERROR"].contains(&reply["status"].as_str().unwrap_or("")),
        "{reply}"
    );
    assert!(took < IN_TIME, "{took:?}");
}

#[test]
fn replies_of_a_session_are_matched_by_id() {
    let origin =
        Fake::start(Hello::Granted, |asked| match asked.path().and_then(|path| path.strip_prefix("slow/")) {
            Some(_) => asked.answer_soundly_after(|| pause(Duration::from_millis(100))),
            None => answer_soundly(asked),
        });
    let proxy = Start::proxy(origin.address, "--fetch-deadline 20s").run();
    let paths: Vec<String> = (0..15).flat_map(|i| [format!("slow/{i}"), format!("fast/{i}")]).collect();
    at_once(paths, |path| {
        let reply = get(proxy.address, &path);
        assert_eq!(reply["data"]["path"], path, "a reply to another request: {reply}");
    });
}

#[test]
fn an_unknown_id_ends_a_session() {
    for stranger in ["999999999 {\"status\":\"OK\",\"data\":\"another's\"}\n", "x {}\n", "no id\n", "\n"] {
        let origin = Fake::start(Hello::Granted, move |asked| {
            asked.raw(stranger.as_bytes());
            answer_soundly(asked);
        });
        let proxy = Start::proxy(origin.address, PROXY).run();
        for i in 0..3 {
            let path = format!("article/{i}");
            let (took, reply) = timed(|| get(proxy.address, &path));
            let sound = reply["data"]["path"] == path.as_str() || reply["status"] == "ORIGIN_FAILURE";
            assert!(sound, "{stranger:?}: {reply}");
            assert!(took < IN_TIME, "{stranger:?} took {took:?}");
        }
    }
}

#[test]
fn a_request_on_a_broken_session_is_repeated_once() {
    let asked_before = AtomicUsize::new(0);
    let origin =
        Fake::start(Hello::Granted, move |asked| match asked_before.fetch_add(1, Ordering::SeqCst) {
            0 => answer_soundly(asked),
            // The session worked and is idle; it breaks with the next request.
            1 => asked.close(),
            _ => answer_soundly(asked),
        });
    let proxy = Start::proxy(origin.address, PROXY).run();
    assert_eq!(get(proxy.address, "article/1")["status"], "OK");
    let reply = get(proxy.address, "article/2");
    assert_eq!(reply["data"]["path"], "article/2", "a broken session is no failure of the origin: {reply}");
}

#[test]
fn cancelled_requests_do_not_confuse_a_session() {
    let origin = Fake::start(Hello::Granted, |asked| {
        pause(Duration::from_millis(5));
        answer_soundly(asked);
    });
    let proxy = Start::proxy(origin.address, "--fetch-deadline 20s").run();
    let balancer = Start::balancer(&[origin.address], "--try-deadline 25s").run();
    // A proxy completes the fetch for later clients; a balancer cancels it with its client.
    for node in [proxy.address, balancer.address] {
        at_once((0..40).collect(), |i| leave_or_take(node, i));
    }
    assert_eq!(
        balancer.metrics()["proxies"][origin.address.to_string()]["errors"],
        0,
        "no failure is counted"
    );
    until("nothing is left", || balancer.count("in_flight") == 0.0);
}

/// Every second client closes before its reply; the others must get theirs.
fn leave_or_take(proxy: Address, i: usize) {
    let mut session = Session::open(proxy);
    session.send(&format!("{i} GET article/{i}\n"));
    if i.is_multiple_of(2) {
        let (id, reply) = session.reply();
        assert_eq!(
            (id, &parse(&reply)["data"]["path"]),
            (i as u64, &Value::from(format!("article/{i}"))),
            "{reply}"
        );
    }
}

/// Runs the check for every fault, plain and in sessions, six in parallel; reports all failures together.
fn assert_every_case(check: impl Fn(Hello, Fault) -> anyhow::Result<()> + Sync) {
    let cases: Vec<_> = [Hello::Refused, Hello::Granted]
        .into_iter()
        .flat_map(|hello| Fault::ALL.map(|fault| (hello, fault)))
        .collect();
    let lanes: Vec<_> = (0..6).map(|lane| cases.iter().skip(lane).step_by(6)).collect();
    let failures = at_once(lanes, |lane| {
        lane.filter_map(|&(hello, fault)| {
            Some(format!("{hello:?} {fault:?}: {}", check(hello, fault).err()?))
        })
        .collect::<Vec<_>>()
    });
    let failures = failures.concat();
    assert!(failures.is_empty(), "{failures:#?}");
}
