//! Strategies: which of the candidates, healthy and not tried yet, gets a request.

mod hash;
mod least_loaded;
mod p2c;
mod round_robin;

use self::hash::Hash;
pub(super) use self::hash::hash as hash_of;
use self::least_loaded::LeastLoaded;
use self::p2c::TwoChoices;
use self::round_robin::RoundRobin;
use crate::wire::Key;

/// Up to this many candidates need no allocation.
pub(super) const FEW: usize = 8;

/// A node that a strategy may choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its index in the balancer's list.
    pub index: usize,
    /// A hash of its name, the same at every balancer.
    pub id: u64,
    /// Its weight in hundredths.
    pub weight: u32,
    /// Requests of this balancer in flight at it; see [`Reads`].
    pub in_flight: u64,
    /// All requests that it has had, those of other balancers included; see [`Reads`].
    pub total: u64,
    /// Its recent average latency in microseconds; a failure counts as a slow reply; see [`Reads`].
    pub latency_us: u64,
}

impl Candidate {
    /// A candidate of weight 1 without load.
    pub fn at(index: usize) -> Self {
        Self { index, id: index as u64, weight: 100, in_flight: 0, total: 0, latency_us: 0 }
    }
}

/// The numbers of a [`Candidate`] that a strategy reads. The others stay 0: collecting one costs each request something
/// for every node.
#[derive(Clone, Copy, Default, Debug)]
pub struct Reads {
    /// [`Candidate::in_flight`]
    pub in_flight: bool,
    /// [`Candidate::total`]
    pub total: bool,
    /// [`Candidate::latency_us`]
    pub latency: bool,
}

/// A strategy.
pub trait Balance: Send + Sync {
    /// The numbers that it reads.
    fn reads(&self) -> Reads;

    /// The `index` of the chosen candidate; `None` only without candidates.
    fn pick(&self, key: Key<'_>, candidates: &[Candidate]) -> Option<usize>;

    /// The candidate that would be chosen, without taking a turn.
    fn peek(&self, key: Key<'_>, candidates: &[Candidate]) -> Option<usize>;

    /// The index whose turn is next, for strategies that go in turn.
    fn current_index(&self) -> usize {
        0
    }

    /// Whether the key decides: a node with a part of its share must then get fewer keys, not fewer requests of each.
    fn goes_by_key(&self) -> bool {
        false
    }

    /// Notes that a request for the key was sent to the node of this id.
    fn sent(&self, _key: Key<'_>, _node: u64) {}

    /// Notes that it ended, and whether the document was cached there, if the reply says so.
    fn ended(&self, _key: Key<'_>, _node: u64, _hit: Option<bool>) {}

    /// Whether the key may be requested from two nodes at once.
    fn may_hedge(&self, _key: Key<'_>) -> bool {
        true
    }
}

/// The strategies.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Strategy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight, then the fewest in all, then in turn.
    LeastLoaded,
    /// Every key has a home.
    Hash,
    /// The less loaded of two at random, by what is in flight and how long answers take.
    TwoChoices,
}

impl Strategy {
    /// All strategies.
    pub const ALL: [Strategy; 4] =
        [Strategy::RoundRobin, Strategy::LeastLoaded, Strategy::Hash, Strategy::TwoChoices];

    /// The name, on the command line and in METRICS.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::RoundRobin => "round_robin",
            Strategy::LeastLoaded => "least_loaded",
            Strategy::Hash => "hash",
            Strategy::TwoChoices => "p2c",
        }
    }

    /// The strategy itself.
    pub fn build(self) -> Box<dyn Balance> {
        match self {
            Strategy::RoundRobin => Box::new(RoundRobin::default()),
            Strategy::LeastLoaded => Box::new(LeastLoaded::default()),
            Strategy::Hash => Box::new(Hash::default()),
            Strategy::TwoChoices => Box::new(TwoChoices),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(index: usize, in_flight: u64, total: u64) -> Candidate {
        Candidate { in_flight, total, ..Candidate::at(index) }
    }

    fn picks(balance: &dyn Balance, candidates: &[Candidate], times: usize) -> Vec<usize> {
        let key = Key::parse("article/1").unwrap();
        (0..times).map(|_| balance.pick(key, candidates).unwrap()).collect()
    }

    #[test]
    fn every_strategy_keeps_the_contract() {
        for strategy in Strategy::ALL {
            let balance = strategy.build();
            let key = Key::parse("article/1").unwrap();
            assert_eq!((balance.pick(key, &[]), balance.peek(key, &[])), (None, None));
            for _ in 0..10 {
                assert_eq!(balance.pick(key, &[candidate(4, 9, 9)]), Some(4));
                assert_eq!(balance.peek(key, &[candidate(4, 9, 9)]), Some(4));
            }
            let some = [candidate(1, 3, 0), candidate(5, 2, 8), candidate(9, 0, 4)];
            for _ in 0..100 {
                let before = balance.current_index();
                assert!(balance.peek(key, &some).is_some_and(|index| [1, 5, 9].contains(&index)));
                assert_eq!(balance.current_index(), before, "a look takes no turn");
                assert!(balance.pick(key, &some).is_some_and(|index| [1, 5, 9].contains(&index)));
            }
            balance.sent(key, 1);
            balance.ended(key, 1, Some(true));
        }
    }

    #[test]
    fn round_robin_goes_in_turn_and_past_those_that_are_gone() {
        let balance = RoundRobin::default();
        let all = [candidate(0, 0, 0), candidate(1, 5, 5), candidate(2, 0, 0)];
        assert_eq!(picks(&balance, &all, 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(picks(&balance, &[all[0], all[2]], 4), [0, 2, 0, 2]);
    }

    #[test]
    fn least_loaded_looks_at_flights_then_totals_then_turns() {
        let balance = LeastLoaded::default();
        assert_eq!(picks(&balance, &[candidate(0, 3, 0), candidate(1, 1, 9), candidate(2, 2, 0)], 2), [1, 1]);
        assert_eq!(picks(&balance, &[candidate(0, 1, 8), candidate(1, 1, 9), candidate(2, 1, 7)], 2), [2, 2]);
        let even = [candidate(0, 1, 7), candidate(1, 1, 7), candidate(2, 2, 7)];
        assert_eq!(picks(&balance, &even, 4), [0, 1, 0, 1]);
    }

    #[test]
    fn a_weight_is_a_share_of_turns_and_of_loads() {
        let light = Candidate { weight: 50, ..Candidate::at(0) };
        let counts = |balance: &dyn Balance, all: &mut [Candidate]| {
            let key = Key::parse("article/1").unwrap();
            for _ in 0..6_000 {
                let index = balance.pick(key, all).unwrap();
                all[index].total += 1;
            }
            all[0].total
        };
        let turns = counts(&RoundRobin::default(), &mut [light, Candidate::at(1), Candidate::at(2)]);
        assert!((1_050..1_350).contains(&turns), "a fifth of them: {turns}");
        let least = counts(&LeastLoaded::default(), &mut [light, Candidate::at(1), Candidate::at(2)]);
        assert!((1_190..1_210).contains(&least), "{least}");
    }
}
