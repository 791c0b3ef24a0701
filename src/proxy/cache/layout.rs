//! The choice of a cache: its type, its number of shards, its hash.

use std::fmt;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use super::fifo::Fifo;
use super::ordered::Ordered;
use super::s3fifo::S3Fifo;
use super::sharded::ShardedLru;
use super::{Bounds, Cache};

/// Entries per shard at least: few enough for a short walk under its lock, and enough for an LRU that misses hardly more
/// often than an undivided one.
const SHARD_ENTRIES: usize = 3584;
/// Bytes per shard at least: that number of documents of 1 KiB.
const SHARD_BYTES: usize = SHARD_ENTRIES << 10;

/// Which entry a full cache evicts: the values of `--cache-type`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum CacheType {
    /// Evicts the oldest entry; entries expire.
    #[default]
    Ttl,
    /// Evicts the least recently used entry.
    Lru,
    /// Evicts entries that were used only once (S3-FIFO): the best hit ratio on most logs.
    S3fifo,
}

impl CacheType {
    /// Every type.
    pub const ALL: [CacheType; 3] = [CacheType::Ttl, CacheType::Lru, CacheType::S3fifo];

    /// The value of `--cache-type`.
    pub const fn name(self) -> &'static str {
        match self {
            CacheType::Ttl => "ttl",
            CacheType::Lru => "lru",
            CacheType::S3fifo => "s3fifo",
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The bounds of a cache, its number of shards, and the hash that maps keys to shards.
#[derive(Clone, Debug)]
pub struct Layout {
    bounds: Bounds,
    shards: usize,
    hasher: SeedableRandomState,
}

impl Layout {
    /// The number of shards that suits the bounds, and a random hash, so that no client can choose keys that collide.
    ///
    /// `lru` evicts within a shard, so a shard has to be large enough to evict what the whole would.
    pub fn of(bounds: Bounds) -> Self {
        let shards = (bounds.entries / SHARD_ENTRIES).min(bounds.bytes / SHARD_BYTES).max(1);
        // In a simulation, all randomness comes from its seed.
        let hasher = match cfg!(sim) {
            true => SeedableRandomState::with_seed(fastrand::u64(..), SharedSeed::global_fixed()),
            false => SeedableRandomState::random(),
        };
        Self { bounds, shards, hasher }
    }

    /// This layout with `shards` shards: one at least, and no more than entries.
    pub fn with_shards(self, shards: usize) -> Self {
        Self { shards: shards.min(self.bounds.entries).max(1), ..self }
    }

    /// This layout with a hash that is the same in every run: for `dproxy simulate` and tests.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()), ..self }
    }

    /// In how many parts a cache of this type evicts. `ttl` and `s3fifo` have one order of all entries, however many shards
    /// their map has.
    pub fn shards(&self, cache_type: CacheType) -> usize {
        match cache_type {
            CacheType::Ttl | CacheType::S3fifo => 1,
            CacheType::Lru => self.shards,
        }
    }
}

/// An empty cache.
pub fn build(cache_type: CacheType, bounds: Bounds) -> Box<dyn Cache> {
    build_as(cache_type, &Layout::of(bounds))
}

/// An empty cache with a layout of the caller's.
pub fn build_as(cache_type: CacheType, layout: &Layout) -> Box<dyn Cache> {
    let Layout { bounds, shards, hasher } = layout.clone();
    match cache_type {
        CacheType::Ttl => Box::new(Ordered::new(Fifo::new(), bounds, shards, hasher)),
        CacheType::S3fifo => Box::new(Ordered::new(S3Fifo::new(hasher.clone()), bounds, shards, hasher)),
        CacheType::Lru => Box::new(ShardedLru::new(bounds, shards, hasher)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_stay_large() {
        let shards = |entries, bytes| Layout::of(Bounds { entries, bytes }).shards(CacheType::Lru);
        assert_eq!(shards(0, 0), 1);
        assert_eq!(shards(3, usize::MAX), 1);
        assert_eq!(shards(2 * SHARD_ENTRIES - 1, usize::MAX), 1);
        assert_eq!(shards(100_000, usize::MAX), 27);
        assert_eq!(shards(1_000_000, 256 << 20), 73);
        assert_eq!(shards(1_000_000, 1 << 20), 1);
    }
}
