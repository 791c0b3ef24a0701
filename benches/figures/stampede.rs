//! A thousand clients request one cold key, with the origin 200 ms away: the number of fetches, and the time from the
//! first reply to the last.
//!
//! All requests are sent before the origin replies. One task notes the arrivals, so a part of the spread is its own: it
//! reads from a thousand sockets on the processors of the nodes.

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

/// Connects a client, with a session or without.
async fn connect(to: SocketAddr, way: Way) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    if way == Way::Session {
        stream.write_all(b"HELLO 2\n").await.expect("a node that reads");
        line(&mut stream).await;
    }
    stream
}

/// Reads a line; returns the arrival of its end.
async fn line(stream: &mut TcpStream) -> Instant {
    let (mut buffer, mut ended) = ([0; 4096], false);
    while !ended {
        let n = stream.read(&mut buffer).await.expect("bytes");
        assert!(n > 0, "a reply has an end");
        ended = buffer[n - 1] == b'\n';
    }
    Instant::now()
}

/// All clients request one document; returns the time from the first reply to the last.
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
        // Sockets stay open until all replies are read, so that closing costs no time in between.
        waiting.spawn(async move { (line(&mut client).await, client) });
    }
    let answers = timeout(PATIENCE, waiting.join_all()).await.expect("all are answered");
    let at = answers.iter().map(|(at, _)| *at);
    at.clone().max().expect("an answer") - at.min().expect("an answer")
}

/// A row of the table.
async fn tell(name: &str, to: SocketAddr, way: Way, origin: &Origin) {
    let mut spreads = Vec::new();
    // The first request has created links and threads.
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
