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
    prefixes: Vec<Prefix>,
    hot_keys: Vec<HotKey>,
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

/// The load of all keys beneath a prefix.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Prefix {
    prefix: String,
    requests: f64,
    hit_rate: f64,
}

/// The part of all requests that went to one key.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct HotKey {
    key: String,
    share: f64,
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
            prefixes: prefixes(&told),
            hot_keys: hot_keys(&told),
            events: history.events().all().iter().rev().collect(),
        }
    }
}

/// Of all proxies together: requests are summed, hits weighed by them.
fn prefixes(told: &[&Value]) -> Vec<Prefix> {
    let mut sums: Vec<Prefix> = Vec::new();
    for one in told.iter().filter_map(|told| told["prefixes"].as_array()).flatten() {
        let Some(prefix) = one["prefix"].as_str() else { continue };
        let requests = one["requests"].as_f64().unwrap_or(0.0);
        let hits = requests * one["hit_rate"].as_f64().unwrap_or(0.0);
        match sums.iter_mut().find(|sum| sum.prefix == prefix) {
            Some(sum) => (sum.requests, sum.hit_rate) = (sum.requests + requests, sum.hit_rate + hits),
            None => sums.push(Prefix { prefix: prefix.to_owned(), requests, hit_rate: hits }),
        }
    }
    for sum in &mut sums {
        sum.hit_rate = if sum.requests > 0.0 { sum.hit_rate / sum.requests } else { 0.0 };
    }
    sums.sort_by(|a, b| b.requests.total_cmp(&a.requests));
    sums.truncate(BUSIEST);
    sums
}

/// Of all proxies together: shares are weighed by the requests of each.
fn hot_keys(told: &[&Value]) -> Vec<HotKey> {
    let weight = |told: &Value| told["total_requests"].as_f64().unwrap_or(0.0);
    let all: f64 = told.iter().map(|told| weight(told)).sum();
    let mut sums: Vec<HotKey> = Vec::new();
    for told in told {
        for one in told["hot_keys"].as_array().into_iter().flatten() {
            let (Some(key), Some(share)) = (one["key"].as_str(), one["share"].as_f64()) else { continue };
            let share = if all > 0.0 { share * weight(told) / all } else { 0.0 };
            match sums.iter_mut().find(|sum| sum.key == key) {
                Some(sum) => sum.share += share,
                None => sums.push(HotKey { key: key.to_owned(), share }),
            }
        }
    }
    sums.sort_by(|a, b| b.share.total_cmp(&a.share));
    sums.truncate(BUSIEST);
    sums
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn weighs_what_proxies_tell() {
        let a = json!({ "total_requests": 300, "prefixes": [{ "prefix": "article", "requests": 300, "hit_rate": 0.9 }],
            "hot_keys": [{ "key": "article/1", "share": 0.5 }] });
        let b = json!({ "total_requests": 100, "prefixes": [
            { "prefix": "article", "requests": 60, "hit_rate": 0.5 }, { "prefix": "menu", "requests": 40, "hit_rate": 1 }],
            "hot_keys": [{ "key": "article/1", "share": 0.1 }, { "key": "menu/main", "share": 0.4 }] });
        let told = [&a, &b, &Value::Null];
        let found = prefixes(&told);
        assert_eq!((found[0].prefix.as_str(), found[0].requests), ("article", 360.0));
        assert!((found[0].hit_rate - 300.0 / 360.0).abs() < 1e-9);
        assert_eq!(hot_keys(&told)[0], HotKey { key: "article/1".to_owned(), share: 0.4 });
        assert_eq!(hot_keys(&told)[1].key, "menu/main");
    }
}
