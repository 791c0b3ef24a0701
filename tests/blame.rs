//! A fault stays where it is: of a document, of its source, or our own. `src/blame.rs` says whose each failure is.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::ask::parse;
use crate::support::cluster::POLLS;
use crate::support::fake::{Asked, Hello, answer_soundly};
use crate::support::node::own_host;
use crate::support::{
    Address, Data, Fake, Node, Session, Start, StopOnDrop, ask, at_once, get, heavy, pause,
};

/// Two proxies over an upstream, and a balancer over them.
fn tier(upstream: Address, words: &str) -> (Vec<Node>, Node) {
    let proxies: Vec<Node> = (0..2).map(|_| Start::proxy(upstream, words).run()).collect();
    let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
    let balancer = Start::balancer(&addresses, POLLS).run();
    (proxies, balancer)
}

/// The reply for a bad key, several times; then another key must be served.
fn assert_others_are_served(node: Address, bad: &str, good: &str) -> Value {
    let reply = get(node, bad);
    for _ in 0..4 {
        let again = get(node, bad);
        assert_eq!((&again["status"], &again["data"]), (&reply["status"], &reply["data"]), "{again}");
    }
    let other = get(node, good);
    assert_eq!(other["status"], "OK", "after {reply}: {other}");
    reply
}

/// Neither a retry nor an error, and every proxy healthy.
fn assert_nobody_is_blamed(proxies: &[Node], balancer: &Node) {
    let metrics = balancer.metrics();
    for proxy in proxies {
        let node = &metrics["proxies"][proxy.address.to_string()];
        assert_eq!((&node["errors"], &node["healthy"]), (&0.into(), &true.into()), "{metrics}");
        assert_eq!(proxy.metrics()["origin_failing"], false);
    }
    assert_eq!(metrics["retries"], 0, "what fails everywhere is not tried elsewhere: {metrics}");
}

#[test]
fn a_document_too_large_for_a_proxy_is_no_fault_of_its_origin() {
    let data = Data::articles(9);
    let sizes = [1_050_000, 1_060_000, 3_000_000, 8_000_000];
    for size in sizes {
        data.put(&format!("large/{size}"), format!("\"{}\"", "x".repeat(size)).as_bytes());
    }
    let origin = Start::origin(data.path(), "--max-document 8MiB").run();
    for size in sizes {
        let (proxies, balancer) = tier(origin.address, "");
        let second = Start::proxy(proxies[0].address, "").run();
        let over_all = Start::proxy(balancer.address, "").run();
        for (at, node) in [&proxies[0], &second, &balancer, &over_all].into_iter().enumerate() {
            let (bad, good) = (format!("large/{size}"), format!("article/{}", at + 1));
            let reply = assert_others_are_served(node.address, &bad, &good);
            assert_eq!(reply["status"], "ORIGIN_FAILURE", "{reply}");
            assert_eq!(reply.get("fault"), None, "plain replies keep their bytes: {reply}");
        }
        let told = get(proxies[0].address, &format!("large/{size}"))["data"].to_string();
        assert!(told.contains("1048576 bytes") && told.contains("--max-document"), "{told}");
        assert_nobody_is_blamed(&proxies, &balancer);
        assert_eq!(second.metrics()["origin_failing"], false);
    }
}

#[test]
fn a_reply_too_long_for_a_balancer_is_no_fault_of_its_proxies() {
    let data = Data::articles(9);
    data.put("large/1", format!("\"{}\"", "x".repeat(5_000_000)).as_bytes());
    let origin = Start::origin(data.path(), "--max-document 8MiB").run();
    let (proxies, balancer) = tier(origin.address, "--max-document 8MiB");
    let reply = assert_others_are_served(balancer.address, "large/1", "article/1");
    assert_eq!(reply["status"], "PROXY_UNREACHABLE", "{reply}");
    assert!(reply["data"].to_string().contains("--max-document"), "{reply}");
    for proxy in &proxies {
        assert!(balancer.holds_healthy(proxy.address));
        assert_eq!(balancer.metrics()["proxies"][proxy.address.to_string()]["errors"], 0);
    }
}

