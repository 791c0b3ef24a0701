//! The latency of a node: percentiles of the last ten seconds, and an average that forgets fast.
//!
//! Buckets of a quarter of an octave: an error of at most 19 %, in a few hundred bytes and without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::clock::Millis;
use crate::per_core::PerCore;

const OCTAVES: usize = 27;
const BUCKETS: usize = OCTAVES * 4;
/// A failure counts as a reply with at least this latency.
const PENALTY_US: u64 = 1_000_000;
/// Without replies the average is halved in this time.
const HALF_LIFE: Millis = 1_000;

/// Latencies and numbers of requests.
pub(super) struct Latency {
    cores: PerCore<Core>,
    turn: AtomicUsize,
}

/// The part of one core: two windows, of which the older one is cleared in turn.
struct Core {
    sent: AtomicU64,
    /// May be below 0 where a request ends on another core than it began on: only the sum over all cores counts.
    in_flight: AtomicU64,
    windows: [[AtomicU32; BUCKETS]; 2],
    answered: AtomicU64,
    hits: AtomicU64,
    average_us: AtomicU64,
    /// When the average last changed.
    changed: AtomicU64,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, serde::Serialize)]
pub(super) struct Percentiles {
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

/// The number of replies in each bucket of latency.
#[derive(Clone)]
pub(super) struct Counts([u64; BUCKETS]);

/// The bucket of a latency: the octave is its highest bit, the quarter the two bits below.
fn bucket(us: u64) -> usize {
    let us = us.max(4);
    let octave = us.ilog2() as usize;
    let quarter = ((us >> (octave - 2)) & 3) as usize;
    ((octave - 2) * 4 + quarter).min(BUCKETS - 1)
}

/// The upper end of a bucket.
fn upper_us(bucket: usize) -> u64 {
    let (octave, quarter) = (bucket / 4 + 2, bucket as u64 % 4);
    (1 << octave) + (quarter + 1) * (1 << (octave - 2))
}

impl Core {
    fn new() -> Self {
        let window = || std::array::from_fn(|_| AtomicU32::new(0));
        let (sent, in_flight, answered, hits, average_us, changed) = Default::default();
        Self { sent, in_flight, windows: [window(), window()], answered, hits, average_us, changed }
    }

    fn average_us(&self, now: Millis) -> u64 {
        let idle = now.saturating_sub(self.changed.load(Ordering::Relaxed)) / HALF_LIFE;
        self.average_us.load(Ordering::Relaxed) >> idle.min(63)
    }
}

impl Latency {
    /// Nothing yet, on this number of cores.
    pub(super) fn new(cores: usize) -> Self {
        Self { cores: PerCore::new(cores, Core::new), turn: AtomicUsize::new(0) }
    }

