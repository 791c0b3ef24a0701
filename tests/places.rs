//! Nobody holds a place by doing nothing: when all connections are taken, the one that is idle for longest makes room, over
//! lines and HTTP. And no number of clients makes a node look dead: health checks have connections of their own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::http::with_http;
use crate::support::ask::try_ask;
use crate::support::command::dproxy;
use crate::support::fake::Gate;
use crate::support::http::{Http, fetch};
use crate::support::{
    Address, Data, Fake, Node, Session, Start, StopOnDrop, ask, eventually, pause, status_of, until,
};

/// The limit of connections.
const PLACES: usize = 40;

fn words() -> String {
    format!("--max-connections {PLACES} --line-deadline 2m --idle-deadline 5m")
}

fn silent(to: Address, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| to.connect().expect("a connection")).collect()
}

fn is_served(node: Address) -> bool {
    // A node may close a connection that it has no place for.
    try_ask(node, "GET article/1").is_ok_and(|line| status_of(&line) == "OK")
}

#[test]
fn silent_connections_and_sessions_hold_no_place_at_any_role() {
    let data = Data::articles(1);
    let (origin, proxy) = (Fake::origin(), Fake::origin());
    let nodes = [
        Start::origin(data.path(), &words()).run(),
        Start::proxy(origin.address, &words()).run(),
        Start::balancer(&[proxy.address], &words()).run(),
    ];
    for node in nodes {
        let sessions: Vec<Session> = (0..PLACES).map(|_| Session::open(node.address)).collect();
        until("an idle session makes room", || is_served(node.address));
        let connections = silent(node.address, 10 * PLACES);
        until("clients with a request are served", || (0..20).all(|_| is_served(node.address)));
        drop((sessions, connections));
    }
}

#[test]
fn silent_connections_hold_no_place_over_http() {
    let origin = Fake::origin();
    let (_proxy, http) = with_http(Start::proxy(origin.address, &words()));
    let mut kept: Vec<Http> = (0..PLACES).map(|_| Http::connect(http)).collect();
    for idle in &mut kept {
        assert_eq!(idle.ask("GET", "/article/1", &[], "").code, 200);
    }
    let connections = silent(http, PLACES);
    until("a connection that is kept alive makes room", || fetch(http, "/article/1").code == 200);
    drop((kept, connections));
}

/// Whether a connection is kept alive after one more request.
fn is_kept(http: &mut TcpStream) -> bool {
    let mut response = [0; 4096];
    http.write_all(b"GET /article/1 HTTP/1.1\r\nhost: a\r\n\r\n").is_ok()
        && matches!(http.read(&mut response), Ok(count) if response[..count].starts_with(b"HTTP/1.1 200"))
}

#[test]
fn a_request_now_and_then_holds_no_place_over_http() {
    let origin = Fake::origin();
    let (_proxy, http) = with_http(Start::proxy(origin.address, &words()));
    let (done, mut kept) = (AtomicBool::new(false), silent(http, PLACES));
    assert!(kept.iter_mut().all(is_kept));
    thread::scope(|scope| {
        let _stop = StopOnDrop(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                pause(Duration::from_millis(400));
                for idle in &mut kept {
                    if !is_kept(idle) {
                        *idle = http.connect().expect("a connection");
                    }
                }
            }
        });
        let mut served = Vec::new();
        until("others are served, and kept alive as well", || {
            let mut other = http.connect().expect("a connection");
            if is_kept(&mut other) {
                served.push(other);
            }
            served.len() == PLACES / 2
        });
    });
}

#[test]
fn connections_of_the_reserve_make_room_after_a_head_in_two_pieces() {
    let origin = Fake::origin();
    let (_proxy, http) = with_http(Start::proxy(origin.address, &format!("{} --threads 1", words())));
    let connect = || (0..PLACES).map(|_| Http::connect(http)).collect::<Vec<Http>>();
    let mut first = connect();
    for idle in &mut first {
        assert_eq!(idle.ask("GET", "/article/1", &[], "").code, 200);
    }
    // Each takes the place of one of the first.
    let mut second = Vec::new();
    until("all places are taken by heads in two pieces", || {
        let mut halves = Http::connect(http);
        halves.send(b"GET /article/1 HTTP/1.1\r\n");
        // The thread answers this after it has read the half.
        assert_eq!(fetch(http, "/healthz").code, 200);
        halves.send(b"host: a\r\n\r\n");
        if halves.response(false).code == 200 {
            second.push(halves);
        }
        second.len() == PLACES
    });
    until("one of them makes room", || fetch(http, "/article/1").code == 200);
    drop((first, second));
}

