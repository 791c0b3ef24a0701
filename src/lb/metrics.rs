//! METRICS of a balancer and its nodes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::balance::Load;
use super::clock::Millis;
use super::health::State;
use super::latency::Percentiles;
use super::node::Node;
use super::nodes::Member;
use super::polled::Shown;
use super::upstreams::Upstreams;
use crate::certificates::CertificateMetrics;
use crate::stats::{StartTime, ratio};

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
    /// When those in use end; null without any.
    certificates: Option<CertificateMetrics>,
    /// Only with summaries.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<&'static str>,
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
pub(super) struct NodeMetrics {
    healthy: bool,
    state: &'static str,
    since_seconds: f64,
    why: String,
    metrics: Option<Box<RawValue>>,
    weight: f64,
    /// The part of its weight that counts, in percent: rising when it came back, 0 while it gets no requests.
    share: u32,
    in_flight: u64,
    requests: u64,
    errors: u64,
    retries: u64,
    hedges: u64,
    failures_in_a_row: u32,
    owed_purges: usize,
    refused_purges: u64,
    latency_ms: Option<Percentiles>,
}

/// From so many nodes on, METRICS are written on the pool, not on a thread that serves connections.
pub(super) const MANY: usize = 16;
/// Of more nodes than this, only summaries of their own METRICS are shown.
const MOST_WHOLE: usize = 256;
const MORE: &str = "the proxies are too many for their whole metrics: METRICS <host:port> has those of one";

/// The numbers of the node of this name.
pub(super) fn metrics_of(upstreams: &Upstreams, name: &str) -> Option<NodeMetrics> {
    Some(of_node(upstreams.members.nodes().named(name)?, upstreams.clock.now(), |shown| &shown.whole))
}

/// The numbers as of now.
pub(super) fn metrics(
    upstreams: &Upstreams,
    start_time: &StartTime,
    certificates: Option<CertificateMetrics>,
) -> Metrics {
    let (choice, totals) = (&upstreams.choice, &upstreams.totals);
    let (nodes, now) = (upstreams.members.nodes(), upstreams.clock.now());
    let sum = |of: fn(&Node) -> u64| nodes.iter().map(|member| of(&member.node)).sum::<u64>();
    let cluster = Cluster {
        nodes: nodes.0.len(),
        healthy: nodes.iter().filter(|member| member.node.is_available()).count(),
        requests: sum(|node| node.latency.sent()),
        in_flight: sum(Node::in_flight),
        hit_ratio: ratio(sum(|node| node.latency.hits()), sum(|node| node.latency.answered())),
        origin_fetches: sum(|node| node.polled.origin_fetches()),
    };
    let is_summary = nodes.0.len() > MOST_WHOLE;
    let show: fn(&Shown) -> &Box<RawValue> =
        if is_summary { |shown| &shown.summary } else { |shown| &shown.whole };
    let proxies = nodes.iter().map(|member| (member.name.to_string(), of_node(member, now, show)));
    Metrics {
        strategy: choice.strategy(),
        current_index: choice.balance().current_index(),
        proxies: proxies.collect(),
        start_time: start_time.rfc3339(),
        total_requests: totals.requests.get(),
        retries: totals.retries.get(),
        hedges: totals.hedges.get(),
        trials: totals.trials.get(),
        failures: totals.failures.get(),
        in_flight: cluster.in_flight,
        cluster,
        certificates,
        more: is_summary.then_some(MORE),
    }
}

/// The word for a node's state in METRICS and DRAIN.
pub(super) fn state_of(node: &Node) -> &'static str {
    match node.state() {
        _ if node.is_draining() => "draining",
        State::Healthy => "healthy",
        State::Down => "down",
        State::Probing => "probing",
    }
}

fn of_node(member: &Member, now: Millis, show: fn(&Shown) -> &Box<RawValue>) -> NodeMetrics {
    let node = &*member.node;
    let (since, why, failures) = {
        let health = node.health();
        (health.since().0, health.since().1.to_owned(), health.failures())
    };
    NodeMetrics {
        healthy: node.is_healthy(),
        state: state_of(node),
        since_seconds: now.saturating_sub(since) as f64 / 1_000.0,
        why,
        metrics: node.polled.metrics(show),
        weight: f64::from(member.weight) / 100.0,
        share: if node.is_available() { node.share() } else { 0 },
        in_flight: node.in_flight(),
        requests: node.latency.sent(),
        errors: node.counts.errors.get(),
        retries: node.counts.retries.get(),
        hedges: node.counts.hedges.get(),
        failures_in_a_row: failures,
        owed_purges: node.owed(),
        refused_purges: node.counts.refused_purges.get(),
        latency_ms: node.latency.counts().percentiles(),
    }
}
