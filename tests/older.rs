//! Older nodes of the same protocol, without sessions and with looser JSON, work in every place.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::ask::{parse, try_ask};
use crate::support::command::{dproxy, text};
use crate::support::fake::{Asked, Hello};
use crate::support::{Address, Data, Fake, Start, ask, get, until};

/// How older nodes react to HELLO.
const GREETINGS: [Hello; 2] = [Hello::Refused, Hello::Ignored];

/// An older origin with two documents: white space after `:` and `,`, a message with NOT_FOUND.
fn older_origin(hello: Hello) -> Fake {
    Fake::start(hello, |asked| match (asked.path(), asked.request) {
        (Some("article/1"), _) => {
            asked.reply(r#"{"status": "OK", "data": {"id": 1, "price": 1.10, "tags": ["a, b", "c"]}}"#);
        }
        (Some("article/2"), _) => asked.reply(r#"{"status": "OK", "data": [], "served_by": "origin-a"}"#),
        (Some(path), _) => {
            let line = format!("{{\"status\": \"NOT_FOUND\", \"data\": \"No such document: {path}\"}}");
            asked.reply(&line);
        }
        (None, other) => {
            let line = format!("{{\"status\": \"WRONG_METHOD: {other}\", \"data\": null}}");
            asked.reply(&line);
        }
    })
}

/// An older proxy in front of an origin: no cache, floats for whole numbers.
fn older_proxy(hello: Hello, origin: Address) -> Fake {
    let served = AtomicUsize::new(0);
    Fake::start(hello, move |asked| match asked.request {
        "METRICS" => {
            let total = served.load(Ordering::SeqCst);
            asked.reply(&format!(
                "{{\"status\": \"OK\", \"data\": {{\"start_time\": \"2024-05-01T10:00:00.123456\", \"total_requests\": {total}.0, \"hit_rate\": 0.0}}}}"
            ));
        }
        _ => {
            served.fetch_add(1, Ordering::SeqCst);
            relay_loosely(asked, origin);
        }
    })
}

/// Relays a reply parsed and printed by a JSON library of another language.
fn relay_loosely(asked: &mut Asked<'_>, origin: Address) {
    let reply = parse(&ask(origin, asked.request));
    let line = format!(
        "{{\"status\": {}, \"data\": {}, \"cache_hit\": false, \"node\": 8001.0}}",
        reply["status"], reply["data"]
    );
    asked.reply(&line);
}

/// An older balancer: round robin, and the next proxy when one is down.
fn older_balancer(proxies: Vec<Address>) -> Fake {
    let turn = AtomicUsize::new(0);
    Fake::start(Hello::Refused, move |asked| {
        let first = turn.fetch_add(1, Ordering::SeqCst);
        let tries = (0..proxies.len()).map(|i| proxies[(first + i) % proxies.len()]);
        for proxy in tries {
            // A reply to METRICS is its sign of life.
            let alive = try_ask(proxy, "METRICS")
                .is_ok_and(|line| parse(&line)["data"]["total_requests"].is_number());
            if alive && let Ok(line) = try_ask(proxy, asked.request) {
                let reply: Value = parse(&line);
                asked.reply(&reply.to_string());
                return;
            }
        }
        asked.reply(r#"{"status": "PROXY_UNREACHABLE", "data": "all down"}"#);
    })
}

#[test]
fn an_older_origin_behind_our_proxy() {
    for hello in GREETINGS {
        let origin = older_origin(hello);
        let proxy = Start::proxy(origin.address, "").run();
        let balancer = Start::balancer(&[proxy.address], "").run();
        let port = proxy.port();
        let document = r#"{"id":1,"price":1.10,"tags":["a, b","c"]}"#;
        for (node, hit) in [(proxy.address, false), (proxy.address, true), (balancer.address, true)] {
            let expected =
                format!("{{\"status\":\"OK\",\"data\":{document},\"cache_hit\":{hit},\"node\":{port}}}");
            assert_eq!(ask(node, "GET article/1"), expected, "{hello:?}");
        }
        assert_eq!(
            get(proxy.address, "article/2")["data"],
            json!([]),
            "members that we do not know are ignored"
        );
        let missing =
            format!("{{\"status\":\"NOT_FOUND\",\"data\":null,\"cache_hit\":false,\"node\":{port}}}");
        assert_eq!(ask(balancer.address, "GET article/3"), missing, "{hello:?}");
    }
}

#[test]
fn our_proxy_asks_an_older_origin_once_per_request() {
    for hello in GREETINGS {
        let origin = older_origin(hello);
        let proxy = Start::proxy(origin.address, "").run();
        for _ in 0..30 {
            get(proxy.address, "article/404");
        }
        assert_eq!(origin.requests(), vec!["GET article/404"; 30]);
        let offers = origin.connections() - 30;
        assert!((1..=15).contains(&offers), "a session was offered {offers} times in 30 requests");
    }
}

#[test]
fn an_older_proxy_behind_our_balancer() {
    let data = Data::articles(2);
    let origin = Start::origin(data.path(), "").run();
    for hello in GREETINGS {
        for strategy in ["round_robin", "least_loaded"] {
            let older = older_proxy(hello, origin.address);
            let ours = Start::proxy(origin.address, "").run();
            let words = format!("--strategy {strategy} --health-interval 100ms");
            let balancer = Start::balancer(&[older.address, ours.address], &words).run();
            for i in 0..20 {
                assert_eq!(get(balancer.address, &format!("article/{}", i % 2 + 1))["status"], "OK");
            }
            let (theirs, our) = (older.requests().len(), ours.count("total_requests"));
            assert!(theirs >= 5 && our >= 5.0, "{strategy}: {theirs} went to the older proxy, {our} to ours");
            until("the older proxy's count is seen", || {
                let polled = &balancer.metrics()["proxies"][older.address.to_string()];
                polled["healthy"] == true
                    && polled["metrics"]["total_requests"].as_f64() == Some(theirs as f64)
            });
        }
    }
}

#[test]
fn our_balancer_relays_the_line_of_an_older_proxy_unchanged() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let older = older_proxy(Hello::Refused, origin.address);
    let balancer = Start::balancer(&[older.address], "").run();
    for path in ["article/1", "article/404"] {
        let line = format!("GET {path}");
        assert_eq!(ask(balancer.address, &line), ask(older.address, &line));
    }
}

#[test]
fn our_proxies_behind_an_older_balancer() {
    let data = Data::articles(2);
    let origin = Start::origin(data.path(), "").run();
    let proxies = [(); 2].map(|()| Start::proxy(origin.address, "").run());
    let balancer = older_balancer(proxies.iter().map(|proxy| proxy.address).collect());
    for _ in 0..4 {
        assert_eq!(get(balancer.address, "article/1")["data"]["id"], "article/1");
        assert_eq!(get(balancer.address, "article/404")["status"], "NOT_FOUND");
    }
    assert!(proxies.iter().all(|proxy| proxy.count("total_requests") == 4.0));
    let [first, _second] = proxies;
    first.kill();
    for _ in 0..4 {
        assert_eq!(get(balancer.address, "article/2")["data"]["id"], "article/2");
    }
}

#[test]
fn older_nodes_in_all_places_but_one() {
    let origin = older_origin(Hello::Ignored);
    let ours = Start::proxy(origin.address, "").run();
    let older = older_proxy(Hello::Refused, origin.address);
    let balancer = older_balancer(vec![older.address, ours.address]);
    for _ in 0..4 {
        assert_eq!(get(balancer.address, "article/1")["data"]["tags"][1], "c");
    }
}

#[test]
fn our_client_reads_older_nodes() {
    let origin = older_origin(Hello::Refused);
    let port = origin.address.port().to_string();
    let output = dproxy(&["client", "--port", &port, "--get", "article/1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let reply = parse(text(&output.stdout).trim_end());
    assert_eq!((&reply["status"], &reply["data"]["id"]), (&"OK".into(), &1.into()));
    let output = dproxy(&["client", "--port", &port, "--get", "article/3"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = dproxy(&["client", "--port", &port, "--metrics"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("WRONG_METHOD"), "{output:?}");
}

/// An older balancer over one of our proxies: it passes on every line, HELLO too, and the answer back, and closes.
fn passes_all_on(proxy: Address) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address(listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut line = String::new();
                let mut reader = BufReader::new(&stream);
                reader.read_line(&mut line).ok()?;
                let mut behind = proxy.connect().ok()?;
                behind.write_all(line.as_bytes()).ok()?;
                let mut answer = String::new();
                BufReader::new(behind).read_line(&mut answer).ok()?;
                stream.write_all(answer.as_bytes()).ok()
            });
        }
    });
    address
}

#[test]
fn a_session_that_an_older_balancer_passes_on_is_given_up_for_plain_requests() {
    let data = Data::articles(2);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let older = passes_all_on(proxy.address);
    let port = older.port().to_string();
    let output = dproxy(&["client", "--port", &port, "--get", "article/1", "article/2", "article/1"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), 3), "{output:?}");
    let words = ["--requests", "20", "--connections", "2", "--key-range", "article/1..2"];
    let output = dproxy(&[&["bench", "--port", &port][..], &words].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stderr).contains("--plain"), "{output:?}");
    let behind = Start::proxy(older, "").run();
    assert_eq!(get(behind.address, "article/2")["status"], "OK");
}
