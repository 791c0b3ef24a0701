//! How much a cache holds: counts that are read without its locks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::{Entry, Usage};

/// Counted under the lock that guards the entry in question, so that the sums are right whenever nobody holds one.
#[derive(Default, Debug)]
pub(super) struct Tally {
    entries: AtomicUsize,
    bytes: AtomicUsize,
    evictions: AtomicU64,
}

impl Tally {
    pub(super) fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Counts one in.
    pub(super) fn held(&self, weight: usize) {
        self.entries.fetch_add(1, Relaxed);
        self.bytes.fetch_add(weight, Relaxed);
    }

    /// Counts one out.
    pub(super) fn gone(&self, entry: &Entry) {
        self.entries.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(entry.weight(), Relaxed);
    }

    /// Counts one out that a bound made go.
    pub(super) fn evicted(&self, entry: &Entry) {
        self.gone(entry);
        self.evictions.fetch_add(1, Relaxed);
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { entries: self.entries(), bytes: self.bytes(), evictions: self.evictions.load(Relaxed) }
    }
}
