//! Growth of the counters of a node and of the nodes behind it, across restarts and departures.

use std::collections::{BTreeMap, HashSet};
use std::ops::{Add, Sub};
use std::time::Duration;

use tokio::time::Instant;

use super::{Counters, Reported, Sample, SlidingWindow};

/// A balancer polls its proxies more rarely than views poll the balancer: ratios take several polls together.
const RECENT: Duration = Duration::from_secs(10);

/// By how much counters grew, and in which time.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Growth {
    /// The growth of each counter.
    pub counts: Counters,
    seconds: f64,
}

impl Growth {
    /// The growth of one counter per second; 0 before the second sample.
    pub fn per_second(&self, counter: impl Fn(&Counters) -> f64) -> f64 {
        if self.seconds > 0.0 { counter(&self.counts) / self.seconds } else { 0.0 }
    }
}

/// The counters of one node, or the sum over all of them.
#[derive(Default, Debug)]
pub struct Track {
    reported: Reported,
    total: Counters,
    /// The time of the last sample.
    last: Option<Instant>,
    totals: SlidingWindow<Counters>,
    /// Growth since the sample before.
    pub step: Growth,
    /// Growth over the last ten seconds.
    pub recent: Growth,
}

impl Track {
    fn grow(&mut self, counts: Counters, now: Instant) {
        let since = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        self.step = Growth { counts, seconds: since.unwrap_or_default().as_secs_f64() };
        self.total = self.total.zip(counts, f64::add);
        let oldest = self.totals.push(now, self.total, RECENT);
        let growth =
            |(then, seconds): (&Counters, f64)| Growth { counts: self.total.zip(*then, f64::sub), seconds };
        self.recent = oldest.map(growth).unwrap_or_default();
    }
}

/// The counters of all nodes in METRICS.
#[derive(Default, Debug)]
pub struct Tracks {
    /// The sum; it keeps the growth of nodes that have left since.
    pub all: Track,
    nodes: BTreeMap<String, Track>,
}

impl Tracks {
    /// Adds a sample of this time. Nodes that are not in it are forgotten.
    pub fn add(&mut self, sample: &Sample, now: Instant) {
        let names: HashSet<&str> = sample.nodes.iter().map(|node| &*node.name).collect();
        self.nodes.retain(|name, _| names.contains(&**name));
        let mut sum = Counters::default();
        for node in &sample.nodes {
            let track = self.nodes.entry(node.name.clone()).or_default();
            let growth = track.reported.advance(node.counts);
            track.grow(growth, now);
            sum = sum.zip(growth, f64::add);
        }
        // A balancer counts retries and hedges for the nodes, but each client's request once.
        let own = self.all.reported.advance(sample.counts);
        self.all.grow(Counters { requests: own.requests, errors: own.errors, ..sum }, now);
    }

    /// The counters of the node with this name.
    pub fn node(&self, name: &str) -> Option<&Track> {
        self.nodes.get(name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn add(tracks: &mut Tracks, begin: Instant, second: u64, metrics: &Value) {
        let sample = Sample::from_metrics(metrics, "a:1").unwrap();
        tracks.add(&sample, begin + Duration::from_secs(second));
    }

    #[test]
    fn a_node_that_reports_nothing_for_a_while_changes_no_ratio() {
        let (mut tracks, begin) = (Tracks::default(), Instant::now());
        // Nine of ten GETs hit before the first sample, and none after it.
        for second in 0..20_u64 {
            let node = json!({ "healthy": true, "metrics": { "hits": 9e6, "misses": 1e6 + second as f64 } });
            let other = match second {
                5..10 => json!({ "healthy": false, "metrics": null }),
                _ => node.clone(),
            };
            let metrics = match second < 15 {
                true => json!({ "proxies": { "a:1": node, "b:2": other } }),
                false => json!({ "proxies": { "a:1": node } }),
            };
            add(&mut tracks, begin, second, &metrics);
            let ratios = [&tracks.all, &tracks.nodes["a:1"]].map(|track| track.recent.counts.hit_ratio());
            assert!(second == 0 || ratios == [Some(0.0); 2], "{second}: {ratios:?}");
        }
    }

    #[test]
    fn rates_survive_a_restart() {
        let (mut tracks, begin) = (Tracks::default(), Instant::now());
        let proxy = |hits: u64, misses: u64| json!({ "total_requests": hits + misses, "hits": hits, "misses": misses });
        let rate = |tracks: &Tracks| tracks.all.step.per_second(|counts| counts.requests);
        add(&mut tracks, begin, 0, &proxy(80, 20));
        assert_eq!((rate(&tracks), tracks.all.recent), (0.0, Growth::default()));
        add(&mut tracks, begin, 2, &proxy(230, 70));
        assert_eq!((rate(&tracks), tracks.all.recent.counts.hit_ratio()), (100.0, Some(0.75)));
        add(&mut tracks, begin, 5, &proxy(30, 0));
        assert_eq!((rate(&tracks), tracks.all.recent.counts.hits), (10.0, 180.0));
    }

    #[test]
    fn the_growth_of_a_node_that_left_stays_in_the_sum() {
        let (mut tracks, begin) = (Tracks::default(), Instant::now());
        for second in 0..20_u64 {
            let n = 100 * second;
            let node = json!({ "healthy": true, "metrics": { "hits": n, "misses": n, "origin_fetches": n } });
            let metrics = match second < 15 {
                true => json!({ "proxies": { "a:1": node.clone(), "b:2": node.clone(), "c:3": node } }),
                false => json!({ "proxies": { "a:1": node } }),
            };
            add(&mut tracks, begin, second, &metrics);
            let fetches = tracks.all.recent.per_second(|counts| counts.fetches);
            assert!(second == 0 || fetches > 99.0, "{second}: {fetches}");
        }
        assert!(tracks.node("b:2").is_none());
    }
}
