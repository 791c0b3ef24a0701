//! Exact LRU: one shard of the cache of `--cache-type lru`, over the `lru` crate.
//!
//! The crate's key is the 64-bit hash, which is known already; the entry holds the key itself. Two keys of one hash evict
//! each other, and the entry tells them apart: that costs a miss once in a century, never a wrong document.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use ::lru::LruCache;

use super::Entry;

/// Entries in the order of their last use. The hash that comes with a key is always the same one.
#[derive(Debug)]
pub(super) struct Lru {
    // The crate's own bound is not used: it cannot count bytes, and one place that keeps the bounds is enough.
    entries: LruCache<u64, Arc<Entry>, BuildHasherDefault<Identity>>,
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
        Self { entries: LruCache::unbounded_with_hasher(BuildHasherDefault::default()) }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry of a key; counts as a use.
    pub(super) fn get(&mut self, hash: u64, key: &str) -> Option<&Arc<Entry>> {
        self.entries.get(&hash).filter(|entry| entry.key() == key)
    }

    /// The entry of a key; does not count as a use.
    pub(super) fn peek(&self, hash: u64, key: &str) -> Option<&Arc<Entry>> {
        self.entries.peek(&hash).filter(|entry| entry.key() == key)
    }

    /// Adds an entry, and returns the one that had its hash.
    pub(super) fn insert(&mut self, hash: u64, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        self.entries.put(hash, entry)
    }

    pub(super) fn remove(&mut self, hash: u64, key: &str) -> Option<Arc<Entry>> {
        self.peek(hash, key)?;
        self.entries.pop(&hash)
    }

    /// Removes the least recently used entry.
    pub(super) fn evict(&mut self) -> Option<Arc<Entry>> {
        self.entries.pop_lru().map(|(_, entry)| entry)
    }

    /// Removes the entries for which `keep` is false, and passes each to `removed` at once, since `keep` may panic.
    ///
    /// Frees the table when no entry is left.
    pub(super) fn retain(
        &mut self,
        keep: &mut dyn FnMut(&Entry) -> bool,
        removed: &mut dyn FnMut(Arc<Entry>),
    ) {
        self.entries.retain(|_, entry| {
            let stays = keep(entry);
            if !stays {
                removed(Arc::clone(entry));
            }
            stays
        });
        if self.entries.is_empty() {
            *self = Self::new();
        }
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
        assert!(lru.get(7, "b").is_none() && lru.remove(7, "b").is_none());
        assert_eq!(lru.insert(7, entry("b", 1)).expect("replaced").key(), "a");
        assert!(lru.get(7, "a").is_none());
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
                0 => assert_eq!(lru.remove(hash, &key).is_some(), held.map(|at| model.remove(at)).is_some()),
                1 => assert_eq!(lru.peek(hash, &key).is_some(), held.is_some()),
                _ => {
                    assert_eq!(lru.get(hash, &key).is_some(), held.map(|at| model.remove(at)).is_some());
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
        }
    }
}
