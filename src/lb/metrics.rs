//! What a balancer tells of itself and its nodes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Lb;
use super::node::Node;

/// The `data` of METRICS. Fields may be added, never removed or renamed.
#[derive(Serialize)]
pub(super) struct Metrics {
    strategy: &'static str,
    current_index: usize,
    proxies: BTreeMap<String, NodeMetrics>,
    start_time: String,
    total_requests: u64,
    retries: u64,
    failures: u64,
}

#[derive(Serialize)]
struct NodeMetrics {
    healthy: bool,
    metrics: Option<Box<RawValue>>,
    in_flight: u64,
    requests: u64,
    errors: u64,
    failures_in_a_row: u32,
}

impl Lb {
    pub(super) fn metrics(&self) -> Metrics {
        Metrics {
            strategy: self.strategy.as_str(),
            current_index: self.balance.current_index(),
            proxies: self.nodes.iter().map(|node| (node.link().peer().to_string(), of_node(node))).collect(),
            start_time: self.start_time.rfc3339(),
            total_requests: self.requests.get(),
            retries: self.retries.get(),
            failures: self.failures.get(),
        }
    }
}

fn of_node(node: &Node) -> NodeMetrics {
    NodeMetrics {
        healthy: node.is_healthy(),
        metrics: node.metrics(),
        in_flight: node.in_flight(),
        requests: node.sent(),
        errors: node.errors(),
        failures_in_a_row: node.failures_in_a_row(),
    }
}
