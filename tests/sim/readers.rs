//! Clients that send GETs: through links, as nodes do, and over sockets in both layers of the protocol, so that the judge
//! sees the bytes themselves.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use dproxy::net::link::Peer;
use dproxy::net::transport::Stream;
use dproxy::net::{Link, LinkLimits};
use dproxy::wire::{KeyBuf, Request};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{BALANCERS, PORT, balancer};
use crate::judge::{Asked, some_trouble};
use crate::world::{World, now};
use crate::{CLIENTS_END, FAULTS_END};

/// The deadline of a client.
pub(crate) const PATIENCE: Duration = Duration::from_secs(12);
const CONNECT: Duration = Duration::from_secs(1);

pub(crate) fn link(host: &str) -> Link {
    Link::new(Peer { host: host.to_owned(), port: PORT }, LinkLimits::default())
}

pub(crate) async fn pause(most_ms: u64) {
    sleep(Duration::from_millis(fastrand::u64(1..most_ms))).await;
}

fn some_balancer() -> usize {
    fastrand::usize(..BALANCERS)
}

/// Sends requests through links, on a session or apart from it.
pub(crate) async fn through_links(world: &World) {
    let links: Vec<Link> = (0..BALANCERS).map(|index| link(&balancer(index))).collect();
    while now() < CLIENTS_END {
        let through = some_balancer();
        let asked = Asked::some(world, through);
        let key = KeyBuf::parse(&asked.path).expect("a key");
        let (request, deadline) = (Request::Get(key.as_key()), Instant::now() + PATIENCE);
        let told = match fastrand::bool() {
            true => links[through].ask(request, deadline).await,
            false => links[through].ask_apart(request, deadline).await,
        };
        asked.told(world, told.as_ref().map(|line| &line[..]).map_err(ToString::to_string));
        pause(80).await;
    }
}

/// Asks for documents that no node can serve, on a session: that must harm nobody else. Some requests have a short deadline,
/// as those of a client that hangs up. Not where links have two places, which these requests alone would hold.
pub(crate) async fn in_trouble(world: &World) {
    let links: Vec<Link> = (0..BALANCERS).map(|index| link(&balancer(index))).collect();
    let ask = async || {
        let through = some_balancer();
        let asked = Asked::of(world, through, some_trouble());
        let key = KeyBuf::parse(&asked.path).expect("a key");
        let patience = if fastrand::bool() { PATIENCE } else { Duration::from_millis(200) };
        let told = links[through].ask(Request::Get(key.as_key()), Instant::now() + patience).await;
        asked.told(world, told.as_ref().map(|line| &line[..]).map_err(ToString::to_string));
    };
    while now() < FAULTS_END && world.plan.max_in_flight > 2 {
        tokio::join!(ask(), ask(), ask(), ask());
        pause(100).await;
    }
}

/// Sends plain requests over sockets.
pub(crate) async fn plainly(world: &World) {
    while now() < CLIENTS_END {
        let through = some_balancer();
        let asked = Asked::some(world, through);
        let told = timeout(PATIENCE, plain(&balancer(through), &asked.path)).await;
        let told = told.unwrap_or_else(|_| Err("nothing in time".to_owned()));
        asked.told(world, told.as_ref().map(|line| &line[..]).map_err(Clone::clone));
        pause(120).await;
    }
}

/// One request; the reply must be one line and the end of the stream.
pub(crate) async fn plain(host: &str, path: &str) -> Result<Vec<u8>, String> {
    let exchange = async {
        let mut stream = dial(host).await?;
        stream.write_all(format!("GET {path}\n").as_bytes()).await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        std::io::Result::Ok(all)
    };
    let mut all = exchange.await.map_err(|error| error.to_string())?;
    match all.iter().position(|byte| *byte == b'\n') {
        Some(end) => assert_eq!(end + 1, all.len(), "one reply: {:?}", String::from_utf8_lossy(&all)),
        None => return Err(format!("{} bytes that are no line", all.len())),
    }
    all.pop();
    Ok(all)
}

/// Sends requests in sessions over sockets, some at a time. Now and then it closes early.
pub(crate) async fn in_sessions(world: &World, name: &str) {
    let mut next = 0;
    while now() < CLIENTS_END {
        let mut session = Session { world, name, through: some_balancer(), open: BTreeMap::new() };
        let ended = session.run(&mut next).await;
        for asked in session.open.values() {
            asked.told(world, Err(format!("{ended:?}")));
        }
        pause(400).await;
    }
}

struct Session<'a> {
    world: &'a World,
    name: &'a str,
    through: usize,
    open: BTreeMap<u64, Asked>,
}

impl Session<'_> {
    /// Some bursts of requests; those open at the end have no reply.
    async fn run(&mut self, next: &mut u64) -> std::io::Result<()> {
        let mut stream = BufReader::new(dial(&balancer(self.through)).await?);
        stream.write_all(b"HELLO 2\n").await?;
        let hello = line(&mut stream).await?;
        assert!(hello.starts_with(br#"{"status":"OK""#), "{:?}", String::from_utf8_lossy(&hello));
        for _ in 0..fastrand::usize(1..12) {
            let mut burst = String::new();
            for _ in 0..fastrand::usize(1..6) {
                *next += 1;
                burst.push_str(&self.ask(*next));
            }
            stream.write_all(burst.as_bytes()).await?;
            if fastrand::u8(..30) == 0 {
                pause(10).await;
                // No reply to these will be read.
                self.open.clear();
                return Ok(());
            }
            while !self.open.is_empty() {
                self.hear(&line(&mut stream).await?);
            }
            pause(150).await;
        }
        stream.shutdown().await?;
        let mut more = Vec::new();
        stream.read_to_end(&mut more).await?;
        assert!(more.is_empty(), "all was answered: {:?}", String::from_utf8_lossy(&more));
        Ok(())
    }

    /// The line of one more request.
    fn ask(&mut self, id: u64) -> String {
        let mut asked = Asked::some(self.world, self.through);
        let mut line = format!("{id} GET {} trace={}-{id}", asked.path, self.name);
        if fastrand::u8(..10) == 0 {
            asked = asked.hastily();
            line.push_str(&format!(" deadline={}", fastrand::u64(1..200)));
        }
        self.open.insert(id, asked);
        line + "\n"
    }

    fn hear(&mut self, line: &[u8]) {
        let shown = String::from_utf8_lossy(line);
        let (id, reply) = shown.split_once(' ').expect("an id");
        let id: u64 = id.parse().expect("an id");
        let asked = self.open.remove(&id).unwrap_or_else(|| panic!("{id} was not asked, or twice: {shown}"));
        asked.told(self.world, Ok(reply.as_bytes()));
    }
}

/// A whole line, without its end.
async fn line(stream: &mut BufReader<Stream>) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    timeout(PATIENCE, stream.read_until(b'\n', &mut line)).await??;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Connects as an older client does: one attempt, within [`CONNECT`].
async fn dial(host: &str) -> io::Result<Stream> {
    let stream = timeout(CONNECT, Stream::connect((host, PORT))).await;
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
