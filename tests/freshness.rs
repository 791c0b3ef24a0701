//! Proves how long a document is good for: its time and its jitter, refreshing before and behind, what is served while
//! the origin fails, and how gently that is asked again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::ask::parse;
use crate::support::fake::{Fault, Hello};
use crate::support::node::own_host;
use crate::support::{Address, Data, Fake, Node, Session, Start, ask, at_once, get, heavy, pause, until};

/// An origin whose documents say which edition they are, that fails when it is told to, and knows how many ask at once.
struct Moody {
    fake: Fake,
    mood: Arc<Mood>,
}

#[derive(Default)]
struct Mood {
    /// None: it is sound.
    fault: Mutex<Option<Fault>>,
    slowness: Mutex<Duration>,
    edition: AtomicUsize,
    asking: AtomicUsize,
    most: AtomicUsize,
}

impl Moody {
    fn start() -> Self {
        Self::start_on(Address::loopback(0))
    }

    fn start_on(address: Address) -> Self {
        let mood = Arc::new(Mood::default());
        let state = mood.clone();
        let fake = Fake::start_on(address, Hello::Refused, move |asked| {
            let asking = state.asking.fetch_add(1, Ordering::SeqCst) + 1;
            state.most.fetch_max(asking, Ordering::SeqCst);
            let slowness = *state.slowness.lock().expect("the slowness");
            pause(slowness);
            let fault = *state.fault.lock().expect("the fault");
            let line = format!("{{\"status\":\"OK\",\"data\":{}}}", state.edition.load(Ordering::SeqCst));
            let leave = || state.asking.fetch_sub(1, Ordering::SeqCst);
            // Down before the answer, after which the next one may come.
            match fault {
                None => {
                    leave();
                    asked.reply(&line);
                }
                Some(Fault::Silent) => {
                    asked.wait_for_the_asker_to_leave();
                    leave();
                }
                Some(fault) => {
                    leave();
                    fault.strike(asked);
                }
            }
        });
        Self { fake, mood }
    }

    fn fails(&self, fault: Fault) {
        *self.mood.fault.lock().expect("the fault") = Some(fault);
    }

    fn recovers(&self) {
        *self.mood.fault.lock().expect("the fault") = None;
    }

    fn slows(&self, slowness: Duration) {
        *self.mood.slowness.lock().expect("the slowness") = slowness;
    }

    fn publish(&self, edition: usize) {
        self.mood.edition.store(edition, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.fake.requests().len()
    }

    /// The most that asked at once since the last call.
    fn most_at_once(&self) -> usize {
        self.mood.most.swap(0, Ordering::SeqCst)
    }
}

fn explain(proxy: &Node, path: &str) -> Value {
    parse(&ask(proxy.address, &format!("EXPLAIN {path}")))["data"].take()
}

fn is_stale(proxy: &Node, path: &str) -> bool {
    explain(proxy, path)["state"] == "stale"
}

/// A reply that must be an old edition, served from the cache and said to be old.
fn assert_stale(reply: &Value, edition: usize) {
    let told = (&reply["status"], &reply["data"], &reply["cache_hit"], &reply["stale"]);
    assert_eq!(told, (&json!("OK"), &json!(edition), &json!(true), &json!(true)), "{reply}");
    assert!(reply["age"].is_u64(), "{reply}");
}

#[test]
fn jitter_only_shortens() {
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, "--ttl 1000s --ttl-jitter 10%").run();
    let lives: Vec<f64> = (0..60)
        .map(|i| {
            get(proxy.address, &format!("article/{i}"));
            let explained = explain(&proxy, &format!("article/{i}"));
            let seconds = |name: &str| explained[name].as_f64().unwrap_or_else(|| panic!("{explained}"));
            seconds("age_seconds") + seconds("ttl_left_seconds")
        })
        .collect();
    assert!(lives.iter().all(|life| (900.0..=1000.0).contains(life)), "{lives:?}");
    let (shortest, longest) = lives.iter().fold((f64::MAX, 0.0_f64), |(a, b), &l| (a.min(l), b.max(l)));
    assert!(longest - shortest > 30.0, "60 documents fetched together end within {shortest} to {longest} s");

    let exact = Start::proxy(origin.address, "--ttl 1000s --ttl-jitter 0%").run();
    get(exact.address, "article/1");
    let explained = explain(&exact, "article/1");
    let life = explained["age_seconds"].as_f64().unwrap() + explained["ttl_left_seconds"].as_f64().unwrap();
    assert!((life - 1000.0).abs() < 0.002, "{explained}");
}

