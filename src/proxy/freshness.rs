//! Whether an entry may be served: pure rules over its age (RFC 9111, section 4.2; stale-while-revalidate and stale-if-error
//! as RFC 5861 has them). Times come in as arguments.

use std::fmt;
use std::time::Duration;

use super::cache::{Entry, Millis};
use super::prefixes::{PrefixRule, Prefixes};
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
    /// Other lifetimes beneath prefixes. What the source of a document says counts before them.
    pub prefixes: Prefixes,
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
            prefixes: Prefixes::default(),
        }
    }
}

/// `header`, `prefix flags/*` or `flag`.
impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Prefix(prefix) => write!(f, "prefix {prefix}*"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Who says how long a document of a key is fresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule<'a> {
    /// The source of the document.
    Header,
    /// The rule of this prefix.
    Prefix(&'a str),
    /// The setting for all.
    Flag,
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

    /// The time to live of the document of a key, its jitter applied; `random` is uniform in 0..1. Never longer than the `ttl`
    /// of all, or of its prefix.
    pub fn lifetime(&self, key: &str, random: f64) -> Option<Duration> {
        let ttl = self.of_prefix(key, |rule| rule.ttl).or(self.ttl);
        ttl.map(|ttl| ttl.mul_f64(1.0 - self.ttl_jitter * random))
    }

    /// What the rule of a key's prefix says of one time.
    fn of_prefix(&self, key: &str, time: impl Fn(&PrefixRule) -> Option<Duration>) -> Option<Duration> {
        self.prefixes.of(key).and_then(|(_, rule)| time(rule))
    }

    /// Who says how long the answer for a key is fresh.
    pub(super) fn rule(&self, key: &str, is_document: bool, policy: Option<&Policy<'_>>) -> Rule<'_> {
        let says = |rule: &PrefixRule| if is_document { rule.ttl } else { rule.negative_ttl }.is_some();
        match self.prefixes.of(key) {
            _ if policy.and_then(|policy| policy.lifetime).is_some() => Rule::Header,
            Some((prefix, rule)) if says(rule) => Rule::Prefix(prefix),
            _ => Rule::Flag,
        }
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

    /// When the time of the answer for a key begins that was asked for at `asked`, and how long it is fresh from there on: as its source
    /// says, else as the flags do. `random` is uniform in 0..1.
    pub(super) fn span(
        &self,
        key: &str,
        known: &Known,
        asked: Millis,
        is_document: bool,
        random: f64,
    ) -> (Millis, Option<Duration>) {
        let (age, policy) = (known.past.age, known.policy.as_deref());
        let lifetime = match policy.and_then(|policy| policy.lifetime) {
            Some(said) => Some(age + said.mul_f64(1.0 - self.ttl_jitter * random)),
            None if is_document => self.lifetime(key, random),
            None => Some(self.of_prefix(key, |rule| rule.negative_ttl).unwrap_or(self.negative_ttl)),
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
    fn while_revalidate(&self, key: &str, policy: Option<&Policy<'_>>) -> Duration {
        let said = policy.and_then(Policy::stale_while_revalidate);
        said.or_else(|| self.of_prefix(key, |rule| rule.stale_while_revalidate))
            .unwrap_or(self.stale_while_revalidate)
    }

    fn if_error(&self, key: &str, policy: Option<&Policy<'_>>) -> Duration {
        let said = policy.and_then(Policy::stale_if_error);
        said.or_else(|| self.of_prefix(key, |rule| rule.stale_if_error)).unwrap_or(self.stale_if_error)
    }

    /// How long past its time an entry is served while its source fails.
    pub(super) fn serves_if_error(&self, entry: &Entry) -> Duration {
        self.if_error(entry.key(), entry.policy().as_ref())
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
        Self::while_fresh(entry, vouched, now, random).unwrap_or_else(|| self.past(entry, vouched, now))
    }

    /// The verdict on an entry that is fresh, whatever the rules are now: its time is in it.
    pub(super) fn while_fresh(
        entry: &Entry,
        vouched: Vouched,
        now: Millis,
        random: impl FnOnce() -> f64,
    ) -> Option<Verdict> {
        vouched.is_fresh(entry, now).then(|| {
            let may_refresh = entry.has_document() && !vouched.holds(entry, now);
            match may_refresh && is_refreshed_early(entry, vouched, now, random) {
                true => Verdict::FreshRefresh,
                false => Verdict::Fresh,
            }
        })
    }

    /// The verdict on an entry that is not fresh.
    pub(super) fn past(&self, entry: &Entry, vouched: Vouched, now: Millis) -> Verdict {
        if !entry.has_document() {
            return Verdict::Gone;
        }
        let past = past_its_time(entry, vouched, now);
        let (key, policy) = (entry.key(), entry.policy());
        let policy = policy.as_ref();
        match () {
            // Its document has changed: whoever asks waits for the new one.
            () if entry.is_outdated() && past < self.if_error(key, policy) => Verdict::IfError,
            () if entry.is_outdated() => Verdict::Gone,
            () if policy.is_some_and(Policy::is_never_stale) => Verdict::Gone,
            () if entry.is_soft_purged() && past.is_zero() => Verdict::StaleRefresh,
            () if past < self.while_revalidate(key, policy) => Verdict::StaleRefresh,
            () if past < self.if_error(key, policy) => Verdict::IfError,
            () => Verdict::Gone,
        }
    }

    /// The terms of an entry in whole seconds, for caches in front. Its lifetime is rounded: cut off, a second would be none.
    pub fn terms(&self, entry: &Entry) -> Terms {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let lifetime = entry.lifetime().map(|lifetime| seconds(lifetime + Duration::from_millis(500)));
        let has_stale = lifetime.is_some() && entry.has_document();
        let of_stale = |time: Duration| if has_stale { seconds(time) } else { 0 };
        let (key, policy) = (entry.key(), entry.policy());
        let policy = policy.as_ref();
        Terms {
            lifetime,
            stale_while_revalidate: of_stale(self.while_revalidate(key, policy)),
            stale_if_error: of_stale(self.if_error(key, policy)),
            must_revalidate: policy.is_some_and(Policy::is_never_stale),
            not_stored: policy.is_some_and(|policy| policy.is_not_stored),
            ..Terms::default()
        }
    }

    /// Whether the entry can no longer be served.
    pub fn is_gone(&self, entry: &Entry, vouched: Vouched, now: Millis) -> bool {
        let is_over = vouched.fresh_until(entry).is_some_and(|until| now >= until);
        let (key, policy) = (entry.key(), entry.policy());
        let policy = policy.as_ref();
        let stale = || self.while_revalidate(key, policy).max(self.if_error(key, policy));
        is_over && (!entry.has_document() || past_its_time(entry, vouched, now) >= stale())
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
        let all = PrefixRule::default();
        let lives = self.prefixes.rules().chain([&all]).flat_map(|rule| {
            let while_revalidate = rule.stale_while_revalidate.unwrap_or(self.stale_while_revalidate);
            let stale = while_revalidate.max(rule.stale_if_error.unwrap_or(self.stale_if_error));
            let negative = rule.negative_ttl.unwrap_or(self.negative_ttl);
            [rule.ttl.or(self.ttl).map(|ttl| ttl + stale), (!negative.is_zero()).then_some(negative)]
        });
        let shortest = lives.flatten().min()?;
        Some((shortest / 4).clamp(Duration::from_secs(1), Duration::from_secs(60)))
    }
}

/// For how long an entry has been past its time to live. A soft purge, and a lease that has ended, make one stale before its
/// time, or where it has none: that counts as zero.
fn past_its_time(entry: &Entry, vouched: Vouched, now: Millis) -> Duration {
    match (entry.lifetime(), vouched.fresh_until(entry)) {
        (Some(_), Some(until)) => now.since(until),
        (None, _) | (_, None) => Duration::ZERO,
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
#[path = "freshness_tests.rs"]
mod tests;
