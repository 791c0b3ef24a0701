//! The METRICS of any node in one shape.
//!
//! Older nodes print floats for whole numbers and report fewer fields: a missing counter is `None`, a missing gauge 0.

use serde::Serialize;
use serde_json::Value;

use super::Reported;
use super::heard::heard;
use crate::wire::{ReplyView, Status};

/// The state of a node. `Healthy → Failing → Down → Healthy`; an operator sets `Drained`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeHealth {
    /// It answers.
    #[default]
    Healthy,
    /// Its last request failed; it still gets requests.
    Failing,
    /// It gets no requests.
    Down,
    /// It gets no requests because an operator drained it.
    Drained,
}

/// One node within METRICS.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct NodeSample {
    /// `host:port` at a balancer.
    pub name: String,
    /// The state in METRICS' own words.
    pub state: String,
    /// The state as one of four.
    pub health: NodeHealth,
    /// False for a node that is down, and for a proxy whose origin fails.
    pub is_well: bool,
    /// The reason of the last failure; may be empty.
    pub why: String,
    /// GETs under way at the node; for a proxy that reports for itself, requests to its origin.
    pub in_flight: f64,
    /// Its counters.
    pub counts: Reported,
    /// Documents in its cache.
    pub entries: Option<f64>,
    /// The most documents that its cache may hold; `None` also if only bytes are bounded.
    pub max_entries: Option<f64>,
    /// Bytes of its cache.
    pub bytes: Option<f64>,
    /// The most bytes that its cache may take.
    pub max_bytes: Option<f64>,
    /// The origin fails, as this node sees it.
    pub origin_fails: bool,
}

/// One METRICS.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// `balancer`, `proxy` or `origin`.
    pub role: &'static str,
    /// A balancer's strategy.
    pub strategy: Option<String>,
    /// Who is told of changes, or whether it hears of them, for people; empty for a node to which they are nothing.
    pub changes: String,
    /// RFC 3339; empty for a node too old to report it.
    pub start_time: String,
    /// The counters of the node that answered, each request counted once.
    pub counts: Reported,
    /// Requests under way, over all nodes.
    pub in_flight: f64,
    /// The proxies of a balancer; of any other node the node itself.
    pub nodes: Vec<NodeSample>,
}

impl Sample {
    /// Reads a reply line to METRICS; `name` is that of the node that answered. The error is a text for people.
    pub fn from_reply(line: &[u8], name: &str) -> Result<Self, String> {
        let reply = ReplyView::parse(line).map_err(|error| error.to_string())?;
        if reply.status != Status::Ok {
            return Err(format!("METRICS was answered with {}: {}", reply.status.as_str(), reply.data));
        }
        let metrics = serde_json::from_str(reply.data).map_err(|error| error.to_string())?;
        Self::from_metrics(&metrics, name).ok_or_else(|| "METRICS was answered without numbers".to_owned())
    }

    /// Reads the `data` of METRICS; `None` unless it is an object.
    pub fn from_metrics(metrics: &Value, name: &str) -> Option<Self> {
        let members = metrics.as_object()?;
        Some(match members.get("proxies").and_then(Value::as_object) {
            Some(proxies) => {
                balancer(metrics, proxies.iter().map(|(name, node)| proxy_of(name, node)).collect())
            }
            None => single(metrics, name),
        })
    }
}

fn balancer(metrics: &Value, nodes: Vec<NodeSample>) -> Sample {
    let sum = |of: fn(&NodeSample) -> f64| nodes.iter().map(of).sum::<f64>();
    let answered = |node: &NodeSample| node.counts.hits.unwrap_or(0.0) + node.counts.misses.unwrap_or(0.0);
    let requests = metrics["total_requests"].as_f64().unwrap_or_else(|| sum(answered));
    let counts =
        Reported { requests: Some(requests), errors: metrics["failures"].as_f64(), ..Reported::default() };
    Sample {
        role: "balancer",
        strategy: metrics["strategy"].as_str().map(str::to_owned),
        changes: heard(metrics),
        start_time: word(metrics, "start_time"),
        counts,
        in_flight: sum(|node| node.in_flight),
        nodes,
    }
}

/// A proxy in its balancer's METRICS.
fn proxy_of(name: &str, node: &Value) -> NodeSample {
    let is_well = node["healthy"] == true;
    let health = match node["state"].as_str() {
        _ if !is_well => NodeHealth::Down,
        Some("draining") => NodeHealth::Drained,
        _ if number(node, "failures_in_a_row") > 0.0 => NodeHealth::Failing,
        _ => NodeHealth::Healthy,
    };
    let state = node["state"].as_str().unwrap_or(if is_well { "healthy" } else { "down" });
    let own = itself(name, &node["metrics"]);
    let counts = Reported {
        // GETs that the balancer sent; an older balancer reports only the proxy's own count.
        requests: node["requests"].as_f64().or(own.counts.requests),
        errors: node["errors"].as_f64(),
        ..own.counts
    };
    let in_flight = number(node, "in_flight");
    NodeSample { state: state.to_owned(), health, is_well, why: word(node, "why"), in_flight, counts, ..own }
}

