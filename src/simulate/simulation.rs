//! The simulated caches of one type and size, one at each proxy, and what came of them.

use std::collections::HashSet;
use std::time::Duration;

use super::{LeftOut, TraceFormat};
use crate::lb::balance::Strategy;
use crate::proxy::cache::{Bounds, Cache, CacheType, Entry, Layout, Millis, build_as};
use serde::Serialize;

/// Seed of the hash that maps keys to shards: every run gives the same result.
const SEED: u64 = 0;

/// The bound in entries or bytes that is none.
pub(super) const UNBOUNDED: Bounds = Bounds { entries: Bounds::MOST_ENTRIES, bytes: usize::MAX };

/// The result of one replay.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Replay {
    /// The name of the trace.
    pub trace: String,
    /// `ttl`, `lru` or `s3fifo`.
    #[serde(serialize_with = "name")]
    pub cache_type: CacheType,
    /// Several proxies.
    #[serde(flatten)]
    pub fleet: Option<OfFleet>,
    /// In entries at each proxy; `None` if only bytes were bounded.
    pub capacity: Option<usize>,
    /// In bytes at each proxy, bookkeeping included; `None` if only entries were bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// With bounds in bytes: those of a cache that has 95 % of the hits of an endless one, by `lru`, at each proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enough_bytes: Option<u64>,
    /// How long an entry was fresh, in seconds; `None` if it did not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<f64>,
    /// In how many parts the cache evicted: [`Layout::shards`].
    pub shards: usize,
    /// Number of requests in the trace.
    pub requests: u64,
    /// Requests whose key was not in the cache of its proxy, or not fresh.
    pub misses: u64,
    /// `misses` over `requests`; 0 without requests.
    pub miss_ratio: f64,
    /// Of an access log: what it is, and which of its lines did not count.
    #[serde(flatten)]
    pub log: Option<Log>,
}

/// What there is to tell of several proxies.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct OfFleet {
    /// How many there are.
    pub proxies: usize,
    /// How the balancer chose one.
    #[serde(serialize_with = "strategy_name")]
    pub strategy: Strategy,
    /// At how many of them a key was held at the end, on average over the keys that were held; 0 without any.
    pub copies: f64,
}

/// What was read of an access log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Log {
    /// Its format.
    #[serde(serialize_with = "format_name")]
    pub trace_format: TraceFormat,
    /// Lines that did not count.
    pub left_out: LeftOut,
}

fn name<S: serde::Serializer>(cache_type: &CacheType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cache_type.name())
}

fn strategy_name<S: serde::Serializer>(strategy: &Strategy, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(strategy.as_str())
}

fn format_name<S: serde::Serializer>(format: &TraceFormat, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(format.name())
}

/// Caches that requests are replayed against.
pub struct Simulation {
    /// By proxy.
    caches: Box<[Box<dyn Cache>]>,
    cache_type: CacheType,
    bounds: Bounds,
    shards: usize,
    ttl: Option<Duration>,
    requests: u64,
    misses: u64,
}

impl Simulation {
    /// Empty caches of `proxies` proxies, in `shards` shards, or as many as a proxy would choose; entries are fresh for `ttl`,
    /// for ever without.
    pub fn new(
        cache_type: CacheType,
        bounds: Bounds,
        shards: Option<usize>,
        ttl: Option<Duration>,
        proxies: usize,
    ) -> Self {
        let layout = Layout::of(bounds).with_seed(SEED);
        let layout = match shards {
            Some(shards) => layout.with_shards(shards),
            None => layout,
        };
        let caches = (0..proxies).map(|_| build_as(cache_type, &layout)).collect();
        let shards = layout.shards(cache_type);
        Self { caches, cache_type, bounds, shards, ttl, requests: 0, misses: 0 }
    }

    /// A get at `now` at a proxy, and after a miss an insert of a document of `size` bytes.
    pub fn request(&mut self, proxy: usize, key: &str, now: Millis, size: usize) {
        self.requests += 1;
        let cache = &self.caches[proxy];
        if cache.get(key).is_none_or(|entry| !entry.is_fresh(now)) {
            self.misses += 1;
            cache.insert(Entry::stand_in(key, size, now, self.ttl));
        }
    }