    /// A request was sent: it is in flight until [`Latency::end`].
    pub(super) fn begin(&self) {
        let core = self.cores.here();
        core.sent.fetch_add(1, Ordering::Relaxed);
        core.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that was sent is not in flight any more.
    pub(super) fn end(&self) {
        self.cores.here().in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether this core has its share of a limit of `most` requests in flight.
    pub(super) fn is_full(&self, most: u64) -> bool {
        let here = self.cores.here().in_flight.load(Ordering::Relaxed).cast_signed();
        here >= most.div_ceil(self.cores.count() as u64).cast_signed()
    }

    /// The number of requests in flight.
    pub(super) fn in_flight(&self) -> u64 {
        let add = |sum: u64, core: &Core| sum.wrapping_add(core.in_flight.load(Ordering::Relaxed));
        // The cores are read one by one, so a request that moves between cores meanwhile may bring the sum below 0.
        self.cores.iter().fold(0, add).cast_signed().max(0).cast_unsigned()
    }

    /// The number of requests sent.
    pub(super) fn sent(&self) -> u64 {
        self.cores.iter().map(|core| core.sent.load(Ordering::Relaxed)).sum()
    }

    /// Notes the latency of a reply, and whether its document was cached.
    pub(super) fn record(&self, took: Duration, hit: bool, now: Millis) {
        let us = took.as_micros() as u64;
        let core = self.cores.here();
        core.answered.fetch_add(1, Ordering::Relaxed);
        if hit {
            core.hits.fetch_add(1, Ordering::Relaxed);
        }
        let window = self.turn.load(Ordering::Relaxed) & 1;
        core.windows[window][bucket(us)].fetch_add(1, Ordering::Relaxed);
        let old = core.average_us.load(Ordering::Relaxed);
        // Two threads that write at once lose one of two samples, which is harmless.
        core.average_us.store(old - old / 8 + us / 8, Ordering::Relaxed);
        if core.changed.load(Ordering::Relaxed) != now {
            core.changed.store(now, Ordering::Relaxed);
        }
    }

    /// Notes a failure as a slow reply: a node that fails fast must not look fast.
    pub(super) fn penalise(&self, now: Millis) {
        let core = self.cores.here();
        let old = core.average_us.load(Ordering::Relaxed);
        core.average_us.store(old / 2 + PENALTY_US.max(old) / 2, Ordering::Relaxed);
        core.changed.store(now, Ordering::Relaxed);
    }

    /// The recent average in microseconds on the core where it is worst. Without replies it fades, so that a node that was
    /// slow is tried again.
    pub(super) fn average_us(&self, now: Millis) -> u64 {
        self.cores.iter().map(|core| core.average_us(now)).max().unwrap_or_default()
    }

    /// The number of replies.
    pub(super) fn answered(&self) -> u64 {
        self.cores.iter().map(|core| core.answered.load(Ordering::Relaxed)).sum()
    }

    /// The number of replies from the cache.
    pub(super) fn hits(&self) -> u64 {
        self.cores.iter().map(|core| core.hits.load(Ordering::Relaxed)).sum()
    }

    /// Begins a new window in place of the older one.
    pub(super) fn turn(&self) {
        let next = (self.turn.load(Ordering::Relaxed) + 1) & 1;
        for core in self.cores.iter() {
            core.windows[next].iter().for_each(|count| count.store(0, Ordering::Relaxed));
        }
        self.turn.store(next, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let windows = || self.cores.iter().flat_map(|core| &core.windows);
        let at =
            |bucket: usize| windows().map(|window| u64::from(window[bucket].load(Ordering::Relaxed))).sum();
        Counts(std::array::from_fn(at))
    }
}

impl Counts {
    pub(super) fn none() -> Self {
        Self([0; BUCKETS])
    }

    pub(super) fn add(&mut self, other: &Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(ours, theirs)| *ours += theirs);
    }

    /// The difference of two, not below 0.
    pub(super) fn without(&self, other: &Counts) -> Counts {
        Counts(std::array::from_fn(|at| self.0[at].saturating_sub(other.0[at])))
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The quantile of this `part`, from 0 to 1, in microseconds; 0 without replies.
    pub(super) fn quantile_us(&self, part: f64) -> u64 {
        let wanted = (self.total() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0, upper_us)
    }

    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let ms = |part| self.quantile_us(part) as f64 / 1_000.0;
        (self.total() > 0).then(|| Percentiles {
            p50: ms(0.5),
            p90: ms(0.9),
            p95: ms(0.95),
            p99: ms(0.99),
            max: ms(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        for us in 4..100_000u64 {
            let upper = upper_us(bucket(us));
            assert!(upper > us && upper as f64 <= us as f64 * 1.26 + 1.0, "{us} {upper}");
            assert!(bucket(us + 1) == bucket(us) || bucket(us + 1) == bucket(us) + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_two_windows() {
        let latency = Latency::new(2);
        (1..=1000).for_each(|ms| latency.record(Duration::from_millis(ms), true, 0));
        let p95 = latency.counts().quantile_us(0.95);
        assert!((950_000..1_200_000).contains(&p95), "{p95}");
        latency.turn();
        assert_eq!(latency.counts().total(), 1000);
        latency.turn();
        assert_eq!(latency.counts().total(), 0);
        assert!(latency.counts().percentiles().is_none());
    }

    #[test]
    fn the_average_follows_counts_failures_and_fades() {
        let latency = Latency::new(2);
        (0..100).for_each(|_| latency.record(Duration::from_millis(8), false, 5));
        let average = latency.average_us(5);
        assert!((7_900..=8_000).contains(&average), "{average}");
        latency.penalise(6);
        assert!(latency.average_us(6) > 500_000);
        assert!(latency.average_us(20_000) < 10);
    }
}
