//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP '23): three FIFO queues instead of one LRU.
//!
//! ```text
//!            new ──▶ small (10 %) ──used twice──▶ main (90 %) ◀─┐ used: again, with one use less
//!                      │ else                       │ └─────────┘
//!                      ▼                            ▼ else
//!  came back ◀── ghost (hashes)                   evicted
//!      └──▶ main
//! ```
//!
//! Most keys of most traces are requested once: they leave through the small queue and never take a place in the main one.
//! A hit writes one byte of its entry and moves nothing. As in libCacheSim, whose miss ratios are the reference: the second
//! hit promotes, and the shares of the queues are those of the entries held when one has to be evicted.

use foldhash::quality::SeedableRandomState;
use std::hash::BuildHasher;

use super::Entry;
use super::chain::{Chain, Slab};
use super::ghost::Ghost;
use super::ordered::Order;
use super::usage::Limit;

/// Further uses are not counted: two bits are enough (section 4 of the paper).
const MAX_USES: u8 = 3;
/// Uses in the small queue that promote an entry to the main one.
const PROMOTED_AT: u8 = 2;
/// Used entries that one eviction passes over at most, so that it ends within a millisecond although all may be used. The
/// paper has no such bound.
const MAX_PASSED_OVER: usize = 4096;

/// The three queues.
#[derive(Debug)]
pub(super) struct S3Fifo {
    small: Queue,
    main: Queue,
    slab: Slab<Entry>,
    ghost: Ghost,
    hasher: SeedableRandomState,
}

#[derive(Debug)]
struct Queue {
    chain: Chain,
    bytes: usize,
}

impl Queue {
    const fn new() -> Self {
        Self { chain: Chain::new(), bytes: 0 }
    }
}

impl S3Fifo {
    /// `hasher` makes the hashes that the ghost remembers.
    pub(super) const fn new(hasher: SeedableRandomState) -> Self {
        Self { small: Queue::new(), main: Queue::new(), slab: Slab::new(), ghost: Ghost::new(), hasher }
    }

    fn hash(&self, entry: &Entry) -> u32 {
        self.hasher.hash_one(entry.key_bytes()) as u32
    }

    fn queue(&mut self, in_main: bool) -> &mut Queue {
        if in_main { &mut self.main } else { &mut self.small }
    }

    /// Whether the next entry to evict is one of the small queue.
    fn is_small_next(&self, limit: Limit) -> bool {
        if self.main.chain.len() == 0 {
            return true;
        }
        match limit {
            Limit::Entries => self.small.chain.len() >= (self.len() / 10).max(1),
            // The newest entry stays, however large: it would be evicted for its own sake.
            Limit::Bytes => {
                self.small.chain.len() > 1 && self.small.bytes >= (self.small.bytes + self.main.bytes) / 10
            }
        }
    }

    /// Evicts the oldest entry of the small queue that was not used twice, and promotes older ones, at most `budget`.
    fn evict_small(&mut self, budget: &mut usize) -> Option<Entry> {
        let ghosts = self.len() * 9 / 10;
        while let Some(place) = self.small.chain.oldest() {
            let entry = self.slab.get(place)?;
            if entry.marks().uses() < PROMOTED_AT || *budget == 0 {
                let entry = self.remove(place);
                self.ghost.remember(self.hash(&entry), ghosts);
                return Some(entry);
            }
            *budget -= 1;
            entry.marks().set(0, true);
            let weight = entry.weight();
            self.small.bytes -= weight;
            self.main.bytes += weight;
            self.small.chain.hand_over(&mut self.slab, &mut self.main.chain);
        }
        None
    }

    /// Evicts the oldest entry of the main queue that was not used since its last turn, and requeues older ones, at most
    /// `budget`.
    fn evict_main(&mut self, budget: &mut usize) -> Option<Entry> {
        while let Some(place) = self.main.chain.oldest() {
            let marks = self.slab.get(place)?.marks();
            let uses = marks.uses();
            if uses == 0 || *budget == 0 {
                return Some(self.remove(place));
            }
            *budget -= 1;
            // A use that a reader marks between load and store is lost: that costs the entry a turn at most.
            marks.set(uses - 1, true);
            self.main.chain.requeue(&mut self.slab);
        }
        None
    }
}

impl Order for S3Fifo {
    const PLACE: usize = 72;

    fn len(&self) -> usize {
        self.small.chain.len() + self.main.chain.len()
    }

    fn extent(&self) -> u32 {
        self.slab.extent()
    }

    fn get(&self, place: u32) -> Option<&Entry> {
        self.slab.get(place)
    }

    fn push(&mut self, entry: Entry) {
        let in_main = self.ghost.forget(self.hash(&entry));
        entry.marks().set(0, in_main);
        let queue = if in_main { &mut self.main } else { &mut self.small };
        queue.bytes += entry.weight();
        let place = queue.chain.push(&mut self.slab, entry.clone());
        entry.marks().set_place(place);
    }

    fn replace(&mut self, place: u32, entry: Entry) -> Entry {
        let old = self.slab.replace(place, entry.clone());
        let in_main = old.marks().is_main();
        entry.marks().set(MAX_USES.min(old.marks().uses() + 1), in_main);
        entry.marks().set_place(place);
        let queue = self.queue(in_main);
        queue.bytes = queue.bytes + entry.weight() - old.weight();
        old
    }

    fn remove(&mut self, place: u32) -> Entry {
        let in_main = self.slab.get(place).is_some_and(|entry| entry.marks().is_main());
        let queue = if in_main { &mut self.main } else { &mut self.small };
        let entry = queue.chain.remove(&mut self.slab, place);
        queue.bytes -= entry.weight();
        entry
    }

    fn evict(&mut self, limit: Limit) -> Option<Entry> {
        let mut budget = MAX_PASSED_OVER;
        // All of the small queue may have been promoted: then the main one has to give.
        let from_small = self.is_small_next(limit).then(|| self.evict_small(&mut budget)).flatten();
        from_small.or_else(|| self.evict_main(&mut budget))
    }

    fn clear(&mut self) {
        *self = Self::new(self.hasher.clone());
    }

    fn mark_used(entry: &Entry) {
        let uses = entry.marks().uses();
        if uses < MAX_USES {
            entry.marks().set_uses(uses + 1);
        }
    }
}

#[cfg(test)]
#[path = "s3fifo_tests.rs"]
mod tests;
