//! Overload: the share of the peak that is still answered, and the latency of `OVERLOADED`.
//!
//! The peak is the best closed loop of several depths on the same nodes.
//!
//! When processors are the limit, the nodes have one and the load has the other, so that the load takes no time from the
//! nodes. Overload is sessions with full windows all the time, the state of any load beyond the peak.
//!
//! When the origin is the limit, three times the peak is due in an open loop.

use std::net::SocketAddr;
use std::time::Duration;

use super::ask::{Found, bench, bench_on};
use super::made::Made;
use super::node::{Node, balancer, proxy};

/// Times the peak.
const OVER: f64 = 3.0;
/// Concurrent requests of the origin when it is the limit, and its delay.
const AT_ONCE: usize = 16;
const WORK: Duration = Duration::from_millis(8);

/// OK replies per second.
fn good(found: &Found) -> f64 {
    found.rps() * found.status("OK") / found.requests()
}

/// A row of the table.
fn tell(name: &str, peak: f64, over: &Found) {
    println!(
        "{name:60} {peak:>9.0} {:>9.0} {:>6.0} % {:>9.0} {:>8.0} {:>8.1} {:>8.1}",
        good(over),
        100.0 * good(over) / peak,
        over.status("OVERLOADED"),
        over.other_than(&["OK", "OVERLOADED"]),
        over.ms("p50"),
        over.ms("p99"),
    );
}

/// Warm caches, so that processors are the limit.
async fn hits(name: &str, to: SocketAddr) {
    for (connections, depths, most) in [(64, [4, 16, 64], 1024), (1_000, [1, 2, 4], 64)] {
        let words = format!(
            "--key-range article/1..1000 --zipf 1.0 --warmup 500ms --duration 2s --connections {connections}"
        );
        let mut peak = 0.0_f64;
        for depth in depths {
            peak = peak.max(good(&bench_on("1", to, &format!("{words} --in-flight {depth}")).await));
        }
        let over = bench_on("1", to, &format!("{words} --in-flight {most}")).await;
        tell(&format!("{name}; {connections} sessions, {most} in flight on each"), peak, &over);
    }
}

/// Cold keys, so that the origin is the limit.
async fn misses(name: &str, to: SocketAddr, from: &mut u64) {
    let mut keys = |count: u64| {
        *from += count;
        format!("--key-range cold/{}..{} --connections 64 --warmup 500ms", *from - count + 1, *from)
    };
    let mut peak = 0.0_f64;
    for depth in [1, 2] {
        let words = format!("{} --in-flight {depth} --duration 2s", keys(1_000_000));
        peak = peak.max(good(&bench(to, &words).await));
    }
    let load = format!("--in-flight 1024 --duration 6s --rate {}", OVER * peak);
    tell(name, peak, &bench(to, &format!("{} {load}", keys(1_000_000))).await);
}

fn proxies(of: SocketAddr, words: &str) -> [Node; 3] {
    [(); 3].map(|()| proxy(of, 0, words))
}

pub(crate) async fn all() {
    println!(
        "{:60} {:>9} {:>9} {:>8} {:>9} {:>8} {:>8} {:>8}",
        "", "peak OK/s", "OK/s then", "of peak", "OVERLOAD", "others", "p50 ms", "p99 ms"
    );
    let origin = Made::of(1000).start();
    let alone = proxy(origin.address, 0, "--threads 1 --ttl 10m").pin("0");
    hits("a proxy, all cached", alone.address).await;
    drop(alone);
    let three = proxies(origin.address, "--threads 1 --ttl 10m").map(|proxy| proxy.pin("0"));
    let lb = balancer(&three.each_ref().map(|proxy| proxy.address), "--threads 1").pin("0");
    hits("a balancer and three proxies, all cached", lb.address).await;
    drop((lb, three));
    let origin = Made { work: WORK, at_once: AT_ONCE, ..Made::of(1000) }.start();
    let alone = proxy(origin.address, 0, "");
    let mut from = 0;
    misses("a proxy, all cold; three times the peak is due", alone.address, &mut from).await;
    drop(alone);
    let three = proxies(origin.address, "");
    let lb = balancer(&three.each_ref().map(|proxy| proxy.address), "");
    misses("a balancer over three, all cold; three times the peak is due", lb.address, &mut from).await;
}
