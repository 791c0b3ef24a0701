//! What a proxy knows of the changes at its origin, and what that makes of the age of an entry. Pure rules.
//!
//! Under a lease (Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency",
//! SOSP 1989) the origin tells of every change. So each word from it validates all entries that were fetched since the last
//! reset: their age counts from there (RFC 9111, section 4.2.3), and until the end of the lease they are fresh whatever
//! their time to live. After it that time runs, and what has none is to be asked for.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::time::Duration;

use super::super::cache::{Entry, Millis};

/// How long a document is fresh whose changes are told.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PushTtl {
    /// As long as the lease lasts; then its time to live begins.
    #[default]
    Unbounded,
    /// Its time to live, as if nothing were told; a change ends it early.
    Ttl,
    /// Changes are not followed.
    Off,
}

impl PushTtl {
    /// The value of `--push-ttl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unbounded => "unbounded",
            Self::Ttl => "ttl",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for PushTtl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known at one moment. Read it before the entry: then a purge that came before it has been seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vouched {
    /// Of what was asked for after this, every change is told.
    from: Millis,
    /// The last word of the origin: it knew of no other change when it was asked then.
    at: Millis,
    /// The end of the lease.
    until: Millis,
    counts_ttl: bool,
}

impl Vouched {
    /// Nobody tells of changes.
    pub const NOTHING: Self = Self { from: Millis(0), at: Millis(0), until: Millis(0), counts_ttl: false };

    /// A lease that ends at `until`; the last word of the origin was asked for at `at`, the last reset was at `from`.
    #[cfg(test)]
    pub(in super::super) fn until(from: Millis, at: Millis, until: Millis) -> Self {
        Self { from, at, until, counts_ttl: false }
    }

    /// Whether nobody tells of changes.
    pub(super) fn is_nothing(&self) -> bool {
        self.until == Millis(0)
    }

    /// Whether all changes of an entry are told.
    fn covers(&self, entry: &Entry) -> bool {
        !self.is_nothing() && self.is_after_reset(entry.asked())
    }

    /// Whether the lease keeps an entry fresh, whatever its time to live.
    pub fn holds(&self, entry: &Entry, now: Millis) -> bool {
        self.covers(entry) && !self.counts_ttl && now < self.until && !entry.is_soft_purged()
    }

    /// When an entry stops being fresh; `None` if it does not.
    pub fn fresh_until(&self, entry: &Entry) -> Option<Millis> {
        let own = entry.fresh_until();
        match () {
            () if self.is_nothing() => own,
            // Anything may have changed since.
            () if !self.covers(entry) => Some(own.map_or(self.from, |own| own.min(self.from))),
            () if self.counts_ttl => Some(own.unwrap_or(self.until)),
            () => match entry.lifetime() {
                None => Some(self.until),
                Some(lifetime) => {
                    let begins = entry.asked().max(self.at);
                    Some(self.until.max(Millis(begins.0 + lifetime.as_millis() as u64)))
                }
            },
        }
    }

    /// Whether an entry may be served without asking the origin.
    pub fn is_fresh(&self, entry: &Entry, now: Millis) -> bool {
        self.fresh_until(entry).is_none_or(|until| now < until) && !entry.is_soft_purged()
    }

    /// The time since the origin was asked for an entry, or last knew of no change of it.
    pub fn age(&self, entry: &Entry, now: Millis) -> Duration {
        let is_validated = self.covers(entry) && !entry.is_soft_purged();
        if is_validated { now.since(entry.asked().max(self.at.min(now))) } else { entry.age(now) }
    }

    /// Whether what was asked for at `asked` was asked for after the last reset.
    pub(super) fn is_after_reset(&self, asked: Millis) -> bool {
        asked > self.from
    }

    /// Whether the lease is over, so that changes may be missed.
    pub fn has_lapsed(&self, now: Millis) -> bool {
        !self.is_nothing() && now >= self.until
    }
}

/// What is known, for every hit: in a cache line that only the word of the origin writes.
#[repr(align(128))]
pub(super) struct Shared {
    from: AtomicU64,
    at: AtomicU64,
    until: AtomicU64,
    counts_ttl: bool,
}

impl Shared {
    pub(super) fn new(counts_ttl: bool) -> Self {
        let Vouched { from, at, until, .. } = Vouched::NOTHING;
        Self { from: from.0.into(), at: at.0.into(), until: until.0.into(), counts_ttl }
    }

