//! The cache of `--cache-type lru`: shards, each an exact LRU under its own mutex. The hash of a key chooses the shard.
//!
//! A DashMap would not do: its readers share a lock, while every hit of an exact LRU moves its entry. Bounds are kept for
//! all shards together, so that the capacity is exact, and so that a large document does not evict all of its shard. A shard
//! evicts only while it holds an average share of the entries or more: first the shard that has grown, then one after the
//! other. So shards stay as even as the hash makes them.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use foldhash::quality::SeedableRandomState;

use super::lru::Lru;
use super::usage::{Limit, UsageCounter};
use super::{Bounds, Cache, Entry, SLICE, Usage};
use crate::lock::lock;

/// Bytes of a node of the crate's list, of the slot of its map, and of a place: the most that was measured.
const PLACE: usize = 96;

/// An LRU cache in shards.
#[derive(Debug)]
pub(super) struct ShardedLru {
    hasher: SeedableRandomState,
    // Std Mutexes and not read-write locks: a hit writes too. They are held for a few lookups at most.
    shards: Box<[Mutex<Lru>]>,
    bounds: Bounds,
    usage: UsageCounter,
    /// Slices of the shard with the most places.
    parts: AtomicUsize,
    /// The next shard to evict from, modulo their number.
    next: AtomicUsize,
}

impl ShardedLru {
    /// `count` empty shards that keep `bounds` together.
    pub(super) fn new(bounds: Bounds, count: usize, hasher: SeedableRandomState) -> Self {
        Self {
            hasher,
            shards: (0..count).map(|_| Mutex::new(Lru::new())).collect(),
            bounds,
            usage: UsageCounter::new(PLACE),
            parts: AtomicUsize::new(1),
            next: AtomicUsize::new(0),
        }
    }

    /// The shard of a key, and the hash of the key.
    fn find(&self, key: &[u8]) -> (usize, u64) {
        let hash = self.hasher.hash_one(key);
        // Bits from the middle: the tables in the shards use those at both ends.
        let middle = (hash >> 16) & 0xFFFF_FFFF;
        (((middle * self.shards.len() as u64) >> 32) as usize, hash)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Lru> {
        // Only the closure of `retain` can panic under this lock, between two entries: the shard is intact.
        lock(&self.shards[shard])
    }

    /// Whether a shard of `len` entries holds the average or more.
    fn is_average(&self, len: usize) -> bool {
        len * self.shards.len() >= self.usage.entries()
    }

    /// Evicts until the bounds are kept, but not the entry that shard `own` has just added.
    fn keep_bounds(&self, own: usize) {
        let (mut shard, mut fruitless) = (own, 0);
        while let Some(limit) = self.usage.exceeded(self.bounds) {
            // Some shard is average, unless other threads change them meanwhile: after two rounds any shard will do.
            let even = fruitless < 2 * self.shards.len();
            let keep = match limit {
                _ if shard != own => 0,
                // Our shard was below average before this insertion, so some other one is above it.
                Limit::Entries if even => usize::MAX,
                _ => 1,
            };
            if !self.evict_one(shard, limit, even, keep) {
                fruitless += 1;
                shard = self.next.fetch_add(1, Relaxed) % self.shards.len();
            }
        }
    }

    /// Evicts one entry of a shard that holds more than `keep`, and, if the shards are to stay `even`, the average or more.
    fn evict_one(&self, shard: usize, limit: Limit, even: bool, keep: usize) -> bool {
        let mut lru = self.lock(shard);
        let len = lru.len();
        if len <= keep || (even && !self.is_average(len)) {
            return false;
        }
        let evicted = lru.evict().inspect(|entry| self.usage.subtract_evicted(entry, limit));
        // Freed after the lock: that can take long for a large document.
        drop(lru);
        evicted.is_some()
    }
}

impl Cache for ShardedLru {
    fn get(&self, key: &str) -> Option<Entry> {
        let (shard, hash) = self.find(key.as_bytes());
        self.lock(shard).get(hash, key.as_bytes()).cloned()
    }

    fn peek(&self, key: &str) -> Option<Entry> {
        let (shard, hash) = self.find(key.as_bytes());
        self.lock(shard).peek(hash, key.as_bytes()).cloned()
    }

    fn insert(&self, entry: Entry) -> bool {
        let weight = self.usage.weight(&entry);
        if !self.bounds.admit(weight) {
            return false;
        }
        let (shard, hash) = self.find(entry.key_bytes());
        // Dropped after the lock is free: freeing a large document can take long.
        let mut evicted = None;
        let mut lru = self.lock(shard);
        let full = self.usage.entries() >= self.bounds.entries && self.is_average(lru.len());
        if full && lru.peek(hash, entry.key_bytes()).is_none() {
            evicted = lru.evict().inspect(|entry| self.usage.subtract_evicted(entry, Limit::Entries));
        }
        let replaced = lru.insert(hash, entry);
        self.usage.add(weight);
        let parts = lru.extent().div_ceil(SLICE);
        if parts > self.parts.load(Relaxed) {
            self.parts.fetch_max(parts, Relaxed);
        }
        if let Some(old) = &replaced {
            self.usage.subtract(old);
        }
        drop(lru);
        drop((evicted, replaced));
        self.keep_bounds(shard);
        true
    }

    fn remove(&self, key: &str) -> Option<Entry> {
        let (shard, hash) = self.find(key.as_bytes());
        let mut lru = self.lock(shard);
        lru.remove(hash, key.as_bytes()).inspect(|entry| self.usage.subtract(entry))
    }

    fn slices(&self) -> usize {
        self.parts.load(Relaxed) * self.shards.len()
    }

    fn retain(&self, slice: usize, keep: &mut dyn FnMut(&Entry) -> bool) -> usize {
        // The first part of each shard, then the second: a part that is added is beyond all others.
        let (part, shard) = (slice / self.shards.len(), slice % self.shards.len());
        let first = part.saturating_mul(SLICE);
        let hash = |key: &[u8]| self.hasher.hash_one(key);
        let mut removed = Vec::new();
        let mut lru = self.lock(shard);
        lru.retain(first..first.saturating_add(SLICE), hash, keep, &mut |entry| {
            self.usage.subtract(&entry);
            removed.push(entry);
        });
        drop(lru);
        removed.len()
    }

    fn weight(&self, entry: &Entry) -> usize {
        self.usage.weight(entry)
    }

    fn usage(&self) -> Usage {
        self.usage.usage()
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::entry;
    use super::super::{CacheType, build};
    use super::*;

    #[test]
    fn a_cache_too_small_for_shards_is_exact() {
        for entries in [1, 2, 3, 10] {
            let cache = build(CacheType::Lru, Bounds { entries, bytes: usize::MAX });
            let mut random = fastrand::Rng::with_seed(7);
            let mut model: Vec<u64> = Vec::new();
            for step in 0..5000 {
                let key = random.u64(..2 * entries as u64 + 1);
                let held = model.iter().position(|other| *other == key);
                let hit = cache.get(&key.to_string()).is_some();
                assert_eq!(hit, held.map(|at| model.remove(at)).is_some(), "{entries} entries, step {step}");
                if !hit {
                    cache.insert(entry(&key.to_string(), 1));
                }
                model.push(key);
                if model.len() > entries {
                    model.remove(0);
                }
            }
        }
    }
}
