//! The state that is pushed to the page every second, as JSON.

use serde_json::{Value, json};

use super::changes::origin_fails;
use super::events::{Event, unix_millis};
use super::history::History;
use crate::http::Role;
use crate::samples::{NodeHealth, NodeSample, Track, busiest};

/// The state after the last moment of the history, which had these METRICS.
pub(super) fn state(history: &History, role: Role, name: &str, metrics: &Value) -> Value {
    let mut totals = json!(history.points().back().copied().unwrap_or_default());
    totals["requests"] = json!(metrics["total_requests"].as_f64().unwrap_or(0.0));
    let origin =
        if history.last().is_some_and(origin_fails) { NodeHealth::Down } else { NodeHealth::Healthy };
    json!({
        "role": role.as_str(),
        "name": name,
        "version": env!("CARGO_PKG_VERSION"),
        "now": unix_millis(),
        "start_time": metrics["start_time"].as_str().unwrap_or(""),
        "strategy": metrics["strategy"],
        "changes": history.last().map_or("", |sample| &sample.changes),
        "totals": totals,
        "origin": origin,
        "nodes": history.nodes().map(node).collect::<Vec<Value>>(),
        "prefixes": busiest(metrics, "prefixes", "prefix"),
        "hot_keys": busiest(metrics, "hot_keys", "key"),
        "events": history.events().all().iter().rev().collect::<Vec<&Event>>(),
    })
}

/// One node of the page's picture and table; rates and ratios are over ten seconds.
fn node((sample, track): (&NodeSample, &Track)) -> Value {
    json!({
        "name": sample.name,
        "health": sample.health,
        "why": sample.why,
        "origin_fails": sample.origin_fails,
        "rate": track.recent.per_second(|counts| counts.requests),
        "in_flight": sample.in_flight,
        "hit_ratio": track.recent.counts.hit_ratio(),
        "stale_ratio": track.recent.counts.stale_ratio(),
        "fetch_rate": track.recent.per_second(|counts| counts.fetches),
        "errors": sample.counts.errors.unwrap_or(0.0),
        "entries": sample.entries,
        "max_entries": sample.max_entries,
        "bytes": sample.bytes,
        "max_bytes": sample.max_bytes,
    })
}
