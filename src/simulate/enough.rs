//! How much memory is enough: the bytes with which an lru cache has nearly all hits of an endless one. Pure.
//!
//! A key is found again in a cache that has room for all keys used since its last use, and for itself: its stack distance
//! (R. Mattson et al., "Evaluation techniques for storage hierarchies", 1970). One pass tells the hits of all sizes.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::RandomState;
use hdrhistogram::Histogram;

use crate::proxy::cache::{Bounds, Cache, CacheType, Entry, Layout, Millis, build_as};

/// The part of the hits of an endless cache that is enough.
const PART: f64 = 0.95;
/// Distances are exact to this number of decimal digits.
const DIGITS: u8 = 3;
/// Bytes of the largest distance that is told apart from larger ones: 1 PiB.
const LONGEST: u64 = 1 << 50;
/// A cache keeps no document that takes more than this part of it.
const LARGEST_PART: u64 = 16;

/// One endless cache at each proxy.
pub struct Enough {
    stacks: Vec<Stack>,
    /// Only weighs entries.
    scales: Box<dyn Cache>,
    ttl: Option<Duration>,
    /// Of each hit, the bytes of the least cache that has it.
    needed: Histogram<u64>,
}

/// The keys of one proxy in the order of their last use.
#[derive(Default)]
struct Stack {
    hasher: RandomState,
    /// By the hash of the key.
    used: HashMap<u64, Used, foldhash::fast::RandomState>,
    /// Sums of weights by the times of use (a Fenwick tree): each time belongs to one key at the most.
    sums: Vec<u64>,
    next: usize,
    all: u64,
}

struct Used {
    time: usize,
    weight: u64,
    fetched: Millis,
}

impl Enough {
    /// Endless caches of `proxies` proxies, whose entries are fresh for `ttl`.
    pub fn new(proxies: usize, ttl: Option<Duration>) -> Self {
        let bounds = Bounds { entries: 1, bytes: usize::MAX };
        #[expect(clippy::expect_used, reason = "the bounds are constants, and every unit test makes one")]
        let needed = Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("valid bounds");
        let scales = build_as(CacheType::Lru, &Layout::of(bounds));
        Self { stacks: (0..proxies).map(|_| Stack::default()).collect(), scales, ttl, needed }
    }

    /// A get at `now` at a proxy, of a document of `size` bytes.
    pub fn request(&mut self, proxy: usize, key: &str, now: Millis, size: usize) {
        let weight = self.scales.weight(&Entry::stand_in(key, size, now, self.ttl)) as u64;
        let is_fresh = |fetched: Millis| self.ttl.is_none_or(|ttl| now.since(fetched) < ttl);
        if let Some(distance) = self.stacks[proxy].distance(key, weight, now, is_fresh) {
            self.needed.saturating_record(distance.max(LARGEST_PART * weight));
        }
    }

    /// The bytes of one proxy's cache that are enough; `None` if not even an endless cache has a hit.
    pub fn bytes(&self) -> Option<u64> {
        (!self.needed.is_empty()).then(|| self.needed.value_at_quantile(PART))
    }
}

impl Stack {
    /// Notes a use. The distance to the last one, if what was fetched before it is fresh.
    fn distance(
        &mut self,
        key: &str,
        weight: u64,
        now: Millis,
        is_fresh: impl Fn(Millis) -> bool,
    ) -> Option<u64> {
        if self.next == self.sums.len() {
            self.renumber();
        }
        let time = self.next;
        self.next += 1;
        let mut distance = None;
        match self.used.entry(self.hasher.hash_one(key)) {
            Occupied(mut known) => {
                let last = known.get_mut();
                let (before, held) = (last.time, last.weight);
                let is_hit = is_fresh(last.fetched);
                // A hit shows the document that is held.
                let (weight, fetched) = if is_hit { (held, last.fetched) } else { (weight, now) };
                *last = Used { time, weight, fetched };
                if is_hit {
                    distance = Some(self.all - sum(&self.sums, before) + held);
                }
                add(&mut self.sums, before, held.wrapping_neg());
                add(&mut self.sums, time, weight);
                self.all = self.all - held + weight;
            }
            Vacant(free) => {
                free.insert(Used { time, weight, fetched: now });
                add(&mut self.sums, time, weight);
                self.all += weight;
            }
        }
        distance
    }

