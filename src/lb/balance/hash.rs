//! Rendezvous hashing: every key has a home, the candidate with the highest score for it, so that a node that joins or
//! leaves moves its share of the keys and no others.
//!
//! Bounded load: a home with more than 1.25 times its share of the requests in flight passes the key on to its next home. A
//! key that has requests in flight at its home, and is not known to be cached there for a while, stays: many requests for a
//! cold key at once cost one fetch.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Balance, Candidate, Candidates, Load, Pick};
use crate::per_core::PerCore;
use crate::wire::Key;

/// The bound: this times its share of the requests in flight.
const BOUND: f64 = 1.25;
/// The size of the tables of keys. Two keys in one place cost a fetch at worst.
const PLACES: usize = 8192;

/// A key may be passed on after it was cached for this time: a rush for a cold key is over by then.
const SETTLES: Duration = Duration::from_secs(1);

/// The strategy `hash`.
pub(super) struct Hash {
    began: Instant,
    settles: Duration,
    /// Requests in flight at all nodes: only the sum over the cores counts.
    all_in_flight: PerCore<AtomicI64>,
    /// Requests in flight for a key at a node, in a place by the hash of both.
    in_flight: Box<[AtomicU32]>,
    /// Keys that are cached: the upper half of the hash, and the millisecond of the first hit.
    cached: Box<[AtomicU64]>,
}

impl Default for Hash {
    fn default() -> Self {
        let in_flight = (0..PLACES).map(|_| AtomicU32::new(0)).collect();
        let cached = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { began: Instant::now(), settles: SETTLES, all_in_flight: PerCore::default(), in_flight, cached }
    }
}

/// FNV-1a with a final mix: the same at every balancer and in every version of this program.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// Spreads every bit over all others: the final step of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The score of a candidate for a key. A candidate is home to a part of the keys in proportion to its weight.
fn score(random: u64, candidate: &Candidate) -> f64 {
    let random = (random >> 11) as f64 / (1u64 << 53) as f64;
    -f64::from(candidate.drawn()) / random.max(f64::MIN_POSITIVE).ln()
}

/// The home of a key among the candidates that `may` take it.
///
/// Among candidates of one weight the highest random number has the highest score, and only those higher than all before are
/// asked whether they may: of a thousand some seven.
fn home<'c>(key: u64, among: &'c Candidates, may: impl Fn(&Candidate) -> bool) -> Option<&'c Candidate> {
    let winner = |(run, ids): (Range<usize>, &[u64])| {
        let mut highest = 0;
        let mut winner = None;
        for (place, id) in run.zip(ids) {
            let random = mix(key ^ id);
            if random >= highest && may(&among.all()[place]) {
                (highest, winner) = (random, Some(&among.all()[place]));
            }
        }
        winner.map(|candidate| (score(highest, candidate), candidate))
    };
    let best = among.runs().filter_map(winner).max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map(|(_, candidate)| candidate)
}

impl Hash {
    fn flights(&self, key: u64, node: u64) -> &AtomicU32 {
        &self.in_flight[mix(key ^ node) as usize % PLACES]
    }

    fn all_in_flight(&self) -> u64 {
        let sum: i64 = self.all_in_flight.iter().map(|core| core.load(Ordering::Relaxed)).sum();
        sum.max(0).cast_unsigned()
    }

    fn now(&self) -> u32 {
        self.began.elapsed().as_millis() as u32
    }

    /// Whether the key has been cached for a while.
    fn is_settled(&self, key: u64) -> bool {
        let known = self.cached[key as usize % PLACES].load(Ordering::Relaxed);
        known >> 32 == key >> 32 && self.now().wrapping_sub(known as u32) >= self.settles.as_millis() as u32
    }
}

impl Balance for Hash {
    fn pick(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        let key = hash(pick.key.as_str().as_bytes());
        let first = home(key, among, pick.may)?;
        let in_flight = first.load.in_flight();
        if in_flight == 0 {
            return Some(first.index);
        }
        let each = BOUND * (self.all_in_flight() + 1) as f64 / among.weight() as f64;
        let has_room = |candidate: &Candidate, in_flight: u64| {
            in_flight as f64 + 1.0 <= (each * f64::from(candidate.drawn())).ceil()
        };
        let waits_there = || !self.is_settled(key) && self.flights(key, first.id).load(Ordering::Relaxed) > 0;
        if has_room(first, in_flight) || waits_there() {
            return Some(first.index);
        }
        // At least one has room: not all can carry more than 1.25 times their share.
        let may =
            |candidate: &Candidate| (pick.may)(candidate) && has_room(candidate, candidate.load.in_flight());
        home(key, among, may).or(Some(first)).map(|candidate| candidate.index)
    }

    fn peek(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        home(hash(pick.key.as_str().as_bytes()), among, pick.may).map(|candidate| candidate.index)
    }

    fn goes_by_key(&self) -> bool {
        true
    }

