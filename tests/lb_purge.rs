//! After the reply to PURGE no client of a balancer sees an older document: under load, with every strategy, and while a
//! proxy is away and comes back with its cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::ask::parse;
use crate::support::cluster::POLLS;
use crate::support::fake::{Hello, METRICS};
use crate::support::{Address, Data, Fake, Node, Session, Start, StopOnDrop, ask, get, heavy, until};

const ROUNDS: u64 = 90;
const KEYS: u64 = 5;

/// The newest published edition, and the oldest that a client may still see.
#[derive(Default)]
struct Editions {
    newest: AtomicU64,
    oldest: AtomicU64,
}

/// Sends one GET; the reply must not be older than the oldest edition allowed when it was sent.
fn assert_not_older(session: &mut Session, editions: &Editions, id: u64) {
    let oldest = editions.oldest.load(Ordering::SeqCst);
    let reply = parse(&session.ask(id, &format!("GET a/{}", id % KEYS)));
    let seen = reply["data"].as_u64().unwrap_or_else(|| panic!("{reply}"));
    assert!(seen >= oldest, "edition {seen} after the purge of {oldest}: {reply}");
}

/// Publishes and purges; one proxy freezes in between.
fn publish_and_purge(balancer: &Node, proxies: &[Node], editions: &Editions) {
    let mut session = Session::open(balancer.address);
    for round in 0..ROUNDS {
        match round {
            30 => proxies[0].signal("STOP"),
            60 => {
                until("it is out", || !balancer.holds_healthy(proxies[0].address));
                proxies[0].signal("CONT");
            }
            _ => {}
        }
        let published = editions.newest.fetch_add(1, Ordering::SeqCst) + 1;
        let what = if round % 2 == 0 { "a/*".to_owned() } else { format!("a/{}", round % KEYS) };
        let reply = parse(&session.ask(round, &format!("PURGE {what}")));
        for (node, told) in reply["data"]["proxies"].as_object().unwrap_or_else(|| panic!("{reply}")) {
            assert!(told["purged"].is_u64() || told["owed"] == true, "{node}: {reply}");
        }
        if round % 2 == 0 {
            editions.oldest.store(published, Ordering::SeqCst);
        }
        assert_not_older(&mut session, editions, round);
    }
    until("it is back", || balancer.holds_healthy(proxies[0].address));
}

#[test]
fn after_a_purge_no_client_sees_an_older_document() {
    let _alone = heavy();
    for strategy in ["hash", "p2c"] {
        let (editions, done) = (Arc::new(Editions::default()), AtomicBool::new(false));
        let origin = Fake::start(Hello::Granted, {
            let editions = editions.clone();
            move |asked| {
                let edition = editions.newest.load(Ordering::SeqCst);
                asked.reply(&format!("{{\"status\":\"OK\",\"data\":{edition}}}"));
            }
        });
        let proxies = [(); 3].map(|()| Start::proxy(origin.address, "--ttl 10m").run());
        let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
        let words = format!("--strategy {strategy} --health-interval 100ms --slow-start 0");
        let balancer = Start::balancer(&addresses, &words).run();
        let asked = balancer.address;
        std::thread::scope(|scope| {
            let _end = StopOnDrop(&done);
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut session = Session::open(asked);
                    // A bound in case the test fails.
                    for id in 0..1_000_000 {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        assert_not_older(&mut session, &editions, id);
                    }
                });
            }
            publish_and_purge(&balancer, &proxies, &editions);
        });
    }
}

#[test]
fn a_proxy_that_owes_a_purge_does_it_before_its_next_request() {
    let may_purge = Arc::new(AtomicBool::new(false));
    let holding = Fake::start(Hello::Granted, {
        let (may_purge, has_purged) = (may_purge.clone(), AtomicBool::new(false));
        move |asked| match asked.request {
            "METRICS" => asked.reply(METRICS),
            "PURGE a/*" if may_purge.load(Ordering::SeqCst) => {
                has_purged.store(true, Ordering::SeqCst);
                asked.reply(r#"{"status":"OK","data":{"purged":1}}"#);
            }
            "PURGE a/*" => asked.close(),
            _ => {
                let is_new = has_purged.load(Ordering::SeqCst);
                asked.reply(&format!("{{\"status\":\"OK\",\"data\":{is_new}}}"));
            }
        }
    });
    let other = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some(_) => asked.reply(r#"{"status":"OK","data":true}"#),
        None => asked.reply(METRICS),
    });
    let balancer = Start::balancer(&[holding.address, other.address], POLLS).run();
    let purged = parse(&ask(balancer.address, "PURGE a/*"));
    assert_eq!(purged["data"]["proxies"][holding.address.to_string()]["owed"], true, "{purged}");
    for i in 0..20 {
        assert_eq!(get(balancer.address, &format!("a/{i}"))["data"], true, "it serves all the same");
    }
    may_purge.store(true, Ordering::SeqCst);
    let gets = || holding.requests().iter().filter(|line| line.starts_with("GET")).count();
    assert_eq!(gets(), 0);
    until("it gets requests again", || {
        assert_eq!(get(balancer.address, "a/1")["data"], true);
        gets() > 0
    });
}

#[test]
fn a_proxy_that_refuses_purges_is_reported() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "--admin-from 10.0.0.0/8").run();
    let balancer = Start::balancer(&[proxy.address], POLLS).run();
    let purged = parse(&ask(balancer.address, "PURGE article/*"));
    assert_eq!(purged["data"]["proxies"][proxy.address.to_string()]["error"], "FORBIDDEN", "{purged}");
    until("the refusal is logged", || balancer.log().contains("--admin-from"));
}
