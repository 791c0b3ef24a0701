//! Every key has a home, and a hot key has several. A home with too much in flight passes keys on to their next homes; a key
//! that has requests in flight at its home, and is not known to be cached there for a while, stays: many requests for a cold
//! key at once cost one fetch.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::bound::Bound;
use super::homes::{hash, home, mix, part};
use super::popularity::Popularity;
use super::{Balance, Candidate, Candidates, Load, Pick};
use crate::per_core::PerCore;
use crate::wire::Key;

/// The size of the table of requests in flight. Two keys in one place cost a fetch at worst.
const PLACES: usize = 8192;
/// The size of the table of keys at nodes: there are more that are cached than in flight.
const CACHED_PLACES: usize = 32_768;

/// A key may be passed on after it was cached for this time: a rush for a cold key is over by then.
const SETTLES: Duration = Duration::from_secs(1);

/// A hot key has a home for each quarter of the requests of a usual node that it makes. Some are the same node.
const HOMES_PER_NODE: f64 = 4.0;

/// The strategy `hash`.
pub(super) struct Hash {
    began: Instant,
    settles: Duration,
    popularity: Popularity,
    /// Requests in flight at all nodes: only the sum over the cores counts.
    all_in_flight: PerCore<AtomicI64>,
    /// Requests in flight for a key at a node, in a place by the hash of both.
    in_flight: Box<[AtomicU32]>,
    /// Keys that are cached at a node: the upper half of the hash of both, and the millisecond of the first hit.
    cached: Box<[AtomicU64]>,
}

impl Default for Hash {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            settles: SETTLES,
            popularity: Popularity::default(),
            all_in_flight: PerCore::default(),
            in_flight: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            cached: (0..CACHED_PLACES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

fn hash_of(key: Key<'_>) -> u64 {
    hash(key.as_str().as_bytes())
}

impl Hash {
    fn flights(&self, key: u64, node: u64) -> &AtomicU32 {
        &self.in_flight[mix(key ^ node) as usize % PLACES]
    }

    fn all_in_flight(&self) -> u64 {
        let sum: i64 = self.all_in_flight.iter().map(|core| core.load(Ordering::Relaxed)).sum();
        sum.max(0).cast_unsigned()
    }

    /// Requests in flight at the candidates.
    fn in_flight_among(&self, among: &Candidates) -> u64 {
        self.all_in_flight().saturating_sub(among.in_flight_beside())
    }

    fn now(&self) -> u32 {
        self.began.elapsed().as_millis() as u32
    }

    /// Whether the key has been cached at the node for a while.
    fn is_settled(&self, key: u64, node: u64) -> bool {
        let pair = mix(key ^ node);
        let known = self.cached[pair as usize % CACHED_PLACES].load(Ordering::Relaxed);
        let is_known = known != 0 && known >> 32 == pair >> 32;
        is_known && self.now().wrapping_sub(known as u32) >= self.settles.as_millis() as u32
    }

    /// One of the homes of a hot key that makes this part of all requests, in no order; the key by which that is found.
    fn one_of_many(&self, key: u64, part: f64, among: &Candidates) -> u64 {
        let homes = (part * among.all().len() as f64 * HOMES_PER_NODE) as usize + 1;
        match fastrand::usize(..homes) {
            0 => key,
            other => mix(key.wrapping_add(other as u64)),
        }
    }
}

impl Balance for Hash {
    fn pick(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        let key = hash_of(pick.key);
        let hot = self.popularity.note(key, among.all().len());
        let mut first = home(key, among, pick.may)?;
        let mut by = key;
        if let Some(part) = hot
            && self.is_settled(key, first.id)
        {
            by = self.one_of_many(key, part, among);
            first = home(by, among, pick.may)?;
        }
        let in_flight = first.load.in_flight();
        if in_flight == 0 {
            return Some(first.index);
        }
        let bound = Bound::of(self.in_flight_among(among), among.weight());
        let takes = |candidate: &Candidate, in_flight: u64| {
            // Another number than that by which the home was found: of its own keys all have high ones.
            let part = part(mix(mix(key ^ candidate.id)));
            bound.takes(candidate.drawn(), in_flight, hot.is_some(), part)
        };
        let waits_there =
            || !self.is_settled(key, first.id) && self.flights(key, first.id).load(Ordering::Relaxed) > 0;
        if takes(first, in_flight) || waits_there() {
            return Some(first.index);
        }
        let may =
            |candidate: &Candidate| (pick.may)(candidate) && takes(candidate, candidate.load.in_flight());
        home(by, among, may).or(Some(first)).map(|candidate| candidate.index)
    }

    fn peek(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        home(hash_of(pick.key), among, pick.may).map(|candidate| candidate.index)
    }

    fn goes_by_key(&self) -> bool {
        true
    }

    fn sent(&self, key: Key<'_>, node: u64, _load: &dyn Load) {
        self.all_in_flight.here().fetch_add(1, Ordering::Relaxed);
        self.flights(hash_of(key), node).fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, key: Key<'_>, node: u64, _load: &dyn Load, hit: Option<bool>) {
        self.all_in_flight.here().fetch_sub(1, Ordering::Relaxed);
        let key = hash_of(key);
        self.flights(key, node).fetch_sub(1, Ordering::Relaxed);
        let pair = mix(key ^ node);
        let place = &self.cached[pair as usize % CACHED_PLACES];
        let is_known = place.load(Ordering::Relaxed) >> 32 == pair >> 32;
        match hit {
            Some(true) if !is_known => {
                place.store(pair >> 32 << 32 | u64::from(self.now()), Ordering::Relaxed);
            }
            Some(false) if is_known => place.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Only a key that is cached at the node of the first attempt: another one would be fetched twice.
    fn may_hedge(&self, key: Key<'_>, node: u64) -> bool {
        self.is_settled(hash_of(key), node)
    }
}

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
