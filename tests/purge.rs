//! PURGE: its keys and prefixes, its permissions, and no client sees the old document after its reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ask::parse;
use crate::support::fake::Hello;
use crate::support::{Address, Fake, Session, Start, StopOnDrop, ask, at_once, get, pause, until};

/// An origin of numbered editions: a reply has the edition of the moment of its request, and is sent after a delay.
struct Press {
    origin: Fake,
    edition: Arc<AtomicU64>,
}

impl Press {
    fn start(hello: Hello, slowness: Duration) -> Self {
        let edition = Arc::new(AtomicU64::new(1));
        let now = edition.clone();
        let origin = Fake::start(hello, move |asked| {
            let line = format!("{{\"status\":\"OK\",\"data\":{}}}", now.load(Ordering::SeqCst));
            pause(slowness);
            asked.reply(&line);
        });
        Self { origin, edition }
    }

    fn publish(&self) -> u64 {
        self.edition.fetch_add(1, Ordering::SeqCst) + 1
    }
}

fn purge(proxy: Address, what: &str) -> Value {
    let reply = parse(&ask(proxy, &format!("PURGE {what}")));
    assert_eq!(reply["status"], "OK", "{reply}");
    reply["data"]["purged"].clone()
}

fn is_hit(proxy: Address, path: &str) -> bool {
    let reply = get(proxy, path);
    assert_eq!(reply["status"], "OK", "{reply}");
    reply["cache_hit"] == true
}

#[test]
fn a_purge_forgets_one_key_or_a_whole_prefix() {
    let origin = Fake::origin();
    for kind in ["ttl", "lru", "s3fifo"] {
        let proxy = Start::proxy(origin.address, &format!("--cache-type {kind}")).run();
        let paths = ["a/1", "a/2", "a/b/1", "a/b/2", "a/bc/1", "ab/1"];
        let hits = || paths.map(|path| is_hit(proxy.address, path));
        assert_eq!((hits(), hits()), ([false; 6], [true; 6]));

        assert_eq!(purge(proxy.address, "a/1"), 1);
        assert_eq!(purge(proxy.address, "a/1"), 0, "{kind}: it is gone already");
        assert_eq!(hits(), [false, true, true, true, true, true]);
        assert_eq!(purge(proxy.address, "a/b/*"), 2);
        assert_eq!(hits(), [true, true, false, false, true, true]);
        assert_eq!(purge(proxy.address, "a/*"), 5);
        assert_eq!(hits(), [false, false, false, false, false, true], "{kind}: a/* is not ab/1");
        assert_eq!(purge(proxy.address, "none/*"), 0);

        assert_eq!(proxy.count("purged"), 8.0);
        assert_eq!((proxy.count("evictions"), proxy.count("expirations")), (0.0, 0.0));
        assert_eq!(proxy.count("entries"), 6.0);
    }
}

#[test]
fn sessions_have_purges_too() {
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, "").run();
    let mut session = Session::open(proxy.address);
    for (id, request) in ["GET a/1", "GET a/2", "PURGE a/*", "PURGE soft a/1"].into_iter().enumerate() {
        let reply = parse(&session.ask(id as u64, request));
        assert_eq!(reply["status"], "OK", "{request}: {reply}");
        let purged = [Value::Null, Value::Null, json!(2), json!(0)];
        assert_eq!(reply["data"]["purged"], purged[id], "{request}: {reply}");
    }
}

