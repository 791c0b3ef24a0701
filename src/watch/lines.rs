//! The view for programs: one JSON object a line.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::history::{History, Rates};

/// The line for this time; `peer` is the watched node. Rates have one decimal, ratios four.
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
            let mut row = numbers(history.node(&node.name), node.in_flight, node.counts.errors);
            row["node"] = node.name.as_str().into();
            row["state"] = node.state.as_str().into();
            row
        })
        .collect();
    let mut row = numbers(history.rates, sample.in_flight, sample.counts.errors);
    row["time"] = time.into();
    row["peer"] = peer.into();
    row["status"] = "OK".into();
    row["role"] = sample.role.into();
    row["total_requests"] = sample.counts.requests.unwrap_or(0.0).into();
    row["nodes"] = nodes.into();
    row.to_string()
}

fn numbers(rates: Rates, in_flight: f64, errors: Option<f64>) -> Value {
    json!({
        "requests_per_second": (rates.requests * 10.0).round() / 10.0,
        "hit_ratio": rates.hit_ratio.map(|ratio| (ratio * 1e4).round() / 1e4),
        "stale_ratio": rates.stale_ratio.map(|ratio| (ratio * 1e4).round() / 1e4),
        "in_flight": in_flight,
        "errors": errors.unwrap_or(0.0),
        "errors_per_second": (rates.errors * 10.0).round() / 10.0,
    })
}
