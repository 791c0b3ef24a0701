//! The prefixes and keys with the most requests, over all proxies.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

/// At most this many are listed.
const BUSIEST: usize = 10;

/// The share of all requests that went to one key, or to all keys with one prefix.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Busy {
    name: String,
    /// 0 to 1.
    share: f64,
    /// The hits among these requests, 0 to 1; `None` where METRICS has no such number.
    hit_rate: Option<f64>,
}

/// Merges the list of this name in the METRICS of every proxy; an entry has its name in the member `name`. Each proxy's
/// shares are weighted by its requests.
pub fn busiest(metrics: &Value, list: &str, name: &str) -> Vec<Busy> {
    let reports: Vec<&Value> = match metrics["proxies"].as_object() {
        Some(proxies) => proxies.values().map(|node| &node["metrics"]).collect(),
        None => vec![metrics],
    };
    let weight = |report: &Value| report["total_requests"].as_f64().unwrap_or(0.0);
    let all: f64 = reports.iter().map(|report| weight(report)).sum();
    let mut sums: Vec<Busy> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for report in reports.into_iter().filter(|report| weight(report) > 0.0) {
        for entry in report[list].as_array().into_iter().flatten() {
            let (Some(name), Some(share)) = (entry[name].as_str(), entry["share"].as_f64()) else { continue };
            let share = share * weight(report) / all;
            let hits = entry["hit_rate"].as_f64().map(|rate| rate * share);
            let place = *places.entry(name).or_insert(sums.len());
            match sums.get_mut(place) {
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
        // Until here relative to all requests.
        sum.hit_rate = sum.hit_rate.map(|hits| if sum.share > 0.0 { hits / sum.share } else { 0.0 });
    }
    sums
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn weights_shares_by_the_requests_of_each_proxy() {
        let a = json!({ "total_requests": 300, "prefixes": [{ "prefix": "article", "share": 1.0, "hit_rate": 0.9 }],
            "hot_keys": [{ "key": "article/1", "share": 0.5 }] });
        let b = json!({ "total_requests": 100, "prefixes": [
            { "prefix": "article", "share": 0.6, "hit_rate": 0.5 }, { "prefix": "menu", "share": 0.4, "hit_rate": 1 }],
            "hot_keys": [{ "key": "article/1", "share": 0.1 }, { "key": "menu/main", "share": 0.4 }] });
        let idle = json!({ "total_requests": 0, "prefixes": [], "hot_keys": [] });
        let metrics = json!({ "proxies": { "a:1": { "metrics": a }, "b:2": { "metrics": b },
            "c:3": { "metrics": idle }, "d:4": { "metrics": null } } });
        let found = busiest(&metrics, "prefixes", "prefix");
        assert_eq!((found[0].name.as_str(), found[0].share), ("article", 0.9));
        assert!((found[0].hit_rate.unwrap() - 300.0 / 360.0).abs() < 1e-9);
        let found = busiest(&metrics, "hot_keys", "key");
        assert_eq!(found[0], Busy { name: "article/1".to_owned(), share: 0.4, hit_rate: None });
        assert_eq!(found[1].name, "menu/main");
    }
}
