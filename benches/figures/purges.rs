//! Many purges at once: the hits of other documents meanwhile, the replies, and when the memory is free.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dproxy::net::Link;
use dproxy::wire::{Key, Pattern, ReplyView, Request, Status};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::ask::bench;
use super::load::{Load, PATIENCE, link};
use super::made::Made;
use super::node::proxy;

const PURGES: u64 = 256;
/// Documents beneath each prefix that is purged.
const EACH: u64 = 4_000;
/// Hits that are due each second.
const DUE: u64 = 20_000;

/// The replies to all purges.
#[derive(Default)]
struct Told {
    longest: Duration,
    purged: u64,
    /// Replies that count what was known by then.
    at_least: usize,
}

/// Runs on a thread of its own: the load of hits is not late because of it.
async fn aside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::spawn_blocking(move || runtime().block_on(work)).await.expect("its result")
}

/// Sends [`PURGES`] requests at once on one session, and returns the replies as they come, with the time since then.
async fn at_once(session: Arc<Link>, request: fn(&str) -> Request<'_>, key: fn(u64) -> String) -> Told {
    // The session is open before the first of them.
    session.ask(Request::Metrics, Instant::now() + PATIENCE).await.expect("a reply");
    let (began, mut asked) = (Instant::now(), JoinSet::new());
    for section in 0..PURGES {
        let session = session.clone();
        asked.spawn(async move {
            let reply = session.ask(request(&key(section)), began + PATIENCE).await.expect("a reply");
            let view = ReplyView::parse(&reply).expect("a sound reply");
            assert_eq!(view.status, Status::Ok, "{}", view.data);
            let data: Value = serde_json::from_str(view.data).expect("an object");
            (began.elapsed(), data["purged"].as_u64().unwrap_or_default(), data["at_least"] == true)
        });
    }
    let mut told = Told::default();
    while let Some(one) = asked.join_next().await {
        let (took, purged, at_least) = one.expect("a reply");
        told.longest = told.longest.max(took);
        told.purged += purged;
        told.at_least += usize::from(at_least);
    }
    told
}

fn purge(pattern: &str) -> Request<'_> {
    Request::Purge { pattern: Pattern::parse(pattern).expect("a pattern"), soft: false }
}

fn get(key: &str) -> Request<'_> {
    Request::Get(Key::parse(key).expect("a key"))
}

/// What METRICS counts.
async fn count(address: SocketAddr, field: &str) -> u64 {
    let reply = link(address).ask(Request::Metrics, Instant::now() + PATIENCE).await.expect("a reply");
    let view = ReplyView::parse(&reply).expect("a sound reply");
    let data: Value = serde_json::from_str(view.data).expect("an object");
    data[field].as_u64().unwrap_or_default()
}

/// All purges, until the memory is free; then how long that took and how many entries were purged.
async fn purge_all(address: SocketAddr) -> (Told, Duration, u64) {
    let began = Instant::now();
    let told = at_once(link(address).into(), purge, |section| format!("section{section}/*")).await;
    while count(address, "purges_waiting").await > 0 {
        assert!(began.elapsed() < PATIENCE, "the walk ends");
        sleep(Duration::from_millis(20)).await;
    }
    (told, began.elapsed(), count(address, "purged").await)
}

/// A proxy of each cache type with a million documents in 256 sections, all of which are purged at the same moment: after a
/// quiet second, and one with as many hits at once in place of the purges.
pub(crate) async fn storm() {
    let origin = Made::of(200).start();
    println!("\n{PURGES} purges at once of {EACH} documents each, {DUE} hits/s of others");
    for cache_type in ["ttl", "lru", "s3fifo"] {
        let words = format!("--cache-type {cache_type} --ttl 1h --capacity 1100000 --max-bytes 2GiB");
        let node = proxy(origin.address, 0, &words);
        for section in 0..PURGES {
            let keys = format!("--key-range section{section}/1..{EACH} --requests {EACH}");
            bench(node.address, &format!("--connections 16 --in-flight 16 {keys}")).await;
        }
        bench(node.address, "--connections 1 --in-flight 16 --key-range article/1..1000 --requests 1000")
            .await;
        let (address, load) = (node.address, Load::start(node.address, DUE));
        // Each of the three in the middle of a second.
        let second =
            async |second: u64| sleep_until(load.began + Duration::from_millis(1_000 * second + 250)).await;
        second(3).await;
        aside(at_once(link(address).into(), get, |nth| format!("article/{}", nth + 1))).await;
        second(4).await;
        let (told, freed, purged) = aside(purge_all(address)).await;
        let seen = load.end().await;
        let p99 = |second: usize| seen.seconds[second].value_at_quantile(0.99) as f64 / 1e3;
        println!(
            "{cache_type:8} p99 of hits {:.2} ms, with {PURGES} hits at once {:.2} ms, in the second of the purges {:.2} ms, {} \
             errors; longest reply {:?}, {} of them at least; {} told, {purged} purged; memory free after {freed:?}",
            p99(2),
            p99(3),
            p99(4),
            seen.errors,
            told.longest,
            told.at_least,
            told.purged
        );
    }
}
