//! Whether an entry may be served: pure rules over its age (RFC 9111, section 4.2; stale-while-revalidate and stale-if-error
//! as RFC 5861 has them). Times come in as arguments.

use std::time::Duration;

use super::cache::{Entry, Millis};
use crate::source::Past;
use crate::wire::Terms;

/// How long documents are fresh, and for how long they are served when stale.
#[derive(Clone, Debug)]
pub struct Freshness {
    /// Time to live of a document; `None` for ever. Counted in milliseconds; a longer one than [`Self::LONGEST_TTL`] is cut.
    pub ttl: Option<Duration>,
    /// The largest share, 0..1, by which a document's own time to live is randomly shorter, so that documents which were
    /// fetched together do not expire together.
    pub ttl_jitter: f64,
    /// How long after its end a document is served at once, and fetched in the background.
    pub stale_while_revalidate: Duration,
    /// How long after its end a document is served when the origin fails.
    pub stale_if_error: Duration,
    /// Time to live of a NOT_FOUND; zero keeps none. Counted and cut as `ttl` is.
    pub negative_ttl: Duration,
}

impl Default for Freshness {
    /// The rules of the cache type `ttl`. The other types hold documents until they need the room: `ttl: None`.
    fn default() -> Self {
        Self {
            ttl: Some(Duration::from_secs(30)),
            ttl_jitter: 0.1,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::from_secs(3600),
            negative_ttl: Duration::ZERO,
        }
    }
}

/// What to do with an entry of the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it, and fetch it in the background before it expires.
    FreshRefresh,
    /// Serve it as stale, and fetch it in the background.
    StaleRefresh,
    /// Fetch it; serve the stale entry if the fetch fails.
    IfError,
    /// Fetch it; the entry is too old to be served.
    Gone,
}

impl Freshness {
    /// The longest time to live: entries count theirs in milliseconds, in 32 bits.
    pub const LONGEST_TTL: Duration = Duration::from_secs(49 * 86_400);

    /// The time to live of one document, its jitter applied; `random` is uniform in 0..1. Never longer than `ttl`.
    pub fn lifetime(&self, random: f64) -> Option<Duration> {
        self.ttl.map(|ttl| ttl.mul_f64(1.0 - self.ttl_jitter * random))
    }

    /// From when on the age of a document counts that was asked for at `asked`, and its time to live from there on, which
    /// would be `lifetime` from an origin. What it aged elsewhere takes from its life here (RFC 9111, section 4.2.3), and
    /// what was stale there is not fresh here: its time ends before it has come.
    pub(super) fn inherited(
        past: Past,
        asked: Millis,
        lifetime: Option<Duration>,
    ) -> (Millis, Option<Duration>) {
        let begun = Millis(asked.0.saturating_sub(past.age.as_millis() as u64));
        match past.is_stale {
            false => (begun, lifetime),
            true => (begun, Some(lifetime.map_or(past.age, |lifetime| lifetime.min(past.age)))),
        }
    }

    /// What to do with an entry at the time `now`; `random` draws a number uniform in 0..1, if one is needed.
    pub fn verdict(&self, entry: &Entry, now: Millis, random: impl FnOnce() -> f64) -> Verdict {
        if entry.is_fresh(now) {
            return match entry.has_document() && is_refreshed_early(entry, now, random) {
                true => Verdict::FreshRefresh,
                false => Verdict::Fresh,
            };
        }
        if !entry.has_document() {
            return Verdict::Gone;
        }
        // A soft purge makes an entry stale before its time: its age past the end counts as zero.
        let past = match entry.fresh_until() {
            Some(until) if now >= until => now.since(until),
            _ => Duration::ZERO,
        };
        match () {
            () if entry.is_soft_purged() && past.is_zero() => Verdict::StaleRefresh,
            () if past < self.stale_while_revalidate => Verdict::StaleRefresh,
            () if past < self.stale_if_error => Verdict::IfError,
            () => Verdict::Gone,
        }
    }

    /// The terms of an entry in whole seconds, for caches in front. Its lifetime is rounded: cut off, a second would be none.
    pub fn terms(&self, entry: &Entry) -> Terms {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let lifetime = entry.lifetime().map(|lifetime| seconds(lifetime + Duration::from_millis(500)));
        let has_stale = lifetime.is_some() && entry.has_document();
        let of_stale = |time: Duration| if has_stale { seconds(time) } else { 0 };
        Terms {
            lifetime,
            stale_while_revalidate: of_stale(self.stale_while_revalidate),
            stale_if_error: of_stale(self.stale_if_error),
            ..Terms::default()
        }
    }

    /// Whether the entry can no longer be served, so that the sweep may remove it.
    pub fn is_gone(&self, entry: &Entry, now: Millis) -> bool {
        match (entry.fresh_until(), entry.has_document()) {
            (None, _) => false,
            (Some(until), false) => now >= until,
            (Some(until), true) => {
                now >= until && now.since(until) >= self.stale_while_revalidate.max(self.stale_if_error)
            }
        }
    }
}

