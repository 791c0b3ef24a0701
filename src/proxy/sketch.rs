//! The most frequent names of a stream in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi, "Efficient Computation
//! of Frequent and Top-k Elements in Data Streams", ICDT 2005).
//!
//! A name without a counter takes over the lightest counter and its weight, which from then on is the error of the new name.
//! So every name of more than `total / capacity` has a counter, whatever the other names are.

use std::collections::HashMap;
use std::sync::Arc;

/// All weights are halved when their total reaches this, so that names which were heavy long ago fade.
const FADE_AT: u64 = 1 << 20;

/// At most `capacity` names and their weights.
pub(super) struct Sketch {
    /// The index of each name in `counters`.
    places: HashMap<Arc<str>, usize, foldhash::fast::RandomState>,
    counters: Vec<Heavy>,
    capacity: usize,
    total: u64,
}

/// A name and its weight.
#[derive(Clone, Debug)]
pub(super) struct Heavy {
    pub(super) name: Arc<str>,
    /// At least the true weight, and at most `error` more.
    pub(super) weight: u64,
    /// The weight of the name that had the counter before.
    error: u64,
    /// The weight of its cache hits since it got the counter.
    hits: u64,
}

impl Heavy {
    /// The share of hits among its requests, 0..1.
    pub(super) fn hit_rate(&self) -> f64 {
        crate::stats::ratio(self.hits, self.weight - self.error)
    }
}

impl Sketch {
    /// A sketch of at most `capacity` names, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        let (places, counters) = (HashMap::default(), Vec::with_capacity(capacity));
        Self { places, counters, capacity: capacity.max(1), total: 0 }
    }

    /// Counts `weight` requests for `name`.
    pub(super) fn add(&mut self, name: &str, weight: u64, hit: bool) {
        self.total += weight;
        let place = self.place(name);
        let counter = &mut self.counters[place];
        counter.weight += weight;
        counter.hits += if hit { weight } else { 0 };
        if self.total >= FADE_AT {
            self.fade();
        }
    }

    fn place(&mut self, name: &str) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let name: Arc<str> = name.into();
        let mut counter = Heavy { name: name.clone(), weight: 0, error: 0, hits: 0 };
        let place = if self.counters.len() < self.capacity {
            self.counters.push(counter);
            self.counters.len() - 1
        } else {
            let lightest = self.lightest();
            let old = &self.counters[lightest];
            (counter.weight, counter.error) = (old.weight, old.weight);
            self.places.remove(&old.name);
            self.counters[lightest] = counter;
            lightest
        };
        self.places.insert(name, place);
        place
    }

    fn lightest(&self) -> usize {
        let lightest = self.counters.iter().enumerate().min_by_key(|(_, counter)| counter.weight);
        lightest.map_or(0, |(place, _)| place)
    }

    fn fade(&mut self) {
        self.total /= 2;
        for counter in &mut self.counters {
            counter.weight /= 2;
            counter.error /= 2;
            counter.hits = (counter.hits / 2).min(counter.weight - counter.error);
        }
    }

    /// The `n` heaviest names, the heaviest first, and the total weight of all names.
    pub(super) fn heaviest(&self, n: usize) -> (Vec<Heavy>, u64) {
        let mut heaviest: Vec<Heavy> =
            self.counters.iter().filter(|counter| counter.weight > 0).cloned().collect();
        heaviest.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| a.name.cmp(&b.name)));
        heaviest.truncate(n);
        (heaviest, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_exactly_while_there_is_room() {
        let mut sketch = Sketch::new(3);
        for (name, hit) in [("a", true), ("b", false), ("a", false), ("a", true)] {
            sketch.add(name, 1, hit);
        }
        let (heaviest, total) = sketch.heaviest(5);
        let seen: Vec<_> = heaviest.iter().map(|heavy| (&*heavy.name, heavy.weight, heavy.hits)).collect();
        assert_eq!((seen, total), (vec![("a", 3, 2), ("b", 1, 0)], 4));
    }

    #[test]
    fn finds_the_heavy_among_many_that_come_once() {
        let mut sketch = Sketch::new(64);
        let mut random = fastrand::Rng::with_seed(3);
        for turn in 0..200_000_u64 {
            match turn % 10 {
                0 => sketch.add("heavy", 1, true),
                1 if turn % 20 == 1 => sketch.add("second", 1, true),
                _ => sketch.add(&random.u64(..).to_string(), 1, false),
            }
            assert!(sketch.counters.len() <= 64 && sketch.places.len() == sketch.counters.len());
        }
        let (heaviest, total) = sketch.heaviest(2);
        assert_eq!(heaviest.iter().map(|heavy| &*heavy.name).collect::<Vec<_>>(), ["heavy", "second"]);
        let share = heaviest[0].weight as f64 / total as f64;
        assert!((0.09..0.13).contains(&share), "{share}");
    }

    #[test]
    fn what_was_heavy_long_ago_fades() {
        let mut sketch = Sketch::new(4);
        for name in ["old", "new", "new", "new"] {
            for _ in 0..FADE_AT {
                sketch.add(name, 1, true);
            }
        }
        let (heaviest, total) = sketch.heaviest(2);
        assert_eq!(&*heaviest[0].name, "new");
        assert!(total < FADE_AT && heaviest[1].weight < heaviest[0].weight / 4);
    }
}
