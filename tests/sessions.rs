//! Sessions: the transcript to the byte, replies in any order, bounds on memory, and how a session ends.

use std::time::Duration;

use crate::plain::{assert_none, difference, golden_data, pairs};
use crate::support::ask::{first_line, parse, status_of};
use crate::support::fake::{Gate, Hello, answer_soundly};
use crate::support::node::own_host;
use crate::support::{Data, Fake, Node, Session, Start, get, pause, timed, until};

#[test]
fn a_session_keeps_to_the_transcript() {
    let data = golden_data();
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let mut pairs = pairs(include_str!("golden/session.txt")).into_iter();
    let (hello, granted) = pairs.next().expect("the greeting");
    let greeting = difference(&first_line(proxy.address, &hello), granted, 0, "HELLO 2");
    let mut session = Session::open(proxy.address);
    let differences = pairs.filter_map(|(request, expected)| {
        let request = String::from_utf8(request).expect("text");
        session.send(&request);
        difference(&session.line().expect("a reply"), expected, proxy.port(), &request)
    });
    assert_none(greeting.into_iter().chain(differences));
}

#[test]
fn every_role_has_sessions() {
    let data = Data::articles(3);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let balancer = Start::balancer(&[proxy.address], "--max-in-flight 7").run();
    for (node, max_in_flight) in [(&origin, 1024), (&proxy, 1024), (&balancer, 7)] {
        let mut session = Session::open(node.address);
        assert_eq!(session.max_in_flight, max_in_flight);
        for i in 1..=3 {
            let reply = session.ask(i, &format!("GET article/{i}"));
            assert_eq!(parse(&reply)["data"]["id"], format!("article/{i}"));
        }
        assert_eq!(status_of(&session.ask(4, "METRICS")), "OK");
        assert_eq!(status_of(&session.ask(5, "GET article/404")), "NOT_FOUND");
        assert_eq!(status_of(&session.ask(6, "GET ../etc")), "BAD_REQUEST");
        assert_eq!(status_of(&session.ask(7, "QUIT")), "WRONG_METHOD");
        assert_eq!(status_of(&session.ask(8, "GET article/1")), "OK", "errors do not end a session");
    }
}

#[test]
fn a_slow_document_does_not_delay_later_requests() {
    let gate = Gate::default();
    let origin = Fake::start(Hello::Granted, {
        let gate = gate.clone();
        move |asked| match asked.path() {
            Some("slow/1" | "slow/2") => {
                let gate = gate.clone();
                asked.answer_soundly_after(move || gate.wait());
            }
            _ => answer_soundly(asked),
        }
    });
    let proxy = Start::proxy(origin.address, "--fetch-deadline 20s").run();
    let balancer = Start::balancer(&[proxy.address], "--try-deadline 25s").run();
    let ask_both = |node: &Node, slow: &str| {
        let mut session = Session::open(node.address);
        session.send(&format!("1 GET {slow}\n2 GET fast/1\n3 GET fast/2\n4 GET ../bad\n"));
        session.replies_to(2..=4);
        session
    };
    let mut sessions = [ask_both(&proxy, "slow/1"), ask_both(&balancer, "slow/2")];
    gate.open();
    for session in &mut sessions {
        session.replies_to([1]);
    }
}

#[test]
fn more_requests_than_max_in_flight_are_all_answered() {
    let data = Data::articles(50);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "--max-in-flight 8").run();
    let balancer = Start::balancer(&[proxy.address], "--max-in-flight 8").run();
    for node in [&origin, &proxy, &balancer] {
        let mut session = Session::open(node.address);
        let replies = session.ask_many(0..2000, |id| format!("GET article/{}", id % 50 + 1));
        for (id, reply) in replies {
            assert_eq!(parse(&reply)["data"]["id"], format!("article/{}", id % 50 + 1), "{id}");
        }
    }
}

#[test]
fn a_node_reads_at_most_max_in_flight_requests() {
    let gate = Gate::default();
    let origin = gate.peer();
    let proxy = Start::proxy(origin.address, "--max-in-flight 4 --fetch-deadline 20s").run();
    let mut session = Session::open(proxy.address);
    session.send_many(0..8, |id| format!("GET slow/{id}"));
    until("the first four are at the origin", || origin.requests().len() >= 4);
    pause(Duration::from_millis(200));
    assert_eq!(origin.requests().len(), 4, "4 in flight, and no more until one is answered");
    gate.open();
    session.replies_to(0..8);
    assert_eq!(origin.requests().len(), 8);
}

#[test]
fn the_write_deadline_cuts_clients_that_never_read() {
    let data = Data::empty();
    data.put("large/1", format!("\"{}\"", "x".repeat(1000 * 1024)).as_bytes());
    let origin = Start::origin(data.path(), "--write-deadline 1s").run();
    let proxy = Start::proxy(origin.address, "--write-deadline 1s").run();
    for node in [&origin, &proxy] {
        assert_eq!(get(node.address, "large/1")["status"], "OK");
        let idle = node.descriptors();
        let greedy: Vec<Session> = (0..4)
            .map(|_| {
                let mut session = Session::open(node.address);
                session.send_many(0..1000, |_| "GET large/1".to_owned());
                session
            })
            .collect();
        let mut most = 0;
        until("they are cut by the write deadline", || {
            most = most.max(node.resident_mib());
            node.descriptors() <= idle
        });
        assert!(most < 150, "4 clients that do not read made the node hold {most} MiB");
        assert_eq!(get(node.address, "large/1")["status"], "OK");
        drop(greedy);
    }
}

#[test]
fn an_idle_session_is_closed() {
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, "--idle-deadline 500ms").run();
    let mut session = Session::open(proxy.address);
    assert_eq!(status_of(&session.ask(1, "GET article/1")), "OK");
    let (took, end) = timed(|| session.line());
    assert_eq!(end, None);
    assert!(took > Duration::from_millis(300), "it was closed after {took:?} already");
}

#[test]
fn a_restart_of_the_origin_with_or_without_sessions_costs_no_error() {
    let data = Data::articles(60);
    let host = own_host();
    let origin = Start::origin(data.path(), &format!("--host {host}")).run();
    let address = origin.address;
    let proxy = Start::proxy(address, "").run();
    assert_eq!(get(proxy.address, "article/1")["status"], "OK");
    origin.kill();
    let origin = Start::origin(data.path(), &format!("--host {host} --port {}", address.port())).run();
    assert_eq!(origin.address, address);
    for i in 2..=20 {
        assert_eq!(get(proxy.address, &format!("article/{i}"))["status"], "OK");
    }
    origin.kill();
    let older = Fake::start_on(address, Hello::Ignored, answer_soundly);
    for i in 21..=40 {
        assert_eq!(
            get(proxy.address, &format!("article/{i}"))["status"],
            "OK",
            "from the node without sessions"
        );
    }
    assert!(older.requests().len() >= 20);
    drop(older);
    let _origin = Start::origin(data.path(), &format!("--host {host} --port {}", address.port())).run();
    for i in 41..=60 {
        assert_eq!(get(proxy.address, &format!("article/{i}"))["status"], "OK");
    }
}

#[test]
fn between_nodes_a_few_connections_carry_all_requests() {
    let origin = Fake::start(Hello::Granted, answer_soundly);
    let proxy = Start::proxy(origin.address, "").run();
    for i in 0..200 {
        assert_eq!(get(proxy.address, &format!("article/{i}"))["status"], "OK");
    }
    assert!(origin.connections() <= 16, "{} connections for 200 requests", origin.connections());
}
