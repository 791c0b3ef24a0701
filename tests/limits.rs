//! Limits: 10 000 connections within the promised memory, one connection too many, no descriptors left, slow and silent
//! clients.

use std::io::{Read, Write};
use std::net::TcpStream as Blocking;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::ask::{read_to_end, try_ask};
use crate::support::{
    Address, Data, Fake, Node, PATIENCE, Session, Start, ask, get, heavy, status_of, timed, until,
};

/// The default of `--max-connections`.
const MANY: usize = 10_000;
/// Connections that act at the same moment.
const WAVE: usize = 1000;
/// The memory of a node with all of them active, in MiB.
const MEMORY: u64 = 120;
/// The memory of a node with all of them idle, in MiB.
const IDLE_MEMORY: u64 = 80;
/// The memory of a node after a few requests, in KiB, beside the program itself, whose size depends on the build.
const AT_REST: u64 = 8 << 10;
/// The line deadline must not end connections while others are opened.
const LATE: &str = "--line-deadline 2m --idle-deadline 2m";

/// One client's requests once all are connected.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Session,
}

/// Raises the limit of descriptors, for this process and its nodes, to the machine's maximum.
fn allow_many_descriptors() {
    let own = std::process::id().to_string();
    let hard = Command::new("sh").args(["-c", "ulimit -Hn"]).output().expect("a shell").stdout;
    let hard = String::from_utf8(hard).expect("text").trim().to_owned();
    let set = Command::new("prlimit").args(["--pid", &own, &format!("--nofile={hard}:{hard}")]).status();
    assert!(set.expect("the prlimit command").success());
    let enough = hard.parse::<usize>().map_or(true, |hard| hard > MANY + 500);
    assert!(enough, "this machine allows {hard} descriptors; the test needs {MANY} and some");
}

fn hold_many(node: &Node, way: Way) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let clients = connect_many(node).await;
        let check = ask(node.address, "METRICS");
        assert_eq!(status_of(&check), "OK", "a health check takes no client's place: {check}");
        assert!(node.resident_mib() < IDLE_MEMORY, "{} MiB with all connections idle", node.resident_mib());
        let clients = match way {
            Way::Plain => clients,
            Way::Session => all(clients, greet).await,
        };
        assert!(node.resident_mib() < IDLE_MEMORY, "{} MiB with all connections open", node.resident_mib());
        let served = match way {
            Way::Plain => all(clients, ask_plain).await,
            Way::Session => all(clients, ask_in_session).await,
        };
        assert_eq!(served.len(), MANY);
        let resident = node.resident_mib();
        assert!(resident < MEMORY, "{resident} MiB after all were served");
    });
    until("it takes new ones", || get(node.address, "article/1")["status"] == "OK");
}

/// Connects in waves, each accepted before the next: the kernel's accept queue is not under test.
async fn connect_many(node: &Node) -> Vec<TcpStream> {
    let mut clients = Vec::with_capacity(MANY);
    while clients.len() < MANY {
        let wave = vec![node.address; WAVE.min(MANY - clients.len())];
        let connect = async |address: Address| TcpStream::connect(address.0).await.expect("a connection");
        clients.extend(all(wave, connect).await);
        until("the node has taken all connections", || node.accepted() >= clients.len());
    }
    clients
}

/// Applies the work to all, a wave at a time, each within a generous time.
async fn all<T: Send + 'static, R: Send + 'static, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Vec<R>
where
    F: Future<Output = R> + Send + 'static,
{
    let mut results = Vec::with_capacity(items.len());
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let mut wave: JoinSet<R> = JoinSet::new();
        for item in items.by_ref().take(WAVE) {
            let work = timeout(2 * PATIENCE, work(item));
            wave.spawn(async { work.await.expect("served in time") });
        }
        results.extend(wave.join_all().await);
    }
    results
}

