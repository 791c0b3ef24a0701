//! Counters, gauges and histograms behind METRICS and every view of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::per_core::PerCore;

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        // Relaxed: counters are read one by one, and no order between them is promised.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A [`Counter`] for what every request adds to: each core counts in a cache line of its own.
#[derive(Default, Debug)]
pub struct BusyCounter(PerCore<Counter>);

impl BusyCounter {
    /// Adds one.
    pub fn add_one(&self) {
        self.0.here().add_one();
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// The number of things that are under way now.
#[derive(Default, Debug)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Counts one until the guard is dropped.
    pub fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self)
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts one in a [`Gauge`] until it is dropped.
#[derive(Debug)]
pub struct Entered<'a>(&'a Gauge);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The time when a node started.
#[derive(Clone, Copy, Debug)]
pub struct StartTime(SystemTime);

impl StartTime {
    /// The wall clock's time. It is for showing only, never for measuring.
    pub fn now() -> Self {
        Self(SystemTime::now())
    }

    /// In the form of RFC 3339, in UTC, whole seconds.
    pub fn rfc3339(self) -> String {
        humantime::format_rfc3339_seconds(self.0).to_string()
    }
}

/// `part / whole`, and 0 where `whole` is 0.
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

/// A count of durations by buckets, and their sum.
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// The counts of one or more [`Histogram`]s at some moment.
#[derive(Clone, Default, Debug)]
pub struct Durations {
    /// The count of each bucket; the last bucket has no upper bound.
    counts: [u64; BOUNDS.len() + 1],
    nanos: u64,
}

impl Histogram {
    /// Counts a duration of `nanos` nanoseconds.
    pub fn record(&self, nanos: u64) {
        let bucket = BOUNDS.partition_point(|&bound| bound < nanos);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Durations {
    /// Adds the counts of a histogram.
    pub fn add(&mut self, histogram: &Histogram) {
        for (count, bucket) in self.counts.iter_mut().zip(&histogram.buckets) {
            *count += bucket.load(Ordering::Relaxed);
        }
        self.nanos += histogram.nanos.load(Ordering::Relaxed);
    }

    /// These counts less those of `earlier`.
    pub fn since(&self, earlier: &Durations) -> Durations {
        let counts = std::array::from_fn(|i| self.counts[i].saturating_sub(earlier.counts[i]));
        Durations { counts, nanos: self.nanos.saturating_sub(earlier.nanos) }
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all durations in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }

    /// The upper bound of each bucket in seconds, and its count; the last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = BOUNDS.iter().map(|&bound| bound as f64 / 1e9).chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied())
    }

    /// The `q`-quantile in seconds, `q` in 0..=1, interpolated within a bucket. `None` without any duration.
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
