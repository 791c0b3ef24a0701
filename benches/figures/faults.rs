//! The cost of faults for clients: an origin, three proxies and a balancer under an open-loop load, a row per fault.

use std::net::SocketAddr;
use std::time::Duration;

use dproxy::wire::Request;
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep};

use super::load::{DOCUMENTS, Load, PATIENCE, Seen, link};
use super::node::{Documents, Node, balancer, origin, proxy};
use super::relay::{Mode, Relay};

/// Requests due per second.
const RATE: u64 = 20_000;
/// The time under load before a fault.
const BEFORE: Duration = Duration::from_secs(5);
/// Flags of the proxies: no document expires during a run.
const PROXY: &str = "--ttl 10m";

struct Cluster {
    data: Documents,
    origin: Node,
    proxies: Vec<Node>,
    /// The proxies' addresses for the balancer.
    listed: Vec<SocketAddr>,
    /// The relay in front of the second proxy, if any.
    relay: Option<Relay>,
    lb: Node,
}

/// The proxy with the fault.
const FAULTY: usize = 1;

impl Cluster {
    fn start(lb_words: &str, relayed: bool) -> Self {
        let data = Documents::write(DOCUMENTS);
        let origin = origin(data.path(), 0);
        let proxies: Vec<Node> = (0..3).map(|_| proxy(origin.address, 0, PROXY)).collect();
        let mut listed: Vec<SocketAddr> = proxies.iter().map(|proxy| proxy.address).collect();
        let relay = relayed.then(|| Relay::start(listed[FAULTY]));
        if let Some(relay) = &relay {
            listed[FAULTY] = relay.address;
        }
        let lb = balancer(&listed, lb_words);
        Self { data, origin, proxies, listed, relay, lb }
    }

    fn restart_proxy(&mut self, index: usize) {
        let port = self.proxies[index].address.port();
        self.proxies[index].kill();
        self.proxies[index] = proxy(self.origin.address, port, PROXY);
    }

    fn set(&self, mode: Mode) {
        self.relay.as_ref().expect("a relay").set(mode);
    }
}

