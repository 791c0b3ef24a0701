//! The cost of a request with more connections, proxies and entries: equal work in turns, medians of some rounds, as a
//! ratio to the first row of each table. Processor time is that of the measured node alone.

use std::net::SocketAddr;
use std::time::Duration;

use dproxy::lb::balance::Strategy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ask::{bench, median};
use super::made::Made;
use super::node::{Node, balancer, echo, map, proxy, proxy_at};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
/// Bytes of a document in the tables of entries.
const SMALL: usize = 200;
const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;
/// Far below the capacity of a proxy: no queue adds to latencies.
const DUE: u64 = 50_000;

/// The result of a round.
struct Round {
    per_second: f64,
    /// Microseconds of the node's processor time per request.
    cpu_us: f64,
    /// The kernel's share of them.
    kernel_us: f64,
    /// Milliseconds.
    p99: f64,
}

/// A row of a table: its name and its rounds.
struct Line(String, Vec<Round>);

/// Prints a table with ratios to its first row.
fn tell(lines: Vec<Line>) {
    println!(
        "{:44} {:>11} {:>7} {:>8} {:>7} {:>8} {:>7} {:>10} {:>8}",
        "", "requests/s", "ratio", "CPU µs", "ratio", "own µs", "ratio", "in kernel", "p99 ms"
    );
    let mut first = None;
    for Line(name, rounds) in lines {
        let of = |part: fn(&Round) -> f64| median(rounds.iter().map(part).collect());
        let (per_second, cpu_us) = (of(|round| round.per_second), of(|round| round.cpu_us));
        let own_us = of(|round| round.cpu_us - round.kernel_us);
        let (all, each, own) = *first.get_or_insert((per_second, cpu_us, own_us));
        println!(
            "{name:44} {per_second:>11.0} {:>7.2} {cpu_us:>8.2} {:>7.2} {own_us:>8.2} {:>7.2} {:>10.2} {:>8.2}",
            per_second / all,
            cpu_us / each,
            own_us / own,
            of(|round| round.kernel_us),
            of(|round| round.p99)
        );
    }
}

/// Sessions in lanes: each lane has one request in flight and goes round its sessions.
struct Sessions(Vec<Vec<TcpStream>>);

const LANES: usize = 10;

impl Sessions {
    async fn open(to: SocketAddr, count: usize) -> Self {
        let mut lanes: Vec<Vec<TcpStream>> = (0..LANES).map(|_| Vec::new()).collect();
        for index in 0..count {
            let mut stream = TcpStream::connect(to).await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            ask(&mut stream, b"HELLO 2\n").await;
            lanes[index % LANES].push(stream);
        }
        Self(lanes)
    }

    /// Sends requests for this time.
    async fn round(&mut self, node: &Node) -> Round {
        let (began, before) = (Instant::now(), node.cpu());
        let mut lanes = JoinSet::new();
        for mut lane in self.0.drain(..) {
            lanes.spawn(async move {
                let mut took = Vec::new();
                'round: loop {
                    for stream in &mut lane {
                        let asked = Instant::now();
                        if asked - began >= ROUND {
                            break 'round;
                        }
                        ask(stream, b"1 GET article/1\n").await;
                        took.push(asked.elapsed());
                    }
                }
                (lane, took)
            });
        }
        let mut took = Vec::new();
        for (lane, times) in lanes.join_all().await {
            self.0.push(lane);
            took.extend(times);
        }
        let seconds = began.elapsed().as_secs_f64();
        let (cpu_us, kernel_us) = node.cpu().since(before, took.len() as f64);
        took.sort();
        Round {
            per_second: took.len() as f64 / seconds,
            cpu_us,
            kernel_us,
            p99: took[took.len() * 99 / 100].as_secs_f64() * 1e3,
        }
    }
}

/// One line there, one line back.
async fn ask(stream: &mut TcpStream, line: &[u8]) {
    stream.write_all(line).await.expect("a node that reads");
    let (mut buffer, mut ended) = ([0; 4096], false);
    while !ended {
        let n = stream.read(&mut buffer).await.expect("bytes");
        assert!(n > 0, "a reply has an end");
        ended = buffer[n - 1] == b'\n';
    }
}

/// A round of `dproxy bench`.
async fn round(node: &Node, words: &str) -> Round {
    let before = node.cpu();
    let found = bench(node.address, &format!("{words} --warmup 0 --duration {}ms", ROUND.as_millis())).await;
    let (cpu_us, kernel_us) = node.cpu().since(before, found.requests());
    assert_eq!(found.other_than(&["OK"]), 0.0, "all answers are good");
    Round { per_second: found.rps(), cpu_us, kernel_us, p99: found.ms("p99") }
}

/// The lines of nodes, a line each, after a first round that does not count and [`ROUNDS`] that do, in turns.
async fn rounds<T>(nodes: &[(Node, T)], words: &str, mut lines: Vec<Line>) -> Vec<Line> {
    for (node, _) in nodes {
        round(node, words).await;
    }
    for _ in 0..ROUNDS {
        for (line, (node, _)) in lines.iter_mut().zip(nodes) {
            line.1.push(round(node, words).await);
        }
    }
    lines
}

/// Ten requests in flight on more and more connections.
pub(crate) async fn connections() {
    let origin = Made::of(1000).start();
    let proxy = || proxy(origin.address, 0, "--ttl 10m --idle-deadline 10m");
    for (title, start) in
        [("A proxy", &proxy as &dyn Fn() -> Node), ("A server that knows one line, on one thread", &echo)]
    {
        println!("\n{title}, {LANES} requests in flight, on sessions that are asked in turn");
        let (mut opened, mut lines) = (Vec::new(), Vec::new());
        for count in [10, 1_000, 10_000] {
            let node = start();
            opened.push((Sessions::open(node.address, count).await, node));
            lines.push(Line(format!("{count} connections"), Vec::new()));
        }
        for _ in 0..ROUNDS {
            for (line, (sessions, node)) in lines.iter_mut().zip(&mut opened) {
                line.1.push(sessions.round(node).await);
            }
        }
        tell(lines);
    }
}