/// A broken document, or a status that is of one document.
#[derive(Clone, Copy, Debug)]
enum Broken {
    Data(&'static str),
    Line(&'static str),
    Deep,
    Latin1,
    Status(&'static str),
}

impl Broken {
    const ALL: [Broken; 11] = [
        Broken::Data(r#"{"a":NaN}"#),
        Broken::Data(r#"{"a":[1,}"#),
        Broken::Line(r#"{"data": {"a": NaN}, "status": "OK"}"#),
        Broken::Line(r#"{"status": "OK"}"#),
        Broken::Line(r#"{"status": "INTERNAL_ERROR", "data": "x"}"#),
        Broken::Deep,
        Broken::Latin1,
        Broken::Status("BAD_DOCUMENT"),
        Broken::Status("BAD_REQUEST"),
        Broken::Status("FORBIDDEN"),
        Broken::Status("OVERLOADED"),
    ];

    fn strike(self, asked: &mut Asked<'_>) {
        match self {
            Broken::Data(data) => asked.reply(&format!(r#"{{"status": "OK", "data": {data}}}"#)),
            Broken::Line(line) => asked.reply(line),
            Broken::Deep => {
                asked.reply(&format!(r#"{{"status":"OK","data":{}{}}}"#, "[".repeat(200), "]".repeat(200)));
            }
            Broken::Latin1 => {
                asked.part(r#"{"status":"OK","data":"caf"#);
                asked.raw(b"\xe9\"}\n");
            }
            Broken::Status(status) => asked.reply(&format!(r#"{{"status":"{status}","data":"x"}}"#)),
        }
    }

    /// A fake that replies so to keys beneath `bad/`.
    fn fake(self, hello: Hello) -> Fake {
        Fake::start(hello, move |asked| match asked.path().is_some_and(|path| path.starts_with("bad/")) {
            true => self.strike(asked),
            false => answer_soundly(asked),
        })
    }
}

#[test]
fn a_broken_document_is_no_fault_of_its_source_at_any_pair_of_roles() {
    for broken in Broken::ALL {
        for hello in [Hello::Refused, Hello::Granted] {
            let origin = broken.fake(hello);
            let (proxies, balancer) = tier(origin.address, "");
            let second = Start::proxy(proxies[0].address, "").run();
            let over_all = Start::proxy(balancer.address, "").run();
            for (at, node) in [&proxies[0], &second, &balancer, &over_all].into_iter().enumerate() {
                for key in 0..4 {
                    let reply = get(node.address, &format!("bad/{key}"));
                    assert_eq!(reply["status"], "ORIGIN_FAILURE", "{broken:?} {hello:?}: {reply}");
                }
                let other = get(node.address, &format!("good/{at}"));
                assert_eq!(other["status"], "OK", "{broken:?} {hello:?} at {at}: {other}");
            }
            assert_nobody_is_blamed(&proxies, &balancer);
            assert_eq!(second.metrics()["origin_failing"], false, "{broken:?}");
        }
    }
}

#[test]
fn a_balancer_tries_two_nodes_and_ejects_none_for_a_document_that_is_broken_everywhere() {
    for broken in &Broken::ALL[..7] {
        for hello in [Hello::Refused, Hello::Granted] {
            let fakes = [broken.fake(hello), broken.fake(hello), broken.fake(hello)];
            let addresses = fakes.each_ref().map(|fake| fake.address);
            let balancer = Start::balancer(&addresses, POLLS).run();
            for key in 0..8 {
                let reply = get(balancer.address, &format!("bad/{key}"));
                assert_eq!(reply["status"], "ORIGIN_FAILURE", "{broken:?} {hello:?}: {reply}");
            }
            let tried: usize = fakes.iter().map(|fake| fake.requests().len()).sum();
            assert!(tried <= 16, "8 requests were tried {tried} times");
            for address in addresses {
                let node = &balancer.metrics()["proxies"][address.to_string()];
                assert_eq!((&node["errors"], &node["healthy"]), (&0.into(), &true.into()), "{broken:?}");
            }
        }
    }
}

#[test]
fn sessions_are_told_that_only_the_document_fails() {
    let origin = Broken::Status("BAD_DOCUMENT").fake(Hello::Refused);
    let proxy = Start::proxy(origin.address, "").run();
    let balancer = Start::balancer(&[proxy.address], POLLS).run();
    for node in [&proxy, &balancer] {
        let told = Session::open(node.address).ask(1, "GET bad/1");
        assert!(told.ends_with(r#","fault":"document"}"#), "{told}");
        let plain = ask(node.address, "GET bad/1");
        assert_eq!(told.replace(r#","fault":"document""#, ""), plain);
        assert_eq!(parse(&plain)["status"], "ORIGIN_FAILURE");
    }
}

#[test]
fn other_requests_of_a_session_outlive_a_reply_that_is_too_long() {
    let origin = Fake::start(Hello::Granted, |asked| match asked.path() {
        Some("bad/1") => {
            asked.part(r#"{"status":"OK","data":""#);
            for _ in 0..640 {
                asked.raw(&[b'x'; 32 * 1024]);
            }
            asked.raw(b"\"}\n");
        }
        _ => answer_soundly(asked),
    });
    let proxy = Start::proxy(origin.address, "--fetch-deadline 20s").run();
    let mut session = Session::open(proxy.address);
    session.send("1 GET bad/1\n2 GET good/2\n3 GET good/3\n");
    for (id, reply) in session.replies_to([1, 2, 3]) {
        let status = if id == 1 { "ORIGIN_FAILURE" } else { "OK" };
        assert_eq!(parse(&reply)["status"], status, "{reply}");
    }
    assert_eq!(origin.requests().len(), 3, "none was sent twice");
}

/// An origin that takes long for keys beneath `slow/`, and nothing for others.
fn two_speeds(hello: Hello, slow: Duration) -> Fake {
    Fake::start(hello, move |asked| match asked.path().is_some_and(|path| path.starts_with("slow/")) {
        true => asked.answer_soundly_after(move || pause(slow)),
        false => answer_soundly(asked),
    })
}

/// Requests for slow keys by clients that hang up at once, while other clients ask for cold keys: how many of those failed.
fn failed_beside_slow_keys(node: Address, slow_a_second: u32, cold: usize) -> Vec<Value> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&done);
        scope.spawn(|| {
            for key in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let mut stream = node.connect().expect("a node that accepts");
                // It may refuse the request: then there is nothing to hang up.
                let _ = stream.write_all(format!("GET slow/{key}\n").as_bytes());
                drop(stream);
                pause(Duration::from_secs(1) / slow_a_second);
            }
        });
        let mut failed = Vec::new();
        for key in 0..cold {
            let reply = get(node, &format!("cold/{key}"));
            failed.extend((reply["status"] != "OK").then_some(reply));
            pause(Duration::from_millis(100));
        }
        done.store(true, Ordering::Relaxed);
        failed
    })
}

#[test]
fn slow_keys_of_one_kind_cost_the_cold_keys_of_others_nothing() {
    for hello in [Hello::Refused, Hello::Granted] {
        let origin = two_speeds(hello, Duration::from_secs(3));
        let proxy = Start::proxy(origin.address, "").run();
        let failed = failed_beside_slow_keys(proxy.address, 20, 60);
        assert!(failed.is_empty(), "{hello:?}: {} of 60: {:?}", failed.len(), failed[0]);
        assert_eq!(proxy.metrics()["origin_failing"], false);
    }
}

#[test]
fn slow_keys_through_a_balancer_cost_the_cold_keys_of_others_nothing() {
    let origin = two_speeds(Hello::Refused, Duration::from_secs(3));
    let (proxies, balancer) = tier(origin.address, "");
    let failed = failed_beside_slow_keys(balancer.address, 60, 60);
    assert!(failed.is_empty(), "{} of 60: {:?}", failed.len(), failed[0]);
    for proxy in &proxies {
        assert!(balancer.holds_healthy(proxy.address));
    }
}

#[test]
fn one_slow_key_that_is_asked_again_and_again_is_not_its_source() {
    let origin = two_speeds(Hello::Granted, Duration::from_secs(3));
    let proxy = Start::proxy(origin.address, "--fetch-deadline 300ms").run();
    for _ in 0..4 {
        assert_eq!(get(proxy.address, "slow/1")["status"], "ORIGIN_FAILURE");
    }
    assert_eq!(get(proxy.address, "cold/1")["status"], "OK");
    assert_eq!(get(proxy.address, "cold/2")["status"], "OK");
}

#[test]
fn one_slow_fetch_makes_a_proxy_refuse_none_of_a_thousand_fast_ones() {
    let origin = Fake::start(Hello::Granted, |asked| {
        let slowness = if asked.path() == Some("slow/1") { 200 } else { 20 };
        asked.answer_soundly_after(move || pause(Duration::from_millis(slowness)));
    });
    let proxy = Start::proxy(origin.address, "--fetch-deadline 10s").run();
    assert_eq!(get(proxy.address, "slow/1")["status"], "OK");
    let mut session = Session::open(proxy.address);
    let replies = session.ask_many(0..1_000, |id| format!("GET cold/{id}"));
    let served = replies.values().filter(|reply| parse(reply)["status"] == "OK").count();
    assert_eq!(served, 1_000);
}

#[test]
fn an_origin_that_restarts_costs_cold_keys_a_wait_and_no_error() {
    // The origin has to be back in time, which other loads could delay.
    let _alone = heavy();
    let data = Data::articles(60);
    let place = Address((own_host(), 0).into());
    let start = |place: Address| {
        Start::origin(data.path(), &format!("--host {} --port {}", place.host(), place.port())).run()
    };
    let origin = start(place);
    let place = origin.address;
    let proxy = Start::proxy(place, "--fetch-deadline 20s").run();
    assert_eq!(get(proxy.address, "article/1")["status"], "OK");
    origin.kill();
    // Until the end of the test: an origin that ended earlier would leave requests without an answer once more.
    let again = Mutex::new(None);
    at_once((2..30).collect(), |key: u32| {
        if key == 2 {
            // The others ask while nothing listens.
            pause(Duration::from_millis(300));
            *again.lock().expect("no other holder") = Some(start(place));
        } else {
            let reply = get(proxy.address, &format!("article/{key}"));
            assert_eq!(reply["status"], "OK", "{key}: {reply}");
        }
    });
    assert_eq!(proxy.metrics()["origin_failing"], false);
}

#[test]
fn a_fetch_whose_connections_an_ending_origin_took_along_is_sent_once_more() {
    for hello in [Hello::Granted, Hello::Refused] {
        let cut = AtomicUsize::new(0);
        let origin = Fake::start(hello, move |asked| match asked.path() {
            // The kernel accepts the second connection as well before the port of a killed process closes.
            Some("article/1") if cut.fetch_add(1, Ordering::Relaxed) < 2 => asked.close(),
            _ => answer_soundly(asked),
        });
        let proxy = Start::proxy(origin.address, "--fetch-deadline 20s").run();
        assert_eq!(get(proxy.address, "article/1")["status"], "OK", "{hello:?}");
        assert_eq!((proxy.count("origin_fetches"), proxy.count("origin_failures")), (1.0, 0.0));
    }
}
