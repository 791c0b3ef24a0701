//! What a fault costs the clients, measured: `cargo bench --bench faults [-- RATE]`, a line per fault.
//!
//! An origin, three proxies and a balancer, each a process of its own, under an open-loop load: requests are due at a
//! steady rate whatever becomes of those before them, and latencies count from when they were due. A machine that does
//! something else meanwhile measures that as well.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dproxy::net::link::Peer;
use dproxy::net::{Link, LinkLimits};
use dproxy::wire::{KeyBuf, ReplyView, Request, Status};
use hdrhistogram::Histogram;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const DOCUMENTS: usize = 1_000;
/// An answer that took longer is a slow one.
const SLOW: Duration = Duration::from_millis(100);
/// Who asks waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// In microseconds: what a histogram can tell.
const LONGEST_US: u64 = 60_000_000;
/// The sessions of the load.
const SESSIONS: usize = 8;
/// The load is quiet before a fault for so long.
const BEFORE: Duration = Duration::from_secs(5);

/// A process that ends with its value.
struct Node {
    child: Child,
    address: SocketAddr,
}

impl Node {
    fn start(words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dproxy"))
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dproxy starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let address = line.trim().rsplit(' ').next().and_then(|word| word.parse().ok());
        Self { child, address: address.expect("a line that tells where it listens") }
    }

    fn kill(&mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it has ended");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs").success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have been killed already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Cluster {
    data: tempdir::Dir,
    origin: Node,
    proxies: Vec<Node>,
    lb: Node,
}

/// A directory of documents that is removed with its value.
mod tempdir {
    use std::path::{Path, PathBuf};

    pub(crate) struct Dir(PathBuf);

