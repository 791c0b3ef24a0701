//! Limits of a balancer: requests per proxy and their wait, deadlines that travel with requests, and `--panic-threshold`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::ask::parse;
use crate::support::cluster::POLLS;
use crate::support::fake::{Gate, Hello, METRICS, answer_soundly};
use crate::support::{Fake, Session, Start, get, pause, status_of, until};

/// No poll and no deadline interferes; with one thread the bounds are exact.
const CALM: &str = "--threads 1 --health-interval 1h --max-failures 100 --hedge off --try-deadline 25s";

#[test]
fn requests_beyond_the_limits_of_a_proxy_are_refused_at_once() {
    let gate = Gate::default();
    let proxy = gate.peer();
    let words = format!("{CALM} --proxy-max-in-flight 4 --proxy-max-waiting 3 --proxy-max-wait 20s");
    let balancer = Start::balancer(&[proxy.address], &words).run();
    let mut session = Session::open(balancer.address);
    session.send("0 GET a/0\n");
    until("there is a session", || proxy.requests().len() == 1);
    session.send_many(1..40, |id| format!("GET a/{id}"));
    for _ in 0..33 {
        let (id, reply) = session.reply();
        assert!(id >= 7 && status_of(&reply) == "OVERLOADED", "{id}: {reply}");
    }
    until("four requests are at the proxy", || proxy.requests().len() == 4);
    gate.open();
    for (id, reply) in session.replies_to(0..7) {
        assert_eq!(status_of(&reply), "OK", "{id}: {reply}");
    }
    assert_eq!(proxy.requests().len(), 7);
    assert_eq!(get(balancer.address, "a/1")["status"], "OK");
}

#[test]
fn a_request_waits_at_most_proxy_max_wait() {
    let gate = Gate::default();
    let proxy = gate.peer();
    let words = format!("{CALM} --proxy-max-in-flight 1 --proxy-max-wait 300ms");
    let balancer = Start::balancer(&[proxy.address], &words).run();
    let mut session = Session::open(balancer.address);
    session.send("1 GET a/1\n2 GET a/2\n3 GET a/3\n");
    for (id, reply) in session.replies_to([2, 3]) {
        assert_eq!(status_of(&reply), "OVERLOADED", "{id}: {reply}");
    }
    gate.open();
    assert_eq!(status_of(&session.replies_to([1])[&1]), "OK");
    assert_eq!(proxy.requests(), ["GET a/1"], "a refused request never reaches the proxy");
}

#[test]
fn explains_that_take_long_hold_up_no_get() {
    let gate = Gate::default();
    let held = gate.clone();
    let proxy = Fake::start(Hello::Granted, move |asked| match asked.request.starts_with("EXPLAIN") {
        true => {
            let gate = held.clone();
            asked.answer_soundly_after(move || gate.wait());
        }
        false => answer_soundly(asked),
    });
    let words = format!("{CALM} --proxy-max-in-flight 100 --proxy-max-wait 300ms");
    let balancer = Start::balancer(&[proxy.address], &words).run();
    let mut session = Session::open(balancer.address);
    session.send_many(0..400, |id| format!("EXPLAIN a/{id}"));
    until("many are under way", || proxy.requests().len() >= 64);
    for i in 0..20 {
        assert_eq!(get(balancer.address, &format!("a/{i}"))["status"], "OK");
    }
    gate.open();
    session.replies_to(0..400);
}

#[test]
fn a_balancer_reads_no_more_requests_than_keep_its_proxies_busy() {
    /// Requests in flight that saturate one core.
    const ENOUGH: f64 = 2048.0;
    for words in ["", "--http-port 0"] {
        let gate = Gate::default();
        let held = gate.clone();
        let proxy = Fake::start(Hello::Granted, move |asked| match asked.path() {
            Some(path) if path.starts_with("slow/") => {
                let held = held.clone();
                asked.answer_soundly_after(move || held.wait());
            }
            _ => answer_soundly(asked),
        });
        let words = format!("{CALM} --max-in-flight 10000 --proxy-max-wait 25s {words}");
        let balancer = Start::balancer(&[proxy.address], &words).run();
        let mut session = Session::open(balancer.address);
        assert_eq!(
            status_of(&session.ask(0, "GET quick/1")),
            "OK",
            "from now on it knows the size of replies"
        );
        session.send_many(1..4001, |id| format!("GET slow/{id}"));
        until("it has its maximum of requests", || balancer.count("in_flight") >= ENOUGH);
        pause(Duration::from_millis(200));
        assert_eq!(balancer.count("in_flight"), ENOUGH, "the client keeps the rest");
        gate.open();
        for (id, reply) in session.replies_to(1..=4000) {
            assert_eq!(status_of(&reply), "OK", "{id}: {reply}");
        }
    }
}

#[test]
fn the_remaining_deadline_travels_with_the_request() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let proxy = Fake::start(Hello::Granted, {
        let told = told.clone();
        move |asked| {
            if asked.path().is_some() {
                told.lock().expect("the options").push(asked.options.to_owned());
            }
            answer_soundly(asked);
        }
    });
    let balancer = Start::balancer(&[proxy.address], POLLS).run();
    let mut session = Session::open(balancer.address);
    assert_eq!(status_of(&session.ask(1, "GET a/1")), "OK");
    assert_eq!(status_of(&session.ask(2, "GET a/2 deadline=1500")), "OK");
    let told = told.lock().expect("the options");
    assert_eq!(told[0], "", "no deadline above the limits of the node itself");
    let left = told[1].strip_prefix("deadline=").and_then(|ms| ms.parse::<u64>().ok());
    assert!(left.is_some_and(|ms| (1..=1500).contains(&ms)), "{told:?}");
}

#[test]
fn below_the_panic_threshold_all_proxies_are_used() {
    let well = Arc::new(AtomicBool::new(true));
    let ill = || {
        let well = well.clone();
        Fake::start(Hello::Granted, move |asked| match asked.path() {
            Some(_) => answer_soundly(asked),
            None if well.load(Ordering::Relaxed) => asked.reply(METRICS),
            None => asked.reply("hello"),
        })
    };
    let proxies = [ill(), ill(), Fake::origin()];
    let addresses = proxies.each_ref().map(|proxy| proxy.address);
    let calm = Start::balancer(&addresses, POLLS).run();
    let panics = Start::balancer(&addresses, &format!("{POLLS} --panic-threshold 50")).run();
    well.store(false, Ordering::Relaxed);
    for balancer in [&calm, &panics] {
        until("two are down", || addresses[..2].iter().all(|&address| !balancer.holds_healthy(address)));
    }
    let asked = || proxies.each_ref().map(|proxy| proxy.requests().len());
    let before = asked();
    for balancer in [&calm, &panics] {
        for i in 0..12 {
            assert_eq!(get(balancer.address, &format!("a/{i}"))["status"], "OK");
        }
        let grown: Vec<usize> = asked().iter().zip(before).map(|(now, before)| now - before).collect();
        let expected = if balancer.port() == calm.port() { [0, 0, 12] } else { [4, 4, 16] };
        assert_eq!(grown, expected);
    }
    assert_eq!(parse(&crate::support::ask(calm.address, "METRICS"))["data"]["cluster"]["healthy"], 1);
}