    fn sent(&self, key: Key<'_>, node: u64, _load: &dyn Load) {
        self.all_in_flight.here().fetch_add(1, Ordering::Relaxed);
        self.flights(hash(key.as_str().as_bytes()), node).fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, key: Key<'_>, node: u64, _load: &dyn Load, hit: Option<bool>) {
        self.all_in_flight.here().fetch_sub(1, Ordering::Relaxed);
        let key = hash(key.as_str().as_bytes());
        self.flights(key, node).fetch_sub(1, Ordering::Relaxed);
        let place = &self.cached[key as usize % PLACES];
        let is_known = place.load(Ordering::Relaxed) >> 32 == key >> 32;
        match hit {
            Some(true) if !is_known => {
                place.store(key >> 32 << 32 | u64::from(self.now()), Ordering::Relaxed);
            }
            Some(false) if is_known => place.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Only a cached key: another one would be fetched twice.
    fn may_hedge(&self, key: Key<'_>) -> bool {
        self.is_settled(hash(key.as_str().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixed::{any, fixed};
    use super::*;

    const KEYS: usize = 100_000;

    fn nodes(count: usize) -> Vec<Candidate> {
        (0..count).map(|index| busy(index, 0)).collect()
    }

    fn busy(index: usize, in_flight: u64) -> Candidate {
        Candidate { id: hash(format!("10.0.0.{index}:8001").as_bytes()), ..fixed(index, in_flight, 0) }
    }

    fn among(all: &[Candidate]) -> Candidates {
        Candidates::new(all.to_vec(), true, true)
    }

    fn homes(all: &[Candidate]) -> Vec<usize> {
        let among = among(all);
        let key = |key: usize| hash(format!("article/{key}").as_bytes());
        (0..KEYS).map(|i| home(key(i), &among, |_| true).unwrap().index).collect()
    }

    #[test]
    fn only_the_share_of_a_node_moves_and_loads_are_even() {
        for count in [2, 3, 5, 10, 30, 100] {
            let all = nodes(count);
            let before = homes(&all);
            let mut loads = vec![0usize; count];
            before.iter().for_each(|&node| loads[node] += 1);
            let uneven = *loads.iter().max().unwrap() as f64 * count as f64 / KEYS as f64;
            assert!(uneven <= 1.25, "{count} nodes: {uneven}");
            let gone = count / 2;
            let left: Vec<Candidate> = all.iter().filter(|node| node.index != gone).cloned().collect();
            let moved = before.iter().zip(homes(&left)).filter(|(before, after)| **before != *after).count();
            assert_eq!(moved, loads[gone], "only its own keys moved");
            assert!(moved as f64 / KEYS as f64 <= 1.0 / count as f64 + 0.01, "{count} nodes: {moved}");
        }
    }

    #[test]
    fn a_weight_is_a_share() {
        let mut all = nodes(3);
        all[1].weight = 200;
        let share = homes(&all).iter().filter(|&&node| node == 1).count() as f64 / KEYS as f64;
        assert!((share - 0.5).abs() < 0.01, "{share}");
    }

    #[test]
    fn homes_are_the_same_for_ever() {
        let all = nodes(5);
        let golden: Vec<usize> = homes(&all).into_iter().take(20).collect();
        assert_eq!(golden, [3, 2, 4, 1, 1, 2, 4, 2, 0, 3, 2, 2, 0, 2, 4, 3, 0, 4, 0, 1]);
    }

    /// Sets the requests in flight at each of three nodes, all for other keys.
    fn three(hash: &Hash, in_flight: [u64; 3]) -> Candidates {
        let others = Key::parse("other/1").unwrap();
        let all = [0, 1, 2].map(|index| busy(index, in_flight[index]));
        let missing = in_flight.iter().sum::<u64>() - hash.all_in_flight();
        (0..missing).for_each(|_| hash.sent(others, 0, &*all[0].load));
        among(&all)
    }

    #[test]
    fn a_home_with_too_much_in_flight_passes_a_key_on_unless_it_is_cold() {
        let hash = Hash { settles: Duration::ZERO, ..Hash::default() };
        let (key, load) = (any().key, fixed(0, 0, 0).load);
        let first = hash.pick(&any(), &three(&hash, [0; 3])).unwrap();
        let id = busy(first, 0).id;
        assert_eq!(hash.pick(&any(), &three(&hash, [2; 3])), Some(first), "evenly loaded");
        let mut in_flight = [2; 3];
        in_flight[first] = 9;
        let uneven = three(&hash, in_flight);
        let second = hash.pick(&any(), &uneven).unwrap();
        assert_ne!(second, first);
        hash.sent(key, id, &*load);
        assert_eq!(hash.pick(&any(), &uneven), Some(first), "it is being fetched there");
        assert!(!hash.may_hedge(key));
        hash.sent(key, id, &*load);
        hash.ended(key, id, &*load, Some(true));
        assert_eq!(hash.pick(&any(), &uneven), Some(second), "it is a hot one and cached");
        assert!(hash.may_hedge(key));
        assert_eq!(hash.peek(&any(), &uneven), Some(first));
    }

    #[test]
    fn a_rush_for_a_cold_key_stays_at_its_home_after_the_first_answers() {
        let hash = Hash::default();
        let (key, load) = (any().key, fixed(0, 0, 0).load);
        let first = hash.pick(&any(), &three(&hash, [0; 3])).unwrap();
        let id = busy(first, 0).id;
        (0..3).for_each(|_| hash.sent(key, id, &*load));
        let mut in_flight = [0; 3];
        in_flight[first] = 900;
        let uneven = three(&hash, in_flight);
        hash.ended(key, id, &*load, Some(false));
        hash.ended(key, id, &*load, Some(true));
        assert_eq!(hash.pick(&any(), &uneven), Some(first));
        assert!(!hash.may_hedge(key));
    }
}
