//! How full a cache is, and how full it may be: counts that are read without its locks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::Entry;

/// The most that a cache holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Entries.
    pub entries: usize,
    /// Bytes, by [`Cache::weight`](super::Cache::weight).
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 10_000, bytes: 256 << 20 }
    }
}

impl Bounds {
    /// Fewer bytes than these hold next to nothing: an entry may take 1 KiB of them.
    pub const LEAST_BYTES: usize = 16 << 10;

    /// The most entries that a cache can count: no bound.
    pub const MOST_ENTRIES: usize = 4_000_000_000;

    /// The most entries, if there is such a bound.
    pub fn entries_bound(&self) -> Option<usize> {
        (self.entries < Self::MOST_ENTRIES).then_some(self.entries)
    }

    /// The average weight of an entry below which the bound of entries is reached first; `None` without one.
    pub fn even(&self) -> Option<usize> {
        self.entries_bound().map(|entries| self.bytes / entries.max(1))
    }

    /// The most that one entry may weigh: a sixteenth of the bytes.
    pub fn largest(&self) -> usize {
        self.bytes / 16
    }

    /// Whether an entry of this weight is admitted.
    pub(super) fn admit(&self, weight: usize) -> bool {
        self.entries > 0 && weight <= self.largest()
    }
}

/// How much a cache holds, and how much it has evicted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Entries held.
    pub entries: usize,
    /// Bytes held, by [`Cache::weight`](super::Cache::weight).
    pub bytes: usize,
    /// Entries evicted to keep the bounds, since the start.
    pub evictions: u64,
    /// Those of them that were evicted for their bytes; the others for their number.
    pub evicted_for_bytes: u64,
}

/// The bound for whose sake an entry is evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    Entries,
    Bytes,
}

/// The counts behind [`Usage`]. Each is changed under the lock that guards the entry in question, so that the sums are right
/// whenever no thread holds such a lock.
#[derive(Debug)]
pub(super) struct UsageCounter {
    /// Bytes that the cache takes for an entry beside the entry itself.
    place: usize,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    evictions: AtomicU64,
    evicted_for_bytes: AtomicU64,
}

impl UsageCounter {
    pub(super) const fn new(place: usize) -> Self {
        Self {
            place,
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            evicted_for_bytes: AtomicU64::new(0),
        }
    }

    /// Bytes that an entry takes in this cache.
    pub(super) fn weight(&self, entry: &Entry) -> usize {
        entry.weight() + self.place
    }

    pub(super) fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }

    /// The bound that is exceeded.
    pub(super) fn exceeded(&self, bounds: Bounds) -> Option<Limit> {
        if self.entries() > bounds.entries {
            return Some(Limit::Entries);
        }
        (self.bytes.load(Relaxed) > bounds.bytes).then_some(Limit::Bytes)
    }

    pub(super) fn add(&self, weight: usize) {
        self.entries.fetch_add(1, Relaxed);
        self.bytes.fetch_add(weight, Relaxed);
    }

    pub(super) fn subtract(&self, entry: &Entry) {
        self.entries.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(self.weight(entry), Relaxed);
    }

    pub(super) fn subtract_evicted(&self, entry: &Entry, limit: Limit) {
        self.subtract(entry);
        if limit == Limit::Bytes {
            self.evicted_for_bytes.fetch_add(1, Relaxed);
        }
        self.evictions.fetch_add(1, Relaxed);
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            entries: self.entries(),
            bytes: self.bytes.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
            evicted_for_bytes: self.evicted_for_bytes.load(Relaxed),
        }
    }
}
