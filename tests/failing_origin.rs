//! A failing origin gets few requests until it recovers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::ask::parse;
use crate::support::fake::{Fault, Gate, Hello, answer_soundly};
use crate::support::moody::{Moody, assert_stale, explain, is_stale};
use crate::support::over::{Over, over_both};
use crate::support::{Data, Fake, Node, Session, ask, at_once, eventually, get, pause, timed, until};

over_both! {
    a_failing_origin_gets_one_probe_per_pause,
    a_silent_origin_gets_one_probe_at_a_time,
    queued_fetches_do_not_reach_an_origin_that_failed_meanwhile,
    fetches_at_once_are_bounded_when_the_origin_recovers,
    a_held_document_whose_file_breaks_is_fetched_now_and_then,
    a_softly_purged_document_whose_file_is_broken_is_fetched_now_and_then,
    explain_tells_the_failure_of_this_key_and_of_no_other,
    a_failing_origin_is_tried_with_other_keys_while_the_known_one_is_fetched,
}

fn a_failing_origin_gets_one_probe_per_pause(over: Over) {
    const RETRY: Duration = Duration::from_millis(200);
    let origin = Moody::start();
    let proxy = over.proxy(origin.fake.address, "--ttl 100ms --origin-retry 200ms").run();
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
    // Three failures in a row and concurrent requests, then one probe per pause, which doubles.
    let most = 5 + (began.elapsed().as_millis() / RETRY.as_millis()) as usize;
    let took = origin.asked() - before;
    assert!((4..=most).contains(&took), "a failing origin was asked {took} times by {asked} rounds");
    assert!(asked > most, "{asked} rounds are no load");
    assert_eq!(proxy.metrics()["origin_failing"], true);
}

