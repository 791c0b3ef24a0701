//! Homes that were found among many candidates, kept as long as their list: a popular key is compared with all of them once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::FEW;

/// Slots for each candidate: the more there are, the longer is the search that is saved.
const SLOTS_PER_CANDIDATE: usize = 32;
/// 512 KiB.
const MOST_SLOTS: usize = 65_536;

/// The bits of a slot that hold a place.
const PLACE_BITS: u32 = 20;
const PLACES: u64 = 1 << PLACE_BITS;

/// Homes of keys, each in the slot of its lowest bits, where the last key replaces the one before.
///
/// A slot is the key with its lowest [`PLACE_BITS`] replaced by a place and one; 0 is empty. Up to ten of these bits are not
/// those of the slot either, so two keys that differ in them alone have one home: one pair in 2^54.
pub(super) struct KeptHomes(Box<[AtomicU64]>);

impl KeptHomes {
    /// For a list of this many candidates; `None` for few, which are compared as fast.
    pub(super) fn new(candidates: usize) -> Option<Self> {
        let slots = (candidates * SLOTS_PER_CANDIDATE).next_power_of_two().min(MOST_SLOTS);
        (candidates > FEW).then(|| Self((0..slots).map(|_| AtomicU64::new(0)).collect()))
    }

    /// The place of the home of a key: the kept one, or else what `find` finds, which is kept.
    pub(super) fn of(&self, key: u64, find: impl FnOnce() -> Option<usize>) -> Option<usize> {
        let slot = &self.0[key as usize % self.0.len()];
        let (kept, of_key) = (slot.load(Relaxed), key & !(PLACES - 1));
        if kept & !(PLACES - 1) == of_key && kept % PLACES > 0 {
            return Some((kept % PLACES) as usize - 1);
        }
        let place = find()?;
        if (place as u64) < PLACES - 1 {
            slot.store(of_key | (place as u64 + 1), Relaxed);
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_looked_for_once_until_another_key_has_its_slot() {
        let kept = KeptHomes::new(1_000).expect("many");
        let never = || -> Option<usize> { panic!("it is kept") };
        let (key, other) = (u64::MAX, u64::MAX >> 1);
        assert_eq!(kept.of(key, || Some(999)), Some(999));
        assert_eq!(kept.of(key, never), Some(999));
        assert_eq!(kept.of(other, || Some(0)), Some(0), "the same slot");
        assert_eq!(kept.of(other, never), Some(0));
        assert_eq!(kept.of(key, || Some(7)), Some(7));
        assert_eq!(kept.of(0, || None), None, "an empty slot is no home");
        assert_eq!(kept.of(0, || Some(PLACES as usize)), Some(PLACES as usize), "too large to be kept");
        assert_eq!(kept.of(0, || Some(3)), Some(3));
        assert!(KeptHomes::new(FEW).is_none());
    }
}
