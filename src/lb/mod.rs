//! The balancer: spreads GETs over the proxies that are healthy, and hides the failure of one behind another.
//!
//! ```text
//!   GET ──▶ balance picks a healthy node ──▶ its link ──sound reply──▶ relayed as it came
//!                ▲                             │
//!                └── not yet tried ◀──failed───┘
//! ```

pub mod balance;
mod metrics;
mod node;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::balance::{Balance, Candidate, Strategy};
use self::node::{Node, Source};
use crate::handler::{Answer, Ask, Handler};
use crate::net::link::Peer;
use crate::net::{Link, LinkError, LinkLimits};
use crate::stats::{Counter, StartTime};
use crate::wire::{KeyBuf, Reply, ReplyView, Request, Status};

/// What a balancer is told at its start.
#[derive(Clone, Debug)]
pub struct LbConfig {
    /// The proxies.
    pub proxies: Vec<Peer>,
    /// How to ask them.
    pub link: LinkLimits,
    /// How to choose among them.
    pub strategy: Strategy,
    /// How often each is polled.
    pub health_interval: Duration,
    /// So many failures in a row make a node unhealthy.
    pub max_failures: u32,
    /// One try must bring a reply within this time.
    pub try_deadline: Duration,
}

/// The role.
pub struct Lb {
    nodes: Vec<Arc<Node>>,
    balance: Box<dyn Balance>,
    strategy: Strategy,
    health_interval: Duration,
    try_deadline: Duration,
    requests: Counter,
    retries: Counter,
    failures: Counter,
    start_time: StartTime,
}

impl Lb {
    /// A balancer that takes every node to be healthy until it learns better. Polls nothing by itself: see [`Lb::probe`].
    pub fn new(config: LbConfig) -> Arc<Self> {
        let node = |peer: Peer| Arc::new(Node::new(Link::new(peer, config.link), config.max_failures));
        Arc::new(Self {
            nodes: config.proxies.into_iter().map(node).collect(),
            balance: config.strategy.build(),
            strategy: config.strategy,
            health_interval: config.health_interval,
            try_deadline: config.try_deadline,
            requests: Counter::default(),
            retries: Counter::default(),
            failures: Counter::default(),
            start_time: StartTime::now(),
        })
    }

    async fn get(self: Arc<Self>, key: KeyBuf, deadline: Option<Instant>) -> Reply {
        self.requests.add_one();
        let mut tried: Vec<usize> = Vec::new();
        let reply = loop {
            let Some(index) = self.pick(&key, &tried) else {
                break match tried.is_empty() {
                    true => Reply::text(Status::ProxyError, "there is no healthy proxy to try"),
                    false => Reply::text(Status::ProxyUnreachable, "every proxy that was tried failed"),
                };
            };
            if !tried.is_empty() {
                self.retries.add_one();
            }
            let latest = Instant::now() + self.try_deadline;
            let deadline = deadline.map_or(latest, |deadline| deadline.min(latest));
            if let Some(reply) = self.try_node(&self.nodes[index], &key, deadline).await {
                return reply;
            }
            tried.push(index);
        };
        self.failures.add_one();
        reply
    }

    /// The next node to try: healthy, and not tried yet.
    fn pick(&self, key: &KeyBuf, tried: &[usize]) -> Option<usize> {
        let live = || {
            self.nodes.iter().enumerate().filter(|(index, node)| node.is_healthy() && !tried.contains(index))
        };
        // A total that was told and one that was not cannot be compared: until all have been polled, what we sent counts.
        let totals_known = live().all(|(_, node)| node.is_polled());
        let total = |node: &Node| if totals_known { node.total_requests() } else { node.sent() };
        let candidates: Vec<Candidate> = live()
            .map(|(index, node)| Candidate { index, in_flight: node.in_flight(), total: total(node) })
            .collect();
        self.balance.pick(key.as_key(), &candidates)
    }

    /// Asks one node. `None` when it failed, which is noted.
    async fn try_node(&self, node: &Arc<Node>, key: &KeyBuf, deadline: Instant) -> Option<Reply> {
        let asked = {
            let _in_flight = node.begin();
            node.link().ask(Request::Get(key.as_key()), deadline).await
        };
        match asked {
            Ok(line) => match ReplyView::parse(&line).map(|reply| reply.status) {
                Ok(status) => {
                    node.succeeded(Source::Request);
                    Some(Reply::relayed(status, line))
                }
                Err(error) => {
                    self.failed(node, &error.to_string());
                    None
                }
            },
            // It is not the node's fault that we ask it too much.
            Err(LinkError::Busy) => None,
            Err(error) => {
                self.failed(node, &error.to_string());
                None
            }
        }
    }

    /// A request failed at a node. The last healthy one is not given up for that: a poll has to agree.
    fn failed(&self, node: &Node, why: &str) {
        let others = self.nodes.iter().filter(|other| other.is_healthy()).count() > 1;
        node.failed(Source::Request, why, others);
    }
}

impl Handler for Lb {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        match ask.request {
            Request::Get(key) => Answer::later(self.clone().get(key.to_owned(), ask.deadline)),
            Request::Metrics => Answer::Now(Reply::json(&self.metrics())),
            Request::Explain(_)
            | Request::Purge { .. }
            | Request::Drain(_)
            | Request::Undrain(_)
            | Request::Hello => {
                Answer::Now(Reply::text(Status::WrongMethod, "this balancer answers GET and METRICS"))
            }
        }
    }
}
