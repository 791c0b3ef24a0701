//! The METRICS of any node as one shape: what a view shows, read once, with nothing taken for granted.
//!
//! Older nodes print floats for whole numbers and know fewer fields: what is missing is 0, or not told.

use serde_json::Value;

use crate::wire::{ReplyView, Status};

/// Numbers that only grow, as long as the node lives.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Counts {
    pub(super) requests: f64,
    pub(super) hits: f64,
    pub(super) misses: f64,
    pub(super) errors: f64,
}

/// One node of a sample.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct NodeSample {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) is_well: bool,
    /// Whether it said how often it hit: a node that is down does not.
    pub(super) is_told: bool,
    pub(super) in_flight: f64,
    pub(super) counts: Counts,
}

/// What one METRICS said.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sample {
    pub(super) role: &'static str,
    /// What stands beside the role: the strategy, how many entries a cache holds.
    pub(super) detail: String,
    pub(super) start_time: String,
    pub(super) all: Counts,
    pub(super) in_flight: f64,
    pub(super) nodes: Vec<NodeSample>,
}

/// Reads a reply to METRICS.
pub(super) fn read(line: &[u8], peer: &str) -> Result<Sample, String> {
    let reply = ReplyView::parse(line).map_err(|error| error.to_string())?;
    if reply.status != Status::Ok {
        return Err(format!("METRICS was answered with {}: {}", reply.status.as_str(), reply.data));
    }
    let data: Value = serde_json::from_str(reply.data).map_err(|error| error.to_string())?;
    let start_time = data["start_time"].as_str().unwrap_or_default().to_owned();
    if let Some(proxies) = data["proxies"].as_object() {
        let nodes: Vec<NodeSample> = proxies.iter().map(|(name, node)| balanced(name, node)).collect();
        let sum = |of: fn(&NodeSample) -> f64| nodes.iter().map(of).sum::<f64>();
        let hits = sum(|node| node.counts.hits);
        let misses = sum(|node| node.counts.misses);
        let requests = match data.get("total_requests") {
            Some(requests) => requests.as_f64().unwrap_or(0.0),
            None => hits + misses,
        };
        let all = Counts { requests, hits, misses, errors: number(&data, "failures") };
        let detail = data["strategy"].as_str().unwrap_or_default().to_owned();
        let in_flight = sum(|node| node.in_flight);
        return Ok(Sample { role: "balancer", detail, start_time, all, in_flight, nodes });
    }
    let is_proxy = data.get("hits").is_some();
    let counts = counts(&data, number(&data, "origin_failures"));
    let is_well = data["origin_failing"] != Value::Bool(true);
    let node = NodeSample {
        name: peer.to_owned(),
        state: if is_well { "answers" } else { "origin fails" }.to_owned(),
        is_well,
        is_told: true,
        in_flight: number(&data, "fetches_in_flight"),
        counts,
    };
    Ok(Sample {
        role: if is_proxy { "proxy" } else { "origin" },
        detail: if is_proxy { format!("{} entries", number(&data, "entries")) } else { String::new() },
        start_time,
        all: counts,
        in_flight: node.in_flight,
        nodes: vec![node],
    })
}

/// A proxy as its balancer tells of it.
fn balanced(name: &str, node: &Value) -> NodeSample {
    let is_healthy = node["healthy"] == Value::Bool(true);
    let told = node["state"].as_str().map(str::to_owned);
    let own = counts(&node["metrics"], number(node, "errors"));
    // What the balancer sent it; an older balancer tells only what the proxy itself says.
    let requests = node["requests"].as_f64().unwrap_or(own.requests);
    NodeSample {
        name: name.to_owned(),
        state: told.unwrap_or_else(|| if is_healthy { "healthy" } else { "down" }.to_owned()),
        is_well: is_healthy,
        is_told: node["metrics"].is_object(),
        in_flight: number(node, "in_flight"),
        counts: Counts { requests, ..own },
    }
}

fn counts(data: &Value, errors: f64) -> Counts {
    let of = |name| number(data, name);
    Counts { requests: of("total_requests"), hits: of("hits"), misses: of("misses"), errors }
}

fn number(data: &Value, name: &str) -> f64 {
    data[name].as_f64().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_balancer_and_an_older_one() {
        let line = br#"{"status":"OK","data":{"strategy":"round_robin","current_index":1,"total_requests":9,"failures":1,"start_time":"t",
            "proxies":{"a:1":{"healthy":true,"metrics":{"total_requests":5,"hits":3,"misses":2},"in_flight":2,"requests":6,"errors":1},
                       "b:2":{"healthy":false,"metrics":null,"in_flight":0,"requests":3}}}}"#;
        let sample = read(line, "x:1").unwrap();
        assert_eq!(sample.all, Counts { requests: 9.0, hits: 3.0, misses: 2.0, errors: 1.0 });
        assert_eq!((sample.role, sample.in_flight, sample.nodes.len()), ("balancer", 2.0, 2));
        assert_eq!(sample.nodes[0].counts, Counts { requests: 6.0, hits: 3.0, misses: 2.0, errors: 1.0 });
        assert_eq!((sample.nodes[0].state.as_str(), sample.nodes[1].state.as_str()), ("healthy", "down"));

        let older = br#"{"status": "OK", "data": {"strategy": "x", "current_index": 0, "proxies": {"a:1": {"healthy": true, "metrics": {"total_requests": 5.0, "hits": 3.0, "misses": 2.0}}}}}"#;
        let sample = read(older, "x:1").unwrap();
        assert_eq!((sample.all.requests, sample.nodes[0].counts.requests), (5.0, 5.0));
    }

    #[test]
    fn reads_a_proxy_and_an_origin() {
        let proxy = br#"{"status":"OK","data":{"start_time":"t","total_requests":2,"hit_rate":0.5,"hits":1,"misses":1,"origin_failing":true}}"#;
        let sample = read(proxy, "x:1").unwrap();
        assert_eq!(
            (sample.role, sample.nodes[0].state.as_str(), sample.all.hits),
            ("proxy", "origin fails", 1.0)
        );
        let origin = br#"{"status":"OK","data":{"start_time":"t","total_requests":2}}"#;
        assert_eq!(read(origin, "x:1").unwrap().role, "origin");
        for wrong in [&b"x"[..], br#"{"status":"FORBIDDEN","data":"no"}"#] {
            assert!(read(wrong, "x:1").is_err());
        }
    }
}
