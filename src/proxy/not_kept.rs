//! Documents that are served and not kept, because each would take more than its share of the cache. Pure.

use std::num::NonZeroUsize;

use lru::LruCache;

/// Keys that are remembered: those that came last.
const MOST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// The keys whose last document was not kept.
pub(super) struct NotKept {
    /// The most that an entry may weigh, in bytes.
    largest: usize,
    by_key: LruCache<Box<str>, usize>,
    was_told: bool,
}

impl NotKept {
    /// No documents, before a cache of entries that weigh `largest` bytes at most.
    pub(super) fn new(largest: usize) -> Self {
        Self { largest, by_key: LruCache::new(MOST), was_told: false }
    }

    /// A document was not kept; its entry would weigh so many bytes. Returns the key that is remembered no more.
    pub(super) fn note(&mut self, key: &str, weight: usize) -> Option<Box<str>> {
        let gone = self.by_key.push(key.into(), weight).map(|(gone, _)| gone);
        gone.filter(|gone| **gone != *key)
    }

    /// The last answer for the key was kept, or needs no room.
    pub(super) fn forget(&mut self, key: &str) {
        if !self.by_key.is_empty() {
            self.by_key.pop(key);
        }
    }

    /// Whether the last document of the key was not kept.
    pub(super) fn has(&self, key: &str) -> bool {
        self.by_key.contains(key)
    }

    /// Why the last document of the key was not kept; `None` if it was.
    pub(super) fn why(&self, key: &str) -> Option<String> {
        let (weight, largest) = (self.by_key.peek(key)?, self.largest);
        Some(format!(
            "it takes {weight} bytes, and one document may take {largest}, a sixteenth of --max-bytes"
        ))
    }

    /// Whether this is the first call: what happens at each request is logged once.
    pub(super) fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.was_told, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_keys_that_came_last() {
        let mut not_kept = NotKept::new(100);
        assert_eq!((not_kept.note("a/0", 200), not_kept.note("a/0", 300)), (None, None));
        assert!(not_kept.why("a/0").is_some_and(|why| why.contains("300") && why.contains("100")));
        let gone: Vec<_> =
            (1..2000).filter_map(|i| not_kept.note(&format!("a/{i}"), 200)).map(String::from).collect();
        assert_eq!(gone, (0..2000 - MOST.get()).map(|i| format!("a/{i}")).collect::<Vec<_>>());
        not_kept.forget("a/1999");
        assert!(not_kept.has("a/1998") && !not_kept.has("a/1999") && not_kept.why("a/0").is_none());
    }

    #[test]
    fn is_told_once() {
        let mut not_kept = NotKept::new(100);
        assert!(not_kept.is_first() && !not_kept.is_first());
    }
}