    impl Dir {
        pub(crate) fn of_documents(count: usize) -> Self {
            let path = std::env::temp_dir().join(format!("dproxy-faults-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory");
            for id in 1..=count {
                let body = "text ".repeat(190);
                let document = format!("{{\"id\":{id},\"body\":\"{body}\"}}");
                std::fs::write(path.join(format!("article{id}.json")), document).expect("a file");
            }
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            // What is left over is in the directory for such things.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn origin(data: &Path, port: u16) -> Node {
    Node::start(&["origin", "--port", &port.to_string(), "--data", &data.to_string_lossy()])
}

fn proxy(origin: &Node, port: u16, words: &[&str]) -> Node {
    let (port, origin) = (port.to_string(), origin.address.port().to_string());
    Node::start(&[&["proxy", "--port", &port, "--origin-port", &origin], words].concat())
}

impl Cluster {
    fn start(proxy_words: &[&str], lb_words: &[&str]) -> Self {
        let data = tempdir::Dir::of_documents(DOCUMENTS);
        let origin = origin(data.path(), 0);
        let proxies: Vec<Node> = (0..3).map(|_| proxy(&origin, 0, proxy_words)).collect();
        let addresses: Vec<String> = proxies.iter().map(|proxy| proxy.address.to_string()).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let lb = Node::start(&[&["lb", "--port", "0"], lb_words, &["--proxies"], &addresses].concat());
        Self { data, origin, proxies, lb }
    }

    fn restart_proxy(&mut self, index: usize) {
        let port = self.proxies[index].address.port();
        self.proxies[index].kill();
        self.proxies[index] = proxy(&self.origin, port, &["--ttl", "10m"]);
    }
}

/// What the clients saw, a histogram of microseconds for each second in which requests were due.
#[derive(Default)]
struct Seen {
    seconds: Vec<Histogram<u64>>,
    answered: u64,
    errors: u64,
    slow: u64,
    first_error: Option<String>,
}

struct Load {
    began: Instant,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

fn link(address: SocketAddr) -> Link {
    let peer = Peer { host: address.ip().to_string(), port: address.port() };
    Link::new(peer, LinkLimits { max_waiting: 1 << 20, ..LinkLimits::default() })
}

impl Load {
    fn start(to: SocketAddr, rate: u64) -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let links: Vec<Arc<Link>> = (0..SESSIONS).map(|_| Arc::new(link(to))).collect();
        let began = Instant::now();
        let task = tokio::spawn(drive(links, rate, began, stop.clone(), seen.clone()));
        Self { began, stop, seen, task }
    }

    async fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load");
        // Whatever is still open has this time, and then counts as nothing: it ends with the runtime.
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
    let key = KeyBuf::parse(path.as_bytes()).expect("a key");
    let line = link.ask_once(Request::Get(key.as_key()), false, due + PATIENCE, Instant::now()).await;
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

/// How long until the balancer says so of a proxy, from now.
async fn until_healthy(cluster: &Cluster, index: usize, healthy: bool) -> Duration {
    let (began, link) = (Instant::now(), link(cluster.lb.address));
    let name = cluster.proxies[index].address.to_string();
    while began.elapsed() < Duration::from_secs(60) {
        let line = link.ask_apart(Request::Metrics, Instant::now() + PATIENCE).await;
        let told = line.ok().and_then(|line| serde_json::from_slice::<serde_json::Value>(&line).ok());
        if told.is_some_and(|told| told["data"]["proxies"][&name]["healthy"] == healthy) {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// A line of the table.
fn tell(name: &str, seen: &Seen, fault_at: Duration, note: &str) {
    let fault = fault_at.as_secs() as usize;
    let quantile = |of: &Histogram<u64>| of.value_at_quantile(0.999) as f64 / 1_000.0;
    // The first second holds the connecting.
    let before = seen.seconds[1..fault].iter().map(quantile).fold(0.0, f64::max);
    let during = seen.seconds[fault..].iter().map(quantile).fold(0.0, f64::max);
    let longest = seen.seconds.iter().map(Histogram::max).max().unwrap_or(0) as f64 / 1_000.0;
    let error = seen.first_error.as_deref().unwrap_or_default();
    println!(
        "{name:34} {:>8} {:>7} {:>6} {before:>10.1} {during:>10.1} {longest:>9.1}  {note} {error}",
        seen.answered, seen.errors, seen.slow
    );
}

/// Starts a cluster under load, warms its caches, and lets a fault happen.
async fn fault(name: &str, rate: u64, lb_words: &[&str], happen: impl AsyncFnOnce(&mut Cluster) -> String) {
    let mut cluster = Cluster::start(&["--ttl", "10m"], lb_words);
    let warm = Load::start(cluster.lb.address, 2_000);
    sleep(Duration::from_secs(3)).await;
    warm.end().await;
    let load = Load::start(cluster.lb.address, rate);
    sleep(BEFORE).await;
    let fault_at = load.began.elapsed();
    let note = happen(&mut cluster).await;
    let seen = load.end().await;
    tell(name, &seen, fault_at, &note);
}

async fn away_and_back(cluster: &mut Cluster, index: usize, out: Duration) -> String {
    cluster.restart_proxy(index);
    let back = until_healthy(cluster, index, true).await;
    sleep(Duration::from_secs(2)).await;
    format!("out after {} ms, back {} ms after it runs", ms(out), ms(back))
}

async fn all(rate: u64) {
    println!(
        "{rate} requests/s due, 8 sessions, {DOCUMENTS} documents of 1 kB, all cached; ms; slow: over 100 ms"
    );
    println!(
        "{:34} {:>8} {:>7} {:>6} {:>10} {:>10} {:>9}",
        "", "answered", "errors", "slow", "p99.9 bef.", "p99.9 then", "longest"
    );
    fault("nothing", rate, &[], async |_| {
        sleep(Duration::from_secs(5)).await;
        String::new()
    })
    .await;
    fault("kill -9 of one of three", rate, &[], async |cluster| {
        cluster.proxies[1].kill();
        let out = until_healthy(cluster, 1, false).await;
        sleep(Duration::from_secs(2)).await;
        away_and_back(cluster, 1, out).await
    })
    .await;
    fault("kill -9 of two of three", rate, &[], async |cluster| {
        cluster.proxies[0].kill();
        cluster.proxies[1].kill();
        let out = until_healthy(cluster, 1, false).await;
        sleep(Duration::from_secs(3)).await;
        format!("out after {} ms", ms(out))
    })
    .await;
    fault("all restarted in turn", rate, &[], async |cluster| {
        for index in 0..3 {
            cluster.restart_proxy(index);
            until_healthy(cluster, index, true).await;
            sleep(Duration::from_millis(500)).await;
        }
        String::new()
    })
    .await;
    fault("SIGSTOP of one for 20 s", rate, &[], async |cluster| {
        cluster.proxies[1].signal("STOP");
        let out = until_healthy(cluster, 1, false).await;
        sleep(Duration::from_secs(20)).await;
        cluster.proxies[1].signal("CONT");
        let back = until_healthy(cluster, 1, true).await;
        sleep(Duration::from_secs(1)).await;
        format!("out after {} ms, back {} ms after SIGCONT", ms(out), ms(back))
    })
    .await;
    fault("one flaps every second, 10 s", rate, &[], async |cluster| {
        for _ in 0..10 {
            cluster.restart_proxy(1);
            sleep(Duration::from_secs(1)).await;
        }
        String::new()
    })
    .await;
    fault("the origin is away for 30 s", rate, &[], async |cluster| {
        let port = cluster.origin.address.port();
        cluster.origin.kill();
        sleep(Duration::from_secs(30)).await;
        cluster.origin = origin(cluster.data.path(), port);
        sleep(Duration::from_secs(2)).await;
        String::new()
    })
    .await;
}

fn main() {
    // cargo bench hands flags of its own to every benchmark.
    let rate = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(all(rate));
}
