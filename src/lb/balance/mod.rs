//! Which node a request goes to, among those that are healthy and were not tried yet.

mod least_loaded;
mod round_robin;

use std::str::FromStr;

use thiserror::Error;

use self::least_loaded::LeastLoaded;
use self::round_robin::RoundRobin;
use crate::wire::Key;

/// A node that may be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its place in the balancer's list.
    pub index: usize,
    /// Requests in flight there from here.
    pub in_flight: u64,
    /// All requests that it has had.
    pub total: u64,
}

/// A way to choose.
pub trait Balance: Send + Sync {
    /// The `index` of the chosen one; `None` when there is none to choose from.
    fn pick(&self, key: Key<'_>, candidates: &[Candidate]) -> Option<usize>;

    /// Where the turn is, for strategies that go in turn.
    fn current_index(&self) -> usize;
}

/// The names of the ways to choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// Each in turn.
    RoundRobin,
    /// Fewest requests in flight, then fewest in all, then in turn.
    LeastLoaded,
}

/// A name that is no strategy's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a strategy is one of round_robin, least_loaded")]
pub struct StrategyError;

impl Strategy {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::RoundRobin => "round_robin",
            Strategy::LeastLoaded => "least_loaded",
        }
    }

    /// The strategy itself.
    pub fn build(self) -> Box<dyn Balance> {
        match self {
            Strategy::RoundRobin => Box::new(RoundRobin::default()),
            Strategy::LeastLoaded => Box::new(LeastLoaded::default()),
        }
    }
}

impl FromStr for Strategy {
    type Err = StrategyError;

    /// A hyphen is as good as an underscore.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name.replace('-', "_").as_str() {
            "round_robin" => Ok(Strategy::RoundRobin),
            "least_loaded" => Ok(Strategy::LeastLoaded),
            _ => Err(StrategyError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(index: usize, in_flight: u64, total: u64) -> Candidate {
        Candidate { index, in_flight, total }
    }

    fn picks(balance: &dyn Balance, candidates: &[Candidate], times: usize) -> Vec<usize> {
        let key = Key::parse(b"article/1").unwrap();
        (0..times).map(|_| balance.pick(key, candidates).unwrap()).collect()
    }

    #[test]
    fn every_strategy_keeps_the_contract() {
        for strategy in [Strategy::RoundRobin, Strategy::LeastLoaded] {
            let balance = strategy.build();
            let key = Key::parse(b"article/1").unwrap();
            assert_eq!(balance.pick(key, &[]), None);
            for _ in 0..10 {
                assert_eq!(balance.pick(key, &[candidate(4, 9, 9)]), Some(4));
            }
            assert_eq!(strategy.as_str().parse(), Ok(strategy));
            assert_eq!(strategy.as_str().replace('_', "-").parse(), Ok(strategy));
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
}
