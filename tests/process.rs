//! The process: its start, its errors, its stop, and any kind of output.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use serde_json::Value;

use crate::support::ask::try_ask;
use crate::support::command::{dproxy, make_fifo, text};
use crate::support::fake::Gate;
use crate::support::http::Http;
use crate::support::node::{listener_on, own_host};
use crate::support::{
    Address, Data, Fake, Node, PATIENCE, Session, Start, ask, at_once, eventually, get, pause, status_of,
    timed, until,
};

/// A proxy with one request in flight until the gate opens; returns its reply.
fn in_flight(words: &str, test: impl FnOnce(&mut Node, &Gate) + Send) -> (Result<String, String>, Node) {
    let gate = Gate::default();
    let origin = gate.peer();
    let mut proxy = Start::proxy(origin.address, &format!("--fetch-deadline 25s {words}")).run();
    let address = proxy.address;
    let reply = std::thread::scope(|scope| {
        let client = scope.spawn(move || try_ask(address, "GET article/1"));
        until("the request is in flight", || !origin.requests().is_empty());
        test(&mut proxy, &gate);
        gate.open();
        client.join().expect("the client")
    });
    (reply, proxy)
}

fn await_refusal(node: &Node) {
    until("it takes no more connections", || node.address.connect().is_err());
}

#[test]
fn after_sigterm_or_sigint_open_requests_are_answered_and_the_exit_code_is_0() {
    for signal in ["TERM", "INT"] {
        let (reply, mut proxy) = in_flight("", |proxy, _| {
            proxy.signal(signal);
            await_refusal(proxy);
            assert!(proxy.is_running(), "it waits for the open requests");
        });
        assert_eq!(status_of(&reply.expect("the answer")), "OK");
        assert_eq!(proxy.ended().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_stopping_node_answers_the_open_requests_of_a_session_then_closes() {
    let gate = Gate::default();
    let origin = gate.peer();
    let mut proxy = Start::proxy(origin.address, "--fetch-deadline 25s").run();
    let mut session = Session::open(proxy.address);
    let mut idle = Session::open(proxy.address);
    session.send("1 GET article/1\n2 GET article/2\n");
    until("both are in flight", || origin.requests().len() == 2);
    proxy.signal("TERM");
    await_refusal(&proxy);
    gate.open();
    for (id, reply) in session.replies_to(1..=2) {
        assert_eq!(status_of(&reply), "OK", "{id}");
    }
    assert_eq!((session.line(), idle.line()), (None, None));
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn an_idle_node_exits_at_once() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "--drain 60s").run();
    let proxy = Start::proxy(origin.address, "--drain 60s").run();
    let balancer = Start::balancer(&[proxy.address], "--drain 60s").run();
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    // Downstream nodes still hold sessions, which must not delay the exit.
    for mut node in [origin, proxy, balancer] {
        node.signal("TERM");
        assert_eq!(node.ended().code(), Some(0));
    }
}

#[test]
fn the_drain_has_a_deadline() {
    let (_, mut proxy) = in_flight("--drain 500ms", |proxy, _| {
        proxy.signal("TERM");
        let (took, _) = timed(|| proxy.ended());
        assert!(took < PATIENCE / 2, "it drained for {took:?}");
    });
    proxy.ended();
}

#[test]
fn lines_and_http_share_one_drain_deadline() {
    const DRAIN: Duration = Duration::from_secs(6);
    let gate = Gate::default();
    let origin = gate.peer();
    let mut proxy = Start::proxy(origin.address, "--fetch-deadline 25s --drain 6s --http-port 0").run();
    let mut session = Session::open(proxy.address);
    session.send("1 GET article/1\n");
    let mut page = Http::connect(proxy.serves_http());
    page.send(b"GET /article/2 HTTP/1.1\r\nhost: a\r\n\r\n");
    until("both are in flight", || origin.requests().len() == 2);
    proxy.signal("TERM");
    let (took, end) = timed(|| proxy.ended());
    assert_eq!(end.code(), Some(0));
    assert!(took < DRAIN * 5 / 3, "it drained for {took:?}");
    gate.open();
}

#[test]
fn a_second_signal_exits_at_once() {
    // More than one of each: the thread of the node that holds the request is random.
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "TERM"), ("INT", "INT")] {
        let (_, node) = in_flight("--drain 5m", |proxy, _| {
            proxy.signal(first);
            await_refusal(proxy);
            assert!(proxy.is_running());
            proxy.signal(second);
            let (took, _) = timed(|| proxy.ended());
            assert!(took < PATIENCE / 2, "it went on for {took:?}");
        });
        drop(node);
    }
}

