//! The less loaded of two random nodes, by requests in flight times recent latency.
//!
//! Two and not all, so that several balancers that see the same loads do not all rush to the same node. Failures count as
//! slow replies, so a node that fails fast draws no requests. M. Mitzenmacher, "The Power of Two Choices in Randomized Load
//! Balancing" (2001).

use super::{Balance, Candidate, Reads};
use crate::wire::Key;

/// The strategy `p2c`. It has no state: the loads are enough.
pub(super) struct TwoChoices;

/// The expected latency of one more request there.
fn cost(candidate: &Candidate) -> f64 {
    (candidate.in_flight + 1) as f64 * candidate.latency_us.max(1) as f64 / f64::from(candidate.weight.max(1))
}

/// A random candidate by weight, but not the one with this index.
fn draw(candidates: &[Candidate], but: Option<usize>) -> Option<&Candidate> {
    let others = || candidates.iter().filter(|candidate| Some(candidate.index) != but);
    let weights: u64 = others().map(|candidate| u64::from(candidate.weight)).sum();
    let mut left = fastrand::u64(..weights.max(1));
    for candidate in others() {
        match left.checked_sub(u64::from(candidate.weight)) {
            Some(rest) => left = rest,
            None => return Some(candidate),
        }
    }
    others().next_back()
}

impl Balance for TwoChoices {
    fn reads(&self) -> Reads {
        Reads { in_flight: true, latency: true, ..Reads::default() }
    }

    fn pick(&self, _key: Key<'_>, candidates: &[Candidate]) -> Option<usize> {
        let first = draw(candidates, None)?;
        let second = draw(candidates, Some(first.index)).unwrap_or(first);
        Some(if cost(second) < cost(first) { second.index } else { first.index })
    }

    fn peek(&self, _key: Key<'_>, candidates: &[Candidate]) -> Option<usize> {
        candidates.iter().min_by(|a, b| cost(a).total_cmp(&cost(b))).map(|candidate| candidate.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(candidates: &[Candidate]) -> Vec<usize> {
        let key = Key::parse("article/1").unwrap();
        let mut picks = vec![0; candidates.len()];
        (0..10_000).for_each(|_| picks[TwoChoices.pick(key, candidates).unwrap()] += 1);
        picks
    }

    #[test]
    fn the_worst_of_three_is_never_chosen_and_equals_share() {
        let mut all = [0, 1, 2].map(Candidate::at);
        for count in picks(&all) {
            assert!((3_000..3_700).contains(&count), "{count}");
        }
        all[1].in_flight = 7;
        let counts = picks(&all);
        assert_eq!(counts[1], 0);
        assert!(counts[0].abs_diff(counts[2]) < 600, "{counts:?}");
        all[0].latency_us = 1_000_000;
        assert_eq!(TwoChoices.peek(Key::parse("a/1").unwrap(), &all), Some(2));
        assert_eq!(picks(&all)[0], 0, "failures weigh more than what is in flight");
    }

    #[test]
    fn a_weight_is_a_share_of_the_draws() {
        let mut all = [0, 1, 2, 3].map(Candidate::at);
        all[3].weight = 300;
        let counts = picks(&all);
        assert!(counts[3] > counts[0] * 2, "{counts:?}");
    }

    #[test]
    fn a_seed_gives_the_same_choices_for_ever() {
        fastrand::seed(42);
        let all = [0, 1, 2].map(Candidate::at);
        let key = Key::parse("article/1").unwrap();
        let golden: Vec<usize> = (0..20).map(|_| TwoChoices.pick(key, &all).unwrap()).collect();
        assert_eq!(golden, [2, 2, 1, 2, 2, 0, 2, 2, 2, 0, 1, 1, 2, 2, 0, 0, 2, 2, 0, 2]);
    }
}