async fn ask_plain(mut stream: TcpStream) {
    stream.write_all(b"GET article/1\n").await.expect("a node that reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("a reply");
    assert!(reply.starts_with("{\"status\":\"OK\"") && reply.ends_with("}\n"), "{reply}");
}

async fn greet(mut stream: TcpStream) -> TcpStream {
    stream.write_all(b"HELLO 2\n").await.expect("a node that reads");
    line_of(&mut stream, "{\"status\":\"OK\"").await;
    stream
}

async fn ask_in_session(mut stream: TcpStream) {
    for id in ["1", "2"] {
        stream.write_all(format!("{id} GET article/1\n").as_bytes()).await.expect("a node that reads");
        line_of(&mut stream, &format!("{id} {{\"status\":\"OK\"")).await;
    }
}

async fn line_of(stream: &mut TcpStream, start: &str) {
    let mut line = String::new();
    BufReader::with_capacity(256, stream).read_line(&mut line).await.expect("a line");
    assert!(line.starts_with(start), "{line}");
}

#[test]
fn ten_thousand_plain_connections_on_a_proxy() {
    let _alone = heavy();
    allow_many_descriptors();
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, LATE).run();
    hold_many(&proxy, Way::Plain);
}

#[test]
fn ten_thousand_sessions_on_a_proxy() {
    let _alone = heavy();
    allow_many_descriptors();
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, LATE).run();
    hold_many(&proxy, Way::Session);
}

#[test]
fn ten_thousand_plain_connections_on_the_balancer() {
    let _alone = heavy();
    allow_many_descriptors();
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let proxies = [(); 3].map(|()| Start::proxy(origin.address, "").run());
    let balancer = Start::balancer(&proxies.each_ref().map(|proxy| proxy.address), LATE).run();
    // A link holds a bounded number of requests: the others wait or get OVERLOADED, but none is lost.
    hold_many(&balancer, Way::Plain);
    let served: f64 = proxies.iter().map(|proxy| proxy.count("total_requests")).sum();
    assert!(served >= MANY as f64, "{served}");
}

#[test]
fn one_connection_too_many_is_overloaded() {
    let data = Data::articles(1);
    let (origin, proxy) = (Fake::origin(), Fake::origin());
    let nodes = [
        Start::origin(data.path(), "--max-connections 3").run(),
        Start::proxy(origin.address, "--max-connections 3").run(),
        Start::balancer(&[proxy.address], "--max-connections 3").run(),
    ];
    for node in nodes {
        let mut held: Vec<Session> = (0..3).map(|_| Session::open(node.address)).collect();
        let reply = ask(node.address, "GET article/1");
        assert_eq!(status_of(&reply), "OVERLOADED", "{reply}");
        for session in &mut held {
            assert_eq!(
                status_of(&session.ask(1, "GET article/1")),
                "OK",
                "those within the limit are served"
            );
        }
        held.pop();
        until("there is room again", || status_of(&ask(node.address, "GET article/1")) == "OK");
    }
}