#[test]
fn after_a_soft_purge_the_old_document_is_served_until_the_new_is_fetched() {
    for (kind, what) in [("ttl", "a/1"), ("lru", "a/*"), ("s3fifo", "a/1")] {
        let press = Press::start(Hello::Refused, Duration::from_millis(50));
        let proxy = Start::proxy(press.origin.address, &format!("--cache-type {kind} --ttl 10m")).run();
        assert_eq!(get(proxy.address, "a/1")["data"], 1);
        press.publish();
        assert_eq!(purge(proxy.address, &format!("soft {what}")), 1);
        let reply = get(proxy.address, "a/1");
        let told = (&reply["data"], &reply["cache_hit"], &reply["stale"]);
        assert_eq!(told, (&json!(1), &json!(true), &json!(true)), "{kind}: {reply}");
        assert!(reply["age"].is_u64(), "{reply}");
        until("the new one is held", || get(proxy.address, "a/1")["data"] == 2);
        let reply = get(proxy.address, "a/1");
        assert_eq!((&reply["cache_hit"], &reply["stale"]), (&json!(true), &Value::Null), "{reply}");
        assert_eq!(press.origin.requests().len(), 2, "{kind}: one fetch behind, however many asked");
        assert_eq!((proxy.count("refreshes"), proxy.count("purged")), (1.0, 1.0));
        assert!(proxy.count("stale_served") >= 1.0);
        assert_eq!(proxy.count("misses"), 1.0, "{kind}: nobody waited");
    }
}

#[test]
fn a_soft_purge_of_many_keys_fetches_only_requested_ones() {
    let press = Press::start(Hello::Refused, Duration::ZERO);
    let proxy = Start::proxy(press.origin.address, "--ttl 10m").run();
    for i in 0..50 {
        get(proxy.address, &format!("a/{i}"));
    }
    assert_eq!(purge(proxy.address, "soft a/*"), 50);
    get(proxy.address, "a/7");
    until("the requested key is fetched", || press.origin.requests().len() == 51);
    until("and held", || is_hit(proxy.address, "a/7") && get(proxy.address, "a/7")["stale"].is_null());
    assert_eq!(press.origin.requests().len(), 51, "keys without a request are not fetched");
    assert_eq!(proxy.count("entries"), 50.0);
}

#[test]
fn only_admin_addresses_may_purge() {
    let origin = Fake::origin();
    for words in ["--admin-from 10.0.0.0/8", "--admin-from 10.1.2.3,::1"] {
        let proxy = Start::proxy(origin.address, words).run();
        is_hit(proxy.address, "a/1");
        for what in ["a/1", "a/*", "soft a/1", "soft a/*"] {
            let reply = parse(&ask(proxy.address, &format!("PURGE {what}")));
            let told = (&reply["status"], &reply["cache_hit"], &reply["node"]);
            assert_eq!(told, (&json!("FORBIDDEN"), &json!(false), &json!(proxy.address.port())), "{what}");
        }
        assert!(is_hit(proxy.address, "a/1"), "nothing was forgotten");
        assert_eq!(parse(&ask(proxy.address, "EXPLAIN a/1"))["data"]["state"], "fresh", "anyone may EXPLAIN");
        assert_eq!(proxy.count("purged"), 0.0);
    }
    let proxy = Start::proxy(origin.address, "--admin-from 10.0.0.0/8,127.0.0.1").run();
    is_hit(proxy.address, "a/1");
    assert_eq!(purge(proxy.address, "a/1"), 1);
}

/// The fetch is under way during the purge, and brings the old edition after the reply to it.
#[test]
fn a_fetch_that_began_before_the_purge_is_not_cached() {
    for what in ["a/1", "a/*", "soft a/1", "soft a/*"] {
        let press = Press::start(Hello::Refused, Duration::from_millis(300));
        let proxy = Start::proxy(press.origin.address, "--ttl 10m").run();
        let mut early = Session::open(proxy.address);
        early.send("1 GET a/1\n");
        until("the fetch has begun", || press.origin.requests().len() == 1);
        press.publish();
        purge(proxy.address, what);
        let reply = get(proxy.address, "a/1");
        assert_eq!((&reply["data"], &reply["cache_hit"]), (&json!(2), &json!(false)), "{what}: {reply}");
        assert_eq!(parse(&early.reply().1)["data"], 1, "a request before the purge gets the old document");
        let reply = get(proxy.address, "a/1");
        assert_eq!((&reply["data"], &reply["cache_hit"]), (&json!(2), &json!(true)), "{what}: {reply}");
    }
}

