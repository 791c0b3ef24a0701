//! The same for programs: one JSON object a line.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::history::{History, Rates};

/// What the history says at this time, about the node at `peer`.
pub(super) fn line(history: &History, peer: &str, date: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(date).to_string();
    if let Some((since, why)) = &history.silence {
        let since = humantime::format_rfc3339_seconds(*since).to_string();
        return json!({"time": time, "peer": peer, "status": "CLIENT_CONNECTION_ERROR", "no_answer_since": since, "error": why})
            .to_string();
    }
    let Some(sample) = &history.last else { return String::new() };
    let nodes: Vec<Value> = sample
        .nodes
        .iter()
        .map(|node| {
            let rates = history.nodes.get(&node.name).map(|track| track.rates).unwrap_or_default();
            let mut row = numbers(rates, node.in_flight, node.counts.errors);
            row["node"] = node.name.as_str().into();
            row["state"] = node.state.as_str().into();
            row
        })
        .collect();
    let mut row = numbers(history.all.rates, sample.in_flight, sample.all.errors);
    row["time"] = time.into();
    row["peer"] = peer.into();
    row["status"] = "OK".into();
    row["role"] = sample.role.into();
    row["total_requests"] = sample.all.requests.into();
    row["nodes"] = nodes.into();
    row.to_string()
}

fn numbers(rates: Rates, in_flight: f64, errors: f64) -> Value {
    json!({
        "requests_per_second": (rates.requests * 10.0).round() / 10.0,
        "hit_ratio": rates.hit_ratio.map(|ratio| (ratio * 1e4).round() / 1e4),
        "in_flight": in_flight,
        "errors": errors,
        "errors_per_second": (rates.errors * 10.0).round() / 10.0,
    })
}
