//! The hosts: one origin, some proxies, two balancers, each the very role that the program runs.

use std::sync::Arc;
use std::time::Duration;

use dproxy::admin::Admins;
use dproxy::handler::Handler;
use dproxy::lb::balance::Strategy;
use dproxy::lb::{Lb, LbConfig, Members};
use dproxy::net::link::Peer;
use dproxy::net::{LinkLimits, Server, ServerLimits, transport};
use dproxy::origin::Origin;
use dproxy::proxy::cache::{Bounds, CacheType};
use dproxy::proxy::{Freshness, Proxy, ProxyConfig};
use tokio_util::sync::CancellationToken;

use crate::world::{Documents, World};

pub(crate) const BALANCERS: usize = 2;
pub(crate) const PORT: u16 = 9000;
/// How long a proxy keeps a document.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// A fetch ends within this.
pub(crate) const FETCH: Duration = Duration::from_secs(2);

/// What a seed made of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) proxies: usize,
    pub(crate) strategy: Strategy,
    pub(crate) cache: CacheType,
    pub(crate) stale_if_error: bool,
    pub(crate) hedge: bool,
}

impl Plan {
    pub(crate) fn random() -> Self {
        let strategies = [Strategy::RoundRobin, Strategy::LeastLoaded, Strategy::Hash, Strategy::TwoChoices];
        let caches = [CacheType::Ttl, CacheType::Lru, CacheType::S3fifo];
        Self {
            proxies: fastrand::usize(3..=5),
            strategy: strategies[fastrand::usize(..strategies.len())],
            cache: caches[fastrand::usize(..caches.len())],
            stale_if_error: fastrand::bool(),
            hedge: fastrand::bool(),
        }
    }
}

pub(crate) fn proxy(index: usize) -> String {
    format!("proxy{index}")
}

pub(crate) fn balancer(index: usize) -> String {
    format!("lb{index}")
}

fn peer(host: &str) -> Peer {
    Peer { host: host.to_owned(), port: PORT }
}

fn admins() -> Admins {
    Admins::new(vec!["0.0.0.0/0".parse().expect("a network")])
}

async fn serve<H: Handler>(handler: Arc<H>) -> turmoil::Result {
    let listener = transport::listen(PORT).await?;
    Server::new(handler, ServerLimits::default(), CancellationToken::new()).serve(listener).await;
    Ok(())
}

/// Puts all hosts on the network.
pub(crate) fn hosts(sim: &mut turmoil::Sim<'_>, plan: &Plan, world: &Arc<World>) {
    let origin_world = world.clone();
    sim.host("origin", move || {
        let store = Documents(origin_world.clone());
        async move { serve(Origin::new(store, Duration::from_millis(1500))).await }
    });
    for index in 0..plan.proxies {
        let plan = plan.clone();
        sim.host(proxy(index), move || run_proxy(plan.clone(), index));
    }
    for index in 0..BALANCERS {
        let plan = plan.clone();
        sim.host(balancer(index), move || run_balancer(plan.clone()));
    }
}

async fn run_proxy(plan: Plan, index: usize) -> turmoil::Result {
    let stale_if_error = if plan.stale_if_error { Duration::from_secs(3600) } else { Duration::ZERO };
    let proxy = Proxy::new(ProxyConfig {
        node: index as u16,
        origin: peer("origin"),
        link: LinkLimits::default(),
        cache_type: plan.cache,
        bounds: Bounds { entries: 1000, bytes: 16 << 20 },
        freshness: Freshness {
            ttl: Some(TTL),
            ttl_jitter: 0.1,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error,
            negative_ttl: Duration::ZERO,
        },
        max_document: 65_536,
        fetch_deadline: FETCH,
        max_fetches: 64,
        max_waiters: 1000,
        origin_retry: Duration::from_millis(200),
        admins: admins(),
    });
    tokio::spawn(proxy.clone().sweep());
    serve(proxy).await
}

async fn run_balancer(plan: Plan) -> turmoil::Result {
    let lb = Lb::new(LbConfig {
        members: Members {
            proxies: (0..plan.proxies).map(|index| peer(&proxy(index))).collect(),
            file: None,
            resolve_interval: Duration::from_secs(5),
        },
        link: LinkLimits::default(),
        strategy: plan.strategy,
        health_interval: Duration::from_secs(1),
        max_failures: 3,
        rises: 2,
        backoff: Duration::from_secs(1),
        // The promise that is checked is about nodes that a balancer knows to be well: it shall look soon.
        max_backoff: Duration::from_secs(2),
        try_deadline: Duration::from_millis(2500),
        hedge: plan.hedge,
        panic_threshold: 0,
        slow_start: Duration::from_secs(5),
        max_in_flight: 4096,
        admins: admins(),
    })?;
    tokio::spawn(lb.clone().probe());
    tokio::spawn(lb.clone().follow());
    serve(lb).await
}
