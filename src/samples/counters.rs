//! Counters of a node: as METRICS reports them, and by how much they grew.

/// One value for each counter.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Counters<T = f64> {
    /// GETs.
    pub requests: T,
    /// GETs served from the cache.
    pub hits: T,
    /// Those of the hits with a stale document.
    pub stale: T,
    /// GETs that waited for the origin, or failed.
    pub misses: T,
    /// Requests to the origin.
    pub fetches: T,
    /// Failures of the node, or of the origin at a proxy that reports for itself.
    pub errors: T,
    /// Cache entries that purges removed.
    pub purged: T,
}

/// Counters since the start of their node; `None` where METRICS lacks them, as for a node that is down.
pub type Reported = Counters<Option<f64>>;

impl<T> Counters<T> {
    /// Combines each counter with the other's.
    pub(super) fn zip<U, V>(self, other: Counters<U>, mut combine: impl FnMut(T, U) -> V) -> Counters<V> {
        Counters {
            requests: combine(self.requests, other.requests),
            hits: combine(self.hits, other.hits),
            stale: combine(self.stale, other.stale),
            misses: combine(self.misses, other.misses),
            fetches: combine(self.fetches, other.fetches),
            errors: combine(self.errors, other.errors),
            purged: combine(self.purged, other.purged),
        }
    }
}

impl Counters {
    /// Hits per GET, stale ones among them, 0 to 1; `None` without a GET.
    pub fn hit_ratio(&self) -> Option<f64> {
        self.per_get(self.hits)
    }

    /// Hits on stale documents per GET, 0 to 1; `None` without a GET.
    pub fn stale_ratio(&self) -> Option<f64> {
        self.per_get(self.stale)
    }

    fn per_get(&self, part: f64) -> Option<f64> {
        let looked_up = self.hits + self.misses;
        (looked_up > 0.0).then(|| part / looked_up)
    }
}

impl Reported {
    /// Replaces the last report by the next one and returns the growth between them. A counter that fell has restarted
    /// at 0 with its node. The first report is no growth: it happened before the view began.
    pub(super) fn advance(&mut self, next: Reported) -> Counters {
        let growth = self.zip(next, |last, next| match (last, next) {
            (Some(last), Some(next)) if next >= last => next - last,
            (Some(_), Some(next)) => next,
            _ => 0.0,
        });
        *self = next.zip(*self, Option::or);
        growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_no_fall() {
        let mut reported = Reported::default();
        let mut advance = |hits| reported.advance(Reported { hits, ..Reported::default() }).hits;
        let growth = [Some(100.0), Some(110.0), None, Some(5.0), Some(6.0)].map(&mut advance);
        assert_eq!(growth, [0.0, 10.0, 0.0, 5.0, 1.0]);
    }

    #[test]
    fn a_ratio_needs_requests() {
        assert_eq!(Counters::default().hit_ratio(), None);
        let counters = Counters { hits: 3.0, stale: 1.0, misses: 1.0, ..Counters::default() };
        assert_eq!((counters.hit_ratio(), counters.stale_ratio()), (Some(0.75), Some(0.25)));
    }
}