#[test]
fn the_time_on_the_way_counts() {
    let origin = Moody::start();
    let proxy = Start::proxy(origin.fake.address, "--ttl 60s --ttl-jitter 0%").run();
    origin.slows(Duration::from_millis(400));
    get(proxy.address, "article/1");
    let explained = explain(&proxy, "article/1");
    let seconds = |name: &str| explained[name].as_f64().unwrap_or_else(|| panic!("{explained}"));
    assert!(seconds("age_seconds") >= 0.399, "the origin may have read it when it was asked: {explained}");
    assert!(seconds("ttl_left_seconds") <= 59.601, "{explained}");
}

#[test]
fn a_hot_key_never_misses() {
    // A fetch takes a tenth of the life: the refresh begins well before the end even on a machine that stalls.
    const TTL: Duration = Duration::from_millis(1200);
    let _alone = heavy();
    let origin = Moody::start();
    origin.slows(Duration::from_millis(120));
    let proxy = Start::proxy(origin.fake.address, "--ttl 1200ms --stale-if-error 0").run();
    get(proxy.address, "article/1");
    let end = Instant::now() + TTL * 3;
    at_once(vec![(); 2], |()| {
        let mut session = Session::open(proxy.address);
        let mut id = 0;
        while Instant::now() < end {
            let reply = session.ask(id, "GET article/1");
            assert!(reply.contains("\"cache_hit\":true") && !reply.contains("stale"), "{id}: {reply}");
            id += 1;
        }
        assert!(id > 100, "only {id} requests in all that time are no steady load");
    });
    assert_eq!(proxy.count("misses"), 1.0);
    // What expires after 1.2 s has to be fetched twice more in 3.6 s.
    assert!(proxy.count("refreshes") >= 2.0);
}

#[test]
fn what_is_stale_is_served_at_once_while_it_is_fetched() {
    let origin = Moody::start();
    let words = "--ttl 200ms --stale-while-revalidate 10m --fetch-deadline 20s";
    let proxy = Start::proxy(origin.fake.address, words).run();
    assert_eq!(get(proxy.address, "article/1")["data"], 0);
    until("it is stale", || is_stale(&proxy, "article/1"));
    origin.publish(1);
    origin.slows(Duration::from_millis(300));
    let before = origin.asked();
    for _ in 0..10 {
        assert_stale(&get(proxy.address, "article/1"), 0);
    }
    until("the new one is held", || explain(&proxy, "article/1")["fetch_under_way"] == false);
    assert_eq!(origin.asked() - before, 1, "one fetch behind them all");
    assert_eq!(get(proxy.address, "article/1")["data"], 1);
    let counts = ["misses", "stale_served"].map(|name| proxy.count(name));
    assert!(counts[0] == 1.0 && counts[1] >= 10.0, "{counts:?}");
}

#[test]
fn past_its_time_a_document_is_fetched_before_it_is_served() {
    let origin = Moody::start();
    let proxy = Start::proxy(origin.fake.address, "--ttl 200ms").run();
    get(proxy.address, "article/1");
    until("it is stale", || is_stale(&proxy, "article/1"));
    origin.publish(1);
    let reply = get(proxy.address, "article/1");
    assert_eq!(
        (&reply["data"], &reply["cache_hit"], &reply["stale"]),
        (&json!(1), &json!(false), &Value::Null)
    );
}

