//! The balancer: spreads GETs over the proxies that are healthy, and hides the failure of one behind another.
//!
//! ```text
//!   GET ──▶ get: balance picks a healthy node ──▶ its link ──sound reply──▶ relayed as it came
//!                 ▲          ▲                       │
//!                 │          └── not yet tried ◀─────┤ failed, slow        (budget, watch)
//!   members ──▶ nodes        health, latency, polled ◀─ node ◀── probe polls
//! ```

mod asked;
pub mod balance;
mod budget;
mod get;
mod health;
mod hedge;
mod latency;
mod list;
mod members;
mod metrics;
mod node;
mod nodes;
mod owed;
mod polled;
mod polls;
mod probe;
mod tries;
mod verbs;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::asked::Terms;
use self::balance::{Balance, Strategy};
use self::budget::{Allowance, Budget};
use self::health::{Millis, Rules};
pub use self::members::Members;
use self::node::Node;
use self::nodes::{Nodes, View};
use self::owed::Owed;
use self::watch::Wheel;
use crate::admin::Admins;
use crate::handler::{Answer, Ask, Handler};
use crate::net::link::Peer;
use crate::net::{Link, LinkLimits};
use crate::per_core::PerCore;
use crate::stats::{BusyCounter, Counter, StartTime};
use crate::wire::{Reply, Request, Status};

/// Second tries after failures: a fifth of the requests, and ten a second.
const RETRIES: Allowance = Allowance { share: 0.2, per_second: 10.0 };
/// Second tries beside a slow one.
const HEDGES: Allowance = Allowance { share: 0.02, per_second: 0.0 };

/// So many requests under way on each core are enough to keep all proxies busy: with eight times as many, two thirds of the
/// replies and seven times the memory were measured, with these as much as at the best.
const ENOUGH: usize = 2048;

/// What a balancer is told at its start.
#[derive(Clone, Debug)]
pub struct LbConfig {
    /// The proxies.
    pub members: Members,
    /// How to ask them.
    pub link: LinkLimits,
    /// How to choose among them.
    pub strategy: Strategy,
    /// How often each is polled.
    pub health_interval: Duration,
    /// So many failures in a row make a node unhealthy.
    pub max_failures: u32,
    /// So many polls in a row must succeed before it is healthy again.
    pub rises: u32,
    /// How long a node that failed requests is left alone at first.
    pub backoff: Duration,
    /// And at the most.
    pub max_backoff: Duration,
    /// One try must bring a reply within this time.
    pub try_deadline: Duration,
    /// Whether a slow request is asked of a second node as well.
    pub hedge: bool,
    /// When fewer than this part of the nodes is healthy, in percent, all are used.
    pub panic_threshold: u32,
    /// How long the share of a node that came back rises.
    pub slow_start: Duration,
    /// Requests at one node at once, those that wait for a place included.
    pub max_in_flight: u64,
    /// Who may purge and drain.
    pub admins: Admins,
}

/// The role.
pub struct Lb {
    config: LbConfig,
    nodes: ArcSwap<Nodes>,
    balance: Box<dyn Balance>,
    /// One for each core.
    wheels: PerCore<Arc<Wheel>>,
    retry_budget: Mutex<Budget>,
    hedge_budget: Mutex<Budget>,
    /// What was purged: owed by a node that joins.
    purges: Mutex<Owed>,
    /// Makes the list of members be looked at.
    reload: Notify,
    /// Wakes the polls before their time.
    attention: Notify,
    /// How many nodes are probing: none, nearly always.
    probing: AtomicU64,
    requests: BusyCounter,
    retries: Counter,
    hedges: Counter,
    /// Copies of requests by which probing nodes were tried.
    trials: Counter,
    failures: Counter,
    start_time: StartTime,
    began: Instant,
}

impl Lb {
    /// A balancer that takes every node to be healthy until it learns better. It polls nothing by itself and follows no
    /// members: see [`Lb::probe`] and [`Lb::follow`]. Fails when the file of its members is bad.
    pub fn new(config: LbConfig) -> Result<Arc<Self>, String> {
        let listed = config.members.first()?;
        let wheels = PerCore::new(config.link.sessions, Wheel::new);
        let lb = Self {
            nodes: ArcSwap::from_pointee(Nodes(Vec::new())),
            balance: config.strategy.build(),
            wheels,
            retry_budget: Mutex::new(Budget::new(RETRIES)),
            hedge_budget: Mutex::new(Budget::new(HEDGES)),
            purges: Mutex::default(),
            reload: Notify::new(),
            attention: Notify::new(),
            probing: AtomicU64::new(0),
            requests: BusyCounter::default(),
            retries: Counter::default(),
            hedges: Counter::default(),
            trials: Counter::default(),
            failures: Counter::default(),
            start_time: StartTime::now(),
            began: Instant::now(),
            config,
        };
        lb.begin_with(&listed);
        Ok(Arc::new(lb))
    }

    fn node(&self, peer: Peer) -> Arc<Node> {
        let rules = Rules {
            fails: self.config.max_failures.max(1),
            rises: self.config.rises.max(1),
            backoff: self.config.backoff,
            max_backoff: self.config.max_backoff,
        };
        let link = Link::new(peer, self.config.link);
        Arc::new(Node::new(link, rules, self.wheels.count(), self.now()))
    }

    fn ms(&self, at: Instant) -> Millis {
        at.saturating_duration_since(self.began).as_millis() as Millis
    }

    fn now(&self) -> Millis {
        self.ms(Instant::now())
    }

    /// Polls older than three intervals are not used.
    fn view(&self, now: Millis) -> View {
        View {
            now,
            stale: 3 * self.config.health_interval.as_millis() as Millis,
            by_key: self.balance.goes_by_key(),
            flights: self.config.strategy != Strategy::RoundRobin,
            totals: self.config.strategy == Strategy::LeastLoaded,
            latencies: self.config.strategy == Strategy::TwoChoices,
            panic: self.config.panic_threshold,
        }
    }

    fn any_probing(&self) -> bool {
        self.probing.load(Ordering::Relaxed) > 0
    }
}

impl Handler for Lb {
    fn enough(&self) -> usize {
        ENOUGH * self.wheels.count()
    }

    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        match ask.request {
            Request::Get(key) => {
                let terms = Terms { deadline: ask.deadline, tell_times: ask.tell_times };
                self.get(key, terms, ask.now)
            }
            Request::Metrics => Answer::Now(Reply::json(&self.metrics())),
            Request::Explain(key) => self.explain(key),
            Request::Purge { pattern, soft } => self.purge(pattern, soft, ask.from),
            Request::Drain(node) => self.drain(node, true, ask.from),
            Request::Undrain(node) => self.drain(node, false, ask.from),
            Request::Hello => {
                Answer::Now(Reply::text(Status::WrongMethod, "a balancer answers GET and METRICS"))
            }
        }
    }
}
