//! The hosts: one origin, some proxies, two balancers, with the roles of the program.

use std::sync::Arc;
use std::time::Duration;

use dproxy::admin::Admins;
use dproxy::certificates::Certificates;
use dproxy::handler::Handler;
use dproxy::lb::balance::Strategy;
use dproxy::lb::{Lb, LbConfig, Members};
use dproxy::net::link::Peer;
use dproxy::net::{LinkLimits, Server, ServerLimits, transport};
use dproxy::origin::changes::Changes;
use dproxy::origin::{Origin, OriginConfig};
use dproxy::proxy::cache::{Bounds, CacheType};
use dproxy::proxy::{FetchLimits, Freshness, Proxy, ProxyConfig};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::ledger::Stopped;
use crate::watched::Watched;
use crate::world::{Documents, KEYS, LARGEST, World};

pub(crate) const BALANCERS: usize = 2;
pub(crate) const MOST_PROXIES: usize = 5;
pub(crate) const PORT: u16 = 9000;
/// A fetch ends within this time.
pub(crate) const FETCH: Duration = Duration::from_secs(2);
/// How long a proxy may take it, without another word of the origin, that it knows of every change.
pub(crate) const LEASE: Duration = Duration::from_millis(600);
/// An idle session is closed after this time.
const IDLE: Duration = Duration::from_secs(4);
/// A poll under way at a stop has ended after this time.
const LAST_POLLS: Duration = Duration::from_secs(3);

/// The cluster of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) proxies: usize,
    pub(crate) strategy: Strategy,
    pub(crate) cache: CacheType,
    /// The capacity of a proxy: sometimes less than all documents.
    pub(crate) entries: usize,
    pub(crate) ttl: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) negative_ttl: Duration,
    /// Whether some purges are soft.
    pub(crate) soft: bool,
    pub(crate) hedge: bool,
    /// Whether balancers keep over a restart what proxies owe.
    pub(crate) durable: bool,
    /// Requests in flight on one session between nodes: sometimes few, so that others wait.
    pub(crate) max_in_flight: usize,
    /// Whether the origin tells of changes.
    pub(crate) told: bool,
    /// If no host and no link fails: what nodes lack themselves now and then. No node and no origin is to be blamed.
    pub(crate) calm: Option<Lack>,
}

/// What nodes lack while all others are well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lack {
    /// Ports for connections of proxies to the origin.
    Upstream,
    /// Ports for connections of balancers to proxies.
    Downstream,
}

impl Plan {
    pub(crate) fn random() -> Self {
        let (strategies, caches) = (Strategy::ALL, CacheType::ALL);
        let some_seconds = || Duration::from_secs([0, 0, 2, 5][fastrand::usize(..4)]);
        Self {
            proxies: fastrand::usize(3..=MOST_PROXIES),
            strategy: strategies[fastrand::usize(..strategies.len())],
            cache: caches[fastrand::usize(..caches.len())],
            entries: [5, 1000][fastrand::usize(..2)],
            ttl: Duration::from_secs([3, 6][fastrand::usize(..2)]),
            stale_if_error: some_seconds(),
            stale_while_revalidate: some_seconds(),
            negative_ttl: Duration::from_secs(fastrand::u64(..2)),
            soft: fastrand::bool(),
            hedge: fastrand::bool(),
            durable: fastrand::bool(),
            max_in_flight: [2, 1024][fastrand::usize(..2)],
            told: false,
            calm: None,
        }
    }

    /// A cluster in which no host and no link fails.
    pub(crate) fn calm(lack: Lack) -> Self {
        Self { calm: Some(lack), max_in_flight: 1024, ..Self::random() }
    }

    /// A cluster whose origin tells of changes: times to live are too short to explain what is shown.
    pub(crate) fn told() -> Self {
        let stale_if_error = Duration::from_secs(5);
        Self {
            told: true,
            ttl: LEASE / 4,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error,
            ..Self::random()
        }
    }

