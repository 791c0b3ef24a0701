//! Connections of clients at the edges of their deadlines, of memory, and of their turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{advance, pause, resume, sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::handler::{Answer, Ask};
use crate::net::transport::tests::narrow;
use crate::net::{Server, ServerLimits};
use crate::wire::{Reply, Request, Status};

const LONG: usize = 1 << 20;

/// Answers every request with one long line.
struct Long;

impl Handler for Long {
    fn answer(self: &Arc<Self>, _: Ask<'_>) -> Answer {
        Answer::Now(Reply::relayed(Status::Ok, Bytes::from(vec![b'x'; LONG])))
    }
}

#[tokio::test]
async fn the_write_deadline_of_a_reply_starts_with_the_reply() {
    let (listener, client) = narrow().await;
    let server = Server::new(Arc::new(Long), ServerLimits::default(), CancellationToken::new());
    tokio::spawn(async move { server.serve(listener).await });
    let (mut client, mut line) = (BufReader::new(client), Vec::new());
    client.write_all(b"HELLO 2\n").await.unwrap();
    client.read_until(b'\n', &mut line).await.unwrap();
    // The timer of the first line fires, and then nothing happens for a minute.
    pause();
    sleep(Duration::from_secs(66)).await;
    resume();
    line.clear();
    client.write_all(b"1 GET a/1\n").await.unwrap();
    client.read_until(b'\n', &mut line).await.unwrap();
    assert_eq!(line.len(), LONG + 3);
}

#[tokio::test]
async fn a_client_that_reads_slowly_and_steadily_is_not_cut_when_memory_is_short() {
    let (listener, mut client) = narrow().await;
    let unread = Arc::new(Unread::new(LONG));
    let limits = ServerLimits { unread, ..ServerLimits::default() };
    let server = Server::new(Arc::new(Long), limits, CancellationToken::new());
    tokio::spawn(async move { server.serve(listener).await });
    client.write_all(b"GET a/1\n").await.unwrap();
    let (mut read, mut some) = (0, [0; 8 * 1024]);
    // Far fewer bytes in a second than those that start the write deadline again.
    while read < LONG + 1 {
        let count = client.read(&mut some).await.unwrap();
        assert!(count > 0, "it is cut after {read} bytes");
        read += count;
        pause();
        advance(Duration::from_millis(200)).await;
        resume();
    }
}

#[tokio::test]
async fn a_request_that_comes_as_the_place_is_given_away_gets_its_whole_reply() {
    let (listener, client) = narrow().await;
    let limits = ServerLimits { max_connections: 1, ..ServerLimits::default() };
    let server = Server::new(Arc::new(Long), limits, CancellationToken::new());
    let door = server.door().clone();
    tokio::spawn(async move { server.serve(listener).await });
    let (mut client, mut line) = (BufReader::new(client), Vec::new());
    client.write_all(b"HELLO 2\n").await.unwrap();
    client.read_until(b'\n', &mut line).await.unwrap();
    while !door.are_seated(1) {
        yield_now().await;
    }
    pause();
    // A session that was used a second ago makes room as any other.
    advance(Duration::from_secs(1)).await;
    resume();
    client.write_all(b"1 GET a/1\n").await.unwrap();
    assert!(door.give_away());
    line.clear();
    client.read_until(b'\n', &mut line).await.unwrap();
    assert_eq!(line.len(), LONG + 3);
    assert_eq!(client.read_until(b'\n', &mut line).await.unwrap(), 0, "and the session ends");
}

/// Takes a millisecond for METRICS.
#[derive(Default)]
struct Slow(AtomicUsize);

impl Handler for Slow {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        if ask.request == Request::Metrics {
            self.0.fetch_add(1, Relaxed);
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1) {}
        }
        Answer::Now(Reply::null(Status::Ok))
    }
}

#[tokio::test]
async fn a_flood_of_metrics_holds_up_no_other_connection() {
    let (listener, mut floods) = narrow().await;
    let to = listener.local_addr().unwrap();
    let slow = Arc::new(Slow::default());
    let server = Server::new(slow.clone(), ServerLimits::default(), CancellationToken::new());
    tokio::spawn(async move { server.serve(listener).await });
    let flood: String = (0..1_000).map(|id| format!("{id} METRICS\n")).collect();
    floods.write_all(format!("HELLO 2\n{flood}").as_bytes()).await.unwrap();
    while slow.0.load(Relaxed) == 0 {
        yield_now().await;
    }
    let mut other = TcpStream::connect(to).await.unwrap();
    other.write_all(b"GET a/1\n").await.unwrap();
    let mut reply = String::new();
    other.read_to_string(&mut reply).await.unwrap();
    let answered = slow.0.load(Relaxed);
    assert!(answered < 100, "it waited for {answered} METRICS of another connection");
}
