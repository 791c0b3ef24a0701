//! The share of a cache that NOT_FOUND may take. There is no end of keys without a document, and whoever asks for very many
//! must not push out the documents of others. Pure.

use lru::LruCache;

use super::cache::Bounds;

/// One part of this many, of the entries and of the bytes.
const PART: usize = 8;

/// The keys whose last answer was NOT_FOUND, the longest noted first to go.
pub(super) struct Absences {
    most: Bounds,
    bytes: usize,
    by_key: LruCache<Box<str>, usize>,
}

impl Absences {
    /// No keys, in a cache of these bounds.
    pub(super) fn within(bounds: Bounds) -> Self {
        let most = Bounds { entries: (bounds.entries / PART).max(1), bytes: bounds.bytes / PART };
        Self { most, bytes: 0, by_key: LruCache::unbounded() }
    }

    /// Notes a key whose entry weighs so many bytes. Returns the keys that have to leave the cache for it.
    pub(super) fn note(&mut self, key: &str, weight: usize) -> Vec<Box<str>> {
        let before = self.by_key.push(key.into(), weight).map_or(0, |(_, before)| before);
        self.bytes = self.bytes + weight - before;
        let mut gone = Vec::new();
        while self.by_key.len() > 1 && (self.by_key.len() > self.most.entries || self.bytes > self.most.bytes)
        {
            let Some((key, weight)) = self.by_key.pop_lru() else { break };
            self.bytes -= weight;
            gone.push(key);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_noted_leave_when_there_are_too_many_or_too_large_ones() {
        let mut absences = Absences::within(Bounds { entries: 24, bytes: 8 * 100 });
        let gone = |gone: Vec<Box<str>>| gone.join(" ");
        assert_eq!(gone(absences.note("a/1", 10)) + &gone(absences.note("a/2", 10)), "");
        assert_eq!(gone(absences.note("a/1", 20)) + &gone(absences.note("a/3", 10)), "", "three at the most");
        assert_eq!(gone(absences.note("a/4", 10)), "a/2");
        assert_eq!(gone(absences.note("a/5", 85)), "a/1 a/3");
        assert_eq!((gone(absences.note("a/6", 500)), absences.bytes), ("a/4 a/5".to_owned(), 500));
        assert_eq!((gone(absences.note("a/6", 5)), absences.bytes), (String::new(), 5));
    }
}
