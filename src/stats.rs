//! Counting: what METRICS and every later view are made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::per_core::PerCore;

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        // Counters are read one by one, as of some moment near now: no order between them is promised.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// As of now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A [`Counter`] for what every request adds to: each core counts in a cache line of its own.
#[derive(Default, Debug)]
pub struct BusyCounter(PerCore<Counter>);

impl BusyCounter {
    /// One more.
    pub fn add_one(&self) {
        self.0.here().add_one();
    }

    /// As of now.
    pub fn get(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// How many of something there are right now.
#[derive(Default, Debug)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Counts one for as long as the guard lives.
    pub fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self)
    }

    /// As of now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One that a [`Gauge`] counts.
#[derive(Debug)]
pub struct Entered<'a>(&'a Gauge);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When a node started, as people and Prometheus write it.
#[derive(Clone, Copy, Debug)]
pub struct StartTime(SystemTime);

impl StartTime {
    /// Now. The wall clock is for showing only.
    pub fn now() -> Self {
        Self(SystemTime::now())
    }

    /// As RFC 3339 writes it, in UTC.
    pub fn rfc3339(self) -> String {
        humantime::format_rfc3339_seconds(self.0).to_string()
    }

    /// Seconds since 1970.
    pub fn unix_seconds(self) -> f64 {
        self.0.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
    }
}

/// A part of a whole: 0 when there is no whole yet.
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The upper bounds of a [`Histogram`]'s buckets in nanoseconds: 1, 2, 5 of every decade from 10 µs to 10 s.
const BOUNDS: [u64; 19] = {
    let mut bounds = [10_000; 19];
    let mut i = 1;
    while i < bounds.len() {
        bounds[i] = if i % 3 == 2 { bounds[i - 1] / 2 * 5 } else { bounds[i - 1] * 2 };
        i += 1;
    }
    bounds
};

/// How often something took how long.
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// A [`Histogram`] as of some moment.
#[derive(Clone, Default, Debug)]
pub struct Durations {
    /// How many fell into each bucket; the last one has no bound.
    counts: [u64; BOUNDS.len() + 1],
    nanos: u64,
}

impl Histogram {
    /// Counts one that took so many nanoseconds.
    pub fn record(&self, nanos: u64) {
        let bucket = BOUNDS.partition_point(|&bound| bound < nanos);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Durations {
    /// Takes in what a histogram has counted.
    pub fn add(&mut self, histogram: &Histogram) {
        for (count, bucket) in self.counts.iter_mut().zip(&histogram.buckets) {
            *count += bucket.load(Ordering::Relaxed);
        }
        self.nanos += histogram.nanos.load(Ordering::Relaxed);
    }

    /// What came after `earlier`.
    pub fn since(&self, earlier: &Durations) -> Durations {
        let counts = std::array::from_fn(|i| self.counts[i].saturating_sub(earlier.counts[i]));
        Durations { counts, nanos: self.nanos.saturating_sub(earlier.nanos) }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }

    /// The bound of each bucket in seconds, and how many fell into it; the last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = BOUNDS.iter().map(|&bound| bound as f64 / 1e9).chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied())
    }

    /// Below how many seconds a part `q` of them stayed, to the precision of the buckets. `None` when there were none.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.count() as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (upper, count) in self.buckets().filter(|_| self.count() > 0) {
            let count = count as f64;
            if below + count >= rank && count > 0.0 {
                let part = (rank - below) / count;
                return Some(if upper.is_finite() { lower + (upper - lower) * part } else { lower });
            }
            (below, lower) = (below + count, upper);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_go_1_2_5() {
        assert_eq!(BOUNDS[..5], [10_000, 20_000, 50_000, 100_000, 200_000]);
        assert_eq!(BOUNDS.last(), Some(&10_000_000_000));
    }

    #[test]
    fn a_busy_counter_adds_its_cores_up() {
        let counter = BusyCounter::default();
        let add = || (0..1_000).for_each(|_| counter.add_one());
        std::thread::scope(|scope| (0..20).for_each(|_| drop(scope.spawn(add))));
        assert_eq!(counter.get(), 20_000);
    }

    #[test]
    fn finds_quantiles() {
        let histogram = Histogram::default();
        for millis in 1..=100_u64 {
            histogram.record(millis * 1_000_000);
        }
        let mut durations = Durations::default();
        assert_eq!(durations.quantile(0.5), None);
        durations.add(&histogram);
        let near = |q: f64, seconds: f64| (durations.quantile(q).unwrap() - seconds).abs() < 0.002;
        assert!(near(0.5, 0.050) && near(0.99, 0.099) && near(0.1, 0.010));
        assert!((durations.sum_seconds() - 5.05).abs() < 1e-9);
        assert_eq!(durations.since(&durations.clone()).count(), 0);
    }
}
