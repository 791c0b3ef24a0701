//! Active health checks: METRICS of every node, in parallel, each when its time has come and under a deadline.
//!
//! A node that is not healthy is polled faster, and one that is suspect at once, with little time to answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Lb;
use super::health::{Millis, State};
use super::latency::Counts;
use super::node::Node;
use super::polled::Told;
use crate::lock::lock;
use crate::net::LinkError;
use crate::stats::ratio;
use crate::wire::Request;

/// A poll must be answered within the interval, and within this.
const POLL_DEADLINE: Duration = Duration::from_secs(1);
/// A node that is silent while requests wait must give a sign of life within this.
const SIGN_OF_LIFE: Duration = Duration::from_millis(300);
/// Each poll begins up to this part of the interval late, so that balancers do not poll in step.
const JITTER: f64 = 0.1;
/// Nodes that are not healthy are polled at least so often.
const FAST: Duration = Duration::from_millis(500);
/// How often the nodes are looked through.
const STEP: Duration = Duration::from_millis(50);
/// How long a window of latencies is.
const WINDOW: Millis = 5_000;
/// So many answers of its peers tell how long a node may take.
const ENOUGH: u64 = 100;
/// The least time before a second node is asked.
const LEAST_HEDGE_US: u64 = 1_000;
/// A node is suspect after three times what its peers take at the worst, within these.
const SILENCE_US: (u64, u64) = (25_000, 1_000_000);

impl Lb {
    /// Polls the nodes, for ever.
    pub async fn probe(self: Arc<Self>) {
        let step = STEP.min(self.config.health_interval / 4).max(Duration::from_millis(1));
        let mut steps = interval(step);
        // After a standstill of this process one look is enough: no burst of those that were missed.
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turned = self.now();
        loop {
            tokio::select! {
                _ = steps.tick() => {}
                // A node has become suspect: it is polled now.
                () = self.attention.notified() => {}
            }
            let now = self.now();
            let nodes = self.nodes.load_full();
            for place in nodes.iter() {
                self.attend_to(&place.node, now);
            }
            let turns = now >= turned + WINDOW;
            if turns {
                turned = now;
            }
            self.tune(turns, now);
        }
    }

    fn attend_to(self: &Arc<Self>, node: &Arc<Node>, now: Millis) {
        let suspect = node.is_suspect();
        let Some(poll) = node.polls.begin(now, suspect) else { return };
        let interval = match node.state() {
            State::Healthy if !node.owes() => self.config.health_interval,
            State::Healthy | State::Down | State::Probing => self.config.health_interval.min(FAST),
        };
        let late = interval.mul_f64(JITTER * fastrand::f64());
        let deadline = match suspect {
            true => {
                // Two round trips; one that is far away needs longer for them, and its answers have told how long.
                let worst = Duration::from_micros(node.latency.counts().quantile_us(0.99));
                SIGN_OF_LIFE.max(4 * worst).min(POLL_DEADLINE)
            }
            false => self.config.health_interval.min(POLL_DEADLINE),
        };
        poll.next_at(now + (interval + late).as_millis() as Millis);
        let lb = self.clone();
        let node = node.clone();
        tokio::spawn(async move {
            lb.poll(&node, deadline, suspect).await;
            drop(poll);
        });
    }

    async fn poll(&self, node: &Node, deadline: Duration, suspect: bool) {
        let asked = node.link().check(Request::Metrics, Instant::now() + deadline).await;
        let told = match &asked {
            Ok(line) => Told::read(line).ok_or_else(|| "its METRICS are no metrics".to_owned()),
            // Our own limit turned the poll away, so nothing was learned.
            Err(LinkError::Busy) => return,
            Err(error) => Err(error.to_string()),
        };
        let now = self.now();
        match told {
            Ok(told) => {
                node.trust();
                node.heard(now);
                node.polled.told(told, node.latency.sent(), now);
                if node.owes() && !self.settle(node).await {
                    return;
                }
                let is_needed = !self.nodes.load().serves_without(node);
                node.change(now, |health| {
                    if is_needed {
                        health.is_needed(now);
                    }
                    health.poll_succeeded(now)
                });
            }
            Err(why) if suspect => {
                let others = self.nodes.load().has_other(node);
                node.trust();
                node.change(now, |health| health.stalled(&why, now, others, fastrand::f64()));
            }
            Err(why) => node.change(now, |health| health.poll_failed(&why, now)),
        }
        self.count_probing();
    }

    pub(super) fn count_probing(&self) {
        let nodes = self.nodes.load();
        let probing = nodes.iter().filter(|place| place.node.state() == State::Probing).count();
        self.probing.store(probing as u64, Ordering::Relaxed);
    }

    /// Learns from what the nodes did how long each may take, and how much each may get.
    fn tune(&self, turns: bool, now: Millis) {
        lock(&self.retry_budget).note(now, self.requests.get());
        lock(&self.hedge_budget).note(now, self.requests.get());
        let nodes = self.nodes.load();
        let (mut all, mut hits, mut answered) = (Counts::none(), 0, 0);
        let each: Vec<Counts> = nodes.iter().map(|place| place.node.latency.counts()).collect();
        for (place, counts) in nodes.iter().zip(&each) {
            all.add(counts);
            answered += place.node.latency.answered();
            hits += place.node.latency.hits();
        }
        let slow_start = self.config.slow_start.as_millis() as Millis;
        for (place, counts) in nodes.iter().zip(&each) {
            let node = &*place.node;
            let peers = all.without(counts);
            if peers.total() >= ENOUGH {
                let silence = (3 * peers.quantile_us(0.99)).clamp(SILENCE_US.0, SILENCE_US.1);
                node.set_patience(peers.quantile_us(0.95).max(LEAST_HEDGE_US), silence);
            }
            let did = (node.latency.answered(), node.latency.hits());
            let peers = ratio(hits.saturating_sub(did.1), answered.saturating_sub(did.0));
            let share = node.polled.share(did, peers, now, slow_start);
            node.set_share(share);
            if turns {
                node.latency.turn();
            }
        }
    }
}
