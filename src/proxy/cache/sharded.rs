//! Policies behind locks: a key's hash chooses a shard, and each shard is one policy under its own mutex.
//!
//! The bounds are kept for all shards together, so that a capacity is exact and all of it is used, and so that a few large
//! documents of one shard do not push out all that is beside them. Who goes over a bound makes those shards give that hold
//! their part of the entries or more, its own first and then in turn: shards stay as even as keys fall into them.

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
    // Std Mutexes and not locks for readers: a hit writes too. They are held for a few lookups at most.
    shards: Box<[Mutex<P>]>,
    bounds: Bounds,
    tally: Tally,
    /// Whose turn it is to give.
    turn: AtomicUsize,
}

impl<P: Policy> Sharded<P> {
    /// `count` shards that keep `bounds` together.
    pub(super) fn new(bounds: Bounds, count: usize, hasher: SeedableRandomState) -> Self {
        Self {
            hasher,
            shards: (0..count).map(|_| Mutex::new(P::new())).collect(),
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
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a shard of so many entries holds its part of all of them.
    fn has_its_part(&self, held: usize) -> bool {
        held * self.shards.len() >= self.tally.entries()
    }

    /// The bound that is not kept.
    fn over(&self) -> Option<Limit> {
        if self.tally.entries() > self.bounds.entries {
            return Some(Limit::Entries);
        }
        (self.tally.bytes() > self.bounds.bytes).then_some(Limit::Bytes)
    }

    /// Gives up entries until the bounds are kept, but not the one that has just been taken in by shard `own`.
    fn settle(&self, own: usize) {
        let (mut shard, mut fruitless) = (own, 0);
        while let Some(limit) = self.over() {
            // Some shard has its part, unless others change them meanwhile: who finds none takes what there is.
            let even = fruitless < 2 * self.shards.len();
            let least = match limit {
                _ if shard != own => 0,
                // It did not have its part before, so another one has more than that.
                Limit::Entries if even => usize::MAX,
                _ => 1,
            };
            if self.give_up_one(shard, limit, even, least).is_none() {
                fruitless += 1;
                shard = self.turn.fetch_add(1, Relaxed) % self.shards.len();
            }
        }
    }

    /// Gives up one entry of a shard that holds more than `least`, and its part of all if the shards are to stay `even`.
    fn give_up_one(&self, shard: usize, limit: Limit, even: bool, least: usize) -> Option<Arc<Entry>> {
        let mut policy = self.lock(shard);
        let held = policy.len();
        if held <= least || (even && !self.has_its_part(held)) {
            return None;
        }
        policy.evict(limit).inspect(|entry| self.tally.evicted(entry))
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
        // What goes is dropped after the lock is free: giving back a large document can take long.
        let mut given_up = None;
        let mut policy = self.lock(shard);
        let full = self.tally.entries() >= self.bounds.entries && self.has_its_part(policy.len());
        // Room is made before the entry is in: no policy is asked to weigh it against those that had time to be used.
        if full && policy.peek(hash, entry.key()).is_none() {
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
