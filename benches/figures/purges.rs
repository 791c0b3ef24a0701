//! Many purges at once: the hits of other documents meanwhile, the replies, and when the memory is free.

use std::net::SocketAddr;
use std::time::Duration;

use dproxy::wire::{Pattern, ReplyView, Request, Status};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

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

async fn purge_all(address: SocketAddr) -> Told {
    let mut asked = JoinSet::new();
    for section in 0..PURGES {
        asked.spawn(async move {
            let (began, link, pattern) = (Instant::now(), link(address), format!("section{section}/*"));
            let pattern = Pattern::parse(&pattern).expect("a pattern");
            let reply = link.ask(Request::Purge { pattern, soft: false }, began + PATIENCE).await;
            let reply = reply.expect("a reply");
            let view = ReplyView::parse(&reply).expect("a sound reply");
            assert_eq!(view.status, Status::Ok, "{}", view.data);
            let data: Value = serde_json::from_str(view.data).expect("an object");
            (began.elapsed(), data["purged"].as_u64().unwrap_or_default(), data["at_least"] == true)
        });
    }
    let mut told = Told::default();
    while let Some(one) = asked.join_next().await {
        let (took, purged, at_least) = one.expect("a purge");
        told.longest = told.longest.max(took);
        told.purged += purged;
        told.at_least += usize::from(at_least);
    }
    told
}

/// What METRICS counts.
async fn count(address: SocketAddr, field: &str) -> u64 {
    let reply = link(address).ask(Request::Metrics, Instant::now() + PATIENCE).await.expect("a reply");
    let view = ReplyView::parse(&reply).expect("a sound reply");
    let data: Value = serde_json::from_str(view.data).expect("an object");
    data[field].as_u64().unwrap_or_default()
}

/// A proxy of each cache type with a million documents in 256 sections, all of which are purged at the same moment.
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
        let load = Load::start(node.address, DUE);
        sleep(Duration::from_millis(2_500)).await;
        let (second, began) = (load.began.elapsed().as_secs() as usize, Instant::now());
        let told = purge_all(node.address).await;
        while count(node.address, "purges_waiting").await > 0 {
            assert!(began.elapsed() < PATIENCE, "the walk ends");
            sleep(Duration::from_millis(20)).await;
        }
        let (freed, purged) = (began.elapsed(), count(node.address, "purged").await);
        let seen = load.end().await;
        let p99 = |second: usize| seen.seconds[second].value_at_quantile(0.99) as f64 / 1e3;
        println!(
            "{cache_type:8} p99 of hits {:.2} ms, in the second of the purges {:.2} ms, {} errors; longest reply {:?}, {} of \
             them at least; {} told, {purged} purged; memory free after {freed:?}",
            p99(second - 1),
            p99(second),
            seen.errors,
            told.longest,
            told.at_least,
            told.purged
        );
    }
}
