//! The last ten minutes of a node and of the nodes behind it, a point a second.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::changes::note_changes;
use super::events::{Events, Kind};
use crate::samples::{NodeSample, Sample, SlidingWindow, Track, Tracks};
use crate::stats::Durations;

/// The limit of points: ten minutes.
pub(super) const POINTS: usize = 600;
/// The node's own rate is taken over this time. It needs less than those of polled proxies: its numbers are never old.
const OWN: Duration = Duration::from_secs(3);

/// One second of the plots; `None` where there was nothing to measure.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub(super) struct Point {
    /// GETs per second.
    pub(super) rate: f64,
    /// Hits per GET over ten seconds.
    pub(super) hit_ratio: Option<f64>,
    /// Hits on stale documents per GET over ten seconds.
    pub(super) stale_ratio: Option<f64>,
    /// The median, the 90th and the 99th percentile of the time to a reply, in seconds.
    pub(super) latency: Option<[f64; 3]>,
    /// Requests to the origin per second.
    pub(super) fetch_rate: f64,
    /// GETs that wait for another node.
    pub(super) in_flight: f64,
}

/// The numbers of the node at one moment.
pub(super) struct Moment {
    /// The `data` of METRICS; `null` when it was not read.
    pub(super) metrics: Value,
    /// Of all GETs since the node started.
    pub(super) durations: Durations,
    /// GETs that wait for another node.
    pub(super) in_flight: u64,
}

/// Everything that the page shows.
#[derive(Debug)]
pub(super) struct History {
    name: String,
    points: VecDeque<Point>,
    last: Option<Sample>,
    tracks: Tracks,
    events: Events,
    durations: SlidingWindow<Durations>,
}

impl History {
    /// `name` is the node's own, as the page shows it.
    pub(super) fn new(name: String) -> Self {
        let mut events = Events::default();
        events.note(Kind::Started, &name, "started");
        Self {
            name,
            points: VecDeque::with_capacity(POINTS),
            last: None,
            tracks: Tracks::default(),
            events,
            durations: SlidingWindow::default(),
        }
    }

    /// Adds a moment and its point.
    pub(super) fn add(&mut self, moment: &Moment, now: Instant) {
        // Not read, or the node had no room for an answer: the nodes stay as they were.
        if let Some(sample) = Sample::from_metrics(&moment.metrics, &self.name) {
            self.tracks.add(&sample, now);
            note_changes(self.last.as_ref(), &sample, &self.tracks, &mut self.events);
            self.last = Some(sample);
        }
        let past = self.durations.push(now, moment.durations.clone(), OWN);
        let (rate, latency) = past.map_or((0.0, None), |(then, seconds)| {
            let recent = moment.durations.since(then);
            let within = |q| recent.quantile(q);
            let latency = within(0.5).zip(within(0.9)).zip(within(0.99)).map(|((a, b), c)| [a, b, c]);
            (recent.count() as f64 / seconds, latency)
        });
        let growth = self.tracks.all.recent;
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            rate,
            hit_ratio: growth.counts.hit_ratio(),
            stale_ratio: growth.counts.stale_ratio(),
            latency,
            fetch_rate: growth.per_second(|counts| counts.fetches),
            in_flight: moment.in_flight as f64,
        });
    }

    /// The points, the oldest first.
    pub(super) fn points(&self) -> &VecDeque<Point> {
        &self.points
    }

    /// The last METRICS.
    pub(super) fn last(&self) -> Option<&Sample> {
        self.last.as_ref()
    }

    /// The nodes of the last METRICS with their growth.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&NodeSample, &Track)> {
        let nodes = self.last.iter().flat_map(|sample| &sample.nodes);
        nodes.filter_map(|node| Some((node, self.tracks.node(&node.name)?)))
    }

    /// The recent events.
    pub(super) fn events(&self) -> &Events {
        &self.events
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn turns_counts_into_points() {
        let mut history = History::new("dproxy-9000".to_owned());
        let start = Instant::now();
        for second in 0..700_u64 {
            let n = 100 * second;
            let node = json!({ "healthy": true, "requests": n, "metrics": {
                "hits": n - n / 10, "misses": n / 10, "origin_fetches": n / 10, "origin_failing": second > 600 } });
            let metrics = json!({ "proxies": { "a:1": node } });
            let moment = Moment { metrics, durations: Durations::default(), in_flight: 7 };
            history.add(&moment, start + Duration::from_secs(second));
        }
        let point = *history.points().back().unwrap();
        assert_eq!(history.points().len(), POINTS);
        assert!((point.fetch_rate - 10.0).abs() < 1e-6 && point.in_flight == 7.0 && point.latency.is_none());
        assert!((point.hit_ratio.unwrap() - 0.9).abs() < 1e-9);
        assert_eq!(history.events().all().len(), 2, "it started, and the origin fails");
    }

    #[test]
    fn nodes_stay_while_metrics_are_refused() {
        let mut history = History::new("dproxy-9000".to_owned());
        let begin = Instant::now();
        let healthy = json!({ "proxies": { "a:1": { "healthy": true } } });
        for (second, metrics) in [healthy, Value::Null].into_iter().enumerate() {
            let moment = Moment { metrics, durations: Durations::default(), in_flight: 0 };
            history.add(&moment, begin + Duration::from_secs(second as u64));
        }
        assert_eq!(history.nodes().map(|(node, _)| node.name.as_str()).collect::<Vec<_>>(), ["a:1"]);
    }

    /// The time for adding a moment of `nodes` nodes and making its state: the least of some measurements.
    fn time_of(nodes: usize) -> Duration {
        let node = |n: usize| {
            let keys: Vec<_> =
                (0..4).map(|key| json!({ "key": format!("k/{n}-{key}"), "share": 0.1 })).collect();
            let metrics = json!({ "total_requests": 9, "hits": 5, "hot_keys": keys });
            (format!("10.0.0.1:{n}"), json!({ "healthy": true, "metrics": metrics }))
        };
        let proxies: serde_json::Map<String, Value> = (0..nodes).map(node).collect();
        let moment =
            Moment { metrics: json!({ "proxies": proxies }), durations: Durations::default(), in_flight: 0 };
        let mut history = History::new("dproxy-9000".to_owned());
        let once = |_| {
            let began = std::time::SystemTime::now();
            history.add(&moment, Instant::now());
            super::super::state::state(&history, crate::http::Role::Balancer, "a", &moment.metrics);
            began.elapsed().unwrap_or(Duration::MAX)
        };
        (0..5).map(once).min().unwrap()
    }

    #[test]
    fn a_moment_costs_as_much_as_it_has_nodes_and_not_their_square() {
        let (few, many) = (time_of(400), time_of(12_800));
        assert!(many < few * 32 * 6, "{few:?} for 400 nodes, {many:?} for 12 800");
    }
}