    fn link(&self) -> LinkLimits {
        LinkLimits { max_in_flight: self.max_in_flight, ..LinkLimits::default() }
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

/// Serves a role, and runs `others` beside it, until all hosts are stopped; then no reference to the role may be left.
async fn serve<H: Handler>(
    world: &Arc<World>,
    host: &str,
    role: Arc<H>,
    enough: usize,
    others: &[AbortHandle],
) -> turmoil::Result {
    let listener = transport::listen(PORT).await?;
    let watched = Watched::new(role.clone(), host, world);
    let limits = ServerLimits { idle_deadline: IDLE, enough, ..ServerLimits::default() };
    let server = Server::new(watched, limits, world.stop.clone());
    world.ledger.opened(host, server.door());
    let drained = server.serve(listener).await;
    drop(server);
    others.iter().for_each(AbortHandle::abort);
    let end = Instant::now() + LAST_POLLS;
    while Arc::strong_count(&role) > 1 && Instant::now() < end {
        sleep(Duration::from_millis(10)).await;
    }
    world.ledger.stopped(host, Stopped { drained, holders: Arc::strong_count(&role) - 1 });
    Ok(())
}

/// Puts all hosts on the network.
pub(crate) fn hosts(sim: &mut turmoil::Sim<'_>, world: &Arc<World>) {
    let origin_world = world.clone();
    sim.host("origin", move || {
        let world = origin_world.clone();
        async move {
            let changes = Changes::new(LEASE);
            if world.plan.told {
                changes.begin();
                world.tells(&changes);
            }
            let config = OriginConfig { admins: admins(), watch_from: admins(), ..OriginConfig::default() };
            let origin = Origin::telling(Documents(world.clone()), config, changes);
            serve(&world, "origin", origin, usize::MAX, &[]).await
        }
    });
    for index in 0..world.plan.proxies {
        let world = world.clone();
        sim.host(proxy(index), move || run_proxy(world.clone(), index));
    }
    for index in 0..BALANCERS {
        let world = world.clone();
        sim.host(balancer(index), move || run_balancer(world.clone(), index));
    }
}

async fn run_proxy(world: Arc<World>, index: usize) -> turmoil::Result {
    let plan = &world.plan;
    let role = Proxy::new(ProxyConfig {
        link: plan.link().with_max_document(LARGEST),
        cache_type: plan.cache,
        bounds: Bounds { entries: plan.entries, bytes: 16 << 20 },
        freshness: Freshness {
            ttl: Some(plan.ttl),
            ttl_jitter: 0.1,
            stale_while_revalidate: plan.stale_while_revalidate,
            stale_if_error: plan.stale_if_error,
            negative_ttl: plan.negative_ttl,
            ..Freshness::default()
        },
        fetch: FetchLimits {
            deadline: FETCH,
            // As many as there are documents: a slot that is not freed is soon missed.
            at_once: KEYS as usize,
            max_document: LARGEST,
            origin_retry: Duration::from_millis(200),
        },
        max_waiters: 1000,
        admins: admins(),
        ..ProxyConfig::new(index as u16, peer("origin"))
    });
    let sweep = tokio::spawn(role.clone().sweep()).abort_handle();
    let follow = tokio::spawn(role.clone().follow_changes()).abort_handle();
    serve(&world, &proxy(index), role, usize::MAX, &[sweep, follow]).await
}

async fn run_balancer(world: Arc<World>, index: usize) -> turmoil::Result {
    let plan = &world.plan;
    let config = LbConfig {
        members: Members {
            proxies: Vec::new(),
            file: Some(world.roster.file(index)),
            resolve_interval: Duration::from_secs(5),
        },
        link: plan.link(),
        strategy: plan.strategy,
        health_interval: Duration::from_secs(1),
        max_failures: 3,
        rises: 2,
        backoff: Duration::from_secs(1),
        // The promise is about nodes that a balancer knows as healthy, so it polls often.
        max_backoff: Duration::from_secs(2),
        try_deadline: Duration::from_millis(2500),
        hedge: plan.hedge,
        panic_threshold: 0,
        slow_start: Duration::from_secs(5),
        max_in_flight: 4096,
        // A purge that a fault swallowed is given up soon: this network sends nothing again.
        purge_deadline: Duration::from_secs(2),
        state_dir: plan.durable.then(|| world.roster.state(index)),
        admins: admins(),
        certificates: Certificates::default(),
    };
    let role = loop {
        match Lb::new(config.clone()) {
            Ok(role) => break role,
            // Its list is bad: the operator starts it again.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    };
    world.roster.started(index, Arc::downgrade(&role));
    let check = tokio::spawn(role.clone().check_health()).abort_handle();
    let follow = tokio::spawn(role.clone().follow()).abort_handle();
    serve(&world, &balancer(index), role, config.enough(), &[check, follow]).await
}
