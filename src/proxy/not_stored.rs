//! Keys whose answer must not be stored, by the word of the source: for a while each request fetches for itself, because
//! requests that wait for one flight after another would be served one by one. Pure; times come in as arguments.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use super::cache::Millis;

/// Keys that are remembered: those that were answered last.
const MOST: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// For how long a key is taken for one that is not stored.
const REMEMBERED: Duration = Duration::from_secs(120);
/// First segments of which the log was told.
const TOLD: usize = 64;

/// The keys, and why their last answer was not stored.
pub(super) struct NotStored {
    by_key: LruCache<Box<str>, (&'static str, Millis)>,
    told: Vec<Box<str>>,
}

impl NotStored {
    pub(super) fn new() -> Self {
        Self { by_key: LruCache::new(MOST), told: Vec::new() }
    }

    /// An answer for the key must not be stored. Whether it is the first of its `resource`, so that the log is told once.
    pub(super) fn note(&mut self, key: &str, resource: &str, why: &'static str, now: Millis) -> bool {
        self.by_key.put(key.into(), (why, now));
        let is_first = self.told.len() < TOLD && !self.told.iter().any(|told| **told == *resource);
        if is_first {
            self.told.push(resource.into());
        }
        is_first
    }

    /// An answer for the key may be stored.
    pub(super) fn forget(&mut self, key: &str) {
        if !self.by_key.is_empty() {
            self.by_key.pop(key);
        }
    }

    /// Why the last answer for the key was not stored, if that was lately.
    pub(super) fn why(&self, key: &str, now: Millis) -> Option<&'static str> {
        if self.by_key.is_empty() {
            return None;
        }
        let (why, at) = self.by_key.peek(key)?;
        (now.since(*at) < REMEMBERED).then_some(*why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_for_two_minutes_and_told_once_a_resource() {
        let mut keys = NotStored::new();
        assert!(keys.note("a/1", "a", "no-store", Millis(0)));
        assert!(
            !keys.note("a/2", "a", "no-store", Millis(0)) && keys.note("b/1", "b", "no-store", Millis(0))
        );
        assert_eq!(keys.why("a/1", Millis(119_999)), Some("no-store"));
        assert_eq!((keys.why("a/1", Millis(120_000)), keys.why("a/3", Millis(0))), (None, None));
        keys.forget("a/2");
        assert_eq!(keys.why("a/2", Millis(0)), None);
        for i in 0..10_000 {
            keys.note(&format!("c/{i}"), &format!("{i}"), "private", Millis(0));
        }
        assert_eq!((keys.by_key.len(), keys.told.len()), (MOST.get(), TOLD));
    }
}
