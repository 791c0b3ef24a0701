//! The cache of a proxy: a map from keys to entries, bounded in entries and bytes, shared by threads, without clocks or
//! sockets.
//!
//! Eviction order, locking and single flight are three things. The orders (`fifo`, `s3fifo`, `lru`) know no locks, the
//! [`Cache`] implementations know no fetches, and `flight` beside this folder knows no cache.
//!
//! ```text
//! Cache ─┬─ ordered  a DashMap to places in an order ─┬─ fifo    evicts the oldest (--cache-type ttl)
//!        │                                            └─ s3fifo  evicts entries that were used once, then unused ones
//!        └─ sharded  mutexes around shards ──────────── lru     evicts the least recently used
//! ```

mod chain;
mod entry;
mod fifo;
mod ghost;
mod layout;
mod lru;
mod ordered;
mod s3fifo;
mod sharded;
mod stamp;
mod usage;

#[cfg(test)]
mod contract;

pub use entry::{Entry, Millis};
pub use layout::{CacheType, Layout, build, build_as};
pub use stamp::Stamp;
pub use usage::{Bounds, Usage};

/// Places in one slice of [`Cache::retain`]: few enough to look at, and remove all, in a part of a millisecond. In a
/// simulation others come in between even with few entries.
const SLICE: usize = if cfg!(sim) { 2 } else { 512 };

/// A bounded map from keys to entries. `ttl`, `lru` and `s3fifo` differ in which entry they evict when a bound is reached.
pub trait Cache: Send + Sync {
    /// The entry of a key, fresh or not. Counts as a use of the entry.
    fn get(&self, key: &str) -> Option<Entry>;

    /// The entry of a key, fresh or not. Does not count as a use.
    fn peek(&self, key: &str) -> Option<Entry>;

    /// Adds an entry or replaces the one of its key, and evicts others to keep the bounds.
    ///
    /// Returns false, and changes nothing, for an entry that weighs more than a sixteenth of the bound in bytes.
    fn insert(&self, entry: Entry) -> bool;

    /// Removes the entry of a key and returns it.
    fn remove(&self, key: &str) -> Option<Entry>;

    /// The number of slices in which [`Cache::retain`] goes through the cache. Each holds one lock for a bounded time. An
    /// entry stays in its slice until it leaves the cache; while the cache grows, slices are added at the end.
    fn slices(&self) -> usize;

    /// Removes the entries of one slice for which `keep` is false, and returns their number. Counts no use and no eviction.
    fn retain(&self, slice: usize, keep: &mut dyn FnMut(&Entry) -> bool) -> usize;

    /// Bytes that an entry takes in this cache: its own, and those of its place in a table and an order.
    fn weight(&self, entry: &Entry) -> usize;

    /// The number of entries, their bytes, and the evictions so far.
    fn usage(&self) -> Usage;
}