/// Beginnings of requests that never become whole, and bytes of other protocols.
const HALVES: [&[u8]; 6] = [
    b"G",
    b"GET /article/1 HTTP/1.1\r\nhost: a\r\n",
    b"GET article/1",
    b"PRI * HTTP/2.0\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
];

#[test]
fn halves_of_requests_keep_no_health_check_out() {
    for half in HALVES {
        let origin = Fake::origin();
        let (proxy, http) = with_http(Start::proxy(origin.address, &words()));
        let mut held = Vec::new();
        for port in [proxy.address, http] {
            // All places, the reserve, and a few more.
            for _ in 0..PLACES + PLACES / 4 + 4 {
                let mut stream = port.connect().expect("a connection");
                // The node may close it to make room.
                let _ = stream.write_all(half);
                held.push(stream);
            }
        }
        for _ in 0..5 {
            assert_eq!(status_of(&ask(proxy.address, "METRICS")), "OK", "{half:?}");
            for path in ["/healthz", "/readyz", "/metrics"] {
                assert_eq!(fetch(http, path).code, 200, "{path} {half:?}");
            }
        }
        until("a client is served", || is_served(proxy.address) && fetch(http, "/article/1").code == 200);
    }
}

#[test]
fn a_client_that_waits_for_its_reply_keeps_its_place() {
    let gate = Gate::default();
    let origin = gate.peer();
    let proxy = Start::proxy(origin.address, &format!("{} --fetch-deadline 20s", words())).run();
    let mut waiting: Vec<Session> = (0..PLACES - 1).map(|_| Session::open(proxy.address)).collect();
    for session in &mut waiting {
        session.send("1 GET article/1\n");
    }
    until("they wait for the origin", || proxy.count("coalesced") as usize >= PLACES - 2);
    // A place may still be that of the last METRICS.
    let idle = eventually("the last place is free", || Session::try_open(proxy.address));
    until("the only one that is idle makes room", || {
        Session::try_open(proxy.address).is_some_and(|mut session| {
            session.send("1 GET article/1\n");
            waiting.push(session);
            true
        })
    });
    drop(idle);
    assert_eq!(status_of(&ask(proxy.address, "GET article/2")), "OVERLOADED", "nobody is idle");
    gate.open();
    for session in &mut waiting {
        assert_eq!(status_of(&session.reply().1), "OK");
    }
}

/// Sessions that fill a node and wait for their replies.
fn full(node: &Node) -> Vec<Session> {
    let mut sessions: Vec<Session> = (0..PLACES).map(|_| Session::open(node.address)).collect();
    for session in &mut sessions {
        session.send("1 GET article/1\n");
    }
    sessions
}

#[test]
fn a_node_that_is_full_of_clients_answers_health_checks_and_refuses_clients() {
    let gate = Gate::default();
    let origin = gate.peer();
    let (proxy, http) = with_http(Start::proxy(origin.address, &format!("{} --fetch-deadline 25s", words())));
    let mut sessions = full(&proxy);
    let heads = (0..PLACES).map(|_| {
        let mut http = Http::connect(http);
        http.send(b"GET /article/1 HTTP/1.1\r\nHost: a\r\n\r\n");
        http
    });
    let mut heads: Vec<Http> = heads.collect();
    until("all wait for the origin", || proxy.count("coalesced") as usize >= 2 * PLACES - 1);
    // And connections without a request, which fill nothing.
    let silent = [silent(proxy.address, 300), silent(http, 300)];
    for _ in 0..10 {
        assert_eq!(status_of(&ask(proxy.address, "METRICS")), "OK");
        assert_eq!(status_of(&ask(proxy.address, "GET article/1")), "OVERLOADED", "clients are refused");
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(fetch(http, path).code, 200, "{path}");
        }
        assert_eq!(fetch(http, "/article/1").code, 503);
    }
    let port = proxy.port().to_string();
    let probe = dproxy(&["client", "--metrics", "--host", "127.0.0.1", "--port", &port, "--timeout", "2s"]);
    assert!(probe.status.success(), "the probe of the manifests: {probe:?}");
    let balancer = Start::balancer(&[proxy.address], "--health-interval 200ms").run();
    let polled = || balancer.metrics()["proxies"][proxy.address.to_string()]["metrics"].is_object();
    until("a balancer that starts now has polled it", polled);
    assert!(balancer.holds_healthy(proxy.address), "{}", balancer.log());
    gate.open();
    for session in &mut sessions {
        assert_eq!(status_of(&session.reply().1), "OK");
    }
    for http in &mut heads {
        assert_eq!(http.response(false).code, 200);
    }
    drop(silent);
}
