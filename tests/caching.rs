//! The cache of a proxy: its contents, their time, its bounds; and one fetch for concurrent requests. The origins tell of no
//! change: times to live are what counts here.

use std::time::Duration;

use crate::support::fake::{Hello, answer_soundly};
use crate::support::moody::{assert_stale, explain, is_stale};
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
    let origin = Start::origin(data.path(), "--changes off").run();
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
    let origin = Start::origin(data.path(), "--changes off").run();
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
    let origin = Start::origin(data.path(), "--changes off").run();
    let proxy = Start::proxy(origin.address, "").run();
    assert_eq!(get(proxy.address, "article/1")["status"], "NOT_FOUND");
    data.put("article/1", b"1");
    assert!(!hit(proxy.address, "article/1"));
    assert!(hit(proxy.address, "article/1"));
}

/// A document of so many bytes, and more than a sixteenth of 1 MiB in the tests below.
fn large(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

#[test]
fn a_document_that_is_not_kept_is_counted_explained_and_logged_once() {
    let data = Data::articles(1);
    for path in ["large/1", "large/2"] {
        data.put(path, large(100_000).as_bytes());
    }
    let origin = Start::origin(data.path(), "--changes off").run();
    for kind in ["ttl", "lru", "s3fifo"] {
        let proxy = Start::proxy(origin.address, &format!("--cache-type {kind} --max-bytes 1MiB")).run();
        for path in ["article/1", "large/1", "large/1", "large/2"] {
            assert_eq!(get(proxy.address, path)["status"], "OK");
        }
        assert_eq!(proxy.count("not_kept"), 3.0);
        let why = explain(&proxy, "large/1")["not_kept"].to_string();
        assert!(why.contains("65536") && why.contains("--max-bytes"), "{why}");
        assert!(explain(&proxy, "article/1")["not_kept"].is_null());
        assert_eq!(proxy.log().matches("not kept").count(), 1, "{}", proxy.log());
        data.put("large/2", b"2");
        get(proxy.address, "large/2");
        let kept = explain(&proxy, "large/2");
        assert!(kept["not_kept"].is_null() && kept["cached"] == true, "{kept}");
        data.put("large/2", large(100_000).as_bytes());
    }
}

#[test]
fn the_older_document_is_there_when_a_fetch_fails_though_a_later_one_was_not_kept() {
    let data = Data::empty();
    let origin = Start::origin(data.path(), "--changes off").run();
    for words in ["", "--stale-while-revalidate 10m", "--cache-type lru"] {
        data.put("article/1", b"1");
        let proxy = Start::proxy(origin.address, &format!("--ttl 200ms --max-bytes 1MiB {words}")).run();
        assert_eq!(get(proxy.address, "article/1")["data"], 1);
        data.put("article/1", large(100_000).as_bytes());
        until("the later one is fetched", || get(proxy.address, "article/1")["data"].is_string());
        for _ in 0..10 {
            let reply = get(proxy.address, "article/1");
            assert!(
                reply["data"].is_string() && reply.get("stale").is_none(),
                "{words}: never the older one"
            );
        }
        data.put("article/1", b"{");
        for _ in 0..3 {
            assert_stale(&get(proxy.address, "article/1"), 1);
        }
        data.put("article/1", b"2");
        until("the mended one is fetched", || get(proxy.address, "article/1")["data"] == 2);
        until("it is kept", || hit(proxy.address, "article/1"));
    }
}

#[test]
fn a_held_document_outlives_a_file_that_grows_beyond_the_largest_document() {
    let data = Data::empty();
    let origin = Start::origin(data.path(), "--changes off").run();
    data.put("article/1", b"1");
    let proxy = Start::proxy(origin.address, "--ttl 200ms --max-document 64KiB").run();
    get(proxy.address, "article/1");
    data.put("article/1", large(100_000).as_bytes());
    until("it is stale", || is_stale(&proxy, "article/1"));
    for _ in 0..3 {
        assert_stale(&get(proxy.address, "article/1"), 1);
    }
    let why = explain(&proxy, "article/1")["last_error"].to_string();
    assert!(why.contains("--max-document"), "{why}");
}
