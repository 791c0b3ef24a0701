//! The caches of `--cache-type ttl` and `s3fifo`: a DashMap of entries by key, and an order of eviction, in which each entry
//! has a place.
//!
//! A hit takes the read lock of one shard of the map and writes at most one relaxed mark on its entry. It never waits for
//! the lock of the order, under which evictions and sweeps go through many entries. A writer holds that lock from its
//! first change to its last, and takes the locks of the map inside it, never the other way round. So there is no
//! deadlock, and map and order agree whenever the lock of the order is free. Expiry is not decided here: the proxy checks
//! an entry's age and removes it.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use foldhash::quality::SeedableRandomState;

use super::usage::{Limit, UsageCounter};
use super::{Bounds, Cache, Entry, SLICE, Usage};
use crate::lock::lock;

/// Decides which entry is evicted next. Pure: no lock, no clock. Each entry has a place, a small number, until it leaves; it
/// is among the marks of the entry.
pub(super) trait Order: Send {
    /// Number of entries.
    fn len(&self) -> usize;

    /// All places in use are below this.
    fn extent(&self) -> u32;

    /// The entry at a place, if the place is in use.
    fn get(&self, place: u32) -> Option<&Entry>;

    /// Adds an entry under a key that is not in the order.
    fn push(&mut self, entry: Entry);

    /// Replaces the entry at a place by a newer one of the same key; returns the old entry.
    fn replace(&mut self, place: u32, entry: Entry) -> Entry;

    /// Removes the entry at a place in use.
    fn remove(&mut self, place: u32) -> Entry;

    /// Removes the entry least worth its memory; `None` only if there is none.
    fn evict(&mut self, limit: Limit) -> Option<Entry>;

    /// Frees the memory of an order without entries.
    fn clear(&mut self);

    /// Bytes of a place, and of the slot of the map that leads to it: the most that was measured.
    const PLACE: usize;

    /// Marks an entry as used. Called by readers, concurrently with all of the above.
    fn mark_used(entry: &Entry);
}

/// A cache: a set of entries, found by their keys, and their order of eviction.
#[derive(Debug)]
pub(super) struct Ordered<O> {
    // A map to nothing: a DashSet has no `view`.
    map: DashMap<Keyed, (), SeedableRandomState>,
    // A std Mutex and not a tokio one: nothing is awaited while it is held.
    order: Mutex<O>,
    bounds: Bounds,
    usage: UsageCounter,
}

/// An entry that hashes and compares as its key, so that the key is not stored twice.
#[derive(Debug)]
struct Keyed(Entry);

impl Borrow<[u8]> for Keyed {
    fn borrow(&self) -> &[u8] {
        self.0.key_bytes()
    }
}

impl Hash for Keyed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key_bytes().hash(state);
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.0.key_bytes() == other.0.key_bytes()
    }
}

impl Eq for Keyed {}

impl<O: Order> Ordered<O> {
    /// An empty cache over a map of about `shards` shards.
    pub(super) fn new(order: O, bounds: Bounds, shards: usize, hasher: SeedableRandomState) -> Self {
        let shards = shards.next_power_of_two().clamp(16, 4096);
        Self {
            map: DashMap::with_capacity_and_hasher_and_shard_amount(0, hasher, shards),
            order: Mutex::new(order),
            bounds,
            usage: UsageCounter::new(O::PLACE),
        }
    }

    pub(super) fn order(&self) -> MutexGuard<'_, O> {
        // A panic elsewhere leaves map and order in agreement: under this lock only the closure of `retain` can panic,
        // and it is called between two removals.
        lock(&self.order)
    }

    /// Adds an entry, or replaces the one at `place`, which is returned.
    fn put(&self, order: &mut O, place: Option<u32>, entry: Entry) -> Option<Entry> {
        // The order comes first: it may have to grow, and readers of the map do not wait for that.
        let old = match place {
            Some(place) => Some(order.replace(place, entry.clone())),
            None => {
                order.push(entry.clone());
                None
            }
        };
        // In one step: a reader finds the old entry or the new one, never none.
        match self.map.entry(Keyed(entry)) {
            Slot::Occupied(slot) => drop(slot.replace_entry(())),
            Slot::Vacant(slot) => drop(slot.insert(())),
        }
        old
    }

    fn evict(&self, order: &mut O, limit: Limit) -> Option<Entry> {
        let entry = order.evict(limit)?;
        self.map.remove(entry.key_bytes());
        self.usage.subtract_evicted(&entry, limit);
        Some(entry)
    }
}

impl<O: Order> Cache for Ordered<O> {
    fn get(&self, key: &str) -> Option<Entry> {
        self.map.view(key.as_bytes(), |held, ()| {
            O::mark_used(&held.0);
            held.0.clone()
        })
    }

    fn peek(&self, key: &str) -> Option<Entry> {
        self.map.view(key.as_bytes(), |held, ()| held.0.clone())
    }

    fn insert(&self, entry: Entry) -> bool {
        let weight = self.usage.weight(&entry);
        if !self.bounds.admit(weight) {
            return false;
        }
        // Dropped after the lock is free: freeing a large document can take long.
        let mut gone = Vec::new();
        let mut order = self.order();
        let place = self.map.view(entry.key_bytes(), |held, ()| held.0.marks().place());
        // Room is made before the new entry is in the order: it had no time to be used, so it might be the one to go.
        if place.is_none() && self.usage.entries() >= self.bounds.entries {
            gone.extend(self.evict(&mut order, Limit::Entries));
        }
        self.usage.add(weight);
        if let Some(old) = self.put(&mut order, place, entry) {
            self.usage.subtract(&old);
            gone.push(old);
        }
        while let Some(limit) = self.usage.exceeded(self.bounds) {
            let Some(evicted) = self.evict(&mut order, limit) else { break };
            gone.push(evicted);
        }
        drop(order);
        true
    }

    fn remove(&self, key: &str) -> Option<Entry> {
        let mut order = self.order();
        let (held, ()) = self.map.remove(key.as_bytes())?;
        let entry = order.remove(held.0.marks().place());
        self.usage.subtract(&entry);
        Some(entry)
    }

    fn slices(&self) -> usize {
        (self.order().extent() as usize).div_ceil(SLICE).max(1)
    }

    fn retain(&self, slice: usize, keep: &mut dyn FnMut(&Entry) -> bool) -> usize {
        let mut gone = Vec::new();
        let mut order = self.order();
        let extent = order.extent() as usize;
        let first = slice.saturating_mul(SLICE).min(extent);
        for place in first..(first + SLICE).min(extent) {
            let place = place as u32;
            if order.get(place).is_some_and(|entry| !keep(entry)) {
                let entry = order.remove(place);
                self.map.remove(entry.key_bytes());
                self.usage.subtract(&entry);
                gone.push(entry);
            }
        }
        if order.len() == 0 && extent > 0 {
            order.clear();
            self.map.shrink_to_fit();
        }
        drop(order);
        gone.len()
    }

    fn weight(&self, entry: &Entry) -> usize {
        self.usage.weight(entry)
    }

    fn usage(&self) -> Usage {
        self.usage.usage()
    }
}
