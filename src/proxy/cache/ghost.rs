//! What was given up lately, as 32 bits of a hash each: the memory by which `s3fifo` knows a key that comes back.
//!
//! Two keys of the same 32 bits pass for one: one in 300 000 at most with 14 000 remembered, and it costs one good place.

use std::num::NonZeroU32;

use hashbrown::HashTable;

use super::order::{Chain, Slab};

/// A bounded memory of hashes; the oldest is forgotten first.
#[derive(Debug)]
pub(super) struct Ghost {
    order: Chain,
    slab: Slab<NonZeroU32>,
    places: HashTable<u32>,
}

impl Ghost {
    pub(super) const fn new() -> Self {
        Self { order: Chain::new(), slab: Slab::new(), places: HashTable::new() }
    }

    /// Remembers a hash, and forgets the oldest to hold at most `limit`.
    pub(super) fn remember(&mut self, hash: u32, limit: usize) {
        if self.place(hash).is_none() {
            let slot = self.order.push(&mut self.slab, mark(hash));
            let slab = &self.slab;
            self.places
                .insert_unique(spread(mark(hash)), slot, |&at| slab.get(at).map_or(0, |&mark| spread(mark)));
        }
        while self.order.len() > limit {
            let oldest = self.order.oldest().expect("longer than its limit");
            self.forget_at(oldest);
        }
    }

    /// Forgets a hash; tells whether it was remembered.
    pub(super) fn forget(&mut self, hash: u32) -> bool {
        self.place(hash).inspect(|&at| self.forget_at(at)).is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    fn place(&self, hash: u32) -> Option<u32> {
        let mark = mark(hash);
        self.places.find(spread(mark), |&at| self.slab.get(at) == Some(&mark)).copied()
    }

    fn forget_at(&mut self, at: u32) {
        let mark = self.order.remove(&mut self.slab, at);
        if let Ok(place) = self.places.find_entry(spread(mark), |&other| other == at) {
            place.remove();
        }
    }
}

/// Not zero, so that a vacant place needs no room of its own.
fn mark(hash: u32) -> NonZeroU32 {
    NonZeroU32::new(hash).unwrap_or(NonZeroU32::MIN)
}

fn spread(mark: NonZeroU32) -> u64 {
    super::policy::spread(mark.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_first() {
        let mut ghost = Ghost::new();
        for hash in 0..10 {
            ghost.remember(hash, 4);
            ghost.remember(hash, 4);
        }
        assert_eq!(ghost.len(), 4);
        assert!((0..6).all(|hash| !ghost.forget(hash)));
        assert!(ghost.forget(7) && !ghost.forget(7));
        ghost.remember(20, 4);
        assert!([6, 8, 9, 20].into_iter().all(|hash| ghost.forget(hash)));
        assert_eq!(ghost.len(), 0);
    }

    #[test]
    fn stays_bounded() {
        let mut ghost = Ghost::new();
        for hash in 0..100_000_u32 {
            ghost.remember(hash.wrapping_mul(0x9E37_79B9), 100);
        }
        assert_eq!((ghost.len(), ghost.slab.extent()), (100, 101));
        assert!(ghost.places.capacity() < 1000);
    }
}
