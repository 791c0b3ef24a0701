//! The last ten minutes of a node and those behind it, a point a second.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::events::{Events, Kind};
use super::nodes::{Done, Health, Node, POLLED, Shown};
use super::rates::Window;
use crate::http::Role;
use crate::stats::Durations;

/// How many points are kept: ten minutes.
pub(super) const POINTS: usize = 600;
/// Our own numbers are as of now: their rates are taken over little.
const OWN: Duration = Duration::from_secs(3);

/// How things were within one second; `None` where there was nothing to measure.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Point {
    pub(super) rate: f64,
    pub(super) hit_ratio: Option<f64>,
    /// Half, nine of ten, and 99 of 100 answers came within so many seconds.
    pub(super) latency: Option<[f64; 3]>,
    pub(super) fetch_rate: f64,
    pub(super) in_flight: f64,
}

/// What a node says of itself at one moment.
pub(super) struct Heard {
    pub(super) samples: Value,
    pub(super) durations: Durations,
    pub(super) in_flight: u64,
}

/// All that the page shows.
#[derive(Debug)]
pub(super) struct History {
    role: Role,
    own_name: String,
    points: VecDeque<Point>,
    nodes: Vec<Node>,
    /// What nodes did that have left.
    left: Done,
    shown: Vec<Shown>,
    events: Events,
    durations: Window<Durations>,
    done: Window<Done>,
    origin_fails: bool,
}

impl History {
    pub(super) fn new(role: Role, own_name: String) -> Self {
        let mut events = Events::default();
        events.note(Kind::Started, &own_name, "started");
        Self {
            role,
            own_name,
            points: VecDeque::with_capacity(POINTS),
            nodes: Vec::new(),
            left: Done::default(),
            shown: Vec::new(),
            events,
            durations: Window::new(OWN),
            done: Window::new(POLLED),
            origin_fails: false,
        }
    }

    /// Takes in one moment.
    pub(super) fn hear(&mut self, heard: &Heard, now: Instant) {
        self.hear_nodes(&heard.samples, now);
        self.hear_origin(&heard.samples);
        let past = self.durations.push(now, heard.durations.clone());
        let (rate, latency) = past.map_or((0.0, None), |(then, seconds)| {
            let lately = heard.durations.since(then);
            let within = |q| lately.quantile(q);
            let latency = within(0.5).zip(within(0.9)).zip(within(0.99)).map(|((a, b), c)| [a, b, c]);
            (lately.count() as f64 / seconds, latency)
        });
        let done = self.nodes.iter().map(Node::done).fold(self.left, Done::and);
        let (hit_ratio, fetch_rate) = self.done.push(now, done).map_or((None, 0.0), |(then, seconds)| {
            let (hits, misses) = (done.hits - then.hits, done.misses - then.misses);
            ((hits + misses > 0.0).then(|| hits / (hits + misses)), (done.fetches - then.fetches) / seconds)
        });
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        let in_flight = heard.in_flight as f64;
        self.points.push_back(Point { rate, hit_ratio, latency, fetch_rate, in_flight });
    }

    fn hear_nodes(&mut self, samples: &Value, now: Instant) {
        let Self { nodes, left, events, shown, .. } = self;
        if self.role == Role::Proxy {
            if nodes.is_empty() {
                nodes.push(Node::new(&self.own_name));
            }
            *shown = nodes.iter_mut().map(|node| node.hear_itself(samples, now, events)).collect();
            return;
        }
        let Some(proxies) = samples["proxies"].as_object() else { return };
        let gone = nodes.extract_if(.., |node| !proxies.contains_key(node.name()));
        *left = gone.map(|node| node.done()).fold(*left, Done::and);
        for name in proxies.keys() {
            if !nodes.iter().any(|node| node.name() == name) {
                nodes.push(Node::new(name));
            }
        }
        *shown = nodes.iter_mut().map(|node| node.hear(&proxies[node.name()], now, events)).collect();
    }

    fn hear_origin(&mut self, samples: &Value) {
        let fails = self.told(samples).any(|told| told["origin_failing"] == true);
        if fails != std::mem::replace(&mut self.origin_fails, fails) {
            let (kind, text) = match fails {
                true => (Kind::Down, "fails; what is cached is served"),
                false => (Kind::Back, "answers again"),
            };
            self.events.note(kind, "origin", text);
        }
    }

    /// What each proxy says of itself.
    pub(super) fn told<'a>(&self, samples: &'a Value) -> impl Iterator<Item = &'a Value> + use<'a> {
        let own = (self.role == Role::Proxy).then_some(samples);
        let proxies = samples["proxies"].as_object().into_iter().flatten().map(|(_, node)| &node["metrics"]);
        proxies.chain(own)
    }

    pub(super) fn points(&self) -> &VecDeque<Point> {
        &self.points
    }

    pub(super) fn nodes(&self) -> &[Shown] {
        &self.shown
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    pub(super) fn origin(&self) -> Health {
        if self.origin_fails { Health::Down } else { Health::Healthy }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn turns_counts_into_points() {
        let mut history = History::new(Role::Balancer, "dproxy-9000".to_owned());
        let start = Instant::now();
        for second in 0..700_u64 {
            let n = 100 * second;
            let node = json!({ "healthy": true, "requests": n, "metrics": {
                "hits": n - n / 10, "misses": n / 10, "origin_fetches": n / 10, "origin_failing": second > 600 } });
            let samples = json!({ "proxies": { "a:1": node } });
            let heard = Heard { samples, durations: Durations::default(), in_flight: 7 };
            history.hear(&heard, start + Duration::from_secs(second));
        }
        let point = *history.points().back().unwrap();
        assert_eq!(history.points().len(), POINTS);
        assert!((point.fetch_rate - 10.0).abs() < 1e-6 && point.in_flight == 7.0 && point.latency.is_none());
        assert!((point.hit_ratio.unwrap() - 0.9).abs() < 1e-9);
        assert_eq!((history.origin(), history.events().all().len()), (Health::Down, 2));
    }

    #[test]
    fn what_a_node_did_before_it_left_stays_counted() {
        let mut history = History::new(Role::Balancer, "dproxy-9000".to_owned());
        let start = Instant::now();
        for second in 0..20_u64 {
            let n = 100 * second;
            let node = json!({ "healthy": true, "metrics": { "hits": n, "misses": n, "origin_fetches": n } });
            let samples = match second < 15 {
                true => json!({ "proxies": { "a:1": node.clone(), "b:2": node.clone(), "c:3": node } }),
                false => json!({ "proxies": { "a:1": node } }),
            };
            let heard = Heard { samples, durations: Durations::default(), in_flight: 0 };
            history.hear(&heard, start + Duration::from_secs(second));
            let point = history.points().back().unwrap();
            assert!(second == 0 || point.fetch_rate > 99.0, "{second}: {point:?}");
        }
    }
}
