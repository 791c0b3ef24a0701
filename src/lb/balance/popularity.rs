//! Which keys are hot: those with several times the requests of a usual one lately, or with half of what a node takes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::per_core::PerCore;

/// Counts of keys. Two keys in one place are one that is more popular.
const PLACES: usize = 8192;
/// A key is hot from this many times the mean of all that were requested.
const HOT: u64 = 4;
/// … or from half of the fair share of a node, which is much however few other keys there are …
const OF_A_NODE: u64 = 2;
/// … and from this many requests: fewer say nothing.
const LEAST: u64 = 16;
/// Counts are halved when all requests are so many: they are those of lately.
const LATELY: u64 = 131_072;
/// The requests of one core between two looks at all counts.
const LOOK_EVERY: u32 = 1024;

/// Counts requests by key.
pub(super) struct Popularity {
    counts: Box<[AtomicU32]>,
    noted: PerCore<AtomicU32>,
    /// The sum of the counts at the last look.
    all: AtomicU64,
    /// The count from which a key has several times the requests of a usual one, as of then.
    hot_from: AtomicU32,
}

impl Default for Popularity {
    fn default() -> Self {
        Self {
            counts: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            noted: PerCore::default(),
            all: AtomicU64::new(0),
            hot_from: AtomicU32::new(u32::MAX),
        }
    }
}

impl Popularity {
    /// Notes a request for the key of this hash, one of those that so many nodes share: its part of all requests lately if it
    /// is hot, 0 to 1.
    pub(super) fn note(&self, key: u64, nodes: usize) -> Option<f64> {
        let count = self.counts[key as usize % PLACES].fetch_add(1, Ordering::Relaxed) + 1;
        if self.noted.here().fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1 {
            self.look();
        }
        let all = self.all.load(Ordering::Relaxed);
        let of_a_node = (all / (OF_A_NODE * nodes.max(1) as u64)).max(LEAST);
        let hot_from = u64::from(self.hot_from.load(Ordering::Relaxed)).min(of_a_node);
        // Nothing is known before the first look.
        (all > 0 && u64::from(count) >= hot_from).then(|| (f64::from(count) / all as f64).min(1.0))
    }

    /// Learns from all counts what is usual. Requests that are noted meanwhile may be lost, which is harmless.
    fn look(&self) {
        let counts = || self.counts.iter().map(|count| u64::from(count.load(Ordering::Relaxed)));
        let (mut all, mut used) = (counts().sum::<u64>(), counts().filter(|count| *count > 0).count());
        if all >= LATELY {
            self.counts
                .iter()
                .for_each(|count| count.store(count.load(Ordering::Relaxed) / 2, Ordering::Relaxed));
            (all, used) = (counts().sum(), counts().filter(|count| *count > 0).count());
        }
        let hot_from = (HOT * all / used.max(1) as u64).max(LEAST);
        self.all.store(all, Ordering::Relaxed);
        self.hot_from.store(u32::try_from(hot_from).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::homes::mix;
    use super::*;

    #[test]
    fn of_even_keys_none_is_hot_and_of_uneven_ones_the_first() {
        let popularity = Popularity::default();
        let hot = (0..200_000).filter(|request| popularity.note(mix(request % 5_000), 3).is_some()).count();
        assert!(hot < 4_000, "{hot} of requests for even keys");
        for request in 0..200_000 {
            let part = popularity.note(mix(if request % 10 == 0 { 7 } else { request % 5_000 }), 3);
            assert!(
                request < 100_000 || request % 10 != 0 || part.is_some_and(|part| part > 0.03),
                "{part:?}"
            );
        }
        let part = popularity.note(mix(7), 3).unwrap();
        assert!((0.08..0.14).contains(&part), "{part}");
    }

    #[test]
    fn of_few_keys_each_that_takes_half_of_a_node_is_hot() {
        for (keys, nodes, are_hot) in [(1, 3, true), (4, 3, true), (5, 3, true), (7, 3, false), (7, 12, true)]
        {
            let popularity = Popularity::default();
            (0..10_000).for_each(|request| _ = popularity.note(mix(request % keys), nodes));
            let hot = (0..keys).filter(|key| popularity.note(mix(*key), nodes).is_some()).count() as u64;
            assert_eq!(hot, if are_hot { keys } else { 0 }, "{keys} keys at {nodes} nodes");
        }
    }
}