/// Publish, purge, GET: again and again, while other clients keep fetches of old editions under way.
#[test]
fn after_the_reply_no_client_sees_the_old_document() {
    const ROUNDS: u64 = 150;
    for (hello, what, words) in [
        (Hello::Refused, "a/1", "--cache-type ttl --ttl 10m"),
        (Hello::Granted, "a/*", "--cache-type s3fifo"),
        // Short-lived entries: the purge meets refreshes as well.
        (Hello::Refused, "a/*", "--ttl 5ms --stale-while-revalidate 10m"),
    ] {
        let press = Press::start(hello, Duration::from_millis(2));
        let proxy = Start::proxy(press.origin.address, words).run();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _end = StopOnDrop(&done);
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut session = Session::open(proxy.address);
                    // A bound in case the test fails.
                    for id in 0..200_000 {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        assert_eq!(parse(&session.ask(id, "GET a/1"))["status"], "OK");
                    }
                });
            }
            let mut session = Session::open(proxy.address);
            for round in 0..ROUNDS {
                let published = press.publish();
                session.ask(2 * round, &format!("PURGE {what}"));
                let reply = parse(&session.ask(2 * round + 1, "GET a/1"));
                let seen = reply["data"].as_u64().unwrap_or_else(|| panic!("{words}: {reply}"));
                assert!(seen >= published, "{words}: edition {seen} after the purge of edition {published}");
            }
        });
        assert!(press.origin.requests().len() as u64 >= ROUNDS, "each purge cost a fetch");
    }
}

#[test]
fn concurrent_purges_are_all_answered() {
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, "").run();
    for i in 0..20 {
        is_hit(proxy.address, &format!("a/{i}"));
    }
    let counts = at_once((0..20).collect(), |i| match i % 2 {
        0 => purge(proxy.address, "a/*").as_u64().expect("a count"),
        _ => purge(proxy.address, &format!("a/{i}")).as_u64().expect("a count"),
    });
    assert_eq!(counts.iter().sum::<u64>(), 20, "each is forgotten once");
    assert_eq!((proxy.count("entries"), proxy.count("purged")), (0.0, 20.0));
}

/// Each reply says at once that nothing old is shown; memory is freed by one walk for all of them, and counted once.
#[test]
fn many_purges_at_once_are_one_walk_that_counts_each_entry_once() {
    const PREFIXES: u64 = 64;
    const EACH: u64 = 100;
    let origin = Fake::origin();
    for (kind, soft) in [("ttl", ""), ("lru", ""), ("s3fifo", ""), ("lru", "soft ")] {
        let words = format!("--cache-type {kind} --capacity 100000 --negative-ttl 10m");
        let proxy = Start::proxy(origin.address, &words).run();
        let mut session = Session::open(proxy.address);
        let keys = || 0..PREFIXES * EACH;
        let path = |id: u64| format!("GET a/{}/{id}", id % PREFIXES);
        // No more at once than are fetched at once: on a busy machine a queue refuses some.
        for first in (0..PREFIXES * EACH).step_by(50) {
            session.send_many(first..first + 50, path);
            session.replies_to(first..first + 50);
        }
        assert_eq!(proxy.count("entries"), keys().end as f64, "{kind}");

        session.send_many(0..PREFIXES, |id| format!("PURGE {soft}a/{id}/*"));
        let mut told = 0;
        for _ in 0..PREFIXES {
            let (id, reply) = session.reply();
            let reply = parse(&reply);
            assert_eq!(reply["status"], "OK", "{reply}");
            told += reply["data"]["purged"].as_u64().expect("a number");
            let is_whole = reply["data"].get("at_least").is_none_or(|at_least| at_least == true);
            assert!(is_whole, "{reply}");
            let of_it = get(proxy.address, &format!("a/{id}/{id}"));
            let is_old = of_it["cache_hit"] == true && of_it["stale"].is_null();
            assert!(!is_old, "{kind}: shown after the reply to its purge: {of_it}");
        }
        assert!(told <= keys().end, "{kind}: {told}");
        until("the walk has ended", || proxy.count("purges_waiting") == 0.0);
        assert_eq!(proxy.count("purged"), keys().end as f64, "{kind} {soft}");
        let left = if soft.is_empty() { PREFIXES as f64 } else { keys().end as f64 };
        assert_eq!((proxy.count("entries"), proxy.count("evictions")), (left, 0.0), "{kind} {soft}");
    }
}
