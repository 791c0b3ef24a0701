//! What is pushed to the page every second, as JSON.

use serde::Serialize;
use serde_json::Value;

use super::events::{Event, unix_millis};
use super::history::History;
use super::nodes::{Health, Shown};
use crate::http::Role;

/// How many prefixes and keys are shown.
const BUSIEST: usize = 10;

/// The state of a node and those behind it.
#[derive(Serialize)]
pub(super) struct State<'a> {
    role: &'static str,
    name: &'a str,
    version: &'static str,
    now: u64,
    start_time: &'a str,
    strategy: Option<&'a str>,
    totals: Totals,
    origin: Health,
    nodes: &'a [Shown],
    prefixes: Vec<Busy>,
    hot_keys: Vec<Busy>,
    events: Vec<&'a Event>,
}

#[derive(Serialize)]
struct Totals {
    requests: f64,
    rate: f64,
    hit_ratio: Option<f64>,
    latency: Option<[f64; 3]>,
    fetch_rate: f64,
    in_flight: f64,
}

/// The part of all requests that went to one key, or to all keys beneath a prefix.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Busy {
    name: String,
    share: f64,
    /// Where it is told, the part of them that were hits.
    hit_rate: Option<f64>,
}

impl<'a> State<'a> {
    pub(super) fn of(history: &'a History, role: Role, name: &'a str, samples: &'a Value) -> Self {
        let point = history.points().back().copied().unwrap_or_default();
        let told: Vec<&Value> = history.told(samples).collect();
        Self {
            role: role.as_str(),
            name,
            version: env!("CARGO_PKG_VERSION"),
            now: unix_millis(),
            start_time: samples["start_time"].as_str().unwrap_or(""),
            strategy: samples["strategy"].as_str(),
            totals: Totals {
                requests: samples["total_requests"].as_f64().unwrap_or(0.0),
                rate: point.rate,
                hit_ratio: point.hit_ratio,
                latency: point.latency,
                fetch_rate: point.fetch_rate,
                in_flight: point.in_flight,
            },
            origin: history.origin(),
            nodes: history.nodes(),
            prefixes: busiest(&told, "prefixes", "prefix"),
            hot_keys: busiest(&told, "hot_keys", "key"),
            events: history.events().all().iter().rev().collect(),
        }
    }
}

/// Of all proxies together, from the list of this name in their METRICS: shares are weighed by the requests of each proxy.
fn busiest(told: &[&Value], list: &str, name: &str) -> Vec<Busy> {
    let weight = |told: &Value| told["total_requests"].as_f64().unwrap_or(0.0);
    let all: f64 = told.iter().map(|told| weight(told)).sum();
    let mut sums: Vec<Busy> = Vec::new();
    for told in told.iter().filter(|told| weight(told) > 0.0) {
        for one in told[list].as_array().into_iter().flatten() {
            let (Some(name), Some(share)) = (one[name].as_str(), one["share"].as_f64()) else { continue };
            let share = share * weight(told) / all;
            let hits = one["hit_rate"].as_f64().map(|rate| rate * share);
            match sums.iter_mut().find(|sum| sum.name == name) {
                Some(sum) => {
                    sum.share += share;
                    sum.hit_rate = sum.hit_rate.zip(hits).map(|(sum, hits)| sum + hits);
                }
                None => sums.push(Busy { name: name.to_owned(), share, hit_rate: hits }),
            }
        }
    }
    sums.sort_by(|a, b| b.share.total_cmp(&a.share));
    sums.truncate(BUSIEST);
    for sum in &mut sums {
        // Until here it was a part of all requests.
        sum.hit_rate = sum.hit_rate.map(|hits| if sum.share > 0.0 { hits / sum.share } else { 0.0 });
    }
    sums
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn weighs_what_proxies_tell() {
        let a = json!({ "total_requests": 300, "prefixes": [{ "prefix": "article", "share": 1.0, "hit_rate": 0.9 }],
            "hot_keys": [{ "key": "article/1", "share": 0.5 }] });
        let b = json!({ "total_requests": 100, "prefixes": [
            { "prefix": "article", "share": 0.6, "hit_rate": 0.5 }, { "prefix": "menu", "share": 0.4, "hit_rate": 1 }],
            "hot_keys": [{ "key": "article/1", "share": 0.1 }, { "key": "menu/main", "share": 0.4 }] });
        let idle = json!({ "total_requests": 0, "prefixes": [], "hot_keys": [] });
        let told = [&a, &b, &idle, &Value::Null];
        let found = busiest(&told, "prefixes", "prefix");
        assert_eq!((found[0].name.as_str(), found[0].share), ("article", 0.9));
        assert!((found[0].hit_rate.unwrap() - 300.0 / 360.0).abs() < 1e-9);
        let found = busiest(&told, "hot_keys", "key");
        assert_eq!(found[0], Busy { name: "article/1".to_owned(), share: 0.4, hit_rate: None });
        assert_eq!(found[1].name, "menu/main");
    }
}