fn single(metrics: &Value, name: &str) -> Sample {
    let is_proxy = metrics.get("hits").is_some();
    let node = itself(name, metrics);
    Sample {
        role: if is_proxy { "proxy" } else { "origin" },
        strategy: None,
        changes: heard(metrics),
        start_time: word(metrics, "start_time"),
        counts: node.counts,
        in_flight: node.in_flight,
        nodes: vec![node],
    }
}

/// A node in its own METRICS.
fn itself(name: &str, metrics: &Value) -> NodeSample {
    let origin_fails = metrics["origin_failing"] == true;
    let of = |name| metrics[name].as_f64();
    NodeSample {
        name: name.to_owned(),
        state: if origin_fails { "origin fails" } else { "answers" }.to_owned(),
        health: NodeHealth::Healthy,
        is_well: !origin_fails,
        why: String::new(),
        in_flight: number(metrics, "fetches_in_flight"),
        counts: Reported {
            requests: of("total_requests"),
            hits: of("hits"),
            stale: of("stale_served"),
            misses: of("misses"),
            fetches: of("origin_fetches"),
            errors: of("origin_failures"),
            purged: of("purged"),
        },
        entries: of("entries"),
        max_entries: of("max_entries"),
        bytes: of("bytes"),
        max_bytes: of("max_bytes"),
        origin_fails,
    }
}

fn number(metrics: &Value, name: &str) -> f64 {
    metrics[name].as_f64().unwrap_or(0.0)
}

fn word(metrics: &Value, name: &str) -> String {
    metrics[name].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_a_balancer_and_an_older_one() {
        let line = br#"{"status":"OK","data":{"strategy":"round_robin","current_index":1,"total_requests":9,"failures":1,"start_time":"t",
            "proxies":{"a:1":{"healthy":true,"metrics":{"total_requests":5,"hits":3,"misses":2},"in_flight":2,"requests":6,"errors":1},
                       "b:2":{"healthy":false,"metrics":null,"in_flight":0,"requests":3}}}}"#;
        let sample = Sample::from_reply(line, "x:1").unwrap();
        assert_eq!((sample.counts.requests, sample.counts.errors), (Some(9.0), Some(1.0)));
        assert_eq!((sample.role, sample.in_flight, sample.nodes.len()), ("balancer", 2.0, 2));
        let counts = sample.nodes[0].counts;
        assert_eq!((counts.requests, counts.hits, counts.errors), (Some(6.0), Some(3.0), Some(1.0)));
        assert_eq!((sample.nodes[0].state.as_str(), sample.nodes[1].state.as_str()), ("healthy", "down"));
        assert_eq!((sample.nodes[1].health, sample.nodes[1].counts.hits), (NodeHealth::Down, None));

        let older = br#"{"status": "OK", "data": {"strategy": "x", "current_index": 0, "proxies": {"a:1": {"healthy": true, "metrics": {"total_requests": 5.0, "hits": 3.0, "misses": 2.0}}}}}"#;
        let sample = Sample::from_reply(older, "x:1").unwrap();
        assert_eq!((sample.counts.requests, sample.nodes[0].counts.requests), (Some(5.0), Some(5.0)));
    }

    #[test]
    fn reads_a_proxy_and_an_origin() {
        let proxy = br#"{"status":"OK","data":{"start_time":"t","total_requests":2,"hit_rate":0.5,"hits":1,"misses":1,"origin_failing":true}}"#;
        let sample = Sample::from_reply(proxy, "x:1").unwrap();
        assert_eq!((sample.role, sample.nodes[0].state.as_str()), ("proxy", "origin fails"));
        assert_eq!((sample.counts.hits, sample.nodes[0].is_well), (Some(1.0), false));
        let origin = br#"{"status":"OK","data":{"start_time":"t","total_requests":2}}"#;
        assert_eq!(Sample::from_reply(origin, "x:1").unwrap().role, "origin");
        for wrong in [&b"x"[..], br#"{"status":"FORBIDDEN","data":"no"}"#, br#"{"status":"OK","data":null}"#]
        {
            assert!(Sample::from_reply(wrong, "x:1").is_err());
        }
    }

    #[test]
    fn a_node_is_drained_only_while_it_is_healthy() {
        let health = |node: Value| proxy_of("a:1", &node).health;
        assert_eq!(health(json!({ "healthy": true, "state": "draining" })), NodeHealth::Drained);
        assert_eq!(health(json!({ "healthy": true, "failures_in_a_row": 1 })), NodeHealth::Failing);
        assert_eq!(health(json!({ "healthy": false, "state": "draining" })), NodeHealth::Down);
    }
}
