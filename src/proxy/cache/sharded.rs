//! Policies behind locks: a key's hash chooses a shard, and each shard is one policy under its own mutex.
//!
//! The bound of entries is split over the shards, so that each keeps its own without a look at the others. The bound of
//! bytes is kept for all together, for a few large documents of one shard must not push out all that is beside them: who
//! goes over it makes those shards give that hold their part of the entries or more, its own first and then in turn. So
//! shards stay as even as one undivided cache would fill them, and a document that may enter fits whichever shard is its.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::SeedableRandomState;

use super::policy::{Limit, Policy};
use super::tally::Tally;
use super::{Bounds, Cache, Entry, Usage};

/// A cache of shards.
#[derive(Debug)]
pub(super) struct Sharded<P> {
    hasher: SeedableRandomState,
    shards: Box<[Shard<P>]>,
    bounds: Bounds,
    tally: Tally,
    /// Whose turn it is to give for the bound of bytes.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Shard<P> {
    // A std Mutex and not a lock for readers: a hit writes too. It is held for a few lookups at most.
    policy: Mutex<P>,
    /// Its part of the bound of entries.
    entries: usize,
}

impl<P: Policy> Sharded<P> {
    /// `count` shards that keep `bounds` together.
    pub(super) fn new(bounds: Bounds, count: usize, hasher: SeedableRandomState) -> Self {
        let shard = |index| {
            let entries = bounds.entries / count + usize::from(index < bounds.entries % count);
            Shard { policy: Mutex::new(P::new()), entries }
        };
        Self {
            hasher,
            shards: (0..count).map(shard).collect(),
            bounds,
            tally: Tally::default(),
            turn: AtomicUsize::new(0),
        }
    }

    fn find(&self, key: &str) -> (usize, u64) {
        let hash = self.hasher.hash_one(key);
        // Bits of the middle: the tables in the shards look at both ends.
        let middle = (hash >> 16) & 0xFFFF_FFFF;
        (((middle * self.shards.len() as u64) >> 32) as usize, hash)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, P> {
        // Only the closure of `retain` can panic in there, between two entries: the policy is whole.
        self.shards[shard].policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up entries until the bytes are within their bound.
    fn settle(&self, own: usize) {
        let mut shard = own;
        while self.tally.bytes() > self.bounds.bytes {
            if self.give_up_one(shard, shard == own).is_none() {
                shard = self.turn.fetch_add(1, Relaxed) % self.shards.len();
            }
        }
    }

    /// Gives up one entry of a shard that holds its part of all entries, and keeps the last of it if `spare_last`.
    fn give_up_one(&self, shard: usize, spare_last: bool) -> Option<Arc<Entry>> {
        let mut policy = self.lock(shard);
        let held = policy.len();
        if held * self.shards.len() < self.tally.entries() || (spare_last && held == 1) {
            return None;
        }
        policy.evict(Limit::Bytes).inspect(|entry| self.tally.evicted(entry))
    }
}

impl<P: Policy> Cache for Sharded<P> {
    fn get(&self, key: &str) -> Option<Arc<Entry>> {
        let (shard, hash) = self.find(key);
        self.lock(shard).get(hash, key).cloned()
    }

    fn peek(&self, key: &str) -> Option<Arc<Entry>> {
        let (shard, hash) = self.find(key);
        self.lock(shard).peek(hash, key).cloned()
    }

    fn insert(&self, entry: Arc<Entry>) -> bool {
        let weight = entry.weight();
        if !self.bounds.admit(weight) {
            return false;
        }
        let (shard, hash) = self.find(entry.key());
        let room = self.shards[shard].entries;
        // What goes is dropped after the lock is free: giving back a large document can take long.
        let mut given_up = None;
        let mut policy = self.lock(shard);
        if policy.len() >= room && policy.peek(hash, entry.key()).is_none() {
            given_up = policy.evict(Limit::Entries).inspect(|gone| self.tally.evicted(gone));
        }
        let replaced = policy.insert(hash, entry);
        self.tally.held(weight);
        if let Some(old) = &replaced {
            self.tally.gone(old);
        }
        drop(policy);
        drop((given_up, replaced));
        self.settle(shard);
        true
    }

    fn remove(&self, key: &str) -> Option<Arc<Entry>> {
        let (shard, hash) = self.find(key);
        let mut policy = self.lock(shard);
        policy.remove(hash, key).inspect(|entry| self.tally.gone(entry))
    }

    fn slices(&self) -> usize {
        self.shards.len()
    }

    fn retain(&self, slice: usize, keep: &mut dyn FnMut(&Entry) -> bool) -> usize {
        if slice >= self.shards.len() {
            return 0;
        }
        let mut gone = Vec::new();
        let mut policy = self.lock(slice);
        policy.retain(keep, &mut |entry| {
            self.tally.gone(&entry);
            gone.push(entry);
        });
        drop(policy);
        gone.len()
    }

    fn usage(&self) -> Usage {
        self.tally.usage()
    }
}