impl Freshness {
    /// The time for one sweep of the whole cache: a quarter of the shortest life, within 1 s to 60 s. `None` where no entry
    /// expires.
    pub fn sweep_round(&self) -> Option<Duration> {
        let lives = self.ttl.map(|ttl| ttl + self.stale_while_revalidate.max(self.stale_if_error));
        let shortest =
            lives.into_iter().chain((!self.negative_ttl.is_zero()).then_some(self.negative_ttl)).min()?;
        Some((shortest / 4).clamp(Duration::from_secs(1), Duration::from_secs(60)))
    }
}

/// The XFetch rule with β = 1 (Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention",
/// VLDB 2015): each hit refreshes early at random, the more probably the nearer the end is, measured in fetch times.
fn is_refreshed_early(entry: &Entry, now: Millis, random: impl FnOnce() -> f64) -> bool {
    /// Beyond this many fetch times the probability is below 1e-9 (e^-21), so no number is drawn.
    const FAR: u32 = 21;
    let Some(until) = entry.fresh_until() else { return false };
    let left = until.since(now);
    let fetch = entry.fetch_time().max(Duration::from_millis(1));
    left < fetch * FAR && fetch.mul_f64(-random().max(f64::MIN_POSITIVE).ln()) >= left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Document;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules() -> Freshness {
        Freshness {
            ttl: Some(30 * SECOND),
            ttl_jitter: 0.1,
            stale_while_revalidate: 5 * SECOND,
            stale_if_error: 60 * SECOND,
            negative_ttl: SECOND,
        }
    }

    fn entry(document: bool) -> Entry {
        let document = document.then(|| Document::parse(b"1", 9).unwrap());
        Entry::new("a/1", document, Millis(0), Some(30 * SECOND), Duration::from_millis(100))
    }

    #[test]
    fn ages_from_fresh_to_gone() {
        let (rules, entry) = (rules(), entry(true));
        let verdict = |ms| rules.verdict(&entry, Millis(ms), || 0.5);
        assert_eq!(verdict(0), Verdict::Fresh);
        assert_eq!(verdict(29_000), Verdict::Fresh);
        assert_eq!(verdict(29_999), Verdict::FreshRefresh);
        assert_eq!(verdict(30_000), Verdict::StaleRefresh);
        assert_eq!(verdict(35_000), Verdict::IfError);
        assert_eq!(verdict(90_000), Verdict::Gone);
        assert!(!rules.is_gone(&entry, Millis(89_999)) && rules.is_gone(&entry, Millis(90_000)));
    }

    #[test]
    fn a_soft_purge_is_a_stale_moment() {
        let (rules, entry) = (rules(), entry(true));
        entry.purge_softly();
        assert_eq!(rules.verdict(&entry, Millis(1), || 0.5), Verdict::StaleRefresh);
        assert_eq!(rules.verdict(&entry, Millis(36_000), || 0.5), Verdict::IfError);
    }

    #[test]
    fn an_absence_is_never_stale() {
        let (rules, entry) = (rules(), entry(false));
        assert_eq!(rules.verdict(&entry, Millis(29_999), || 1e-9), Verdict::Fresh);
        assert_eq!(rules.verdict(&entry, Millis(30_000), || 0.5), Verdict::Gone);
        assert!(rules.is_gone(&entry, Millis(30_000)));
    }

    #[test]
    fn what_aged_elsewhere_has_less_life_here_and_what_was_stale_there_has_none() {
        let asked = Millis(1_000_000);
        let state = |age, is_stale, ttl: Option<Duration>| {
            let (begun, lifetime) = Freshness::inherited(Past { age, is_stale }, asked, ttl);
            let document = Document::parse(b"1", 9).unwrap();
            let entry = Entry::new("a/1", Some(document), begun, lifetime, Duration::ZERO);
            (entry.age(asked), entry.fresh_until().map(|until| until.0 as i64 - asked.0 as i64))
        };
        let ttl = Some(30 * SECOND);
        assert_eq!(state(Duration::ZERO, false, ttl), (Duration::ZERO, Some(30_000)));
        assert_eq!(state(20 * SECOND, false, ttl), (20 * SECOND, Some(10_000)));
        assert_eq!(state(40 * SECOND, false, ttl), (40 * SECOND, Some(-10_000)));
        assert_eq!(state(20 * SECOND, false, None), (20 * SECOND, None));
        assert_eq!(state(20 * SECOND, true, ttl), (20 * SECOND, Some(0)));
        assert_eq!(state(40 * SECOND, true, ttl), (40 * SECOND, Some(-10_000)), "its time to be served runs");
        assert_eq!(state(20 * SECOND, true, None), (20 * SECOND, Some(0)));
        assert_eq!(state(Duration::ZERO, true, None), (Duration::ZERO, Some(0)), "younger than a second");
    }

    #[test]
    fn jitter_only_shortens() {
        let rules = rules();
        assert_eq!(rules.lifetime(0.0), Some(30 * SECOND));
        assert_eq!(rules.lifetime(1.0), Some(27 * SECOND));
        assert_eq!(Freshness { ttl: None, ..rules }.lifetime(0.5), None);
    }
}