/// The time until the balancer reports this state of a proxy.
async fn until_healthy(cluster: &Cluster, index: usize, healthy: bool) -> Duration {
    let (began, link) = (Instant::now(), link(cluster.lb.address));
    let name = cluster.listed[index].to_string();
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

/// A row of the table.
fn tell(name: &str, seen: &Seen, fault_at: Duration, note: &str) {
    let fault = fault_at.as_secs() as usize;
    let quantile = |of: &Histogram<u64>| of.value_at_quantile(0.999) as f64 / 1_000.0;
    // The first second has the connects.
    let before = seen.seconds[1..fault].iter().map(quantile).fold(0.0, f64::max);
    let during = seen.seconds[fault..].iter().map(quantile).fold(0.0, f64::max);
    let longest = seen.seconds.iter().map(Histogram::max).max().unwrap_or(0) as f64 / 1_000.0;
    let error = seen.first_error.as_deref().unwrap_or_default();
    println!(
        "{name:34} {:>8} {:>7} {:>6} {before:>10.1} {during:>10.1} {longest:>9.1}  {note} {error}",
        seen.answered, seen.errors, seen.slow
    );
}

/// Puts a cluster under load, warms its caches, and runs a fault.
async fn under_load(name: &str, mut cluster: Cluster, happen: impl AsyncFnOnce(&mut Cluster) -> String) {
    let warm = Load::start(cluster.lb.address, 2_000);
    sleep(Duration::from_secs(3)).await;
    warm.end().await;
    let load = Load::start(cluster.lb.address, RATE);
    sleep(BEFORE).await;
    let fault_at = load.began.elapsed();
    let note = happen(&mut cluster).await;
    let seen = load.end().await;
    tell(name, &seen, fault_at, &note);
}

async fn fault(name: &str, happen: impl AsyncFnOnce(&mut Cluster) -> String) {
    under_load(name, Cluster::start("", false), happen).await;
}

/// Corrupts the replies of one proxy for ten seconds.
async fn spoil(name: &str, lb_words: &str, mode: Mode) {
    under_load(name, Cluster::start(lb_words, true), async |cluster| {
        cluster.set(mode);
        let out = match mode {
            Mode::Slow(_) => None,
            _ => Some(until_healthy(cluster, FAULTY, false).await),
        };
        sleep(Duration::from_secs(10)).await;
        cluster.set(Mode::Sound);
        sleep(Duration::from_secs(2)).await;
        out.map_or(String::new(), |out| format!("out after {} ms", ms(out)))
    })
    .await;
}

async fn away_and_back(cluster: &mut Cluster, index: usize, out: Duration) -> String {
    cluster.restart_proxy(index);
    let back = until_healthy(cluster, index, true).await;
    sleep(Duration::from_secs(2)).await;
    format!("out after {} ms, back {} ms after it runs", ms(out), ms(back))
}

fn head() {
    println!(
        "{RATE} requests/s due, 8 sessions, {DOCUMENTS} documents of 1 kB, all cached; ms; slow: over 100 ms"
    );
    println!(
        "{:34} {:>8} {:>7} {:>6} {:>10} {:>10} {:>9}",
        "", "answered", "errors", "slow", "p99.9 bef.", "p99.9 then", "longest"
    );
}

/// A node fails as a whole.
pub(crate) async fn nodes() {
    head();
    fault("nothing", async |_| {
        sleep(Duration::from_secs(5)).await;
        String::new()
    })
    .await;
    fault("kill -9 of one of three", async |cluster| {
        cluster.proxies[FAULTY].kill();
        let out = until_healthy(cluster, FAULTY, false).await;
        sleep(Duration::from_secs(2)).await;
        away_and_back(cluster, FAULTY, out).await
    })
    .await;
    fault("kill -9 of two of three", async |cluster| {
        cluster.proxies[0].kill();
        cluster.proxies[FAULTY].kill();
        let out = until_healthy(cluster, FAULTY, false).await;
        sleep(Duration::from_secs(3)).await;
        format!("out after {} ms", ms(out))
    })
    .await;
    fault("all restarted in turn", async |cluster| {
        for index in 0..3 {
            cluster.restart_proxy(index);
            until_healthy(cluster, index, true).await;
            sleep(Duration::from_millis(500)).await;
        }
        String::new()
    })
    .await;
    fault("SIGSTOP of one for 20 s", async |cluster| {
        cluster.proxies[FAULTY].signal("STOP");
        let out = until_healthy(cluster, FAULTY, false).await;
        sleep(Duration::from_secs(20)).await;
        cluster.proxies[FAULTY].signal("CONT");
        let back = until_healthy(cluster, FAULTY, true).await;
        sleep(Duration::from_secs(1)).await;
        format!("out after {} ms, back {} ms after SIGCONT", ms(out), ms(back))
    })
    .await;
    fault("one flaps every second, 10 s", async |cluster| {
        for _ in 0..10 {
            cluster.restart_proxy(FAULTY);
            sleep(Duration::from_secs(1)).await;
        }
        String::new()
    })
    .await;
    fault("the origin is away for 30 s", async |cluster| {
        let port = cluster.origin.address.port();
        cluster.origin.kill();
        sleep(Duration::from_secs(30)).await;
        cluster.origin = origin(cluster.data.path(), port);
        sleep(Duration::from_secs(2)).await;
        String::new()
    })
    .await;
}

/// A proxy runs, but its replies are late, corrupted or cut.
pub(crate) async fn replies() {
    head();
    let slow = Mode::Slow(Duration::from_millis(100));
    spoil("one is 100 ms slower, round_robin", "", slow).await;
    spoil("one is 100 ms slower, p2c", "--strategy p2c", slow).await;
    spoil("one sends garbage", "", Mode::Garbage).await;
    spoil("one resets within replies", "", Mode::Reset).await;
}
