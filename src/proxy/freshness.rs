//! When a held document may be served: pure rules over its age. Times come in as arguments.

use std::time::Duration;

use super::cache::{Entry, Millis};

/// How long documents are good for.
#[derive(Clone, Debug)]
pub struct Freshness {
    /// How long a document is fresh; for ever without.
    pub ttl: Option<Duration>,
    /// By which part of the time to live, at most, each document's own is shorter: so that what was fetched together does
    /// not expire together. Between 0 and 1.
    pub ttl_jitter: f64,
    /// How long past its time a document is served at once, and fetched behind.
    pub stale_while_revalidate: Duration,
    /// How long past its time a document is served when the origin fails.
    pub stale_if_error: Duration,
    /// How long the word that there is no such document is kept.
    pub negative_ttl: Duration,
}

/// What to do with a held entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it, and fetch it again before it expires.
    FreshRefresh,
    /// Serve it as stale, and fetch it again.
    StaleRefresh,
    /// Fetch it; serve this only if that fails.
    IfError,
    /// Of no use any more.
    Gone,
}

impl Freshness {
    /// How long a document that is fetched now is fresh; `random` is uniform in 0..1. Never longer than the time to live.
    pub fn lifetime(&self, random: f64) -> Option<Duration> {
        self.ttl.map(|ttl| ttl.mul_f64(1.0 - self.ttl_jitter * random))
    }

    /// What to do with an entry; `random` is asked for a number uniform in 0..1.
    pub fn verdict(&self, entry: &Entry, now: Millis, random: impl FnOnce() -> f64) -> Verdict {
        if entry.is_fresh(now) {
            return match entry.document().is_some() && is_refreshed_early(entry, now, random) {
                true => Verdict::FreshRefresh,
                false => Verdict::Fresh,
            };
        }
        if entry.document().is_none() {
            return Verdict::Gone;
        }
        // What was purged softly is stale from the moment it was fetched on; its time counts as if it had just ended.
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

    /// Whether nobody can be served this any more, so that its room can be given back.
    pub fn is_gone(&self, entry: &Entry, now: Millis) -> bool {
        match (entry.fresh_until(), entry.document()) {
            (None, _) => false,
            (Some(until), None) => now >= until,
            (Some(until), Some(_)) => {
                now >= until && now.since(until) >= self.stale_while_revalidate.max(self.stale_if_error)
            }
        }
    }
}

impl Freshness {
    /// How often to go through what is held for what is gone: a few times in its life. `None` where nothing expires.
    pub fn sweep_round(&self) -> Option<Duration> {
        let lives = self.ttl.map(|ttl| ttl + self.stale_while_revalidate.max(self.stale_if_error));
        let shortest =
            lives.into_iter().chain((!self.negative_ttl.is_zero()).then_some(self.negative_ttl)).min()?;
        Some((shortest / 4).clamp(Duration::from_secs(1), Duration::from_secs(60)))
    }
}

/// The XFetch rule with β = 1 (Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention",
/// VLDB 2015): each request decides by itself, the more probably the nearer the end is, measured in fetches.
fn is_refreshed_early(entry: &Entry, now: Millis, random: impl FnOnce() -> f64) -> bool {
    /// Beyond this many fetch times the chance is under one in a thousand million: no number has to be drawn.
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
    fn jitter_only_shortens() {
        let rules = rules();
        assert_eq!(rules.lifetime(0.0), Some(30 * SECOND));
        assert_eq!(rules.lifetime(1.0), Some(27 * SECOND));
        assert_eq!(Freshness { ttl: None, ..rules }.lifetime(0.5), None);
    }
}
