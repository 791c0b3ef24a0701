//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP '23): three FIFO queues instead of one LRU.
//!
//! ```text
//!            new ──▶ small (10 %) ──used twice──▶ main (90 %) ◀─┐ used: again, with one use less
//!                      │ not                        │ └─────────┘
//!                      ▼                            ▼ not
//!  came back ◀── ghost (hashes)                   gone
//!      └──▶ main
//! ```
//!
//! Most keys of most traces are asked for once: they leave through the small queue and never cost the main one a place.
//! A hit writes one byte and moves nothing. That the second hit promotes, and that the parts are taken of what is held
//! when something has to go, is as in libCacheSim, whose figures this is held against.

use std::sync::Arc;

use hashbrown::HashTable;

use super::Entry;
use super::ghost::Ghost;
use super::order::{Chain, Slab};
use super::policy::{Limit, Policy, spread};

/// A use more counts for nothing: two bits are enough (section 4 of the paper).
const MOST_USES: u8 = 3;
/// So many uses in the small queue earn a place in the main one.
const PROMOTED_AT: u8 = 2;

/// The three queues of one shard.
#[derive(Debug)]
pub(super) struct S3Fifo {
    small: Queue,
    main: Queue,
    slab: Slab<Resident>,
    places: HashTable<u32>,
    ghost: Ghost,
}

#[derive(Debug)]
struct Queue {
    chain: Chain,
    bytes: usize,
}

#[derive(Debug)]
struct Resident {
    entry: Arc<Entry>,
    /// The low half of the hash: the tables are found by it again when they grow, without a look at the entries.
    hash: u32,
    uses: u8,
    in_main: bool,
}

impl Queue {
    const fn new() -> Self {
        Self { chain: Chain::new(), bytes: 0 }
    }
}

impl S3Fifo {
    fn place(&self, hash: u32, key: &str) -> Option<u32> {
        let is_it = |&at: &u32| {
            self.slab.get(at).is_some_and(|resident| resident.hash == hash && resident.entry.key() == key)
        };
        self.places.find(spread(hash), is_it).copied()
    }

    fn queue(&mut self, in_main: bool) -> &mut Queue {
        if in_main { &mut self.main } else { &mut self.small }
    }

    fn replace(&mut self, at: u32, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let resident = self.slab.get_mut(at)?;
        resident.uses = MOST_USES.min(resident.uses + 1);
        let new = entry.weight();
        let old = std::mem::replace(&mut resident.entry, entry);
        let in_main = resident.in_main;
        let queue = self.queue(in_main);
        queue.bytes = queue.bytes + new - old.weight();
        Some(old)
    }

    fn take(&mut self, at: u32) -> Option<Resident> {
        let in_main = self.slab.get(at)?.in_main;
        let queue = if in_main { &mut self.main } else { &mut self.small };
        let resident = queue.chain.remove(&mut self.slab, at);
        queue.bytes -= resident.entry.weight();
        if let Ok(place) = self.places.find_entry(spread(resident.hash), |&other| other == at) {
            place.remove();
        }
        Some(resident)
    }

    /// Whether the small queue is the one that has to give.
    fn small_gives(&self, limit: Limit) -> bool {
        if self.main.chain.len() == 0 {
            return true;
        }
        match limit {
            Limit::Entries => self.small.chain.len() >= tenth(self.len()),
            // The newest stays, however large: it would be given up for its own sake.
            Limit::Bytes => {
                self.small.chain.len() > 1 && self.small.bytes >= (self.small.bytes + self.main.bytes) / 10
            }
        }
    }

    /// Gives up the oldest of the small queue that was not used twice; those that were move on.
    fn evict_small(&mut self) -> Option<Arc<Entry>> {
        let ghosts = self.len() * 9 / 10;
        while let Some(at) = self.small.chain.oldest() {
            let resident = self.slab.get_mut(at)?;
            if resident.uses < PROMOTED_AT {
                let resident = self.take(at)?;
                self.ghost.remember(resident.hash, ghosts);
                return Some(resident.entry);
            }
            (resident.uses, resident.in_main) = (0, true);
            let weight = resident.entry.weight();
            self.small.bytes -= weight;
            self.main.bytes += weight;
            self.small.chain.hand_over(&mut self.slab, &mut self.main.chain);
        }
        None
    }

    /// Gives up the oldest of the main queue that was not used since it was last looked at.
    fn evict_main(&mut self) -> Option<Arc<Entry>> {
        while let Some(at) = self.main.chain.oldest() {
            let resident = self.slab.get_mut(at)?;
            if resident.uses == 0 {
                return self.take(at).map(|resident| resident.entry);
            }
            resident.uses -= 1;
            self.main.chain.requeue(&mut self.slab);
        }
        None
    }
}

/// The part of the small queue: some, however little there is.
fn tenth(whole: usize) -> usize {
    (whole / 10).max(1)
}

impl Policy for S3Fifo {
    fn new() -> Self {
        Self {
            small: Queue::new(),
            main: Queue::new(),
            slab: Slab::new(),
            places: HashTable::new(),
            ghost: Ghost::new(),
        }
    }

    fn len(&self) -> usize {
        self.small.chain.len() + self.main.chain.len()
    }

    fn get(&mut self, hash: u64, key: &str) -> Option<&Arc<Entry>> {
        let at = self.place(hash as u32, key)?;
        let resident = self.slab.get_mut(at)?;
        resident.uses = MOST_USES.min(resident.uses + 1);
        Some(&resident.entry)
    }

    fn peek(&self, hash: u64, key: &str) -> Option<&Arc<Entry>> {
        let at = self.place(hash as u32, key)?;
        self.slab.get(at).map(|resident| &resident.entry)
    }

    fn insert(&mut self, hash: u64, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let hash = hash as u32;
        if let Some(at) = self.place(hash, entry.key()) {
            return self.replace(at, entry);
        }
        let in_main = self.ghost.forget(hash);
        let queue = if in_main { &mut self.main } else { &mut self.small };
        queue.bytes += entry.weight();
        let at = queue.chain.push(&mut self.slab, Resident { entry, hash, uses: 0, in_main });
        let slab = &self.slab;
        let hash_of = |&at: &u32| slab.get(at).map_or(0, |resident| spread(resident.hash));
        self.places.insert_unique(spread(hash), at, hash_of);
        None
    }

    fn remove(&mut self, hash: u64, key: &str) -> Option<Arc<Entry>> {
        let at = self.place(hash as u32, key)?;
        self.take(at).map(|resident| resident.entry)
    }

    fn evict(&mut self, limit: Limit) -> Option<Arc<Entry>> {
        // All of the small queue may have earned its place in the main one: then that has to give.
        let from_small = self.small_gives(limit).then(|| self.evict_small()).flatten();
        from_small.or_else(|| self.evict_main())
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&Entry) -> bool, gone: &mut dyn FnMut(Arc<Entry>)) {
        for at in 0..self.slab.extent() {
            let unwanted = self.slab.get(at).is_some_and(|resident| !keep(&resident.entry));
            if let Some(resident) = unwanted.then(|| self.take(at)).flatten() {
                gone(resident.entry);
            }
        }
        if self.len() == 0 {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
#[path = "s3fifo_tests.rs"]
mod tests;
