//! Whether an entry may be served: pure rules over its age (RFC 9111, section 4.2; stale-while-revalidate and stale-if-error
//! as RFC 5861 has them). Times come in as arguments.

use std::time::Duration;

use super::cache::{Entry, Millis};
use super::push::Vouched;
use crate::source::{Known, Past, Policy};
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
    /// A document is fresh for at least this time from its fetch on, whatever its source says, unless each use of it must ask.
    pub min_ttl: Duration,
    /// A document is fresh for at most this time from its fetch on, whatever its source says; `None` is no bound.
    pub max_ttl: Option<Duration>,
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
            min_ttl: Duration::ZERO,
            max_ttl: None,
        }
    }
}

/// How long an entry that nobody may be served any more is kept for its validator: a request may find it unchanged.
const KEPT_FOR_VALIDATION: Duration = Duration::from_secs(3600);

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

    /// When the time of an answer begins that was asked for at `asked`, and how long it is fresh from there on: as its source
    /// says, else as the flags do. `random` is uniform in 0..1.
    pub(super) fn span(
        &self,
        known: &Known,
        asked: Millis,
        is_document: bool,
        random: f64,
    ) -> (Millis, Option<Duration>) {
        let (age, policy) = (known.past.age, known.policy.as_deref());
        let lifetime = match policy.and_then(Policy::lifetime) {
            Some(said) => Some(age + said.mul_f64(1.0 - self.ttl_jitter * random)),
            None if is_document => self.lifetime(random),
            None => Some(self.negative_ttl),
        };
        let is_bounded = is_document && !policy.is_some_and(|policy| policy.is_revalidated);
        let lifetime = if is_bounded { self.bounded(lifetime, age) } else { lifetime };
        Self::inherited(known.past, asked, lifetime)
    }

    fn bounded(&self, lifetime: Option<Duration>, age: Duration) -> Option<Duration> {
        let least = if self.min_ttl.is_zero() { Duration::ZERO } else { age + self.min_ttl };
        let lifetime = lifetime.map(|lifetime| lifetime.max(least));
        match self.max_ttl {
            Some(most) => Some(lifetime.map_or(age + most, |lifetime| lifetime.min(age + most))),
            None => lifetime,
        }
    }

    /// How long past its time an entry is served while it is fetched anew.
    fn while_revalidate(&self, policy: Option<&Policy<'_>>) -> Duration {
        policy.and_then(Policy::stale_while_revalidate).unwrap_or(self.stale_while_revalidate)
    }

    /// How long past its time an entry is served while its source fails.
    pub(super) fn if_error(&self, policy: Option<&Policy<'_>>) -> Duration {
        policy.and_then(Policy::stale_if_error).unwrap_or(self.stale_if_error)
    }

    /// What to do with an entry at the time `now`, by what is `vouched` for; `random` draws a number uniform in 0..1, if one is
    /// needed.
    pub fn verdict(
        &self,
        entry: &Entry,
        vouched: Vouched,
        now: Millis,
        random: impl FnOnce() -> f64,
    ) -> Verdict {
        if vouched.is_fresh(entry, now) {
            let may_refresh = entry.has_document() && !vouched.holds(entry, now);
            return match may_refresh && is_refreshed_early(entry, vouched, now, random) {
                true => Verdict::FreshRefresh,
                false => Verdict::Fresh,
            };
        }
        if !entry.has_document() {
            return Verdict::Gone;
        }
        // A soft purge makes an entry stale before its time: its age past the end counts as zero.
        let past = match vouched.fresh_until(entry) {
            Some(until) if now >= until => now.since(until),
            _ => Duration::ZERO,
        };
        let policy = entry.policy();
        let policy = policy.as_ref();
        match () {
            // Its document has changed: whoever asks waits for the new one.
            () if entry.is_outdated() && past < self.if_error(policy) => Verdict::IfError,
            () if entry.is_outdated() => Verdict::Gone,
            () if policy.is_some_and(Policy::is_never_stale) => Verdict::Gone,
            () if entry.is_soft_purged() && past.is_zero() => Verdict::StaleRefresh,
            () if past < self.while_revalidate(policy) => Verdict::StaleRefresh,
            () if past < self.if_error(policy) => Verdict::IfError,
            () => Verdict::Gone,
        }
    }

    /// The terms of an entry in whole seconds, for caches in front. Its lifetime is rounded: cut off, a second would be none.
    pub fn terms(&self, entry: &Entry) -> Terms {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let lifetime = entry.lifetime().map(|lifetime| seconds(lifetime + Duration::from_millis(500)));
        let has_stale = lifetime.is_some() && entry.has_document();
        let of_stale = |time: Duration| if has_stale { seconds(time) } else { 0 };
        let policy = entry.policy();
        let policy = policy.as_ref();
        Terms {
            lifetime,
            stale_while_revalidate: of_stale(self.while_revalidate(policy)),
            stale_if_error: of_stale(self.if_error(policy)),
            must_revalidate: policy.is_some_and(Policy::is_never_stale),
            not_stored: policy.is_some_and(|policy| policy.is_not_stored),
            ..Terms::default()
        }
    }

    /// Whether the entry can no longer be served.
    pub fn is_gone(&self, entry: &Entry, vouched: Vouched, now: Millis) -> bool {
        let Some(until) = vouched.fresh_until(entry) else { return false };
        let policy = entry.policy();
        let stale = || self.while_revalidate(policy.as_ref()).max(self.if_error(policy.as_ref()));
        now >= until && (!entry.has_document() || now.since(until) >= stale())
    }

    /// Whether the entry is of no use any more, so that the sweep may remove it: not to be served, nor to be validated.
    pub fn is_useless(&self, entry: &Entry, vouched: Vouched, now: Millis) -> bool {
        let is_validated = entry.has_document()
            && entry.policy().is_some_and(|policy| policy.validator.is_some())
            && entry.fresh_until().is_some_and(|until| now.since(until) < KEPT_FOR_VALIDATION);
        !is_validated && self.is_gone(entry, vouched, now)
    }
}

