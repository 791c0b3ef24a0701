//! An entry of a cache: the document of a key, or the fact that there is none, and when it was fetched.

use std::mem::size_of;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use smol_str::SmolStr;

use super::Stamp;
use crate::wire::Document;

/// Milliseconds since the start of the proxy. A cache has no clock: its callers pass the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Millis(pub u64);

impl Millis {
    /// The time from `earlier` to this; zero if `earlier` is later.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A fetched document, or the origin's answer that there is none.
#[derive(Debug)]
pub struct Entry {
    // A short key is stored inline: one allocation less, and one cache miss less when keys are compared.
    key: SmolStr,
    document: Option<Document>,
    /// When the origin was asked, in milliseconds, 48 bits, and how long that took, 16 bits; a minute counts as the longest.
    /// Age counts from the former: the origin may have read the document as early as this (RFC 9111, 4.2.3).
    times: u64,
    /// How long it is fresh, in milliseconds; `u32::MAX` if it does not expire.
    lifetime: u32,
    stamp: AtomicU32,
    marks: Marks,
}

/// Uses, and what an order of eviction notes on an entry: two words.
#[derive(Default, Debug)]
pub(super) struct Marks {
    /// Replies from the cache, 30 bits, and uses since the order last looked at the entry, two bits. Written by readers
    /// without a lock: of two uses at the same moment one may be lost.
    uses: AtomicU32,
    /// Where the order has the entry, 31 bits, and whether that is in the main queue of `s3fifo`. Written only under the lock
    /// of the order.
    place: AtomicU32,
}

impl Marks {
    const RECENT: u32 = 3;
    const REPLY: u32 = Self::RECENT + 1;

    /// Uses since the order last looked at the entry: three at most.
    pub(super) fn uses(&self) -> u8 {
        (self.uses.load(Relaxed) & Self::RECENT) as u8
    }

    pub(super) fn set_uses(&self, uses: u8) {
        let replies = self.uses.load(Relaxed) & !Self::RECENT;
        self.uses.store(replies | (u32::from(uses) & Self::RECENT), Relaxed);
    }

    fn count_reply(&self) {
        let uses = self.uses.load(Relaxed);
        self.uses.store(uses.checked_add(Self::REPLY).unwrap_or(uses), Relaxed);
    }

    /// The place of the entry in its order.
    pub(super) fn place(&self) -> u32 {
        self.place.load(Relaxed) >> 1
    }

    /// Whether the entry is in the main queue of `s3fifo`.
    pub(super) fn is_main(&self) -> bool {
        self.place.load(Relaxed) & 1 == 1
    }

    pub(super) fn set_place(&self, place: u32) {
        self.place.store(place << 1 | u32::from(self.is_main()), Relaxed);
    }

    pub(super) fn set(&self, uses: u8, is_main: bool) {
        self.set_uses(uses);
        self.place.store(self.place() << 1 | u32::from(is_main), Relaxed);
    }
}

impl Entry {
    /// The origin's answer to a request for `key` sent at `asked`: a document, or `None` if there is none. It came after
    /// `fetch` and is fresh for `lifetime`, for ever without one.
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
            times: asked.0 << 16 | fetch.as_millis().min(60_000) as u64,
            lifetime: lifetime.map_or(u32::MAX, millis),
            stamp: AtomicU32::new(0),
            marks: Marks::default(),
        }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The document; `None` if the origin has none under the key.
    pub fn document(&self) -> Option<&Document> {
        self.document.as_ref()
    }

    /// The time since the origin was asked.
    pub fn age(&self, now: Millis) -> Duration {
        now.since(self.asked())
    }

    /// How long the fetch took.
    pub fn fetch_time(&self) -> Duration {
        Duration::from_millis(self.times & 0xFFFF)
    }

    /// How long it is fresh; `None` if it does not expire.
    pub fn lifetime(&self) -> Option<Duration> {
        (self.lifetime != u32::MAX).then(|| Duration::from_millis(self.lifetime.into()))
    }

    /// When it stops being fresh; `None` if it does not expire.
    pub fn fresh_until(&self) -> Option<Millis> {
        match self.lifetime {
            u32::MAX => None,
            lifetime => Some(Millis(self.asked().0 + u64::from(lifetime))),
        }
    }

    /// Whether it may be served without asking the origin.
    pub fn is_fresh(&self, now: Millis) -> bool {
        self.fresh_until().is_none_or(|until| now < until) && !self.is_soft_purged()
    }

    /// Makes it stale at once.
    pub fn purge_softly(&self) {
        self.stamp.fetch_or(Stamp::default().softened().bits(), Relaxed);
    }

    /// Whether a soft purge made it stale.
    pub fn is_soft_purged(&self) -> bool {
        self.stamp().is_soft()
    }

    /// The last purge that it was checked against, and what was found.
    pub fn stamp(&self) -> Stamp {
        Stamp::from_bits(self.stamp.load(Relaxed))
    }

    /// Replaces the stamp `from`; false if it is another one by now.
    pub fn restamp(&self, from: Stamp, to: Stamp) -> bool {
        self.stamp.compare_exchange(from.bits(), to.bits(), Relaxed, Relaxed).is_ok()
    }

    /// Counts one reply from the cache. A load and a store cost a hit less than one atomic addition.
    pub fn count_use(&self) {
        self.marks.count_reply();
    }

    /// Number of replies from the cache.
    pub fn uses(&self) -> u32 {
        self.marks.uses.load(Relaxed) / Marks::REPLY
    }

    fn asked(&self) -> Millis {
        Millis(self.times >> 16)
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Bytes in memory: key, document, and the entry itself.
    pub fn weight(&self) -> usize {
        /// The two counts of an `Arc`.
        const COUNTS: usize = 16;
        let key = if self.key.is_heap_allocated() { block(COUNTS + self.key.len()) } else { 0 };
        let document = self.document.as_ref().map_or(0, |document| block(COUNTS + document.len()));
        block(COUNTS + size_of::<Self>()) + key + document
    }
}

/// The block that jemalloc takes for an allocation: one of four sizes between two powers of two, and 16 bytes at least.
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
    fn an_entry_is_one_cache_line() {
        assert_eq!(size_of::<Entry>(), 64);
    }

    #[test]
    fn words_that_are_shared_are_kept_apart() {
        let entry = Entry::new("a/1", None, Millis(1 << 40), None, Duration::from_secs(1));
        assert_eq!(
            (entry.age(Millis(7 + (1 << 40))), entry.fetch_time()),
            (Duration::from_millis(7), Duration::from_secs(1))
        );
        let marks = entry.marks();
        marks.set_place(77);
        marks.set(3, true);
        entry.count_use();
        assert_eq!((entry.uses(), marks.uses(), marks.place(), marks.is_main()), (1, 3, 77, true));
        marks.set_place(78);
        marks.set_uses(2);
        assert_eq!((entry.uses(), marks.uses(), marks.place(), marks.is_main()), (1, 2, 78, true));
        marks.uses.store(u32::MAX, Relaxed);
        entry.count_use();
        assert_eq!((entry.uses(), marks.uses()), (u32::MAX >> 2, 3), "the highest count stays");
    }

    #[test]
    fn weighs_key_and_document() {
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
