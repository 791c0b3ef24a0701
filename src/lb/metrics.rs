//! What a balancer tells of itself and its nodes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Lb;
use super::health::{Millis, State};
use super::latency::Percentiles;
use super::node::Node;
use super::nodes::Place;
use crate::stats::ratio;

/// The `data` of METRICS. Fields may be added, never removed or renamed.
#[derive(Serialize)]
pub(super) struct Metrics {
    strategy: &'static str,
    current_index: usize,
    proxies: BTreeMap<String, NodeMetrics>,
    start_time: String,
    total_requests: u64,
    retries: u64,
    hedges: u64,
    trials: u64,
    failures: u64,
    in_flight: u64,
    cluster: Cluster,
}

/// All nodes together, as the balancer sees them.
#[derive(Default, Serialize)]
struct Cluster {
    nodes: usize,
    healthy: usize,
    requests: u64,
    in_flight: u64,
    hit_ratio: f64,
    origin_fetches: u64,
}

#[derive(Serialize)]
struct NodeMetrics {
    healthy: bool,
    state: &'static str,
    since_seconds: f64,
    why: String,
    metrics: Option<Box<RawValue>>,
    weight: f64,
    /// How much of its weight it gets, in percent: rising when it came back, 0 while it gets no turn.
    share: u32,
    in_flight: u64,
    requests: u64,
    errors: u64,
    retries: u64,
    hedges: u64,
    failures_in_a_row: u32,
    owed_purges: usize,
    latency_ms: Option<Percentiles>,
}

impl Lb {
    pub(super) fn metrics(&self) -> Metrics {
        let nodes = self.nodes.load();
        let now = self.now();
        let sum = |of: fn(&Node) -> u64| nodes.iter().map(|place| of(&place.node)).sum::<u64>();
        let cluster = Cluster {
            nodes: nodes.0.len(),
            healthy: nodes.iter().filter(|place| place.node.is_available()).count(),
            requests: sum(|node| node.latency.sent()),
            in_flight: sum(Node::in_flight),
            hit_ratio: ratio(sum(|node| node.latency.hits()), sum(|node| node.latency.answered())),
            origin_fetches: sum(|node| node.polled.origin_fetches()),
        };
        Metrics {
            strategy: self.config.strategy.as_str(),
            current_index: self.balance.current_index(),
            proxies: nodes.iter().map(|place| (place.name.to_string(), of_node(place, now))).collect(),
            start_time: self.start_time.rfc3339(),
            total_requests: self.requests.get(),
            retries: self.retries.get(),
            hedges: self.hedges.get(),
            trials: self.trials.get(),
            failures: self.failures.get(),
            in_flight: cluster.in_flight,
            cluster,
        }
    }
}

/// The word for a node's state.
pub(super) fn state_of(node: &Node) -> &'static str {
    match node.state() {
        _ if node.is_draining() => "draining",
        State::Healthy => "healthy",
        State::Down => "down",
        State::Probing => "probing",
    }
}

fn of_node(place: &Place, now: Millis) -> NodeMetrics {
    let node = &*place.node;
    let (since, why, failures) = {
        let health = node.health();
        (health.since().0, health.since().1.to_owned(), health.failures())
    };
    NodeMetrics {
        healthy: node.is_healthy(),
        state: state_of(node),
        since_seconds: now.saturating_sub(since) as f64 / 1_000.0,
        why,
        metrics: node.polled.metrics(),
        weight: f64::from(place.weight) / 100.0,
        share: if node.is_available() { node.share() } else { 0 },
        in_flight: node.in_flight(),
        requests: node.latency.sent(),
        errors: node.counts.errors.get(),
        retries: node.counts.retries.get(),
        hedges: node.counts.hedges.get(),
        failures_in_a_row: failures,
        owed_purges: node.owed(),
        latency_ms: node.latency.counts().percentiles(),
    }
}