impl Freshness {
    /// The time for one sweep of the whole cache: a quarter of the shortest life, within 1 s to 60 s. `None` where no entry
    /// expires, unless its source says when.
    pub fn sweep_round(&self) -> Option<Duration> {
        let lives = self.ttl.map(|ttl| ttl + self.stale_while_revalidate.max(self.stale_if_error));
        let shortest =
            lives.into_iter().chain((!self.negative_ttl.is_zero()).then_some(self.negative_ttl)).min()?;
        Some((shortest / 4).clamp(Duration::from_secs(1), Duration::from_secs(60)))
    }
}

/// The XFetch rule with β = 1 (Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention",
/// VLDB 2015): each hit refreshes early at random, the more probably the nearer the end is, measured in fetch times.
fn is_refreshed_early(entry: &Entry, vouched: Vouched, now: Millis, random: impl FnOnce() -> f64) -> bool {
    /// Beyond this many fetch times the probability is below 1e-9 (e^-21), so no number is drawn.
    const FAR: u32 = 21;
    let Some(until) = vouched.fresh_until(entry) else { return false };
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
            ..Freshness::default()
        }
    }

    fn known(age: u32, policy: Policy<'static>) -> Known {
        let past = Past { age: age * SECOND, is_stale: false, ..Past::default() };
        Known { past, policy: Some(Box::new(policy)), not_stored: None }
    }

    fn times(lifetime: u32, while_revalidate: Option<u32>, if_error: Option<u32>) -> Policy<'static> {
        let (stale_while_revalidate, stale_if_error) = (while_revalidate, if_error);
        Policy { lifetime: Some(lifetime), stale_while_revalidate, stale_if_error, ..Policy::default() }
    }

    #[test]
    fn what_a_source_says_counts_within_the_bounds() {
        let asked = Millis(1_000_000);
        let bounded = Freshness { min_ttl: 5 * SECOND, max_ttl: Some(100 * SECOND), ..rules() };
        let left = |rules: &Freshness, known: &Known| {
            let (begun, lifetime) = rules.span(known, asked, true, 0.0);
            (
                asked.since(begun).as_secs(),
                lifetime.map(|life| life.as_secs() as i64 - asked.since(begun).as_secs() as i64),
            )
        };
        for (said, age, free, within) in
            [(60, 0, 60, 60), (60, 20, 60, 60), (2, 0, 2, 5), (0, 20, 0, 5), (500, 20, 500, 100)]
        {
            let known = known(age, times(said, None, None));
            assert_eq!(left(&rules(), &known), (age.into(), Some(free)), "{said} {age}");
            assert_eq!(left(&bounded, &known), (age.into(), Some(within)), "{said} {age}");
        }
        let each_use = known(0, Policy { is_revalidated: true, ..times(0, Some(0), Some(0)) });
        assert_eq!(left(&bounded, &each_use), (0, Some(0)));
        assert_eq!(left(&bounded, &Known::default()), (0, Some(30)));
        let for_ever = Freshness { ttl: None, ..bounded };
        assert_eq!(left(&for_ever, &Known::default()), (0, Some(100)));
        let missing = |known: &Known| rules().span(known, asked, false, 0.0).1;
        assert_eq!(missing(&Known::default()), Some(SECOND));
        assert_eq!(missing(&known(0, times(60, None, None))), Some(60 * SECOND));
    }

    #[test]
    fn what_a_source_says_of_stale_documents_counts() {
        let rules = rules();
        let verdict = |policy: Policy<'_>, seconds: u64| {
            let entry = entry_of(true, Some(&policy));
            (
                rules.verdict(&entry, Vouched::NOTHING, Millis(seconds * 1000), || 0.5),
                rules.is_gone(&entry, Vouched::NOTHING, Millis(seconds * 1000)),
            )
        };
        assert_eq!(verdict(times(30, None, None), 31), (Verdict::StaleRefresh, false));
        assert_eq!(verdict(times(30, Some(0), None), 31), (Verdict::IfError, false));
        assert_eq!(verdict(times(30, Some(0), Some(0)), 31), (Verdict::Gone, true));
        assert_eq!(verdict(times(30, Some(100), Some(0)), 100), (Verdict::StaleRefresh, false));
        assert_eq!(verdict(times(30, None, Some(600)), 500), (Verdict::IfError, false));
    }

    #[test]
    fn an_entry_with_a_validator_outlives_its_use() {
        let etag = Some(crate::source::Validator::Etag(b"1"[..].into()));
        let policy = Policy { validator: etag, ..times(30, Some(0), Some(0)) };
        let entry = entry_of(true, Some(&policy));
        let rules = rules();
        assert!(
            rules.is_gone(&entry, Vouched::NOTHING, Millis(30_000))
                && !rules.is_useless(&entry, Vouched::NOTHING, Millis(30_000))
        );
        assert!(rules.is_useless(
            &entry,
            Vouched::NOTHING,
            Millis(30_000 + KEPT_FOR_VALIDATION.as_millis() as u64)
        ));
    }

    fn entry(document: bool) -> Entry {
        entry_of(document, None)
    }

    fn entry_of(document: bool, policy: Option<&Policy<'_>>) -> Entry {
        let document = document.then(|| Document::parse(b"1", 9).unwrap());
        let fetch = Duration::from_millis(100);
        Entry::of_policy("a/1", document, Millis(0), Some(30 * SECOND), fetch, policy)
    }

    #[test]
    fn ages_from_fresh_to_gone() {
        let (rules, entry) = (rules(), entry(true));
        let verdict = |ms| rules.verdict(&entry, Vouched::NOTHING, Millis(ms), || 0.5);
        assert_eq!(verdict(0), Verdict::Fresh);
        assert_eq!(verdict(29_000), Verdict::Fresh);
        assert_eq!(verdict(29_999), Verdict::FreshRefresh);
        assert_eq!(verdict(30_000), Verdict::StaleRefresh);
        assert_eq!(verdict(35_000), Verdict::IfError);
        assert_eq!(verdict(90_000), Verdict::Gone);
        assert!(
            !rules.is_gone(&entry, Vouched::NOTHING, Millis(89_999))
                && rules.is_gone(&entry, Vouched::NOTHING, Millis(90_000))
        );
    }

    #[test]
    fn a_soft_purge_is_a_stale_moment() {
        let (rules, entry) = (rules(), entry(true));
        entry.purge_softly();
        assert_eq!(rules.verdict(&entry, Vouched::NOTHING, Millis(1), || 0.5), Verdict::StaleRefresh);
        assert_eq!(rules.verdict(&entry, Vouched::NOTHING, Millis(36_000), || 0.5), Verdict::IfError);
    }

    #[test]
    fn an_absence_is_never_stale() {
        let (rules, entry) = (rules(), entry(false));
        assert_eq!(rules.verdict(&entry, Vouched::NOTHING, Millis(29_999), || 1e-9), Verdict::Fresh);
        assert_eq!(rules.verdict(&entry, Vouched::NOTHING, Millis(30_000), || 0.5), Verdict::Gone);
        assert!(rules.is_gone(&entry, Vouched::NOTHING, Millis(30_000)));
    }

    #[test]
    fn what_aged_elsewhere_has_less_life_here_and_what_was_stale_there_has_none() {
        let asked = Millis(1_000_000);
        let state = |age, is_stale, ttl: Option<Duration>| {
            let (begun, lifetime) =
                Freshness::inherited(Past { age, is_stale, ..Past::default() }, asked, ttl);
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
