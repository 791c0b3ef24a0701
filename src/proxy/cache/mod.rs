//! The cache of a proxy: bounded in entries and bytes, safe to share, ignorant of clocks and sockets.
//!
//! Policy, locking and single flight are three things: the policies (`lru`, `s3fifo`, and the `order` behind `ttl`) know
//! no locks, [`Cache`] implementations know no fetches, and `flight` beside this folder knows no cache.
//!
//! ```text
//! Cache ─┬─ ttl      DashMap and order          what came first goes first
//!        └─ sharded  mutexes around policies ─┬─ lru     what was not used for longest
//!                                             └─ s3fifo  what was used once, then what is not used any more
//! ```

mod entry;
mod ghost;
mod layout;
mod lru;
mod order;
mod policy;
mod s3fifo;
mod sharded;
mod tally;
mod ttl;

#[cfg(test)]
mod contract;

use std::sync::Arc;

pub use entry::{Entry, Millis};
pub use layout::{CacheType, Layout, build, build_as};

/// How much a cache may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Entries.
    pub entries: usize,
    /// Bytes, by [`Entry::weight`].
    pub bytes: usize,
}

impl Bounds {
    /// Whether something of this weight may enter: nothing that takes more than a sixteenth of the whole.
    fn admit(&self, weight: usize) -> bool {
        self.entries > 0 && weight <= self.bytes / 16
    }
}

/// How much it holds, and how much it gave up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Entries held.
    pub entries: usize,
    /// Bytes held, by [`Entry::weight`].
    pub bytes: usize,
    /// Entries given up to keep the bounds, since the start.
    pub evictions: u64,
}

/// A bounded map from paths to entries. `ttl`, `lru` and `s3fifo` differ in what they give up when it is full.
pub trait Cache: Send + Sync {
    /// What is held, fresh or not; counts as a use for the policy.
    fn get(&self, key: &str) -> Option<Arc<Entry>>;

    /// What is held; counts for nothing.
    fn peek(&self, key: &str) -> Option<Arc<Entry>>;

    /// Holds an entry in the place of what was held under its key, and gives up others to keep the bounds.
    ///
    /// Nothing is held, and false comes back, when it weighs more than a sixteenth of the cache.
    fn insert(&self, entry: Arc<Entry>) -> bool;

    /// Gives up the entry of a key.
    fn remove(&self, key: &str) -> Option<Arc<Entry>>;

    /// In how many slices [`Cache::retain`] goes through the whole: each is a bounded hold of one lock.
    fn slices(&self) -> usize;

    /// Gives up the entries of one slice that `keep` does not want; tells how many went. Counts no use and no eviction.
    fn retain(&self, slice: usize, keep: &mut dyn FnMut(&Entry) -> bool) -> usize;

    /// How full it is.
    fn usage(&self) -> Usage;
}