    /// What came of the requests so far, which are those of `trace`, and of several proxies were sent by a `strategy`.
    pub fn replay(&self, trace: &str, log: Option<Log>, strategy: Option<Strategy>) -> Replay {
        let &Self { bounds, requests, misses, .. } = self;
        Replay {
            trace: trace.to_owned(),
            cache_type: self.cache_type,
            fleet: strategy.map(|strategy| {
                let (proxies, copies) = (self.caches.len(), self.copies());
                OfFleet { proxies, strategy, copies }
            }),
            capacity: Some(bounds.entries).filter(|&entries| entries != UNBOUNDED.entries),
            max_bytes: Some(bounds.bytes).filter(|&bytes| bytes != UNBOUNDED.bytes),
            enough_bytes: None,
            ttl: self.ttl.map(|ttl| ttl.as_secs_f64()),
            shards: self.shards,
            requests,
            misses,
            miss_ratio: if requests == 0 { 0.0 } else { misses as f64 / requests as f64 },
            log,
        }
    }

    /// Entries in all caches for each different key among them.
    fn copies(&self) -> f64 {
        let (mut keys, mut entries) = (HashSet::new(), 0_u64);
        for cache in &self.caches {
            for slice in 0..cache.slices() {
                cache.retain(slice, &mut |entry| {
                    entries += 1;
                    keys.insert(entry.key().to_owned());
                    true
                });
            }
        }
        entries as f64 / keys.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_past_its_time_is_a_miss() {
        let ttl = Some(Duration::from_secs(30));
        for cache_type in CacheType::ALL {
            let mut simulation = Simulation::new(cache_type, UNBOUNDED, None, ttl, 1);
            // Fetched at 0, again at 30 and at 75; a line that is late by a second is a hit.
            for second in [0, 29, 30, 29, 45, 75] {
                simulation.request(0, "a/1", Millis(1_000_000 + second * 1000), 1);
            }
            let replay = simulation.replay("a", None, None);
            assert_eq!((replay.requests, replay.misses, replay.ttl), (6, 3, Some(30.0)), "{cache_type}");
            assert_eq!((replay.capacity, replay.max_bytes), (None, None));
        }
    }

    #[test]
    fn each_proxy_has_a_cache_of_its_own() {
        let bounds = Bounds { entries: 2, ..UNBOUNDED };
        let mut simulation = Simulation::new(CacheType::Lru, bounds, Some(1), None, 2);
        // The first proxy misses a, b, then c, which evicts a, and a again; the second a, once.
        for (proxy, key) in [(0, "a"), (1, "a"), (0, "b"), (1, "a"), (0, "a"), (0, "b"), (0, "c"), (0, "a")] {
            simulation.request(proxy, key, Millis(0), 1);
        }
        let replay = simulation.replay("a", None, Some(Strategy::RoundRobin));
        assert_eq!((replay.requests, replay.misses), (8, 5));
        // Held at the end: c and a, and a.
        let fleet = OfFleet { proxies: 2, strategy: Strategy::RoundRobin, copies: 1.5 };
        assert_eq!(replay.fleet, Some(fleet));
        let json = serde_json::to_value(&replay).expect("plain values");
        assert_eq!((&json["strategy"], &json["capacity"]), (&"round_robin".into(), &2.into()));
    }

    #[test]
    fn bytes_are_bounded_with_bookkeeping() {
        let entry = Entry::stand_in("a/10", 1000, Millis(0), None);
        let weight = Simulation::new(CacheType::Lru, UNBOUNDED, None, None, 1).caches[0].weight(&entry);
        let misses = |bytes| {
            let bounds = Bounds { bytes, ..UNBOUNDED };
            let mut simulation = Simulation::new(CacheType::Lru, bounds, None, None, 1);
            for request in 0..200 {
                simulation.request(0, &format!("a/{}", request % 100), Millis(0), 1000);
            }
            simulation.replay("a", None, None).misses
        };
        assert_eq!((misses(100 * weight), misses(100 * weight - 1)), (100, 200));
        assert_eq!(misses(16 * weight - 1), 200, "larger than a sixteenth: never kept");
    }
}
