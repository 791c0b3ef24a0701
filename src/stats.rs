//! Counting: what METRICS and every later view are made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

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