/// A balancer over more and more proxies, and over more and more addresses of one proxy.
pub(crate) async fn peers() {
    let origin = Made::of(1000).start();
    for (title, words) in [
        ("one request at a time", "--connections 1 --in-flight 1"),
        ("64 sessions with 16 in flight", "--connections 64 --in-flight 16"),
    ] {
        println!("\nA balancer, {title}");
        let mut nodes = Vec::new();
        let mut lines = Vec::new();
        for count in [1, 3, 16] {
            let proxies: Vec<Node> = (0..count).map(|_| proxy(origin.address, 0, "--ttl 10m")).collect();
            let listed: Vec<SocketAddr> = proxies.iter().map(|proxy| proxy.address).collect();
            nodes.push((balancer(&listed, ""), proxies));
            lines.push(Line(format!("{count} proxies"), Vec::new()));
        }
        for count in [3, 16] {
            let (proxy, listed) = proxy_at(origin.address, "--ttl 10m", count);
            nodes.push((balancer(&listed, ""), vec![proxy]));
            lines.push(Line(format!("{count} addresses of one proxy"), Vec::new()));
        }
        tell(rounds(&nodes, words, lines).await);
    }
}

/// A balancer of each strategy over ten addresses of one proxy, and over a thousand. With one request in flight on each
/// session, every write has one line beside ten nodes as well: what grows is the choice. With 16, ten nodes get many lines
/// in a write, and a thousand one.
pub(crate) async fn members() {
    let origin = Made::of(1000).start();
    for strategy in Strategy::ALL {
        let name = strategy.as_str();
        let (mut nodes, mut counts) = (Vec::new(), Vec::new());
        for count in [10, 500, 1_000] {
            let (proxy, listed) = proxy_at(origin.address, "--ttl 10m", count);
            nodes.push((balancer(&listed, &format!("--strategy {name}")), proxy));
            counts.push(format!("{count} nodes"));
        }
        for (title, words) in [
            ("8 sessions with one in flight", "--connections 8 --in-flight 1"),
            ("64 sessions with 16 in flight", "--connections 64 --in-flight 16"),
        ] {
            println!("\nA balancer, {name}, {title}");
            let lines = counts.iter().map(|count| Line(count.clone(), Vec::new())).collect();
            tell(rounds(&nodes, words, lines).await);
        }
    }
}

/// Fills a proxy with `entries` documents; returns the bytes per entry beyond key and document.
async fn fill(node: &Node, entries: u64) -> f64 {
    let before = node.resident();
    let range = format!("--key-range article/1..{entries}");
    bench(node.address, &format!("--connections 16 --in-flight 16 --requests {entries} {range}")).await;
    let keys: u64 = (1..=entries).map(|id| format!("article/{id}").len() as u64).sum();
    (node.resident() - before - keys) as f64 / entries as f64 - SMALL as f64
}

/// A proxy of each cache type, with few entries and with many.
pub(crate) async fn entries() {
    let origin = Made::of(SMALL).start();
    for cache_type in ["ttl", "lru", "s3fifo"] {
        let words = format!("--cache-type {cache_type} --ttl 1h --capacity 1100000 --max-bytes 2GiB");
        let (few, many) = (proxy(origin.address, 0, &words), proxy(origin.address, 0, &words));
        fill(&few, FEW).await;
        let beyond = fill(&many, MANY).await;
        println!("\nA proxy, {cache_type}, documents of {SMALL} B, 64 sessions with 16 in flight");
        println!("1 000 000 entries take {beyond:.0} B each beyond key and document");
        of_few_and_many(&few, &many).await;
    }
    println!("\nA server that has a HashMap and nothing else, the same documents, asked in the same way");
    of_few_and_many(&map(FEW, SMALL), &map(MANY, SMALL)).await;
}

async fn of_few_and_many(few: &Node, many: &Node) {
    let asked = [
        (few, "1 000 entries, zipf", "--key-range article/1..1000 --zipf 1.0"),
        (few, "1 000 entries, uniform", "--key-range article/1..1000 --zipf 0"),
        (many, "1 000 000 entries, 1 000 of them asked, zipf", "--key-range article/1..1000 --zipf 1.0"),
        (many, "1 000 000 entries, zipf", "--key-range article/1..1000000 --zipf 1.0"),
        (many, "1 000 000 entries, uniform", "--key-range article/1..1000000 --zipf 0"),
    ];
    let mut lines: Vec<Line> = asked.iter().map(|(_, name, _)| Line((*name).into(), Vec::new())).collect();
    for _ in 0..ROUNDS {
        for (line, (node, _, keys)) in lines.iter_mut().zip(&asked) {
            line.1.push(round(node, &format!("--connections 64 --in-flight 16 {keys}")).await);
        }
    }
    tell(lines);
    println!("The same, with {DUE} requests/s due");
    let mut lines: Vec<Line> = asked.iter().map(|(_, name, _)| Line((*name).into(), Vec::new())).collect();
    for _ in 0..ROUNDS {
        for (line, (node, _, keys)) in lines.iter_mut().zip(&asked) {
            line.1.push(round(node, &format!("--connections 8 --in-flight 64 --rate {DUE} {keys}")).await);
        }
    }
    tell(lines);
}
