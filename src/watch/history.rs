//! The recent past of a watched node: its last sample, rates as points of plots, and the time without a reply.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::samples::{Sample, Track, Tracks};

/// Points of a plot.
const POINTS: usize = 240;
/// Points of the plot in the row of a node.
const NODE_POINTS: usize = 24;

/// The rates of a node, or of all together.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Rates {
    /// Requests per second since the sample before.
    pub(super) requests: f64,
    /// Errors per second since the sample before.
    pub(super) errors: f64,
    /// Hits per GET of the last ten seconds; `None` without a GET.
    pub(super) hit_ratio: Option<f64>,
    /// Hits on stale documents per GET of the last ten seconds.
    pub(super) stale_ratio: Option<f64>,
}

impl Rates {
    fn of(track: &Track) -> Self {
        Self {
            requests: track.step.per_second(|counts| counts.requests),
            errors: track.step.per_second(|counts| counts.errors),
            hit_ratio: track.recent.counts.hit_ratio(),
            stale_ratio: track.recent.counts.stale_ratio(),
        }
    }
}

/// Everything that a view shows.
#[derive(Default)]
pub(super) struct History {
    /// The last METRICS.
    pub(super) last: Option<Sample>,
    tracks: Tracks,
    /// The rates over all nodes.
    pub(super) rates: Rates,
    /// Requests per second over all nodes, the oldest first.
    pub(super) requests: VecDeque<u64>,
    /// Hit ratio over all nodes in per cent, the oldest first.
    pub(super) hits: VecDeque<u64>,
    /// Requests per second of each node, the oldest first.
    pub(super) by_node: BTreeMap<String, VecDeque<u64>>,
    /// The first poll without a reply since the last reply, and the error of the last poll; `None` after a reply.
    pub(super) silence: Option<(SystemTime, String)>,
}

impl History {
    /// Adds the result of a poll, and its time by the monotonic and the wall clock.
    pub(super) fn add(&mut self, polled: Result<Sample, String>, now: Instant, date: SystemTime) {
        let sample = match polled {
            Ok(sample) => sample,
            Err(why) => {
                let since = self.silence.take().map_or(date, |(since, _)| since);
                self.silence = Some((since, why));
                self.rates = Rates::default();
                return;
            }
        };
        self.tracks.add(&sample, now);
        self.rates = Rates::of(&self.tracks.all);
        push(&mut self.requests, self.rates.requests, POINTS);
        push(&mut self.hits, self.rates.hit_ratio.unwrap_or(0.0) * 100.0, POINTS);
        self.by_node.retain(|name, _| sample.nodes.iter().any(|node| node.name == *name));
        for node in &sample.nodes {
            let requests = self.node(&node.name).requests;
            push(self.by_node.entry(node.name.clone()).or_default(), requests, NODE_POINTS);
        }
        self.last = Some(sample);
        self.silence = None;
    }

    /// The rates of a node.
    pub(super) fn node(&self, name: &str) -> Rates {
        self.tracks.node(name).map(Rates::of).unwrap_or_default()
    }
}

fn push(points: &mut VecDeque<u64>, value: f64, limit: usize) {
    if points.len() >= limit {
        points.pop_front();
    }
    points.push_back(value.round() as u64);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn sample(requests: u64) -> Result<Sample, String> {
        let metrics = json!({ "total_requests": requests, "hits": requests, "misses": 0 });
        Ok(Sample::from_metrics(&metrics, "a:1").unwrap())
    }

    #[test]
    fn silence_begins_with_the_first_poll_without_a_reply() {
        let (mut history, begin, date) = (History::default(), Instant::now(), SystemTime::UNIX_EPOCH);
        let at = |seconds| begin + Duration::from_secs(seconds);
        history.add(sample(100), at(0), date);
        history.add(sample(300), at(2), date);
        assert_eq!(
            history.rates,
            Rates { requests: 100.0, errors: 0.0, hit_ratio: Some(1.0), stale_ratio: Some(0.0) }
        );
        let later = date + Duration::from_secs(9);
        history.add(Err("refused".into()), at(3), date);
        history.add(Err("late".into()), at(4), later);
        assert_eq!((history.silence.take(), history.rates), (Some((date, "late".into())), Rates::default()));
        history.add(sample(30), at(5), later);
        assert_eq!((history.silence.is_none(), history.rates.requests), (true, 10.0));
    }

    #[test]
    fn plots_are_bounded() {
        let (mut history, begin) = (History::default(), Instant::now());
        for i in 0..1000 {
            history.add(sample(i), begin + Duration::from_secs(i), SystemTime::UNIX_EPOCH);
        }
        assert_eq!((history.requests.len(), history.by_node["a:1"].len()), (POINTS, NODE_POINTS));
    }
}
