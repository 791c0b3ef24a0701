//! An entry of a cache: the document of a key, or the fact that there is none, and when it was fetched.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::Stamp;
use crate::source::Policy;
use crate::wire::{Document, Notes, Record};

/// Milliseconds since the start of the proxy. A cache has no clock: its callers pass the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Millis(pub u64);

impl Millis {
    /// The time from `earlier` to this; zero if `earlier` is later.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A fetched document, or the origin's answer that there is none. A clone costs a reference count.
///
/// Key, document and times are one allocation, a [`Record`]. Its long note is the moment when the origin was asked, in
/// milliseconds, 48 bits, and how long that took, 16 bits; a minute counts as the longest. Age counts from the former: the
/// origin may have read the document as early as this (RFC 9111, 4.2.3). Its short note is how long the document is fresh,
/// in milliseconds; `u32::MAX` if it does not expire. Its label is what the source says of keeping the document: an entry
/// without that pays nothing for it.
#[derive(Clone, Debug)]
pub struct Entry(Record);

/// The marks of the record: the bits of the stamp, and those of [`Marks`].
const STAMP: usize = 0;
const USES: usize = 1;
const PLACE: usize = 2;

/// Uses, and what an order of eviction notes on an entry: two words.
pub(super) struct Marks<'a> {
    /// Replies from the cache, 30 bits, and uses since the order last looked at the entry, two bits. Written by readers
    /// without a lock: of two uses at the same moment one may be lost.
    uses: &'a AtomicU32,
    /// Where the order has the entry, 31 bits, and whether that is in the main queue of `s3fifo`. Written only under the lock
    /// of the order.
    place: &'a AtomicU32,
}

impl Marks<'_> {
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
        key: &str,
        document: Option<Document>,
        asked: Millis,
        lifetime: Option<Duration>,
        fetch: Duration,
    ) -> Self {
        Self::of_policy(key, document, asked, lifetime, fetch, None)
    }

    /// The same with what its source says of keeping it.
    pub fn of_policy(
        key: &str,
        document: Option<Document>,
        asked: Millis,
        lifetime: Option<Duration>,
        fetch: Duration,
        policy: Option<&Policy<'_>>,
    ) -> Self {
        let label = policy.map(Policy::to_bytes).unwrap_or_default();
        Self(Document::into_record(document, key, &label, notes(asked, lifetime, fetch)))
    }

    /// What its source says of keeping it.
    pub fn policy(&self) -> Option<Policy<'_>> {
        Policy::of_bytes(self.0.label())
    }

    /// An entry that weighs what one with a document of `size` bytes does, and takes next to no memory: for replays.
    pub fn stand_in(key: &str, size: usize, asked: Millis, lifetime: Option<Duration>) -> Self {
        Self(Record::stand_in(key, size, notes(asked, lifetime, Duration::ZERO)))
    }

    /// The key.
    pub fn key(&self) -> &str {
        std::str::from_utf8(self.0.key()).unwrap_or_default()
    }

    /// The key as bytes: what tables hash and compare.
    pub(super) fn key_bytes(&self) -> &[u8] {
        self.0.key()
    }

    /// The document, which keeps the memory of the entry; `None` if the origin has none under the key.
    pub fn into_document(self) -> Option<Document> {
        Document::of(self.0)
    }

    /// Whether the origin has a document under the key.
    pub fn has_document(&self) -> bool {
        self.0.has_text()
    }

    /// Bytes of the document.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// The time since the origin was asked.
    pub fn age(&self, now: Millis) -> Duration {
        now.since(self.asked())
    }

    /// How long the fetch took.
    pub fn fetch_time(&self) -> Duration {
        Duration::from_millis(self.times() & 0xFFFF)
    }

    /// How long it is fresh; `None` if it does not expire.
    pub fn lifetime(&self) -> Option<Duration> {
        let millis = self.0.notes().short;
        (millis != u32::MAX).then(|| Duration::from_millis(millis.into()))
    }

    /// When it stops being fresh; `None` if it does not expire.
    pub fn fresh_until(&self) -> Option<Millis> {
        match self.0.notes().short {
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
        self.find(Stamp::softened);
    }

    /// Makes it stale at once, so that it is served only if a fetch fails.
    pub fn outdate(&self) {
        self.find(Stamp::outdated);
    }

    fn find(&self, finding: impl Fn(Stamp) -> Stamp) {
        // What must not be shown any more stays so.
        let found = |stamp: Stamp| (!stamp.is_purged()).then(|| finding(stamp).bits());
        let _ = self.mark(STAMP).fetch_update(Relaxed, Relaxed, |bits| found(Stamp::from_bits(bits)));
    }

    /// Whether a soft purge made it stale.
    pub fn is_soft_purged(&self) -> bool {
        self.stamp().is_soft()
    }

    /// Whether its document is known to have changed.
    pub fn is_outdated(&self) -> bool {
        self.stamp().is_outdated()
    }

    /// The last purge that it was checked against, and what was found.
    pub fn stamp(&self) -> Stamp {
        Stamp::from_bits(self.mark(STAMP).load(Relaxed))
    }

    /// Replaces the stamp `from`; false if it is another one by now.
    pub fn restamp(&self, from: Stamp, to: Stamp) -> bool {
        self.mark(STAMP).compare_exchange(from.bits(), to.bits(), Relaxed, Relaxed).is_ok()
    }

    /// Counts one reply from the cache. A load and a store cost a hit less than one atomic addition.
    pub fn count_use(&self) {
        self.marks().count_reply();
    }

    /// Number of replies from the cache.
    pub fn uses(&self) -> u32 {
        self.marks().uses.load(Relaxed) / Marks::REPLY
    }

    /// When the origin was asked for it.
    pub fn asked(&self) -> Millis {
        Millis(self.times() >> 16)
    }

    fn times(&self) -> u64 {
        self.0.notes().long
    }

    fn mark(&self, mark: usize) -> &AtomicU32 {
        &self.0.notes().marks[mark]
    }

    pub(super) fn marks(&self) -> Marks<'_> {
        Marks { uses: self.mark(USES), place: self.mark(PLACE) }
    }

    /// Bytes in memory: the block of key, document, notes and label.
    pub fn weight(&self) -> usize {
        block(Record::BESIDE + self.0.key().len() + self.0.beside_label() + self.size())
    }

    /// Whether both are one entry in memory.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }

    /// How many hold it.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        self.0.holders()
    }
}

