//! The ghost queue of `s3fifo`: 32 bits of the hash of each key that was evicted lately, to recognise one that comes back.
//!
//! A new key has the bits of another with a probability of n/2³² for n hashes remembered: one in 4 800 with 900 000. It then
//! enters the main queue too early, and leaves it unused.

use std::num::NonZeroU32;

use hashbrown::HashTable;

use super::chain::{Chain, Slab};

/// A bounded queue of hashes with an index; the oldest is forgotten first.
#[derive(Debug)]
pub(super) struct Ghost {
    chain: Chain,
    /// Never zero, so that `Option` takes no more room.
    slab: Slab<NonZeroU32>,
    places: HashTable<u32>,
}

impl Ghost {
    pub(super) const fn new() -> Self {
        Self { chain: Chain::new(), slab: Slab::new(), places: HashTable::new() }
    }

    /// Adds a hash, and forgets the oldest ones beyond `limit`.
    pub(super) fn remember(&mut self, hash: u32, limit: usize) {
        if self.place(hash).is_none() {
            let place = self.chain.push(&mut self.slab, non_zero(hash));
            let slab = &self.slab;
            let rehash = |&at: &u32| slab.get(at).map_or(0, |&hash| spread(hash));
            self.places.insert_unique(spread(non_zero(hash)), place, rehash);
        }
        while self.chain.len() > limit {
            let oldest = self.chain.oldest().expect("longer than its limit");
            self.forget_at(oldest);
        }
    }

    /// Removes a hash; returns whether it was there.
    pub(super) fn forget(&mut self, hash: u32) -> bool {
        self.place(hash).inspect(|&at| self.forget_at(at)).is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.chain.len()
    }

    fn place(&self, hash: u32) -> Option<u32> {
        let hash = non_zero(hash);
        self.places.find(spread(hash), |&at| self.slab.get(at) == Some(&hash)).copied()
    }

    fn forget_at(&mut self, at: u32) {
        let hash = self.chain.remove(&mut self.slab, at);
        if let Ok(place) = self.places.find_entry(spread(hash), |&other| other == at) {
            place.remove();
        }
    }
}

fn non_zero(hash: u32) -> NonZeroU32 {
    NonZeroU32::new(hash).unwrap_or(NonZeroU32::MIN)
}

/// 64 bits from 32: hashbrown looks at the lowest bits and at the seven highest. The factor is 2⁶⁴ over the golden ratio.
fn spread(hash: NonZeroU32) -> u64 {
    u64::from(hash.get()).wrapping_mul(0x9E37_79B9_7F4A_7C15)
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
