//! Which cache is built, of how many shards.

use std::fmt;

use clap::ValueEnum;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use super::lru::Lru;
use super::s3fifo::S3Fifo;
use super::sharded::Sharded;
use super::ttl::Ttl;
use super::{Bounds, Cache};

/// Entries that a shard has at least: few enough that a look through all is short, enough that it works like the whole.
const SHARD_ENTRIES: usize = 3584;
/// Bytes that a shard has at least: the same number of small documents.
const SHARD_BYTES: usize = SHARD_ENTRIES << 10;

/// What a cache gives up when it is full, by the names that are typed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, ValueEnum)]
pub enum CacheType {
    /// What came first goes first; entries expire.
    #[default]
    Ttl,
    /// What was not used for longest.
    Lru,
    /// What was used only once lately (S3-FIFO): the best hit ratio on most logs.
    S3fifo,
}

impl CacheType {
    /// All there are.
    pub const ALL: [CacheType; 3] = [CacheType::Ttl, CacheType::Lru, CacheType::S3fifo];

    /// The name, as it is typed.
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

/// How a cache is divided, and how keys find their shard.
#[derive(Clone, Debug)]
pub struct Layout {
    bounds: Bounds,
    shards: usize,
    hasher: SeedableRandomState,
}

impl Layout {
    /// As many shards as suit the bounds, and a hash that nobody outside can foresee.
    ///
    /// A policy decides within its shard, so a shard has to stay large enough to decide like the whole.
    pub fn of(bounds: Bounds) -> Self {
        let shards = (bounds.entries / SHARD_ENTRIES).min(bounds.bytes / SHARD_BYTES).max(1);
        // What chance decides in a simulation, its seed decides.
        let hasher = match cfg!(sim) {
            true => SeedableRandomState::with_seed(fastrand::u64(..), SharedSeed::global_fixed()),
            false => SeedableRandomState::random(),
        };
        Self { bounds, shards, hasher }
    }

    /// The same with this many shards: one at least, and no more than entries.
    pub fn with_shards(self, shards: usize) -> Self {
        Self { shards: shards.min(self.bounds.entries).max(1), ..self }
    }

    /// The same with a hash that is the same in every run: for simulations and tests.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()), ..self }
    }

    /// How many shards there will be. A `ttl` cache has one order of all entries, however many shards its map has.
    pub fn shards(&self, cache_type: CacheType) -> usize {
        match cache_type {
            CacheType::Ttl => 1,
            CacheType::Lru | CacheType::S3fifo => self.shards,
        }
    }
}

/// A cache of a type within bounds.
pub fn build(cache_type: CacheType, bounds: Bounds) -> Box<dyn Cache> {
    build_as(cache_type, &Layout::of(bounds))
}

/// A cache of a type, divided as the caller wants it.
pub fn build_as(cache_type: CacheType, layout: &Layout) -> Box<dyn Cache> {
    let Layout { bounds, shards, hasher } = layout.clone();
    match cache_type {
        CacheType::Ttl => Box::new(Ttl::new(bounds, shards, hasher)),
        CacheType::Lru => Box::new(Sharded::<Lru>::new(bounds, shards, hasher)),
        CacheType::S3fifo => Box::new(Sharded::<S3Fifo>::new(bounds, shards, hasher)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for cache_type in CacheType::ALL {
            assert_eq!(CacheType::from_str(cache_type.name(), false), Ok(cache_type));
        }
        assert_eq!(CacheType::value_variants(), CacheType::ALL);
    }

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