fn a_silent_origin_gets_one_probe_at_a_time(over: Over) {
    let origin = Moody::start();
    // The origin has this pause to notice that the probe before has been given up.
    let proxy = over.proxy(origin.fake.address, "--origin-retry 200ms --fetch-deadline 400ms").run();
    origin.fails(Fault::Silent);
    until("it is held to fail", || {
        get(proxy.address, "article/1");
        proxy.metrics()["origin_failing"] == true && proxy.count("fetches_in_flight") == 0.0
    });
    until("it has no open request", || origin.asking() == 0);
    origin.most_at_once();
    let before = origin.asked();
    let (done, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Enough for a second probe to show while the first one waits.
    at_once(vec![(); 4], |()| {
        while !done.load(Ordering::Relaxed) {
            get(proxy.address, &format!("cold/{}", next.fetch_add(1, Ordering::Relaxed)));
            done.fetch_or(origin.asked() >= before + 3, Ordering::Relaxed);
            pause(Duration::from_millis(5));
        }
    });
    assert_eq!(origin.most_at_once(), 1);
}

fn queued_fetches_do_not_reach_an_origin_that_failed_meanwhile(over: Over) {
    let origin = Moody::start();
    origin.fails(Fault::Line("hello"));
    origin.slows(Duration::from_millis(50));
    let words = "--max-fetches 2 --origin-retry 10s --fetch-deadline 20s";
    let proxy = over.proxy(origin.fake.address, words).run();
    let mut session = Session::open(proxy.address);
    for (id, reply) in session.ask_many(0..60, |id| format!("GET cold/{id}")) {
        assert_eq!(parse(&reply)["status"], "ORIGIN_FAILURE", "{id}: {reply}");
    }
    let asked = origin.asked();
    assert!((3..=6).contains(&asked), "60 requests asked a failing origin {asked} times");
}

fn fetches_at_once_are_bounded_when_the_origin_recovers(over: Over) {
    const KEYS: usize = 40;
    let origin = Moody::start();
    let words = "--ttl 500ms --max-fetches 3 --origin-retry 50ms --fetch-deadline 20s";
    let proxy = over.proxy(origin.fake.address, words).run();
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
    let replies = session.ask_many(0..KEYS as u64, |id| format!("GET {}", all[id as usize]));
    let editions: HashSet<u64> =
        replies.values().map(|r| parse(r)["data"].as_u64().expect("an edition")).collect();
    assert_eq!(editions, HashSet::from([1]), "each got the new one");
    assert_eq!(origin.most_at_once(), 3, "requests at once at the origin");
}

/// Asks 200 times for a document that is held, and between that for others, which the origin has. Returns how often the
/// origin was asked for the first.
fn fetches_of_200_requests(proxy: &Node, path: &str, others: &str) -> usize {
    let before = proxy.count("origin_fetches");
    let (took, ()) = timed(|| {
        let mut session = Session::open(proxy.address);
        for id in 0..200 {
            let reply = session.ask(id, &format!("GET {path}"));
            assert!(reply.contains("\"stale\":true"), "{id}: {reply}");
            if id % 10 == 0 {
                assert_eq!(get(proxy.address, &format!("{others}/{id}"))["status"], "NOT_FOUND");
            }
        }
    });
    let fetches = (proxy.count("origin_fetches") - before) as usize - 20;
    assert!(fetches <= 2 + took.as_secs() as usize, "200 requests in {took:?} made {fetches} fetches");
    fetches
}

fn a_held_document_whose_file_breaks_is_fetched_now_and_then(over: Over) {
    let data = Data::articles(3);
    let origin = over.server_of(&data);
    for words in ["", "--stale-while-revalidate 10m"] {
        data.put("article/3", b"3");
        let proxy = over.proxy(origin.address(), &format!("--ttl 200ms {words}")).run();
        assert_eq!(get(proxy.address, "article/3")["data"], 3);
        data.put("article/3", br#"{"id":"#);
        until("it is stale", || is_stale(&proxy, "article/3"));
        fetches_of_200_requests(&proxy, "article/3", "none");
        assert_eq!(proxy.metrics()["origin_failing"], false);
        data.put("article/3", b"4");
        until("the mended one is fetched", || get(proxy.address, "article/3")["data"] == 4);
    }
}

fn a_softly_purged_document_whose_file_is_broken_is_fetched_now_and_then(over: Over) {
    let data = Data::articles(3);
    let origin = over.server_of(&data);
    let proxy = over.proxy(origin.address(), "--ttl 10m").run();
    get(proxy.address, "article/3");
    data.put("article/3", br#"{"id":"#);
    ask(proxy.address, "PURGE soft article/3");
    let fetches = fetches_of_200_requests(&proxy, "article/3", "none");
    assert!(fetches >= 1, "it was fetched once");
    until("the fetch has failed", || explain(&proxy, "article/3")["last_error"].is_string());

    // A purge of other keys forgets nothing of this one.
    let fetched = |proxy: &Node| proxy.count("origin_fetches");
    ask(proxy.address, "PURGE zzz/*");
    assert!(explain(&proxy, "article/3")["last_error"].is_string());

    // It waits for seconds now, but a purge does not wait.
    let before = fetched(&proxy);
    ask(proxy.address, "PURGE soft article/*");
    get(proxy.address, "article/3");
    until("it is fetched at once", || fetched(&proxy) > before);
}

fn explain_tells_the_failure_of_this_key_and_of_no_other(over: Over) {
    let data = Data::articles(3);
    let origin = over.server_of(&data);
    let proxy = over.proxy(origin.address(), "--ttl 200ms --origin-retry 10m").run();
    for path in ["article/2", "article/3"] {
        get(proxy.address, path);
    }
    data.put("article/3", br#"{"id":"#);
    until("it is stale", || is_stale(&proxy, "article/3"));
    for path in ["article/2", "article/3"] {
        get(proxy.address, path);
    }
    let broken = explain(&proxy, "article/3");
    assert!(broken["last_error"].as_str().is_some_and(|why| why.contains("JSON")), "{broken}");
    assert!(broken["last_error_age_seconds"].as_f64().is_some_and(|age| age < 60.0), "{broken}");
    let again = broken["tried_again_in_seconds"].as_f64().unwrap_or_else(|| panic!("{broken}"));
    assert!((500.0..=600.0).contains(&again), "{broken}");
    for path in ["article/2", "article/1"] {
        let sound = explain(&proxy, path);
        assert!(sound["last_error"].is_null() && sound["tried_again_in_seconds"].is_null(), "{sound}");
    }

    // Without a document to serve meanwhile the next request is a try.
    data.put("article/9", br#"{"id":"#);
    // A fetch that a change overtakes has no say.
    let cold = eventually("its failure is known", || {
        get(proxy.address, "article/9");
        Some(explain(&proxy, "article/9")).filter(|told| told["last_error"].is_string())
    });
    assert!(cold["last_error"].is_string() && cold["tried_again_in_seconds"] == 0.0, "{cold}");
    data.put("article/9", b"9");
    assert_eq!(get(proxy.address, "article/9")["data"], 9);
    assert!(explain(&proxy, "article/9")["last_error"].is_null());
}

fn a_failing_origin_is_tried_with_other_keys_while_the_known_one_is_fetched(over: Over) {
    // Of another kind than the keys that fail, and of theirs.
    for good in ["good/1", "bad/good"] {
        let (gate, known) = (Gate::default(), AtomicUsize::new(0));
        let held = gate.clone();
        let origin = Fake::start(Hello::Refused, move |asked| match asked.path() {
            Some("k/1") if known.fetch_add(1, Ordering::SeqCst) > 0 => {
                let held = held.clone();
                asked.answer_soundly_after(move || held.wait());
            }
            Some("bad/1" | "bad/2" | "bad/3") => asked.close(),
            _ => answer_soundly(asked),
        });
        let words = "--ttl 100ms --stale-while-revalidate 10m --fetch-deadline 20s";
        let proxy = over.proxy(origin.address, words).run();
        get(proxy.address, "k/1");
        until("it is fetched again", || {
            get(proxy.address, "k/1");
            explain(&proxy, "k/1")["fetch_under_way"] == true
        });
        for bad in 1..=3 {
            assert_eq!(get(proxy.address, &format!("bad/{bad}"))["status"], "ORIGIN_FAILURE");
        }
        assert_eq!(proxy.metrics()["origin_failing"], true);
        let reply = get(proxy.address, good);
        assert_eq!(reply["status"], "OK", "{good}: {reply}");
        assert_eq!(explain(&proxy, "k/1")["fetch_under_way"], true);
        assert_eq!(proxy.metrics()["origin_failing"], false);
        gate.open();
    }
}