/// Runs a node that cannot start; returns its error.
fn complaint(words: &[&str], code: i32) -> String {
    let output = dproxy(words);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {complaint}");
    assert_eq!(text(&output.stdout), "", "{words:?}");
    complaint
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_1() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let data = Data::articles(1);
    let node = Start::origin(data.path(), "").run();
    let foreign = other.local_addr().expect("its address").port();
    for port in [foreign, node.port()] {
        let port = port.to_string();
        let directory = data.path().to_str().expect("text");
        let starts: [&[&str]; 3] = [
            &["origin", "--data", directory, "--port", &port],
            &["proxy", "--port", &port],
            &["lb", "--port", &port],
        ];
        for words in starts {
            let complaint = complaint(words, 1);
            assert_eq!(complaint.lines().count(), 1, "{words:?}: {complaint}");
            assert!(complaint.contains(&port), "it names the port: {complaint}");
        }
    }
    assert_eq!(get(node.address, "article/1")["status"], "OK", "the one that had the port keeps it");
}

#[test]
fn a_missing_data_directory_is_one_line_and_exit_code_1() {
    let data = Data::articles(1);
    for place in [data.path().join("gone"), data.file("article/1")] {
        let place = place.to_str().expect("text");
        for role in [&["origin"][..], &["cluster", "--http-port", "0"]] {
            let complaint = complaint(&[role, &["--port", "0", "--data", place]].concat(), 1);
            assert_eq!(complaint.lines().count(), 1, "{complaint}");
            assert!(complaint.contains(place), "it names the place: {complaint}");
        }
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let wrong: [(&[&str], &str); 35] = [
        (&["serve"], "serve"),
        (&["proxy", "--colour", "red"], "--colour"),
        (&["proxy", "--cache-type", "fifo"], "fifo"),
        (&["proxy", "--ttl", "soon"], "soon"),
        (&["proxy", "--ttl", "-1"], "-1"),
        (&["proxy", "--port", "70000"], "70000"),
        (&["proxy", "--max-bytes", "many"], "many"),
        (&["origin", "--layout", "round"], "round"),
        (&["lb", "--strategy", "fair"], "fair"),
        (&["lb", "--proxies", "nonsense"], "nonsense"),
        (&["lb", "--proxies", "127.0.0.1:99999"], "99999"),
        (&["lb", "--max-failures", "0"], "0"),
        (&["lb", "--health-interval", "0"], "0"),
        (&["client", "--get", "no-slash"], "<key>"),
        (&["client", "--get", "a/1", "--metrics"], "--metrics"),
        (&["client", "--get", "a/1", "--watch"], "--watch"),
        (&["client", "--get", "a/1", "--host", "127.0.0.1:9000"], "flag of its own"),
        (&["client", "--get", "a/1", "--port", "0"], "from 1 to 65535"),
        (&["origin", "--ttl", "3s"], "a flag of dproxy proxy, cluster"),
        (&["origin", "--host", "example.com"], "127.0.0.1"),
        (&["proxy", "--ttl", "18446744073709551615s"], "at the most"),
        (&["proxy", "--max-bytes", "99999999TiB"], "can address"),
        (&["proxy", "--max-bytes", "1000"], "16KiB at the least"),
        (&["cluster", "--max-bytes", "1"], "16KiB at the least"),
        (&["proxy", "--ttl", "50d"], "49d at the most"),
        (&["cluster", "--negative-ttl", "4300000"], "49d at the most"),
        (&["proxy", "--ttl", "100us"], "whole milliseconds"),
        (&["proxy", "--ttl", "0"], "longer than 0"),
        (&["proxy", "--capacity", "5000000000"], "4000000000 at the most"),
        (&["lb", "--proxy-max-in-flight", "2000000"], "1048576 at the most"),
        (&["proxy", "--threads", "100000"], "1..=1024"),
        (&["cluster", "--proxies", "100000"], "1..=1024"),
        (&["bench", "--warmup", "99999999999999s"], "at the most"),
        (&["proxy", "--log", "degub"], "write info"),
        (&["client"], "--get"),
    ];
    for (words, culprit) in wrong {
        let complaint = complaint(words, 2);
        assert!(complaint.contains(culprit), "{words:?}: {complaint}");
        assert!(complaint.starts_with("dproxy: ") && complaint.contains("--help"), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    assert_eq!(dproxy(&[]).status.code(), Some(2));
}

#[test]
fn help_names_every_role_and_the_defaults() {
    let output = dproxy(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    assert!(["origin", "proxy", "lb", "client", "cluster"].iter().all(|role| help.contains(role)), "{help}");
    let defaults: [(&str, &[&str]); 4] = [
        ("origin", &["8000", "127.0.0.1", "flat", "1MiB", "10000"]),
        ("proxy", &["8001", "8000", "ttl", "30s", "256MiB", "2s", "1s", "5s", "10s"]),
        (
            "lb",
            &["9000", "127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003", "round_robin", "2.5s", "2s", "3"],
        ),
        ("client", &["9000", "127.0.0.1"]),
    ];
    for (role, expected) in defaults {
        let output = dproxy(&[role, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let help = text(&output.stdout);
        for value in expected {
            assert!(help.contains(value), "{role} --help tells no {value}: {help}");
        }
    }
}

#[test]
fn the_spellings_of_older_nodes_work() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let port = origin.port();
    let spelled = [
        format!("--cache_type lru --lru_capacity 3 --origin_port {port} --origin_host 127.0.0.1"),
        format!("--cache_type ttl --lru-capacity 3 --origin_port {port} --origin_host localhost"),
    ];
    let proxies = spelled.map(|words| Start::role("proxy", &words).run());
    for proxy in &proxies {
        assert_eq!(get(proxy.address, "article/1")["status"], "OK");
    }
    let [a, b] = proxies.each_ref().map(|proxy| proxy.address);
    let b_by_name = format!("localhost:{}", b.port());
    for list in
        [format!("{a} {b}"), format!("{a},{b}"), format!("{a},{b_by_name}"), format!("{b_by_name} {a}")]
    {
        for strategy in ["round-robin", "round_robin", "least-loaded", "least_loaded"] {
            let words = format!("--strategy {strategy} --proxies {list}");
            let balancer = Start::role("lb", &words).run();
            // Not in turn: least_loaded uses polled counts.
            let mut served = HashSet::new();
            until(&format!("{words} reaches both"), || {
                served.extend(get(balancer.address, "article/1")["node"].as_u64());
                [a, b].iter().all(|proxy| served.contains(&u64::from(proxy.port())))
            });
        }
    }
}

#[test]
fn settings_come_from_the_environment_too() {
    let data = Data::articles(1);
    let host = own_host();
    let settings = format!("export DPROXY_DATA={} DPROXY_HOST={host}", data.path().display());
    let origin = Start::role("origin", "").shell(&settings, "").run();
    assert_eq!(origin.address.host(), host.to_string());
    assert_eq!(get(origin.address, "article/1")["status"], "OK");
}

#[test]
fn a_ready_node_prints_its_address_and_no_more() {
    let data = Data::articles(1);
    let mut origin = Start::origin(data.path(), "").spawn();
    let (role, address) = origin.listens();
    assert_eq!(role, "origin");
    assert_eq!(get(address, "article/1")["status"], "OK");
    let mut proxy = Start::proxy(address, "--log debug").spawn();
    assert_eq!(proxy.listens().0, "proxy");
    let mut balancer = Start::role("lb", "--proxies localhost:1").spawn();
    assert_eq!(balancer.listens().0, "balancer");
    for mut node in [origin, proxy, balancer] {
        node.signal("TERM");
        assert!(node.has_printed_all(), "it printed more than the line of its listener");
    }
}

#[test]
fn logs_are_filtered_and_may_be_json() {
    let origin = Fake::origin();
    let quiet = Start::proxy(origin.address, "--log off").run();
    let loud = Start::proxy(origin.address, "--log info,dproxy=debug --log-format json").run();
    for node in [&quiet, &loud] {
        ask(node.address, "nonsense");
        get(node.address, "article/1");
        node.signal("TERM");
    }
    let [mut quiet, mut loud] = [quiet, loud];
    assert!(quiet.ended().success() && loud.ended().success());
    assert_eq!(quiet.log(), "");
    let log = loud.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["level"].is_string() && event["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn a_node_that_goes_down_is_logged_once() {
    let gone = Address((own_host(), 9).into());
    let balancer =
        Start::balancer(&[gone], "--health-interval 50ms --max-failures 2 --log dproxy=info").run();
    until("it is marked down", || !balancer.holds_healthy(gone));
    let at_the_flip = eventually("the flip is logged", || {
        let lines = mentions(&balancer, gone);
        (lines > 0).then_some(lines)
    });
    pause(Duration::from_millis(500));
    assert_eq!((at_the_flip, mentions(&balancer, gone)), (1, 1), "{}", balancer.log());
}

fn mentions(balancer: &Node, proxy: Address) -> usize {
    let log = balancer.log();
    log.lines().filter(|line| line.contains(&proxy.to_string()) && (line.contains("WARN"))).count()
}

#[test]
fn closed_or_full_output_does_not_end_a_node() {
    let outputs =
        [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"];
    at_once(outputs.to_vec(), |output| {
        let data = Data::articles(1);
        let host = own_host();
        let words = format!("--host {host} --log trace");
        let mut node = Start::origin(data.path(), &words).shell("", output).spawn();
        node.address = eventually("it listens", || listener_on(host));
        for _ in 0..5 {
            ask(node.address, "nonsense");
            assert_eq!(get(node.address, "article/1")["status"], "OK", "{output}");
        }
        assert!(node.is_running());
        node.signal("TERM");
        assert_eq!(node.ended().code(), Some(0), "{output}");
    });
}

#[test]
fn a_closed_output_pipe_does_not_end_a_node() {
    let data = Data::articles(1);
    let host = own_host();
    let words = format!("--host {host} --log trace");
    // The reader of the pipe takes one line and closes: the next write would be a SIGPIPE.
    let marker = data.path().join("reader-gone");
    let pipe = data.path().join("pipe");
    make_fifo(&pipe);
    let reader = format!("(head -c 1 >/dev/null; : >'{}') <'{}' &", marker.display(), pipe.display());
    let output = format!(">'{}' 2>&1", pipe.display());
    let mut node = Start::origin(data.path(), &words).shell(&reader, &output).spawn();
    node.address = eventually("it listens", || listener_on(host));
    until("the reader has left", || {
        let _ = try_ask(node.address, "nonsense");
        fs::exists(&marker).expect("the marker")
    });
    for _ in 0..20 {
        ask(node.address, "nonsense");
    }
    assert_eq!(get(node.address, "article/1")["status"], "OK");
    node.signal("TERM");
    assert_eq!(node.ended().code(), Some(0));
}
