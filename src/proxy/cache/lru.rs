//! Least recently used goes first, exactly: the `lru` crate.
//!
//! The crate's key is the hash alone: it is there already, and the path is in the entry. Two paths of one 64-bit hash are
//! told apart by the entry and push each other out: a miss once in a century, never a wrong document.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use ::lru::LruCache;

use super::Entry;
use super::policy::{Limit, Policy};

/// Entries in the order of their last use.
#[derive(Debug)]
pub(super) struct Lru {
    // The crate's own bound stays unused: it knows no bytes, and one place that keeps bounds is enough.
    entries: LruCache<u64, Arc<Entry>, BuildHasherDefault<Known>>,
}

/// Passes on what is a hash already.
#[derive(Default, Debug)]
pub(super) struct Known(u64);

impl Hasher for Known {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are hashed before they come here");
    }
}

impl Policy for Lru {
    fn new() -> Self {
        Self { entries: LruCache::unbounded_with_hasher(BuildHasherDefault::default()) }
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn get(&mut self, hash: u64, key: &str) -> Option<&Arc<Entry>> {
        self.entries.get(&hash).filter(|entry| entry.key() == key)
    }

    fn peek(&self, hash: u64, key: &str) -> Option<&Arc<Entry>> {
        self.entries.peek(&hash).filter(|entry| entry.key() == key)
    }

    fn insert(&mut self, hash: u64, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        self.entries.put(hash, entry)
    }

    fn remove(&mut self, hash: u64, key: &str) -> Option<Arc<Entry>> {
        self.peek(hash, key)?;
        self.entries.pop(&hash)
    }

    fn evict(&mut self, _: Limit) -> Option<Arc<Entry>> {
        self.entries.pop_lru().map(|(_, entry)| entry)
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&Entry) -> bool, gone: &mut dyn FnMut(Arc<Entry>)) {
        self.entries.retain(|_, entry| {
            let stays = keep(entry);
            if !stays {
                gone(Arc::clone(entry));
            }
            stays
        });
        if self.entries.is_empty() {
            self.entries = LruCache::unbounded_with_hasher(BuildHasherDefault::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::entry;
    use super::*;

    fn keys(lru: &mut Lru) -> Vec<String> {
        std::iter::from_fn(|| lru.evict(Limit::Entries)).map(|entry| entry.key().to_owned()).collect()
    }

    #[test]
    fn gives_up_the_least_recently_used() {
        let mut lru = Lru::new();
        for (hash, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
            lru.insert(hash as u64, entry(key, 1));
        }
        assert!(lru.get(0, "a").is_some());
        assert!(lru.peek(1, "b").is_some(), "a peek is no use");
        lru.insert(2, entry("c", 2));
        assert_eq!(keys(&mut lru), ["b", "d", "a", "c"]);
    }

    #[test]
    fn two_keys_of_one_hash_are_never_mixed_up() {
        let mut lru = Lru::new();
        lru.insert(7, entry("a", 1));
        assert!(lru.get(7, "b").is_none() && lru.remove(7, "b").is_none());
        assert_eq!(lru.insert(7, entry("b", 1)).expect("pushed out").key(), "a");
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
                    if held.is_none() {
                        lru.insert(hash, entry(&key, 1));
                    }
                    model.push(hash);
                }
            }
            if model.len() > 20 {
                let oldest = lru.evict(Limit::Entries).expect("not empty");
                assert_eq!(oldest.key(), model.remove(0).to_string());
            }
            assert_eq!(lru.len(), model.len());
        }
    }
}