#[test]
fn the_last_good_document_outlives_a_failing_origin() {
    let faults = [
        Fault::Silent,
        Fault::Close,
        Fault::HalfLine,
        Fault::Line("hello"),
        Fault::Line(r#"{"status":"OK","data":{"a":NaN}}"#),
        Fault::Line(r#"{"status":"BAD_DOCUMENT","data":"not JSON"}"#),
        Fault::Line(r#"{"status":"OVERLOADED","data":"later"}"#),
    ];
    at_once(faults.to_vec(), |fault| {
        let origin = Moody::start();
        let words = "--ttl 150ms --fetch-deadline 500ms --origin-retry 50ms";
        let proxy = Start::proxy(origin.fake.address, words).run();
        origin.publish(7);
        assert_eq!(get(proxy.address, "article/1")["data"], 7);
        origin.fails(fault);
        until("it is stale", || is_stale(&proxy, "article/1"));
        for _ in 0..5 {
            assert_stale(&get(proxy.address, "article/1"), 7);
        }
        assert!(proxy.count("stale_served") >= 5.0 && proxy.count("origin_failures") >= 1.0);
        assert_eq!(
            get(proxy.address, "article/2")["status"],
            "ORIGIN_FAILURE",
            "{fault:?}: there is no good one"
        );
        origin.publish(8);
        origin.recovers();
        until("it is asked again", || get(proxy.address, "article/1")["data"] == 8);
        assert_eq!(get(proxy.address, "article/2")["data"], 8, "{fault:?}: no failure was kept");
    });
}

#[test]
fn the_last_good_document_outlives_an_origin_that_is_gone() {
    let origin = Moody::start_on(Address((own_host(), 0).into()));
    let address = origin.fake.address;
    let proxy = Start::proxy(address, "--ttl 150ms --origin-retry 50ms").run();
    assert_eq!(get(proxy.address, "article/1")["data"], 0);
    drop(origin);
    until("it is stale", || is_stale(&proxy, "article/1"));
    assert_stale(&get(proxy.address, "article/1"), 0);
    let explained = explain(&proxy, "article/1");
    assert_eq!(explained["last_error"], "the origin cannot be reached", "{explained}");
    let origin = Moody::start_on(address);
    origin.publish(1);
    until("the new one is there", || get(proxy.address, "article/1")["data"] == 1);
}

#[test]
fn without_stale_if_error_a_failure_is_told() {
    let origin = Moody::start();
    for (words, told) in [("--stale-if-error 0", "ORIGIN_FAILURE"), ("--stale-if-error 10m", "OK")] {
        origin.recovers();
        let proxy = Start::proxy(origin.fake.address, &format!("--ttl 150ms {words}")).run();
        get(proxy.address, "article/1");
        origin.fails(Fault::Close);
        until("it is stale", || explain(&proxy, "article/1")["state"] != "fresh");
        assert_eq!(get(proxy.address, "article/1")["status"], told, "{words}");
    }
}

#[test]
fn a_failing_origin_is_asked_now_and_then() {
    const RETRY: Duration = Duration::from_millis(200);
    let origin = Moody::start();
    let proxy = Start::proxy(origin.fake.address, "--ttl 100ms --origin-retry 200ms").run();
    for i in 0..20 {
        get(proxy.address, &format!("article/{i}"));
    }
    origin.fails(Fault::Line("hello"));
    until("all are stale", || (0..20).all(|i| is_stale(&proxy, &format!("article/{i}"))));
    let (before, began) = (origin.asked(), Instant::now());
    let asked: usize = at_once(vec![0, 7], |offset| {
        let mut asked = 0;
        while began.elapsed() < RETRY * 6 {
            assert_stale(&get(proxy.address, &format!("article/{}", (offset + asked) % 20)), 0);
            assert_eq!(get(proxy.address, &format!("cold/{offset}-{asked}"))["status"], "ORIGIN_FAILURE");
            asked += 1;
        }
        asked
    })
    .into_iter()
    .sum();
    // Three failures in a row and who asked beside them, then a probe each pause, which doubles.
    let most = 5 + (began.elapsed().as_millis() / RETRY.as_millis()) as usize;
    let took = origin.asked() - before;
    assert!((4..=most).contains(&took), "a failing origin was asked {took} times by {asked} rounds");
    assert!(asked > most, "{asked} rounds are no load");
    assert_eq!(proxy.metrics()["origin_failing"], true);
}

#[test]
fn a_silent_origin_is_asked_by_one_probe_at_a_time() {
    let origin = Moody::start();
    let proxy = Start::proxy(origin.fake.address, "--origin-retry 50ms --fetch-deadline 400ms").run();
    origin.fails(Fault::Silent);
    until("it is held to fail", || {
        get(proxy.address, "article/1");
        proxy.metrics()["origin_failing"] == true && proxy.count("fetches_in_flight") == 0.0
    });
    until("it sees nobody", || origin.mood.asking.load(Ordering::SeqCst) == 0);
    origin.most_at_once();
    let before = origin.asked();
    let (done, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    // As many as a second probe would need to show, whatever the first one waits for.
    at_once(vec![(); 4], |()| {
        while !done.load(Ordering::Relaxed) {
            get(proxy.address, &format!("cold/{}", next.fetch_add(1, Ordering::Relaxed)));
            done.fetch_or(origin.asked() >= before + 3, Ordering::Relaxed);
            pause(Duration::from_millis(5));
        }
    });
    assert_eq!(origin.most_at_once(), 1);
}

#[test]
fn what_waited_for_its_turn_does_not_rush_to_an_origin_that_failed_meanwhile() {
    let origin = Moody::start();
    origin.fails(Fault::Line("hello"));
    origin.slows(Duration::from_millis(50));
    let words = "--max-fetches 2 --origin-retry 10s --fetch-deadline 20s";
    let proxy = Start::proxy(origin.fake.address, words).run();
    let mut session = Session::open(proxy.address);
    session.send(&(0..60).map(|id| format!("{id} GET cold/{id}\n")).collect::<String>());
    for (id, reply) in session.replies_to(0..60) {
        assert_eq!(parse(&reply)["status"], "ORIGIN_FAILURE", "{id}: {reply}");
    }
    let asked = origin.asked();
    assert!((3..=6).contains(&asked), "60 requests asked a failing origin {asked} times");
}

#[test]
fn not_all_rush_to_an_origin_that_is_back() {
    const KEYS: usize = 40;
    let origin = Moody::start();
    let words = "--ttl 500ms --max-fetches 3 --origin-retry 50ms --fetch-deadline 20s";
    let proxy = Start::proxy(origin.fake.address, words).run();
    let all: Vec<String> = (0..KEYS).map(|i| format!("article/{i}")).collect();
    for path in &all {
        get(proxy.address, path);
    }
    origin.fails(Fault::Close);
    until("the origin is held to fail", || {
        get(proxy.address, "cold/1");
        proxy.metrics()["origin_failing"] == true
    });
    until("all are stale", || all.iter().all(|path| is_stale(&proxy, path)));
    origin.publish(1);
    origin.slows(Duration::from_millis(20));
    origin.recovers();
    until("it is known to be back", || {
        get(proxy.address, "cold/1");
        proxy.metrics()["origin_failing"] == false
    });
    origin.most_at_once();
    let mut session = Session::open(proxy.address);
    let asks = all.iter().enumerate().map(|(id, path)| format!("{id} GET {path}\n"));
    session.send(&asks.collect::<String>());
    let replies = session.replies_to(0..KEYS as u64);
    let editions: HashSet<u64> =
        replies.values().map(|r| parse(r)["data"].as_u64().expect("an edition")).collect();
    assert_eq!(editions, HashSet::from([1]), "each got the new one");
    assert_eq!(origin.most_at_once(), 3, "requests at once at the origin");
}

#[test]
fn an_absence_is_kept_for_its_own_time() {
    let data = Data::empty();
    let origin = Start::origin(data.path(), "").run();
    let kept = Start::proxy(origin.address, "--negative-ttl 10m").run();
    let short = Start::proxy(origin.address, "--negative-ttl 200ms").run();
    let none = Start::proxy(origin.address, "").run();
    for (proxy, hits) in [(&kept, 4.0), (&none, 0.0)] {
        for _ in 0..5 {
            assert_eq!(get(proxy.address, "article/1")["status"], "NOT_FOUND");
        }
        let counted = (proxy.count("negative_hits"), proxy.count("hits"), proxy.count("origin_fetches"));
        assert_eq!(counted, (hits, hits, 5.0 - hits));
    }
    assert_eq!(get(short.address, "article/1")["status"], "NOT_FOUND");
    let explained = explain(&kept, "article/1");
    assert_eq!((&explained["negative"], &explained["cached"]), (&json!(true), &json!(true)), "{explained}");

    data.put("article/1", b"1");
    assert_eq!(get(none.address, "article/1")["status"], "OK");
    until("the absence is over", || get(short.address, "article/1")["status"] == "OK");
    assert_eq!(get(kept.address, "article/1")["status"], "NOT_FOUND");
    ask(kept.address, "PURGE article/1");
    assert_eq!(get(kept.address, "article/1")["status"], "OK");
}

#[test]
fn an_absence_takes_the_place_of_a_document_that_was_removed() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "--ttl 150ms").run();
    assert_eq!(get(proxy.address, "article/1")["status"], "OK");
    std::fs::remove_file(data.file("article/1")).expect("the file");
    until("the origin's word is taken", || get(proxy.address, "article/1")["status"] == "NOT_FOUND");
    assert_eq!(
        get(proxy.address, "article/1")["status"],
        "NOT_FOUND",
        "it is no error, so nothing stale is served"
    );
    assert_eq!(explain(&proxy, "article/1")["cached"], false);
}
