//! A thousand clients that ask for one cold key, with the origin 200 ms away: how many fetches that costs, and how long
//! after the first answer the last one arrives.
//!
//! All are connected and have asked before the origin answers. One task that does nothing else notes arrivals, so a part of
//! the spread is its own: it reads from a thousand sockets on the processors that the nodes work on.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::ask::median;
use super::made::{Made, Origin};
use super::node::{balancer, proxy};

const CLIENTS: usize = 1_000;
const AWAY: Duration = Duration::from_millis(200);
const ROUNDS: u64 = 15;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Session,
}

/// Connects a client, and opens its session if it wants one.
async fn connect(to: SocketAddr, way: Way) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    if way == Way::Session {
        stream.write_all(b"HELLO 2\n").await.expect("a node that reads");
        line(&mut stream).await;
    }
    stream
}

/// Reads a line; tells when its end had arrived.
async fn line(stream: &mut TcpStream) -> Instant {
    let (mut buffer, mut ended) = ([0; 4096], false);
    while !ended {
        let n = stream.read(&mut buffer).await.expect("bytes");
        assert!(n > 0, "a reply has an end");
        ended = buffer[n - 1] == b'\n';
    }
    Instant::now()
}

/// Lets all ask for one document; tells how far apart the answers arrived.
async fn rush(to: SocketAddr, way: Way, id: u64) -> Duration {
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(connect(to, way).await);
    }
    let ask = match way {
        Way::Plain => format!("GET article/{id}\n"),
        Way::Session => format!("1 GET article/{id}\n"),
    };
    let began = Instant::now();
    for client in &mut clients {
        client.write_all(ask.as_bytes()).await.expect("a node that reads");
    }
    assert!(began.elapsed() < AWAY, "all ask before the first is answered");
    let mut waiting = JoinSet::new();
    for mut client in clients {
        // Whatever closing costs is not between two answers: the socket stays until all have theirs.
        waiting.spawn(async move { (line(&mut client).await, client) });
    }
    let answers = timeout(PATIENCE, waiting.join_all()).await.expect("all are answered");
    let at = answers.iter().map(|(at, _)| *at);
    at.clone().max().expect("an answer") - at.min().expect("an answer")
}

/// A line of the table.
async fn tell(name: &str, to: SocketAddr, way: Way, origin: &Origin) {
    let mut spreads = Vec::new();
    // What the nodes make at their first request, links and threads, is made.
    rush(to, way, 0).await;
    let before = origin.asked();
    for id in 1..=ROUNDS {
        spreads.push(rush(to, way, id).await.as_secs_f64() * 1e3);
    }
    let fetches = (origin.asked() - before) as f64 / ROUNDS as f64;
    let worst = spreads.iter().copied().fold(0.0, f64::max);
    println!("{name:44} {fetches:>8.2} {:>9.1} {worst:>9.1}", median(spreads));
}

pub(crate) async fn all() {
    println!("{CLIENTS} clients on one cold key of 1 kB, the origin 200 ms away; medians of {ROUNDS} rounds");
    println!("{:44} {:>8} {:>9} {:>9}", "", "fetches", "last ms", "worst");
    let origin = Made { work: AWAY, ..Made::of(1000) }.start();
    for (way, name) in [(Way::Plain, "a connection each"), (Way::Session, "a session each")] {
        let alone = proxy(origin.address, 0, "");
        tell(&format!("a proxy, {name}"), alone.address, way, &origin).await;
        let proxies = [(); 3].map(|()| proxy(origin.address, 0, ""));
        let lb = balancer(&proxies.each_ref().map(|proxy| proxy.address), "--strategy hash");
        tell(&format!("a balancer (hash) over three, {name}"), lb.address, way, &origin).await;
    }
}
