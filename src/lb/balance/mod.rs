//! Strategies: which of the candidates, healthy and not tried yet, gets a request.

mod bound;
mod candidates;
mod hash;
mod homes;
mod kept_homes;
mod least_loaded;
mod p2c;
mod popularity;
mod ranking;
mod round_robin;

pub use self::candidates::{Candidate, Candidates, Load, WHOLE};
use self::hash::Hash;
pub use self::homes::hash as hash_of;
use self::least_loaded::LeastLoaded;
use self::p2c::TwoChoices;
use self::round_robin::RoundRobin;
use crate::wire::Key;

/// Up to this many candidates are compared one by one.
const FEW: usize = 16;

/// The request that a node is chosen for.
#[derive(Clone, Copy)]
pub struct Pick<'a> {
    /// Its key.
    pub key: Key<'a>,
    /// The time in milliseconds, on the clock of [`Load::latency_us`].
    pub now: u64,
    /// Whether a candidate may be chosen: it was not tried yet.
    pub may: &'a dyn Fn(&Candidate) -> bool,
}

/// A strategy. None allocates for a request or walks through all candidates, except that `hash` compares the ids of all for a
/// key whose home it does not keep.
pub trait Balance: Send + Sync {
    /// The `index` of the chosen candidate; `None` only when none may be chosen.
    fn pick(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize>;

    /// The candidate that would be chosen, without taking a turn. A strategy may give up after some that may not.
    fn peek(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize>;

    /// The index whose turn is next, for strategies that go in turn.
    fn current_index(&self) -> usize {
        0
    }

    /// Whether the key decides.
    fn goes_by_key(&self) -> bool {
        false
    }

    /// Whether it remembers loads: then candidates are derived anew as often as the health task looks at the nodes.
    fn keeps_loads(&self) -> bool {
        false
    }

    /// Notes that a request for the key was sent to the node of this id, and its load since.
    fn sent(&self, _key: Key<'_>, _node: u64, _load: &dyn Load) {}

    /// Notes that it ended, and whether the document was cached there, if the reply says so.
    fn ended(&self, _key: Key<'_>, _node: u64, _load: &dyn Load, _hit: Option<bool>) {}

    /// Whether the key, requested from this node, may be requested from another one at the same time.
    fn may_hedge(&self, _key: Key<'_>, _node: u64) -> bool {
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
mod fixed {
    //! Candidates whose loads stay as they are.

    use std::sync::Arc;

    use super::*;

    struct Fixed(u64, u64, u64);

    impl Load for Fixed {
        fn in_flight(&self) -> u64 {
            self.0
        }

        fn total(&self, _reported: bool) -> u64 {
            self.1
        }

        fn latency_us(&self, _now: u64) -> u64 {
            self.2
        }
    }

    fn with(index: usize, load: Fixed) -> Candidate {
        Candidate { index, id: index as u64, weight: 100, share: WHOLE, load: Arc::new(load) }
    }

    pub(super) fn fixed(index: usize, in_flight: u64, total: u64) -> Candidate {
        with(index, Fixed(in_flight, total, 0))
    }

    pub(super) fn slow(index: usize, latency_us: u64) -> Candidate {
        with(index, Fixed(0, 0, latency_us))
    }

    pub(super) fn candidates(all: &[Candidate]) -> Candidates {
        Candidates::new(all.to_vec(), false, true)
    }

    /// A pick of any of them.
    pub(super) fn any() -> Pick<'static> {
        Pick { key: Key::parse("article/1").unwrap(), now: 0, may: &|_| true }
    }
}

#[cfg(test)]
mod tests {
    use super::fixed::{any, candidates, fixed};
    use super::*;

    fn picks(balance: &dyn Balance, all: &[Candidate], times: usize) -> Vec<usize> {
        let among = candidates(all);
        (0..times).map(|_| balance.pick(&any(), &among).unwrap()).collect()
    }

    #[test]
    fn every_strategy_keeps_the_contract() {
        for strategy in Strategy::ALL {
            let balance = strategy.build();
            let none = candidates(&[]);
            assert_eq!((balance.pick(&any(), &none), balance.peek(&any(), &none)), (None, None));
            let one = candidates(&[fixed(4, 9, 9)]);
            for _ in 0..10 {
                assert_eq!((balance.pick(&any(), &one), balance.peek(&any(), &one)), (Some(4), Some(4)));
            }
            let few = [fixed(1, 3, 0), fixed(5, 2, 8), fixed(9, 0, 4)].to_vec();
            let many: Vec<Candidate> = (0..1_000).map(|index| fixed(3 * index, 0, 1)).collect();
            for some in [few, many] {
                let among = Candidates::new(some.clone(), balance.goes_by_key(), true);
                let is_one = |index: usize| some.iter().any(|candidate| candidate.index == index);
                for _ in 0..100 {
                    let before = balance.current_index();
                    assert!(balance.peek(&any(), &among).is_some_and(is_one));
                    assert_eq!(balance.current_index(), before, "a look takes no turn");
                    assert!(balance.pick(&any(), &among).is_some_and(is_one));
                    let but = balance.pick(&any(), &among).unwrap();
                    let other = Pick { may: &|candidate| candidate.index != but, ..any() };
                    assert!(balance.pick(&other, &among).is_some_and(|index| is_one(index) && index != but));
                }
                assert_eq!(balance.pick(&Pick { may: &|_| false, ..any() }, &among), None);
            }
            let load = fixed(1, 0, 0).load;
            balance.sent(any().key, 1, &*load);
            balance.ended(any().key, 1, &*load, Some(true));
        }
    }

    #[test]
    fn round_robin_goes_in_turn_and_past_those_that_are_gone() {
        let balance = RoundRobin::default();
        let all = [fixed(0, 0, 0), fixed(1, 5, 5), fixed(2, 0, 0)];
        assert_eq!(picks(&balance, &all, 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(picks(&balance, &[all[0].clone(), all[2].clone()], 4), [0, 2, 0, 2]);
    }

    #[test]
    fn least_loaded_looks_at_flights_then_totals_then_turns() {
        // Idle nodes behind, or many busy ones: these are ranked.
        for busy in [0, 100] {
            let balance = LeastLoaded::default();
            let picks = |some: &[Candidate], times| {
                let busy = (0..busy).map(|index| fixed(3 + index, 9, 9));
                picks(&balance, &some.iter().cloned().chain(busy).collect::<Vec<_>>(), times)
            };
            assert_eq!(picks(&[fixed(0, 3, 0), fixed(1, 1, 9), fixed(2, 2, 0)], 2), [1, 1]);
            assert_eq!(picks(&[fixed(0, 1, 8), fixed(1, 1, 9), fixed(2, 1, 7)], 2), [2, 2]);
            assert_eq!(picks(&[fixed(0, 1, 7), fixed(1, 1, 7), fixed(2, 2, 7)], 4), [0, 1, 0, 1]);
        }
    }

    #[test]
    fn a_weight_is_a_share_of_turns_and_of_loads() {
        let counts = |balance: &dyn Balance| {
            let mut totals = [0; 3];
            for _ in 0..6_000 {
                let mut all = [0, 1, 2].map(|index| fixed(index, 0, totals[index]));
                all[0].weight = 50;
                totals[picks(balance, &all, 1)[0]] += 1;
            }
            totals[0]
        };
        let turns = counts(&RoundRobin::default());
        assert!((1_050..1_350).contains(&turns), "a fifth of them: {turns}");
        let least = counts(&LeastLoaded::default());
        assert!((1_190..1_210).contains(&least), "{least}");
    }

    #[test]
    fn a_node_that_came_back_gets_its_share_beside_others_and_all_without() {
        for strategy in Strategy::ALL.into_iter().filter(|strategy| *strategy != Strategy::Hash) {
            let mut all = [0, 1, 2].map(|index| fixed(index, 0, 0));
            all[0].share = 10;
            let first = picks(&*strategy.build(), &all, 6_000).iter().filter(|index| **index == 0).count();
            assert!((50..500).contains(&first), "{strategy:?}: {first}");
            assert_eq!(picks(&*strategy.build(), &all[..1], 20), [0; 20]);
        }
    }
}
