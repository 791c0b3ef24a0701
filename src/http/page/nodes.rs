//! One node as the page shows it: its state by the word of METRICS, its load by the growth of its numbers.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::events::{Events, Kind};
use super::rates::{Sum, Window};

/// Numbers of proxies are as old as the last poll: their rates are taken over several of them.
pub(super) const POLLED: Duration = Duration::from_secs(10);

/// How a node fares.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Health {
    #[default]
    Healthy,
    /// It answers, but has failed since; not yet given up.
    Failing,
    Down,
    /// Taken out on purpose.
    Drained,
}

/// What a node has done since we first heard of it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Done {
    pub(super) requests: f64,
    pub(super) hits: f64,
    pub(super) misses: f64,
    pub(super) fetches: f64,
}

impl Done {
    /// Both together.
    pub(super) fn and(self, other: Done) -> Done {
        Done {
            requests: self.requests + other.requests,
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            fetches: self.fetches + other.fetches,
        }
    }
}

/// What the page is told of a node.
#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) health: Health,
    rate: f64,
    pub(super) in_flight: f64,
    hit_ratio: Option<f64>,
    fetch_rate: f64,
    errors: f64,
    entries: Option<f64>,
    bytes: Option<f64>,
}

/// A proxy.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    health: Option<Health>,
    requests: Sum,
    hits: Sum,
    misses: Sum,
    fetches: Sum,
    purged: Sum,
    window: Window<Done>,
}

impl Node {
    pub(super) fn new(name: &str) -> Self {
        let sum = Sum::default();
        Self {
            name: name.to_owned(),
            health: None,
            requests: sum,
            hits: sum,
            misses: sum,
            fetches: sum,
            purged: sum,
            window: Window::new(POLLED),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A balancer's word on it.
    pub(super) fn hear(&mut self, told: &Value, now: Instant, events: &mut Events) -> Shown {
        let health = health_of(told);
        self.flip(health, told["why"].as_str().unwrap_or(""), events);
        self.requests.hear(told["requests"].as_f64());
        let mut shown = self.hear_itself(&told["metrics"], now, events);
        shown.health = health;
        shown.in_flight = told["in_flight"].as_f64().unwrap_or(0.0);
        shown.errors = told["errors"].as_f64().unwrap_or(0.0);
        shown
    }

    /// Its own word.
    pub(super) fn hear_itself(&mut self, told: &Value, now: Instant, events: &mut Events) -> Shown {
        self.hits.hear(told["hits"].as_f64());
        self.misses.hear(told["misses"].as_f64());
        self.fetches.hear(told["origin_fetches"].as_f64());
        let purged = self.purged.hear(told["purged"].as_f64());
        if purged > 0.0 {
            let entries = if purged == 1.0 { "entry" } else { "entries" };
            events.note(Kind::Purge, &self.name, format!("purged {purged} {entries}"));
        }
        let done = self.done();
        let past = self.window.push(now, done);
        let (rate, hit_ratio, fetch_rate) = past.map_or((0.0, None, 0.0), |(then, seconds)| {
            let (hits, misses) = (done.hits - then.hits, done.misses - then.misses);
            // A balancer counts what it sends; a proxy by itself what it answers.
            let requests =
                (done.requests - then.requests).max(if done.requests == 0.0 { hits + misses } else { 0.0 });
            let ratio = (hits + misses > 0.0).then(|| hits / (hits + misses));
            (requests / seconds, ratio, (done.fetches - then.fetches) / seconds)
        });
        Shown {
            name: self.name.clone(),
            rate,
            hit_ratio,
            fetch_rate,
            entries: told["entries"].as_f64(),
            bytes: told["bytes"].as_f64(),
            ..Shown::default()
        }
    }

    pub(super) fn done(&self) -> Done {
        Done {
            requests: self.requests.total(),
            hits: self.hits.total(),
            misses: self.misses.total(),
            fetches: self.fetches.total(),
        }
    }

    /// Tells what changed, and why if that is known.
    fn flip(&mut self, health: Health, why: &str, events: &mut Events) {
        let was = self.health.replace(health);
        let note = match (was, health) {
            (Some(Health::Down), Health::Down) | (Some(Health::Drained), Health::Drained) => None,
            (_, Health::Down) => Some((Kind::Down, "is down")),
            (_, Health::Drained) => Some((Kind::Drained, "is drained")),
            (Some(Health::Down), _) => Some((Kind::Back, "is back")),
            (Some(Health::Drained), _) => Some((Kind::Back, "takes requests again")),
            _ => None,
        };
        if let Some((kind, text)) = note {
            let because =
                if kind == Kind::Down && !why.is_empty() { format!(": {why}") } else { String::new() };
            events.note(kind, &self.name, format!("{text}{because}"));
        }
    }
}

fn health_of(told: &Value) -> Health {
    let is_drained = told["state"] == "draining";
    let failures = told["failures_in_a_row"].as_f64().unwrap_or(0.0);
    match told["healthy"] == true {
        false => Health::Down,
        true if is_drained => Health::Drained,
        true if failures > 0.0 => Health::Failing,
        true => Health::Healthy,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tells_flips_once() {
        let (mut node, mut events) = (Node::new("127.0.0.1:8001"), Events::default());
        let now = Instant::now();
        let mut hear = |told: Value| node.hear(&told, now, &mut events).health;
        assert_eq!(hear(json!({ "healthy": true })), Health::Healthy);
        assert_eq!(hear(json!({ "healthy": true, "failures_in_a_row": 1 })), Health::Failing);
        assert_eq!(hear(json!({ "healthy": false, "why": "late", "metrics": null })), Health::Down);
        assert_eq!(hear(json!({ "healthy": false })), Health::Down);
        assert_eq!(hear(json!({ "healthy": true })), Health::Healthy);
        assert_eq!(hear(json!({ "healthy": true, "state": "draining" })), Health::Drained);
        assert_eq!(hear(json!({ "healthy": true, "metrics": { "purged": 1 } })), Health::Healthy);
        assert_eq!(hear(json!({ "healthy": true, "metrics": { "purged": 4 } })), Health::Healthy);
        let told = serde_json::to_value(events.all()).unwrap();
        let texts: Vec<_> =
            told.as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap()).collect();
        assert_eq!(
            texts,
            ["is down: late", "is back", "is drained", "takes requests again", "purged 3 entries"]
        );
    }
}