#[test]
fn a_node_without_free_descriptors_recovers() {
    let _alone = heavy();
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    for role in ["proxy", "lb"] {
        let behind = Start::proxy(origin.address, "").run();
        let start = match role {
            "proxy" => Start::proxy(origin.address, LATE),
            _ => Start::balancer(&[behind.address], &format!("{LATE} --health-interval 200ms")),
        };
        let node = start.shell("ulimit -n 64", "").run();
        assert_eq!(get(node.address, "article/1")["status"], "OK");
        let mut early: Vec<Session> = (0..10).map(|_| Session::open(node.address)).collect();
        let full = node.descriptors();
        let rest: Vec<Blocking> = (0..110).map(|_| node.address.connect().expect("a connection")).collect();
        until("the node is full", || node.descriptors() >= full + 10);
        let busy = node.busy_within(Duration::from_secs(1));
        assert!(busy < 30, "{role}: {busy} hundredths of a second busy with nothing to do");
        for session in &mut early {
            let status = status_of(&session.ask(1, "GET article/1"));
            // A hit needs no descriptor; a balancer without one for a proxy replies with an error.
            assert!(status == "OK" || (role == "lb" && status == "OVERLOADED"), "{role}: {status}");
        }
        if role == "lb" {
            let metrics = early[0].ask(2, "METRICS");
            assert!(metrics.contains(r#""healthy":true"#), "it is no fault of the proxy: {metrics}");
        }
        drop(rest);
        until("it goes on", || {
            try_ask(node.address, "GET article/1").is_ok_and(|line| status_of(&line) == "OK")
        });
    }
}

#[test]
fn silent_and_slow_clients_are_disconnected() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "--line-deadline 700ms").run();
    let proxy = Start::proxy(origin.address, "--line-deadline 700ms").run();
    let balancer = Start::balancer(&[proxy.address], "--line-deadline 700ms").run();
    for node in [&origin, &proxy, &balancer] {
        let silent: Vec<Blocking> = (0..200).map(|_| node.address.connect().expect("a connection")).collect();
        let (took, ()) = timed(|| {
            for _ in 0..50 {
                assert_eq!(get(node.address, "article/1")["status"], "OK", "they cost the others nothing");
            }
        });
        assert!(took < Duration::from_secs(10), "50 answers beside silent clients took {took:?}");
        assert_cut_while_dripping(node);
        for mut stream in silent {
            let answer = read_to_end(&mut stream);
            assert!(answer.is_empty() || answer.starts_with(b"{\"status\":\"BAD_REQUEST\""));
        }
        assert_eq!(get(node.address, "article/1")["status"], "OK");
    }
}

/// The deadline is for the whole line: single bytes do not extend it.
fn assert_cut_while_dripping(node: &Node) {
    let mut stream = node.address.connect().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let (took, ()) = timed(|| {
        for _ in 0..300 {
            let cut = stream.write_all(b"G").is_err();
            // The timeout of the read is the pace of the drip.
            match stream.read(&mut [0; 512]) {
                Ok(_) => return,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !cut => {}
                Err(_) => return,
            }
        }
        panic!("a client that drips was never cut");
    });
    assert!(took > Duration::from_millis(300), "it was cut after {took:?} already");
}

#[test]
fn half_a_line_ends_a_session_at_the_deadline() {
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, "--line-deadline 500ms --idle-deadline 2s").run();
    let mut session = Session::open(proxy.address);
    assert_eq!(status_of(&session.ask(1, "GET article/1")), "OK");
    session.send("2 GET arti");
    while let Some(line) = session.line() {
        assert!(line.contains("BAD_REQUEST"), "{line}");
    }
    assert_eq!(get(proxy.address, "article/1")["status"], "OK");
}

#[test]
fn an_idle_node_uses_little_memory() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "--http-port 0").run();
    let balancer = Start::balancer(&[proxy.address], "--http-port 0").run();
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    for node in [origin, proxy, balancer] {
        assert!(node.own_kib() < AT_REST, "{} KiB: {:?}", node.own_kib(), node.address);
    }
}

#[test]
fn a_node_with_few_descriptors_starts_with_a_warning_or_says_how_many_it_needs() {
    let data = Data::articles(1);
    for limit in (5..=60).step_by(5).chain([6, 8, 12, 14, 200]) {
        let words = "--threads 2 --max-connections 1000";
        let mut node = Start::origin(data.path(), words).shell(&format!("ulimit -n {limit}"), "").spawn();
        if node.ends_before(" listens on ") {
            assert_eq!(node.ended().code(), Some(1));
            assert!(node.log().contains("ulimit -n"), "{limit}: {}", node.log());
        } else {
            until("it warns", || node.log().contains(&format!("may open {limit} files")));
        }
        assert!(!node.log().contains("panicked"), "{limit}: {}", node.log());
    }
}
