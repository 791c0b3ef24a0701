//! What came lately: rates and ratios out of numbers that only grow, and when the last answer was.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::sample::{Counts, NodeSample, Sample};

/// Points of a plot.
const POINTS: usize = 240;
/// A hit ratio is that of the last so many samples: a balancer polls its proxies more rarely than it is watched.
const WINDOW: usize = 10;
/// The points that stand beside the name of a node.
const NODE_POINTS: usize = 24;

/// What happened between two samples.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Rates {
    pub(super) requests: f64,
    pub(super) errors: f64,
    /// Of what was asked lately; `None` when nothing was.
    pub(super) hit_ratio: Option<f64>,
}

/// One thing that is counted, and its past.
#[derive(Default)]
pub(super) struct Track {
    counts: VecDeque<Counts>,
    pub(super) rates: Rates,
    /// Requests per second, the oldest first.
    pub(super) requests: VecDeque<u64>,
    /// Hit ratio in per cent.
    pub(super) hits: VecDeque<u64>,
}

impl Track {
    fn add(&mut self, counts: Counts, since: Option<Duration>, points: usize) {
        if let (Some(before), Some(since)) = (self.counts.back(), since) {
            let seconds = since.as_secs_f64().max(1e-3);
            self.rates.requests = grown(before.requests, counts.requests) / seconds;
            self.rates.errors = grown(before.errors, counts.errors) / seconds;
        }
        push(&mut self.counts, counts, WINDOW + 1);
        let first = self.counts.front().copied().unwrap_or_default();
        let hits = grown(first.hits, counts.hits);
        let asked = hits + grown(first.misses, counts.misses);
        self.rates.hit_ratio = (asked > 0.0).then(|| hits / asked);
        push(&mut self.requests, self.rates.requests.round() as u64, points);
        push(&mut self.hits, (self.rates.hit_ratio.unwrap_or(0.0) * 100.0).round() as u64, points);
    }
}

impl Track {
    /// Adds what a node did; tells how many hits and misses are new. What it does not tell is as it was.
    fn add_node(&mut self, node: &NodeSample, since: Option<Duration>) -> (f64, f64) {
        let mut counts = node.counts;
        let before = self.counts.back().copied().unwrap_or(counts);
        if !node.is_told {
            (counts.hits, counts.misses) = (before.hits, before.misses);
        }
        self.add(counts, since, NODE_POINTS);
        (grown(before.hits, counts.hits), grown(before.misses, counts.misses))
    }
}

/// By how much a counter has grown; one that begins anew has grown from nothing.
fn grown(before: f64, now: f64) -> f64 {
    if now >= before { now - before } else { now }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// All that a view shows.
#[derive(Default)]
pub(super) struct History {
    pub(super) last: Option<Sample>,
    pub(super) all: Track,
    pub(super) nodes: BTreeMap<String, Track>,
    /// Since when nothing was answered, and why; nothing while it is answered.
    pub(super) silence: Option<(SystemTime, String)>,
    answered: Option<Instant>,
}

impl History {
    /// One poll ended so, at this time by the clock and by the calendar.
    pub(super) fn add(&mut self, polled: Result<Sample, String>, now: Instant, date: SystemTime) {
        let sample = match polled {
            Ok(sample) => sample,
            Err(why) => {
                let since = self.silence.take().map_or(date, |(since, _)| since);
                self.silence = Some((since, why));
                self.all.rates = Rates::default();
                return;
            }
        };
        let since = self.answered.map(|answered| now.saturating_duration_since(answered));
        self.nodes.retain(|name, _| sample.nodes.iter().any(|node| node.name == *name));
        // Nodes come and go: what all did is the sum of what each did since it was seen before.
        let mut all = Counts { hits: 0.0, misses: 0.0, ..sample.all };
        if let Some(before) = self.all.counts.back() {
            (all.hits, all.misses) = (before.hits, before.misses);
        }
        for node in &sample.nodes {
            let track = self.nodes.entry(node.name.clone()).or_default();
            let (hits, misses) = track.add_node(node, since);
            (all.hits, all.misses) = (all.hits + hits, all.misses + misses);
        }
        self.all.add(all, since, POINTS);
        self.last = Some(sample);
        self.silence = None;
        self.answered = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, is_told: bool, counts: Counts) -> NodeSample {
        let (name, state) = (name.to_owned(), String::new());
        NodeSample { name, state, is_well: true, is_told, in_flight: 0.0, counts }
    }

    fn of(nodes: Vec<NodeSample>, all: Counts) -> Sample {
        let (detail, start_time) = (String::new(), String::new());
        Sample { role: "proxy", detail, start_time, all, in_flight: 0.0, nodes }
    }

    fn sample(requests: f64, hits: f64, misses: f64) -> Sample {
        let counts = Counts { requests, hits, misses, errors: 0.0 };
        of(vec![node("a", true, counts)], counts)
    }

    #[test]
    fn a_node_that_tells_nothing_for_a_while_changes_no_ratio() {
        let (mut history, begun) = (History::default(), Instant::now());
        // Each hits nine times of ten before we look, and never while we do.
        for second in 0..20_u32 {
            let counts = Counts { hits: 9e6, misses: 1e6 + f64::from(second), ..Counts::default() };
            let is_told = !(5..10).contains(&second);
            let other = node("b", is_told, if is_told { counts } else { Counts::default() });
            let nodes = match second < 15 {
                true => vec![node("a", true, counts), other],
                false => vec![node("a", true, counts)],
            };
            let sample = of(nodes, Counts::default());
            history.add(Ok(sample), begun + Duration::from_secs(second.into()), SystemTime::UNIX_EPOCH);
            let ratios = [&history.all, &history.nodes["a"]].map(|track| track.rates.hit_ratio);
            assert!(second == 0 || ratios == [Some(0.0); 2], "{second}: {ratios:?}");
        }
    }

    #[test]
    fn rates_survive_silence_and_a_restart() {
        let (mut history, begun, date) = (History::default(), Instant::now(), SystemTime::UNIX_EPOCH);
        let at = |seconds| begun + Duration::from_secs(seconds);
        history.add(Ok(sample(100.0, 80.0, 20.0)), at(0), date);
        assert_eq!(history.all.rates, Rates::default());
        history.add(Ok(sample(300.0, 230.0, 70.0)), at(2), date);
        assert_eq!(history.all.rates, Rates { requests: 100.0, errors: 0.0, hit_ratio: Some(0.75) });
        let later = date + Duration::from_secs(9);
        history.add(Err("gone".into()), at(3), date);
        history.add(Err("gone still".into()), at(4), later);
        assert_eq!(history.silence, Some((date, "gone still".into())));
        history.add(Ok(sample(30.0, 30.0, 0.0)), at(5), later);
        assert_eq!((history.silence.is_none(), history.all.rates.requests), (true, 10.0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut history, begun) = (History::default(), Instant::now());
        for i in 0..1000 {
            history.add(
                Ok(sample(i as f64, 0.0, 0.0)),
                begun + Duration::from_secs(i),
                SystemTime::UNIX_EPOCH,
            );
        }
        assert_eq!((history.all.requests.len(), history.all.counts.len()), (POINTS, WINDOW + 1));
    }
}