fn notes(asked: Millis, lifetime: Option<Duration>, fetch: Duration) -> Notes {
    let millis = |duration: Duration| duration.as_millis().min(u128::from(u32::MAX - 1)) as u32;
    Notes {
        long: asked.0 << 16 | fetch.as_millis().min(60_000) as u64,
        short: lifetime.map_or(u32::MAX, millis),
        ..Notes::default()
    }
}

/// The pages of jemalloc: those that it was built for (.cargo/config.toml), whatever those of the kernel are.
const PAGE: usize = if cfg!(target_arch = "aarch64") { 64 << 10 } else { 4096 };

/// What jemalloc takes for an allocation. A small one gets one of four sizes between two powers of two, 16 bytes at least,
/// and its share of the 128 bytes that describe a slab: the fewest whole pages that blocks of this size fill. A larger one
/// has pages and a description of its own, and begins anywhere in the first page.
fn block(bytes: usize) -> usize {
    /// The largest size in slabs.
    const SMALL: usize = PAGE / 2 * 7;
    const DESCRIPTION: usize = 128;
    if bytes > SMALL {
        return bytes + PAGE + DESCRIPTION;
    }
    let step = (bytes.next_power_of_two() / 8).max(16);
    let size = bytes.next_multiple_of(step);
    // A slab has as many blocks as pages would have of the highest power of two that divides the size.
    let divisor = (size & size.wrapping_neg()).min(PAGE);
    size + DESCRIPTION * divisor / PAGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Validator;

    #[test]
    fn blocks_are_never_smaller_and_little_larger() {
        for bytes in (1_usize..20_000).chain([1 << 20, (1 << 20) + 1]) {
            let least = bytes.next_multiple_of(16);
            assert!(block(bytes) >= bytes && block(bytes) <= least + least / 3 + 128, "{bytes}");
        }
        if PAGE == 4096 {
            assert_eq!([1, 16, 17, 129, 200].map(block), [16, 16, 33, 161, 225]);
            assert_eq!([500, 1000, 1025, 4000, 3000].map(block), [528, 1056, 1288, 4224, 3104]);
            assert_eq!(block(20_000), 24_224);
        }
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
    fn an_entry_in_the_memory_of_another_knows_nothing_of_it() {
        let text = Document::parse(b"1", 9).unwrap();
        let old = Entry::new("a/1", Some(text), Millis(1), Some(Duration::from_secs(1)), Duration::ZERO);
        old.count_use();
        old.purge_softly();
        old.marks().set_place(7);
        let new = Entry::new("a/1", old.into_document(), Millis(2), None, Duration::ZERO);
        assert_eq!((new.uses(), new.stamp(), new.marks().place()), (0, Stamp::default(), 0));
        assert_eq!((new.lifetime(), new.age(Millis(2))), (None, Duration::ZERO));
    }

    #[test]
    fn weighs_key_and_document() {
        let weight = |key: &str, document: Option<&str>| {
            let document = document.map(|text| Document::parse(text.as_bytes(), 1 << 20).expect("JSON"));
            Entry::new(key, document, Millis(0), None, Duration::ZERO).weight()
        };
        assert_eq!(weight("a/1", None), block(42 + 3));
        assert_eq!(weight("a/1", Some("1234")), block(42 + 3 + 4));
        assert_eq!(weight(&"a".repeat(24), None), block(42 + 24));
        assert_eq!(weight("article/123456", Some(&format!("\"{}\"", "x".repeat(98)))), 161);
        assert_eq!(Entry::stand_in("article/123456", 100, Millis(0), None).weight(), 161);
    }

    #[test]
    fn a_policy_costs_its_own_bytes_and_an_entry_without_one_nothing() {
        let etag = Some(Validator::Etag(b"\"77\""[..].into()));
        let lifetime = Some(Duration::from_secs(60));
        let known = Policy { lifetime, stale_if_error: Some(0), validator: etag, ..Policy::default() };
        let entry = |policy: Option<&Policy<'_>>| {
            let document = Document::parse(b"[1]", 9).ok();
            Entry::of_policy("a/1", document, Millis(0), None, Duration::ZERO, policy)
        };
        let with = entry(Some(&known));
        assert_eq!((with.policy(), with.weight()), (Some(known), block(42 + 3 + 3 + 2 + 13 + 4)));
        assert_eq!((entry(None).policy(), entry(None).weight()), (None, block(42 + 3 + 3)));
        let renewed = Entry::new("a/1", with.clone().into_document(), Millis(0), None, Duration::ZERO);
        assert_eq!(renewed.policy(), None);
        assert_eq!(renewed.into_document(), with.into_document());
    }
}
