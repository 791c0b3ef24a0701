//! What every eviction policy of a shard answers to. Policies know no lock and no clock, and never refuse: the bounds are
//! kept by who owns them, who says when something has to go; the policy says what.

use std::sync::Arc;

use super::Entry;

/// The bound that makes something go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    /// Of entries.
    Entries,
    /// Of bytes.
    Bytes,
}

/// The entries of one shard, and which of them goes first.
///
/// The hash that comes with a key is always the same for it, and good in all its bits.
pub(super) trait Policy: Send {
    /// An empty one.
    fn new() -> Self;

    /// How many are held.
    fn len(&self) -> usize;

    /// What is held; counts as a use.
    fn get(&mut self, hash: u64, key: &str) -> Option<&Arc<Entry>>;

    /// What is held; counts for nothing.
    fn peek(&self, hash: u64, key: &str) -> Option<&Arc<Entry>>;

    /// Takes in an entry, in the place of what is held under its key; what it pushes out comes back. Counts as a use.
    fn insert(&mut self, hash: u64, entry: Arc<Entry>) -> Option<Arc<Entry>>;

    /// Gives up the entry of a key.
    fn remove(&mut self, hash: u64, key: &str) -> Option<Arc<Entry>>;

    /// Gives up the least worth holding; `None` only when nothing is held.
    fn evict(&mut self, limit: Limit) -> Option<Arc<Entry>>;

    /// Gives up what `keep` does not want, and hands each to `gone` at once: `keep` may panic.
    ///
    /// Tables go back to the allocator when nothing is left.
    fn retain(&mut self, keep: &mut dyn FnMut(&Entry) -> bool, gone: &mut dyn FnMut(Arc<Entry>));
}

/// Makes 64 bits of 32: a table looks at the lowest bits and at the seven highest.
pub(super) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
