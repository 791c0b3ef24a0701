//! The last failure of each key, for a moment: a document that is held and cannot be fetched is asked for now and then, not
//! once a request. Pure; times come in as arguments.
//!
//! The gate is about the source, and opens with any answer; this is about one key, whoever else is answered. Only a key
//! with something to serve meanwhile waits: the pauses are those of serving stale data in the DNS (RFC 8767, section 5, the
//! failure recheck timer), but shorter, because here a request costs its client nothing.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use super::cache::Millis;
use super::fetched::Failure;
use crate::blame::Fault;
use crate::wire::KeyBuf;

/// Keys that are remembered: those that failed last.
const MOST: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// How often the pause of a key is doubled at most.
const DOUBLINGS: u32 = 3;

/// The failures of keys since their last success.
pub(super) struct KeyFailures {
    by_key: LruCache<KeyBuf, KeyFailure>,
    /// The pause after the first failure.
    pause: Duration,
}

/// The last failure of a key.
#[derive(Clone, Debug)]
pub(super) struct KeyFailure {
    /// The text for the client.
    pub(super) why: Cow<'static, str>,
    pub(super) at: Millis,
    /// The first failure since the last success.
    pub(super) since: Millis,
    /// Until then it is not asked for while something can be served instead.
    pub(super) pauses_until: Millis,
    /// Failures of the document in a row.
    in_a_row: u32,
}

impl KeyFailures {
    /// No failures. The first pause of a key is `pause`.
    pub(super) fn new(pause: Duration) -> Self {
        Self { by_key: LruCache::new(MOST), pause }
    }

    /// A fetch of the key failed. A document's own fault doubles the pause each time; how long a source's lasts is for the
    /// gate to find out, with other keys as well.
    pub(super) fn failed(&mut self, key: &KeyBuf, failure: &Failure, now: Millis) {
        let (before, since) =
            self.of(key.as_str()).map_or((0, now), |failure| (failure.in_a_row, failure.since));
        let is_its_own = matches!(failure.fault, Fault::Document | Fault::Doubt);
        let in_a_row = if is_its_own { before + 1 } else { 0 };
        let pause = self.pause * (1 << in_a_row.saturating_sub(1).min(DOUBLINGS));
        let failure = KeyFailure {
            why: failure.why.clone(),
            at: now,
            since,
            pauses_until: Millis(now.0 + pause.as_millis() as u64),
            in_a_row,
        };
        self.by_key.put(key.clone(), failure);
    }

    /// Whether a key whose document is held is to be left alone for now.
    pub(super) fn pauses(&self, key: &str, now: Millis) -> bool {
        self.of(key).is_some_and(|failure| now < failure.pauses_until)
    }

    /// The last failure of a key; `None` once it was fetched.
    pub(super) fn of(&self, key: &str) -> Option<&KeyFailure> {
        self.by_key.peek(key)
    }

    /// The key may be fetched at once; its last failure stays known.
    pub(super) fn unpause(&mut self, key: &str) {
        if let Some(failure) = self.by_key.peek_mut(key) {
            failure.pauses_until = failure.at;
        }
    }

    /// As [`Self::unpause`], for the keys that begin with `prefix`.
    pub(super) fn unpause_beneath(&mut self, prefix: &str) {
        for (_, failure) in self.by_key.iter_mut().filter(|(key, _)| key.as_str().starts_with(prefix)) {
            failure.pauses_until = failure.at;
        }
    }

    /// The key was fetched, or is to be fetched at once.
    pub(super) fn forget(&mut self, key: &str) {
        if !self.by_key.is_empty() {
            self.by_key.pop(key);
        }
    }

    /// The keys that begin with `prefix` are to be fetched at once.
    pub(super) fn forget_beneath(&mut self, prefix: &str) {
        let keys = self.by_key.iter().map(|(key, _)| key);
        let beneath: Vec<KeyBuf> = keys.filter(|key| key.as_str().starts_with(prefix)).cloned().collect();
        beneath.iter().for_each(|key| self.forget(key.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> KeyBuf {
        KeyBuf::parse(path).unwrap()
    }

    /// Pauses for a second first.
    fn failures() -> KeyFailures {
        KeyFailures::new(Duration::from_secs(1))
    }

    fn fails(failures: &mut KeyFailures, path: &str, fault: Fault, now: u64) {
        failures.failed(&key(path), &Failure::new(fault, "broken"), Millis(now));
    }

    /// The times at which a key that is asked for every 10 ms is fetched, and fails.
    fn fetched_at(failures: &mut KeyFailures, fault: Fault) -> Vec<u64> {
        let mut fetched = Vec::new();
        for now in (0..40_000).step_by(10) {
            if !failures.pauses("a/1", Millis(now)) {
                fetched.push(now);
                fails(failures, "a/1", fault, now);
            }
        }
        fetched
    }

    #[test]
    fn a_broken_document_is_asked_for_ever_more_seldom() {
        let fetched = fetched_at(&mut failures(), Fault::Document);
        assert_eq!(fetched, [0, 1_000, 3_000, 7_000, 15_000, 23_000, 31_000, 39_000]);
    }

    #[test]
    fn a_fault_of_the_source_does_not_lengthen_the_pause_of_a_key() {
        let fetched = fetched_at(&mut failures(), Fault::Source);
        assert_eq!(fetched, (0..40).map(|second| second * 1_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_key_that_is_fetched_begins_anew() {
        let mut failures = failures();
        for now in [0, 1_000] {
            fails(&mut failures, "a/1", Fault::Document, now);
        }
        assert!(failures.pauses("a/1", Millis(2_999)) && !failures.pauses("a/2", Millis(2_999)));
        assert_eq!(failures.of("a/1").map(|failure| (&*failure.why, failure.at.0)), Some(("broken", 1_000)));
        failures.forget("a/1");
        assert!(!failures.pauses("a/1", Millis(1_001)) && failures.of("a/1").is_none());
        fails(&mut failures, "a/1", Fault::Document, 2_000);
        assert!(!failures.pauses("a/1", Millis(3_000)));
    }

    #[test]
    fn a_purge_forgets_the_failures_beneath_its_prefix_and_no_others() {
        let mut failures = failures();
        for path in ["a/1", "a/10", "b/1"] {
            fails(&mut failures, path, Fault::Document, 0);
        }
        failures.forget_beneath("zzz/");
        assert!(["a/1", "a/10", "b/1"].iter().all(|path| failures.pauses(path, Millis(1))));
        failures.forget_beneath("a/1");
        assert!(!failures.pauses("a/1", Millis(1)) && !failures.pauses("a/10", Millis(1)));
        assert!(failures.pauses("b/1", Millis(1)));
    }

    #[test]
    fn many_keys_that_fail_take_bounded_memory() {
        let mut failures = failures();
        for i in 0..10_000 {
            fails(&mut failures, &format!("a/{i}"), Fault::Document, 0);
        }
        assert_eq!(failures.by_key.len(), MOST.get());
        assert!(failures.pauses("a/9999", Millis(1)) && !failures.pauses("a/1", Millis(1)));
    }
}