    /// Gives the keys new times in the same order, from 0, with room for as many uses as there are keys.
    fn renumber(&mut self) {
        let mut used: Vec<&mut Used> = self.used.values_mut().collect();
        used.sort_unstable_by_key(|used| used.time);
        self.next = used.len();
        self.sums = vec![0; (2 * used.len()).max(1024)];
        for (time, used) in used.into_iter().enumerate() {
            used.time = time;
            add(&mut self.sums, time, used.weight);
        }
    }
}

/// Adds to the weight of a time, in a tree where place `i` has the sum of the `i & -i` times up to it.
fn add(sums: &mut [u64], time: usize, weight: u64) {
    let mut place = time + 1;
    while place <= sums.len() {
        sums[place - 1] = sums[place - 1].wrapping_add(weight);
        place += place & place.wrapping_neg();
    }
}

/// The weights up to and with a time.
fn sum(sums: &[u64], time: usize) -> u64 {
    let (mut place, mut sum) = (time + 1, 0_u64);
    while place > 0 {
        sum = sum.wrapping_add(sums[place - 1]);
        place &= place - 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::Simulation;
    use super::super::simulation::UNBOUNDED;
    use super::*;

    #[test]
    fn distances_are_the_bytes_of_all_keys_since_the_last_use() {
        let mut stack = Stack::default();
        let mut distance = |key, weight| stack.distance(key, weight, Millis(0), |_| true);
        assert_eq!([("a", 3), ("b", 5), ("c", 7)].map(|(key, weight)| distance(key, weight)), [None; 3]);
        assert_eq!((distance("c", 7), distance("a", 3), distance("b", 5)), (Some(7), Some(15), Some(15)));
        assert_eq!((distance("b", 5), distance("c", 7)), (Some(5), Some(15)));
        // More uses than there were places: the order is kept.
        for _ in 0..5000 {
            assert_eq!(
                (distance("a", 3), distance("b", 5), distance("c", 7)),
                (Some(15), Some(15), Some(15))
            );
        }
    }

    #[test]
    fn what_is_past_its_time_is_no_hit() {
        let mut enough = Enough::new(2, Some(Duration::from_secs(30)));
        for second in [0, 30, 60] {
            enough.request(0, "a/1", Millis(second * 1000), 10);
        }
        enough.request(1, "a/1", Millis(60_000), 10);
        assert_eq!(enough.bytes(), None, "the other proxy has another cache");
        enough.request(0, "a/1", Millis(89_999), 10);
        assert!(enough.bytes().is_some());
    }

    /// A tenth of the requests are for each of the keys 0 to 4, the others for 2000 in turn.
    #[test]
    fn a_cache_of_these_bytes_has_that_part_of_the_hits() {
        let keys: Vec<String> = (0..20_000_usize)
            .map(|request| match request % 10 {
                hot @ 0..5 => format!("hot/{hot}"),
                other => format!("cold/{}", (request / 10 * 5 + other) % 2000),
            })
            .collect();
        let mut enough = Enough::new(1, None);
        keys.iter().for_each(|key| enough.request(0, key, Millis(0), 1000));
        let hits = |bytes| {
            let bounds = Bounds { bytes, ..UNBOUNDED };
            let mut simulation = Simulation::new(CacheType::Lru, bounds, Some(1), None, 1);
            keys.iter().for_each(|key| simulation.request(0, key, Millis(0), 1000));
            let replay = simulation.replay("", None, None);
            (replay.requests - replay.misses) as f64
        };
        let bytes = enough.bytes().expect("hits") as usize;
        let endless = hits(UNBOUNDED.bytes);
        assert!(hits(bytes + bytes / 100) >= PART * endless, "{bytes} bytes");
        assert!(hits(bytes - bytes / 50) < PART * endless, "{bytes} bytes are no more than it takes");
    }
}
