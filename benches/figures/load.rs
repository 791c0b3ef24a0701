//! An open-loop load: requests are due at a steady rate whether or not earlier ones are answered, and latencies count
//! from their due times.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dproxy::net::link::Peer;
use dproxy::net::{Link, LinkLimits};
use dproxy::wire::{KeyBuf, ReplyView, Request, Status, Tell};
use hdrhistogram::Histogram;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// The number of documents.
pub(crate) const DOCUMENTS: usize = 1_000;
/// The deadline of a request.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// A longer reply counts as slow.
const SLOW: Duration = Duration::from_millis(100);
/// The largest value of a histogram, in microseconds.
const LONGEST_US: u64 = 60_000_000;
/// The sessions of the load.
const SESSIONS: usize = 8;

/// The clients' view: a histogram of microseconds per second of due times.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) seconds: Vec<Histogram<u64>>,
    pub(crate) answered: u64,
    pub(crate) errors: u64,
    pub(crate) slow: u64,
    pub(crate) first_error: Option<String>,
}

/// A running load.
pub(crate) struct Load {
    pub(crate) began: Instant,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

/// A link to a node, with limits above the load.
pub(crate) fn link(address: SocketAddr) -> Link {
    let peer = Peer { host: address.ip().to_string(), port: address.port() };
    Link::new(peer, LinkLimits { max_waiting: 1 << 20, ..LinkLimits::default() })
}

impl Load {
    pub(crate) fn start(to: SocketAddr, rate: u64) -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let links: Vec<Arc<Link>> = (0..SESSIONS).map(|_| Arc::new(link(to))).collect();
        let began = Instant::now();
        let task = tokio::spawn(drive(links, rate, began, stop.clone(), seen.clone()));
        Self { began, stop, seen, task }
    }

    pub(crate) async fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load");
        // Open requests have this time; later ones do not count and end with the runtime.
        sleep(Duration::from_secs(2)).await;
        std::mem::take(&mut *self.seen.lock().expect("the tally"))
    }
}

async fn drive(
    links: Vec<Arc<Link>>,
    rate: u64,
    began: Instant,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
) {
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = 0u64;
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let due = (began.elapsed().as_micros() as u64 * rate) / 1_000_000;
        while sent < due {
            let at = began + Duration::from_micros(sent * 1_000_000 / rate);
            let link = links[sent as usize % links.len()].clone();
            let path = format!("article/{}", (sent as usize * 7) % DOCUMENTS + 1);
            tokio::spawn(ask(link, path, at, began, seen.clone()));
            sent += 1;
        }
    }
}

async fn ask(link: Arc<Link>, path: String, due: Instant, began: Instant, seen: Arc<Mutex<Seen>>) {
    let key = KeyBuf::parse(&path).expect("a key");
    let line =
        link.ask_once(Request::Get(key.as_key()), Tell::default(), due + PATIENCE, Instant::now()).await;
    let took = due.elapsed();
    let told = match &line {
        Ok(line) => ReplyView::parse(line).map(|view| view.status).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let mut seen = seen.lock().expect("the tally");
    let second = due.duration_since(began).as_secs() as usize;
    while seen.seconds.len() <= second {
        seen.seconds.push(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("a histogram"));
    }
    seen.seconds[second].saturating_record(took.as_micros() as u64);
    seen.answered += 1;
    seen.slow += u64::from(took > SLOW);
    if told != Ok(Status::Ok) {
        seen.errors += 1;
        seen.first_error.get_or_insert(format!("{told:?}"));
    }
}
