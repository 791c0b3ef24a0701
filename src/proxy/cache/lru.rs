//! Exact LRU: one shard of the cache of `--cache-type lru`, over the `lru` crate.
//!
//! The crate's key is the 64-bit hash, which is known already; the entry holds the key itself. Two keys of one hash evict
//! each other, and the entry tells them apart: that costs a miss once in a century, never a wrong document.

use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::ops::Range;

use ::lru::LruCache;

use super::Entry;

/// How many entries a walk touches before it looks at the first of them.
const AHEAD: usize = 32;

/// Entries in the order of their last use. The hash that comes with a key is always the same one.
#[derive(Debug)]
pub(super) struct Lru {
    // The crate's own bound is not used: it cannot count bytes, and one place that keeps the bounds is enough.
    entries: LruCache<u64, Entry, BuildHasherDefault<Identity>>,
    /// The same entries at places that no use changes, for walks in slices. (The crate's list can be walked only as a whole,
    /// and each step of it waits for the memory of the one before.)
    places: Vec<Option<Entry>>,
    vacant: Vec<u32>,
}

/// Hashes a hash to itself.
#[derive(Default, Debug)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the keys of this map are hashes");
    }
}

impl Lru {
    pub(super) fn new() -> Self {
        let entries = LruCache::unbounded_with_hasher(BuildHasherDefault::default());
        Self { entries, places: Vec::new(), vacant: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All places in use are below this.
    pub(super) fn extent(&self) -> usize {
        self.places.len()
    }

    /// The entry of a key; counts as a use.
    pub(super) fn get(&mut self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.entries.get(&hash).filter(|entry| entry.key_bytes() == key)
    }

    /// The entry of a key; does not count as a use.
    pub(super) fn peek(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.entries.peek(&hash).filter(|entry| entry.key_bytes() == key)
    }

    /// Adds an entry, and returns the one that had its hash.
    pub(super) fn insert(&mut self, hash: u64, entry: Entry) -> Option<Entry> {
        let old = self.entries.put(hash, entry.clone());
        match &old {
            Some(old) => self.place(old.marks().place(), entry),
            None => {
                let place = self.vacant.pop().unwrap_or_else(|| self.new_place());
                self.place(place, entry);
            }
        }
        old
    }

    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        self.peek(hash, key)?;
        self.entries.pop(&hash).map(|entry| self.vacate(entry))
    }

    /// Removes the least recently used entry.
    pub(super) fn evict(&mut self) -> Option<Entry> {
        self.entries.pop_lru().map(|(_, entry)| self.vacate(entry))
    }

    /// Removes the entries at these places for which `keep` is false, and passes each to `removed` at once, since `keep` may
    /// panic. `hash` is that of all keys.
    ///
    /// Frees the tables when no entry is left.
    pub(super) fn retain(
        &mut self,
        places: Range<usize>,
        hash: impl Fn(&[u8]) -> u64,
        keep: &mut dyn FnMut(&Entry) -> bool,
        removed: &mut dyn FnMut(Entry),
    ) {
        let (end, mut seen) = (places.end.min(self.extent()), 0);
        for place in places.start.min(end)..end {
            if place % AHEAD == 0 {
                // The memory of many is waited for at once, and not of one after the other.
                let ahead = self.places[place..end.min(place + AHEAD)].iter().flatten();
                seen ^= ahead.fold(0, |seen, entry| seen ^ entry.stamp().bits());
            }
            let Some(entry) = self.places[place].as_ref().filter(|entry| !keep(entry)).cloned() else {
                continue;
            };
            if let Some(entry) = self.remove(hash(entry.key_bytes()), entry.key_bytes()) {
                removed(entry);
            }
        }
        black_box(seen);
        if self.entries.is_empty() {
            *self = Self::new();
        }
    }

    fn new_place(&mut self) -> u32 {
        if self.places.len() == self.places.capacity() {
            // By an eighth and not by doubling, as the orders of the other types grow.
            self.places.reserve_exact((self.places.len() / 8).max(16));
        }
        self.places.push(None);
        self.places.len() as u32 - 1
    }

    fn place(&mut self, place: u32, entry: Entry) {
        entry.marks().set_place(place);
        self.places[place as usize] = Some(entry);
    }

    /// Frees the place of an entry that has left the order.
    fn vacate(&mut self, entry: Entry) -> Entry {
        let place = entry.marks().place();
        self.places[place as usize] = None;
        self.vacant.push(place);
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::entry;
    use super::*;

    fn keys(lru: &mut Lru) -> Vec<String> {
        std::iter::from_fn(|| lru.evict()).map(|entry| entry.key().to_owned()).collect()
    }

    #[test]
    fn two_keys_of_one_hash_are_never_mixed_up() {
        let mut lru = Lru::new();
        lru.insert(7, entry("a", 1));
        assert!(lru.get(7, b"b").is_none() && lru.remove(7, b"b").is_none());
        assert_eq!(lru.insert(7, entry("b", 1)).expect("replaced").key(), "a");
        assert!(lru.get(7, b"a").is_none());
        assert_eq!(keys(&mut lru), ["b"]);
    }

    #[test]
    fn agrees_with_a_list() {
        let mut random = fastrand::Rng::with_seed(2);
        let (mut lru, mut model) = (Lru::new(), Vec::<u64>::new());
        for _ in 0..20_000 {
            let hash = random.u64(..40);
            let key = hash.to_string();
            let held = model.iter().position(|&other| other == hash);
            match random.u8(..4) {
                0 => assert_eq!(
                    lru.remove(hash, key.as_bytes()).is_some(),
                    held.map(|at| model.remove(at)).is_some()
                ),
                1 => assert_eq!(lru.peek(hash, key.as_bytes()).is_some(), held.is_some()),
                _ => {
                    assert_eq!(
                        lru.get(hash, key.as_bytes()).is_some(),
                        held.map(|at| model.remove(at)).is_some()
                    );
                    // A replaced entry counts as used, as one that was found does.
                    if held.is_none() || random.bool() {
                        lru.insert(hash, entry(&key, 1));
                    }
                    model.push(hash);
                }
            }
            if model.len() > 20 {
                let oldest = lru.evict().expect("not empty");
                assert_eq!(oldest.key(), model.remove(0).to_string());
            }
            assert_eq!(lru.len(), model.len());
            let placed = lru.places.iter().flatten().count();
            assert_eq!((placed, placed + lru.vacant.len()), (lru.len(), lru.extent()));
        }
        assert_eq!(lru.extent(), 21, "vacant places are used again");
    }
}
