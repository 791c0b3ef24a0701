//! Freshness: time to live and jitter, refreshes before and after the end of it, and stale documents while the origin
//! fails.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::fake::{Fault, Hello, answer_soundly};
use crate::support::moody::{Moody, assert_stale, explain, is_stale};
use crate::support::node::own_host;
use crate::support::{Address, Data, Fake, Session, Start, ask, at_once, get, heavy, until};

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
fn the_duration_of_the_fetch_counts_as_age() {
    let origin = Moody::start();
    let proxy = Start::proxy(origin.fake.address, "--ttl 60s --ttl-jitter 0%").run();
    origin.slows(Duration::from_millis(400));
    get(proxy.address, "article/1");
    let explained = explain(&proxy, "article/1");
    let seconds = |name: &str| explained[name].as_f64().unwrap_or_else(|| panic!("{explained}"));
    assert!(
        seconds("age_seconds") >= 0.399,
        "the origin may have read it at the start of the fetch: {explained}"
    );
    assert!(seconds("ttl_left_seconds") <= 59.601, "{explained}");
}

#[test]
fn a_hot_key_never_misses() {
    // A fetch takes a tenth of the time to live: the refresh begins well before its end even on a loaded machine.
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
    // A time to live of 1.2 s needs two more fetches in 3.6 s.
    assert!(proxy.count("refreshes") >= 2.0);
}

#[test]
fn a_stale_document_is_served_at_once_while_it_is_fetched() {
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
    assert_eq!(origin.asked() - before, 1, "one fetch for all of them");
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
        until("the origin is tried again", || get(proxy.address, "article/1")["data"] == 8);
        assert_eq!(get(proxy.address, "article/2")["data"], 8, "{fault:?}: no failure was kept");
    });
}

#[test]
fn the_last_good_document_outlives_a_dead_origin() {
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
fn without_stale_if_error_a_failure_is_the_reply() {
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
fn not_found_is_cached_for_negative_ttl() {
    let data = Data::empty();
    // The origin tells nobody that a document has come.
    let origin = Start::origin(data.path(), "--changes off").run();
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
fn a_flood_of_keys_without_a_document_pushes_out_no_documents() {
    let origin = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some(path) if path.starts_with("none/") => asked.reply(r#"{"status":"NOT_FOUND","data":null}"#),
        _ => answer_soundly(asked),
    });
    for kind in ["ttl", "lru", "s3fifo"] {
        let words = format!("--cache-type {kind} --capacity 400 --negative-ttl 10m --fetch-deadline 20s");
        let proxy = Start::proxy(origin.address, &words).run();
        let mut session = Session::open(proxy.address);
        let documents = |id| format!("GET article/{id}");
        session.ask_many(0..300, documents);
        session.ask_many(0..5_000, |id| format!("GET none/{id}"));
        let hits = session
            .ask_many(0..300, documents)
            .values()
            .filter(|reply| reply.contains(r#""cache_hit":true"#))
            .count();
        assert_eq!(hits, 300, "{kind}");
        assert!((301.0..=350.0).contains(&proxy.count("entries")), "an eighth is theirs");
    }
}

#[test]
fn not_found_replaces_a_removed_document() {
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

#[test]
fn a_proxy_that_holds_documents_for_ever_says_so_once() {
    let origin = Fake::origin();
    for (flags, times) in [("--cache-type lru", 1), ("--cache-type lru --ttl 5s", 0), ("--cache-type ttl", 0)]
    {
        let proxy = Start::proxy(origin.address, flags).run();
        get(proxy.address, "article/1");
        assert_eq!(proxy.log().matches("--ttl gives them a time to live").count(), times, "{flags}");
    }
}