    pub(super) fn now(&self) -> Vouched {
        // Acquire: whoever sees the end of a lease sees from when on it counts, and what was purged before it was renewed.
        let until = Millis(self.until.load(Acquire));
        let (at, from) = (Millis(self.at.load(Acquire)), Millis(self.from.load(Acquire)));
        Vouched { from, at, until, counts_ttl: self.counts_ttl }
    }

    /// Anything that was asked for by now may have changed.
    pub(super) fn reset(&self, now: Millis) {
        self.from.fetch_max(now.0, Release);
    }

    /// The origin was asked at `at`, and knows of no change that was not told.
    pub(super) fn renew(&self, at: Millis, until: Millis) {
        self.at.store(at.0, Release);
        self.until.store(until.0, Release);
    }

    /// Ends the lease at once.
    pub(super) fn lapse(&self) {
        self.until.fetch_min(self.at.load(Acquire).max(1), Release);
    }

    /// Nobody tells of changes any more.
    pub(super) fn forget(&self) {
        self.until.store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Document;

    const SECOND: u64 = 1000;

    fn entry(asked: u64, lifetime: Option<u64>) -> Entry {
        let document = Some(Document::parse(b"1", 9).unwrap());
        let lifetime = lifetime.map(Duration::from_millis);
        Entry::new("a/1", document, Millis(asked), lifetime, Duration::ZERO)
    }

    fn vouched(counts_ttl: bool) -> Vouched {
        let shared = Shared::new(counts_ttl);
        assert_eq!(shared.now().fresh_until(&entry(1, Some(7))), Some(Millis(8)));
        shared.reset(Millis(10 * SECOND));
        shared.renew(Millis(100 * SECOND), Millis(102 * SECOND));
        shared.now()
    }

    fn until(vouched: Vouched, entry: &Entry) -> Option<u64> {
        vouched.fresh_until(entry).map(|until| until.0)
    }

    #[test]
    fn a_lease_keeps_fresh_and_its_end_begins_the_time_to_live() {
        let vouched = vouched(false);
        let (limited, endless) = (entry(11 * SECOND, Some(30 * SECOND)), entry(11 * SECOND, None));
        assert!(
            vouched.holds(&limited, Millis(101 * SECOND)) && !vouched.holds(&limited, Millis(102 * SECOND))
        );
        assert_eq!(
            (until(vouched, &limited), until(vouched, &endless)),
            (Some(130 * SECOND), Some(102 * SECOND))
        );
        assert_eq!(vouched.age(&limited, Millis(101 * SECOND)), Duration::from_secs(1));
        assert_eq!(
            until(vouched, &entry(101 * SECOND, Some(500))),
            Some(102 * SECOND),
            "the lease is longer"
        );
        assert!(vouched.has_lapsed(Millis(102 * SECOND)) && !Vouched::NOTHING.has_lapsed(Millis(1)));
    }

    #[test]
    fn what_was_asked_for_before_a_reset_is_not_fresh() {
        let vouched = vouched(false);
        for asked in [9 * SECOND, 10 * SECOND] {
            assert_eq!(until(vouched, &entry(asked, None)), Some(10 * SECOND));
            assert!(!vouched.is_fresh(&entry(asked, Some(1000 * SECOND)), Millis(11 * SECOND)));
        }
        assert_eq!(until(vouched, &entry(SECOND, Some(SECOND))), Some(2 * SECOND), "nor longer than it was");
        assert_eq!(vouched.age(&entry(9 * SECOND, None), Millis(11 * SECOND)), Duration::from_secs(2));
    }

    #[test]
    fn where_the_time_to_live_counts_a_lease_does_not_lengthen_it() {
        let vouched = vouched(true);
        assert_eq!(until(vouched, &entry(11 * SECOND, Some(30 * SECOND))), Some(41 * SECOND));
        assert_eq!(until(vouched, &entry(11 * SECOND, None)), Some(102 * SECOND));
    }

    #[test]
    fn a_lease_that_lapses_at_once_ends_at_the_last_word() {
        let shared = Shared::new(false);
        shared.reset(Millis(10 * SECOND));
        shared.renew(Millis(100 * SECOND), Millis(102 * SECOND));
        shared.lapse();
        assert_eq!(until(shared.now(), &entry(11 * SECOND, None)), Some(100 * SECOND));
        shared.forget();
        assert_eq!(until(shared.now(), &entry(11 * SECOND, None)), None);
    }
}
