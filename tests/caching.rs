//! The cache of a proxy: its contents, their time, its bounds; and one fetch for concurrent requests.

use std::time::Duration;

use crate::support::fake::{Hello, answer_soundly};
use crate::support::{Address, Data, Fake, Session, Start, at_once, get, pause, until};

fn hit(proxy: Address, path: &str) -> bool {
    let reply = get(proxy, path);
    assert_eq!(reply["status"], "OK", "{reply}");
    reply["cache_hit"].as_bool().expect("cache_hit")
}

#[test]
fn concurrent_requests_for_a_key_cost_one_fetch() {
    for hello in [Hello::Refused, Hello::Granted] {
        let origin = Fake::start(hello, |asked| {
            pause(Duration::from_millis(300));
            answer_soundly(asked);
        });
        for words in ["", "--cache-type lru"] {
            let proxy = Start::proxy(origin.address, words).run();
            let before = origin.requests().len();
            at_once(vec![(); 40], |()| {
                assert_eq!(get(proxy.address, "article/1")["data"]["path"], "article/1");
            });
            assert_eq!(origin.requests().len() - before, 1, "one fetch per key at a time");
            assert_eq!(
                (proxy.count("hits") + proxy.count("misses"), proxy.count("origin_fetches")),
                (40.0, 1.0)
            );
        }
    }
}

#[test]
fn a_client_that_closes_does_not_cancel_the_fetch_of_others() {
    let origin = Fake::start(Hello::Granted, |asked| {
        pause(Duration::from_millis(300));
        answer_soundly(asked);
    });
    let proxy = Start::proxy(origin.address, "").run();
    let mut first = Session::open(proxy.address);
    first.send("1 GET article/1\n");
    until("the fetch has begun", || !origin.requests().is_empty());
    at_once(vec![Some(first), None, None], |leaver| match leaver {
        Some(session) => drop(session),
        None => assert_eq!(get(proxy.address, "article/1")["status"], "OK"),
    });
    assert_eq!(origin.requests().len(), 1, "the fetch outlived the client that began it");
}

#[test]
fn ttl_entries_expire() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    for kind in ["ttl", "lru"] {
        let proxy = Start::proxy(origin.address, &format!("--cache-type {kind} --ttl 300ms")).run();
        data.put("article/1", b"\"old\"");
        assert!(!hit(proxy.address, "article/1"));
        data.put("article/1", b"\"new\"");
        until("the new text is seen", || get(proxy.address, "article/1")["data"] == "new");
    }
}

#[test]
fn ttl_entries_stay_until_then_and_lru_entries_for_ever() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    for words in ["--ttl 10m", "--ttl 600", "--cache-type lru"] {
        let proxy = Start::proxy(origin.address, words).run();
        assert!(!hit(proxy.address, "article/1"));
        data.put("article/1", b"\"changed\"");
        for _ in 0..5 {
            assert!(hit(proxy.address, "article/1"), "{words}");
        }
        data.put("article/1", b"\"first\"");
    }
}

#[test]
fn lru_is_exact_at_a_capacity_of_three() {
    let data = Data::articles(5);
    let origin = Start::origin(data.path(), "").run();
    for flag in ["--capacity", "--lru_capacity", "--lru-capacity"] {
        let proxy = Start::proxy(origin.address, &format!("--cache-type lru {flag} 3")).run();
        let asked = |i: u32| hit(proxy.address, &format!("article/{i}"));
        assert_eq!([1, 2, 3].map(asked), [false; 3]);
        assert!(asked(1), "1 is now the most recent");
        assert!(!asked(4), "it evicts 2");
        assert_eq!([3, 1, 4].map(asked), [true; 3]);
        assert!(!asked(2), "it evicts 3");
        assert_eq!([1, 4, 2].map(asked), [true; 3]);
        assert!(!asked(3));
        assert!(!asked(1), "each eviction removed the least recent one");
    }
}

#[test]
fn a_cache_keeps_to_its_capacity() {
    let data = Data::articles(40);
    let origin = Start::origin(data.path(), "").run();
    for kind in ["ttl", "lru"] {
        let proxy = Start::proxy(origin.address, &format!("--cache-type {kind} --capacity 10")).run();
        for i in 1..=40 {
            hit(proxy.address, &format!("article/{i}"));
        }
        let fetched = proxy.count("origin_fetches");
        let kept = (1..=40).rev().filter(|i| hit(proxy.address, &format!("article/{i}"))).count();
        // Each miss may evict an entry that would have been a hit.
        assert!((1..=10).contains(&kept), "{kind} kept {kept} of 40 at a capacity of 10");
        assert!(proxy.count("origin_fetches") > fetched);
    }
}

#[test]
fn a_cache_keeps_to_its_bytes() {
    let line = format!("{{\"status\":\"OK\",\"data\":\"{}\"}}", "x".repeat(100 * 1024));
    let origin = Fake::start(Hello::Granted, move |asked| asked.reply(&line));
    for kind in ["ttl", "lru"] {
        let proxy = Start::proxy(origin.address, &format!("--cache-type {kind} --max-bytes 4MiB")).run();
        let before = proxy.resident_mib();
        for i in 0..300 {
            hit(proxy.address, &format!("large/{i}"));
        }
        let grown = proxy.resident_mib().saturating_sub(before);
        assert!(grown < 20, "{kind}: 30 MiB of documents took {grown} MiB where 4 MiB are allowed");
        assert!(hit(proxy.address, "large/299"), "{kind} keeps the last one");
        let kept = (240..300).rev().filter(|i| hit(proxy.address, &format!("large/{i}"))).count();
        assert!((10..=41).contains(&kept), "{kind} kept {kept} documents of 100 KiB in 4 MiB");
    }
}

#[test]
fn no_error_is_cached() {
    let data = Data::empty();
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    assert_eq!(get(proxy.address, "article/1")["status"], "NOT_FOUND");
    data.put("article/1", b"1");
    assert!(!hit(proxy.address, "article/1"));
    assert!(hit(proxy.address, "article/1"));
}
