//! What a cache holds under a key: the document, or that there is none, and when that was learned.

use std::mem::size_of;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use smol_str::SmolStr;

use crate::wire::Document;

/// Milliseconds since the proxy began. A cache knows no clock: its callers say what time it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Millis(pub u64);

impl Millis {
    /// How long after `earlier` this is; nothing if it is before.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A fetched document and what is known of it.
#[derive(Debug)]
pub struct Entry {
    // Short ones lie in here: one allocation less, and one less to reach for when a key is compared.
    key: SmolStr,
    document: Option<Document>,
    /// All times count from here: the origin may have read it as early as this (RFC 9111, 4.2.3).
    asked: Millis,
    /// How long it is fresh, in milliseconds; `u32::MAX` for one that does not expire.
    lifetime: u32,
    fetch: u32,
    uses: AtomicU32,
    soft_purged: AtomicBool,
}

impl Entry {
    /// What the origin, asked for `key` at `asked`, brought after `fetch`: a document, or the word that there is none.
    ///
    /// It is fresh for `lifetime`, for ever without one.
    pub fn new(
        key: impl Into<SmolStr>,
        document: Option<Document>,
        asked: Millis,
        lifetime: Option<Duration>,
        fetch: Duration,
    ) -> Self {
        let millis = |duration: Duration| duration.as_millis().min(u128::from(u32::MAX - 1)) as u32;
        Self {
            key: key.into(),
            document,
            asked,
            lifetime: lifetime.map_or(u32::MAX, millis),
            fetch: millis(fetch),
            uses: AtomicU32::new(0),
            soft_purged: AtomicBool::new(false),
        }
    }

    /// The path.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The document; `None` when the origin said that there is none.
    pub fn document(&self) -> Option<&Document> {
        self.document.as_ref()
    }

    /// How long ago it was fetched.
    pub fn age(&self, now: Millis) -> Duration {
        now.since(self.asked)
    }

    /// How long the fetch took.
    pub fn fetch_time(&self) -> Duration {
        Duration::from_millis(self.fetch.into())
    }

    /// When it stops being fresh; `None` for never.
    pub fn fresh_until(&self) -> Option<Millis> {
        match self.lifetime {
            u32::MAX => None,
            lifetime => Some(Millis(self.asked.0 + u64::from(lifetime))),
        }
    }

    /// Whether it may be served without asking the origin.
    pub fn is_fresh(&self, now: Millis) -> bool {
        self.fresh_until().is_none_or(|until| now < until) && !self.is_soft_purged()
    }

    /// Marks it stale before its time.
    pub fn purge_softly(&self) {
        self.soft_purged.store(true, Ordering::Relaxed);
    }

    /// Whether it was marked stale before its time.
    pub fn is_soft_purged(&self) -> bool {
        self.soft_purged.load(Ordering::Relaxed)
    }

    /// Counts one use.
    pub fn count_use(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was served from the cache.
    pub fn uses(&self) -> u32 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Bytes that it takes in memory: key, document, itself, and what a cache keeps beside it.
    pub fn weight(&self) -> usize {
        /// The two counts of an `Arc`.
        const COUNTS: usize = 16;
        /// A place in a table that is half full, in an order, in a ghost: what the hungriest cache type was measured to
        /// take, with a million entries and with ten thousand.
        const PLACE: usize = 80;
        let key = if self.key.is_heap_allocated() { block(COUNTS + self.key.len()) } else { 0 };
        let document = self.document.as_ref().map_or(0, |document| block(COUNTS + document.len()));
        block(COUNTS + size_of::<Self>()) + key + document + PLACE
    }
}

/// The block that an allocator takes for a request: one of four sizes between two powers of two, and of 16 bytes at least.
fn block(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_never_smaller_and_a_quarter_larger_at_most() {
        for bytes in (1..5000).chain([1 << 20, (1 << 20) + 1]) {
            assert!(block(bytes) >= bytes && block(bytes) <= (bytes + bytes / 4).max(bytes + 15), "{bytes}");
        }
        assert_eq!([1, 16, 17, 200, 257, 1025].map(block), [16, 16, 32, 224, 320, 1280]);
    }

    #[test]
    fn weighs_what_it_holds() {
        let weight = |key: &str, document: Option<&str>| {
            let document = document.map(|text| Document::parse(text.as_bytes(), 1 << 20).expect("JSON"));
            Entry::new(key, document, Millis(0), None, Duration::ZERO).weight()
        };
        let none = weight("a/1", None);
        assert_eq!(weight("a/1", Some("1")), none + 32);
        assert_eq!(weight(&"a".repeat(24), None), none + 48);
        assert_eq!(weight("a/1", Some(&format!("\"{}\"", "x".repeat(998)))), none + 1024);
    }
}
