//! After the reply to PURGE no client of a balancer sees an older document: under load, with every strategy, and while a
//! proxy is away and comes back with its cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::ask::parse;
use crate::support::cluster::POLLS;
use crate::support::command::{dproxy, text};
use crate::support::fake::{Gate, Hello, METRICS};
use crate::support::node::own_host;
use crate::support::{
    Address, Data, Fake, Node, Session, Start, StopOnDrop, TempDir, ask, get, heavy, pause, until,
};

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

#[test]
fn a_proxy_that_refuses_what_it_owes_is_told_of_and_serves() {
    let was_asked = AtomicBool::new(false);
    let proxy = Fake::start(Hello::Granted, move |asked| match asked.request {
        "METRICS" => asked.reply(METRICS),
        "PURGE a/*" if !was_asked.swap(true, Ordering::SeqCst) => asked.close(),
        "PURGE a/*" => asked.reply(r#"{"status":"FORBIDDEN","data":"no"}"#),
        _ => asked.reply(r#"{"status":"OK","data":{}}"#),
    });
    let balancer = Start::balancer(&[proxy.address], POLLS).run();
    let purge = || parse(&ask(balancer.address, "PURGE a/*"));
    let purged = purge();
    assert_eq!(purged["data"]["proxies"][proxy.address.to_string()]["owed"], true, "{purged}");
    until("it serves again", || get(balancer.address, "a/1")["status"] == "OK");
    let counts = |name: &str| balancer.metrics()["proxies"][proxy.address.to_string()][name].clone();
    assert_eq!((counts("owed_purges"), counts("refused_purges")), (0.into(), 1.into()));
    assert_eq!((&purge()["status"], counts("refused_purges")), (&"PROXY_ERROR".into(), 2.into()));
    until("the refusal is logged", || balancer.log().contains("--admin-from"));
    assert_eq!(balancer.log().matches("--admin-from").count(), 1, "it is logged once");
}

/// A proxy whose purges wait for the gate.
fn slow_to_purge(gate: &Gate) -> Fake {
    let gate = gate.clone();
    Fake::start(Hello::Granted, move |asked| match asked.request {
        "METRICS" => asked.reply(METRICS),
        request if request.starts_with("PURGE") => {
            gate.wait();
            asked.reply(r#"{"status":"OK","data":{"purged":7}}"#);
        }
        _ => asked.reply(r#"{"status":"OK","data":{}}"#),
    })
}

#[test]
fn purges_that_take_long_at_every_proxy_take_none_out_and_are_begun_once() {
    let gate = Gate::default();
    let proxies = [slow_to_purge(&gate), slow_to_purge(&gate)];
    let balancer = Start::balancer(&proxies.each_ref().map(|proxy| proxy.address), POLLS).run();
    // More than there are connections for purges to one proxy.
    let purges = 12;
    let purged = |proxy: &Fake| proxy.requests().iter().filter(|line| line.starts_with("PURGE")).count();
    let mut session = Session::open(balancer.address);
    session.send_many(0..purges, |id| format!("PURGE a/{id}"));
    until("they are under way", || proxies.iter().all(|proxy| purged(proxy) >= 8));
    // Longer than two seconds, after which each proxy owed them, and got no requests.
    for i in 0..50 {
        assert_eq!(get(balancer.address, &format!("a/{i}"))["status"], "OK");
        pause(Duration::from_millis(50));
    }
    gate.open();
    for reply in session.replies_to(0..purges).values().map(|reply| parse(reply)) {
        assert_eq!((&reply["status"], &reply["data"]["purged"]), (&"OK".into(), &14.into()), "{reply}");
        assert!(reply["data"].get("durable").is_none(), "nothing is owed: {reply}");
    }
    assert_eq!(proxies.each_ref().map(purged), [purges as usize; 2]);
}

#[test]
fn a_debt_that_takes_long_is_begun_once_and_others_serve_meanwhile() {
    let gate = Gate::default();
    let sound = r#"{"status":"OK","data":{"purged":1}}"#;
    let owing = Fake::start(Hello::Granted, {
        let (gate, was_asked) = (gate.clone(), AtomicBool::new(false));
        move |asked| match asked.request {
            "METRICS" => asked.reply(METRICS),
            "PURGE a/*" if !was_asked.swap(true, Ordering::SeqCst) => asked.close(),
            "PURGE a/*" => {
                gate.wait();
                asked.reply(sound);
            }
            _ => asked.reply(r#"{"status":"OK","data":{}}"#),
        }
    });
    let other = Fake::start(Hello::Granted, move |asked| match asked.request {
        "METRICS" => asked.reply(METRICS),
        _ => asked.reply(sound),
    });
    let balancer = Start::balancer(&[owing.address, other.address], POLLS).run();
    let purged = parse(&ask(balancer.address, "PURGE a/*"));
    assert_eq!(purged["data"]["proxies"][owing.address.to_string()]["owed"], true, "{purged}");
    let count = |verb: &str| owing.requests().iter().filter(|line| line.starts_with(verb)).count();
    until("it does what it owes", || count("PURGE") == 2);
    // Many polls long.
    for i in 0..40 {
        assert_eq!(get(balancer.address, &format!("a/{i}"))["status"], "OK");
        pause(Duration::from_millis(50));
    }
    assert_eq!((count("PURGE"), count("GET")), (2, 0), "it may hold old documents yet");
    gate.open();
    until("it gets requests again", || {
        assert_eq!(get(balancer.address, "a/1")["status"], "OK");
        count("GET") > 0
    });
    assert_eq!(count("PURGE"), 2);
}

/// A proxy takes a moment for each purge of a prefix, however many there are.
#[test]
fn a_thousand_purges_at_once_take_no_proxy_out() {
    let purging = || {
        Fake::start(Hello::Granted, |asked| match asked.request {
            "METRICS" => asked.reply(METRICS),
            request => {
                if request.starts_with("PURGE") {
                    pause(Duration::from_millis(80));
                }
                asked.reply(r#"{"status":"OK","data":{"purged":1}}"#);
            }
        })
    };
    let proxies = [purging(), purging()];
    let flags = format!("{POLLS} --purge-deadline 5s");
    let balancer = Start::balancer(&proxies.each_ref().map(|proxy| proxy.address), &flags).run();
    let mut session = Session::open(balancer.address);
    session.send_many(0..1000, |id| format!("PURGE a{id}/*"));
    for reply in session.replies_to(0..1000).values().map(|reply| parse(reply)) {
        assert_eq!(reply["status"], "OK", "{reply}");
    }
    assert_eq!(get(balancer.address, "a/1")["status"], "OK");
}

#[test]
fn a_count_that_may_still_grow_is_passed_on_as_such() {
    let proxy = |data: &'static str| {
        Fake::start(Hello::Granted, move |asked| match asked.request {
            "METRICS" => asked.reply(METRICS),
            _ => asked.reply(&format!("{{\"status\":\"OK\",\"data\":{data}}}")),
        })
    };
    let (whole, part) = (proxy(r#"{"purged":4}"#), proxy(r#"{"purged":3,"at_least":true}"#));
    let balancer = Start::balancer(&[whole.address, part.address], POLLS).run();
    let data = &parse(&ask(balancer.address, "PURGE a/*"))["data"];
    assert_eq!((&data["purged"], &data["at_least"]), (&7.into(), &true.into()), "{data}");
    assert_eq!(data["proxies"][part.address.to_string()]["at_least"], true, "{data}");
    assert!(data["proxies"][whole.address.to_string()].get("at_least").is_none(), "{data}");
}

/// It answers, so it is no reason to take it out; its clients would only meet the next proxy without room.
#[test]
fn proxies_without_room_for_a_purge_are_asked_again_and_none_is_taken_out() {
    let busy = || {
        let left = AtomicU64::new(20);
        Fake::start(Hello::Granted, move |asked| match asked.request {
            "METRICS" => asked.reply(METRICS),
            request if request.starts_with("PURGE") => {
                let has_room =
                    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                match has_room {
                    Ok(_) => asked.reply(r#"{"status":"OVERLOADED","data":"too many purges wait"}"#),
                    Err(_) => asked.reply(r#"{"status":"OK","data":{"purged":7}}"#),
                }
            }
            _ => asked.reply(r#"{"status":"OK","data":{}}"#),
        })
    };
    let proxies = [busy(), busy()];
    let balancer = Start::balancer(&proxies.each_ref().map(|proxy| proxy.address), POLLS).run();
    let mut session = Session::open(balancer.address);
    session.send("1 PURGE a/*\n");
    let has_begun = |proxy: &Fake| proxy.requests().iter().any(|line| line.starts_with("PURGE"));
    until("it is under way", || proxies.iter().all(has_begun));
    for i in 0..30 {
        assert_eq!(get(balancer.address, &format!("a/{i}"))["status"], "OK");
        pause(Duration::from_millis(10));
    }
    let reply = parse(&session.reply().1);
    assert_eq!((&reply["status"], &reply["data"]["purged"]), (&"OK".into(), &14.into()), "{reply}");
}

#[test]
fn a_debt_that_takes_longer_than_the_purge_deadline_is_paid() {
    let proxy = Fake::start(Hello::Granted, |asked| match asked.request {
        "METRICS" => asked.reply(METRICS),
        "PURGE a/*" => {
            pause(Duration::from_millis(600));
            asked.reply(r#"{"status":"OK","data":{"purged":1}}"#);
        }
        _ => asked.reply(r#"{"status":"OK","data":{}}"#),
    });
    let balancer = Start::balancer(&[proxy.address], &format!("{POLLS} --purge-deadline 100ms")).run();
    assert_eq!(parse(&ask(balancer.address, "PURGE a/*"))["status"], "PROXY_UNREACHABLE");
    until("it is paid", || get(balancer.address, "a/1")["status"] == "OK");
}

#[test]
fn when_every_proxy_owes_a_purge_the_error_says_so() {
    let gate = Gate::default();
    let proxy = slow_to_purge(&gate);
    let balancer = Start::balancer(&[proxy.address], &format!("{POLLS} --purge-deadline 200ms")).run();
    let purged = parse(&ask(balancer.address, "PURGE a/*"));
    assert_eq!((&purged["status"], &purged["data"]["durable"]), (&"PROXY_UNREACHABLE".into(), &false.into()));
    let reply = get(balancer.address, "a/1");
    assert_eq!(reply["status"], "PROXY_ERROR", "{reply}");
    assert!(reply["data"].as_str().is_some_and(|text| text.contains("owes a purge")), "{reply}");
    gate.open();
    until("it serves again", || get(balancer.address, "a/1")["status"] == "OK");
}

/// What `client --purge a/*` ends with, and says.
fn purge(balancer: &Node) -> (Option<i32>, String) {
    let output = dproxy(&["client", "--port", &balancer.port().to_string(), "--purge", "a/*"]);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn what_is_owed_survives_a_restart_of_the_balancer() {
    let state = TempDir::new();
    let words = format!("{POLLS} --state-dir {}", state.path().display());
    let away = Address((own_host(), 4001).into());
    let here = Fake::start(Hello::Granted, |asked| match asked.request {
        "METRICS" => asked.reply(METRICS),
        request if request.starts_with("PURGE") => asked.reply(r#"{"status":"OK","data":{"purged":1}}"#),
        _ => asked.reply(r#"{"status":"OK","data":{}}"#),
    });
    let balancer = Start::balancer(&[away, here.address], &words).run();
    let (code, told) = purge(&balancer);
    assert_eq!(code, Some(1), "{told}");
    for part in [r#""status":"PROXY_UNREACHABLE""#, r#""durable":true"#, r#""limit":"other balancers"#] {
        assert!(told.contains(part), "{told}");
    }
    assert!(told.contains(&format!("the proxy {away} was not purged")), "{told}");
    balancer.kill();
    drop(here);
    let back = Fake::start_on(away, Hello::Granted, |asked| match asked.request {
        "METRICS" => asked.reply(METRICS),
        request if request.starts_with("PURGE") => asked.reply(r#"{"status":"OK","data":{"purged":1}}"#),
        _ => asked.reply(r#"{"status":"OK","data":{}}"#),
    });
    let balancer = Start::balancer(&[away], &words).run();
    until("it serves", || get(balancer.address, "a/1")["status"] == "OK");
    let asked = back.requests();
    assert!(asked[0] == "PURGE a/*" && asked[1..].iter().all(|line| line.starts_with("GET")), "{asked:?}");
    until("it is forgotten when it was done", || {
        std::fs::read_to_string(state.path().join("owed")).is_ok_and(|text| text == "dproxy owed 1\nend 0\n")
    });
    assert_eq!(purge(&balancer).0, Some(0));
}

#[test]
fn a_spoilt_list_of_owed_purges_is_told_and_stops_nothing() {
    let state = TempDir::new();
    std::fs::write(state.path().join("owed"), "dproxy owed 1\n127.0.0.1:1 a/*\n").expect("a file");
    let proxy = Fake::origin();
    let words = format!("{POLLS} --state-dir {}", state.path().display());
    let balancer = Start::balancer(&[proxy.address], &words).run();
    assert_eq!(get(balancer.address, "a/1")["status"], "OK");
    until("it is told", || balancer.log().contains("purge again"));
}
