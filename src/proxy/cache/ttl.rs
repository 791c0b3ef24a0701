//! The cache of `--cache-type ttl`: a DashMap, and the order in which its entries came. What came first goes first.
//!
//! Time is not its business: its owner asks an entry whether it is fresh and takes out those that are not. A reader takes
//! the read lock of one shard of the map and nothing else. Writers take the order's lock, and the map's inside of it,
//! never the other way round, so that map and order always tell the same.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use foldhash::quality::SeedableRandomState;

use super::order::{Chain, Slab};
use super::tally::Tally;
use super::{Bounds, Cache, Entry, Usage};

/// Places that one slice of [`Cache::retain`] looks at.
const SLICE: usize = 8192;

/// A cache that gives up the oldest.
#[derive(Debug)]
pub(super) struct Ttl {
    /// To the place in the order.
    map: DashMap<Held, u32, SeedableRandomState>,
    // A std Mutex and not a tokio one: nothing is awaited while it is held.
    order: Mutex<Order>,
    bounds: Bounds,
    tally: Tally,
}

#[derive(Debug)]
struct Order {
    slab: Slab<Arc<Entry>>,
    chain: Chain,
}

/// An entry that stands for its key, so that the key is not stored twice.
#[derive(Debug)]
struct Held(Arc<Entry>);

impl Borrow<str> for Held {
    fn borrow(&self) -> &str {
        self.0.key()
    }
}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Held {}

impl Order {
    const fn new() -> Self {
        Self { slab: Slab::new(), chain: Chain::new() }
    }

    fn push(&mut self, entry: Arc<Entry>) -> u32 {
        self.chain.push(&mut self.slab, entry)
    }

    fn pop(&mut self) -> Option<Arc<Entry>> {
        self.chain.pop(&mut self.slab)
    }

    fn remove(&mut self, place: u32) -> Arc<Entry> {
        self.chain.remove(&mut self.slab, place)
    }
}

impl Ttl {
    /// An empty one over a map of about `shards` shards.
    pub(super) fn new(bounds: Bounds, shards: usize, hasher: SeedableRandomState) -> Self {
        let shards = shards.next_power_of_two().clamp(16, 4096);
        Self {
            map: DashMap::with_capacity_and_hasher_and_shard_amount(0, hasher, shards),
            order: Mutex::new(Order::new()),
            bounds,
            tally: Tally::default(),
        }
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        // Only the closure of `retain` can panic in there, between two entries: map and order agree.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry into the map; what it replaces comes back.
    fn put(&self, order: &mut Order, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let place = order.push(Arc::clone(&entry));
        // Key and value at once: a reader finds the old one or the new one, never none.
        let old = match self.map.entry(Held(entry)) {
            Place::Occupied(held) => Some(held.replace_entry(place).1),
            Place::Vacant(vacant) => {
                vacant.insert(place);
                None
            }
        };
        old.map(|old| order.remove(old))
    }

    fn take(&self, order: &mut Order, place: u32) -> Arc<Entry> {
        let entry = order.remove(place);
        self.map.remove(entry.key());
        entry
    }

    fn is_over(&self) -> bool {
        self.tally.entries() > self.bounds.entries || self.tally.bytes() > self.bounds.bytes
    }
}

impl Cache for Ttl {
    fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.map.view(key, |held, _| Arc::clone(&held.0))
    }

    fn peek(&self, key: &str) -> Option<Arc<Entry>> {
        self.get(key)
    }

    fn insert(&self, entry: Arc<Entry>) -> bool {
        let weight = entry.weight();
        if !self.bounds.admit(weight) {
            return false;
        }
        // What goes is dropped after the lock is free: giving back a large document can take long.
        let mut gone = Vec::new();
        let mut order = self.order();
        self.tally.held(weight);
        if let Some(old) = self.put(&mut order, entry) {
            self.tally.gone(&old);
            gone.push(old);
        }
        while self.is_over() {
            let Some(oldest) = order.pop() else { break };
            self.map.remove(oldest.key());
            self.tally.evicted(&oldest);
            gone.push(oldest);
        }
        drop(order);
        true
    }

    fn remove(&self, key: &str) -> Option<Arc<Entry>> {
        let mut order = self.order();
        let (_, place) = self.map.remove(key)?;
        let entry = order.remove(place);
        self.tally.gone(&entry);
        Some(entry)
    }

    fn slices(&self) -> usize {
        (self.order().slab.extent() as usize).div_ceil(SLICE).max(1)
    }

    fn retain(&self, slice: usize, keep: &mut dyn FnMut(&Entry) -> bool) -> usize {
        let mut gone = Vec::new();
        let mut order = self.order();
        let extent = order.slab.extent() as usize;
        let first = slice.saturating_mul(SLICE).min(extent);
        for place in first..(first + SLICE).min(extent) {
            if order.slab.get(place as u32).is_some_and(|entry| !keep(entry)) {
                let entry = self.take(&mut order, place as u32);
                self.tally.gone(&entry);
                gone.push(entry);
            }
        }
        if order.chain.len() == 0 && extent > 0 {
            *order = Order::new();
            self.map.shrink_to_fit();
        }
        drop(order);
        gone.len()
    }

    fn usage(&self) -> Usage {
        self.tally.usage()
    }
}
