//! The less loaded of two random nodes, by requests in flight times recent latency.
//!
//! Two and not all, so that several balancers that see the same loads do not all rush to the same node. Failures count as
//! slow replies, so a node that fails fast draws no requests. M. Mitzenmacher, "The Power of Two Choices in Randomized Load
//! Balancing" (2001).

use super::{Balance, Candidate, Candidates, FEW, Pick};

/// The limit of draws for one that may be chosen: then most may not, and all are gone through.
const DRAWS: usize = 16;

/// The strategy `p2c`. It has no state: the loads are enough.
pub(super) struct TwoChoices;

/// The expected latency of one more request there.
fn cost(candidate: &Candidate, now: u64) -> f64 {
    let (in_flight, latency_us) = (candidate.load.in_flight(), candidate.load.latency_us(now));
    (in_flight + 1) as f64 * latency_us.max(1) as f64 / f64::from(candidate.weight.max(1))
}

/// A random place by weight that may be chosen, but not this one.
fn draw(pick: &Pick<'_>, among: &Candidates, but: Option<usize>) -> Option<usize> {
    let may = |place: &usize| Some(*place) != but && (pick.may)(&among.all()[*place]);
    for _ in 0..DRAWS {
        let place = among.draw(but)?;
        if may(&place) {
            return Some(place);
        }
    }
    let those = || (0..among.all().len()).filter(may);
    let drawn = |place: &usize| u64::from(among.all()[*place].drawn());
    let mut left = fastrand::u64(..those().map(|place| drawn(&place)).sum::<u64>().max(1));
    those().find(|place| match left.checked_sub(drawn(place)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    })
}

/// The cheaper one of two places.
fn cheaper(among: &Candidates, now: u64, first: usize, second: usize) -> usize {
    let cost = |place: usize| cost(&among.all()[place], now);
    if cost(second) < cost(first) { second } else { first }
}

impl Balance for TwoChoices {
    fn pick(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        let first = draw(pick, among, None)?;
        let second = draw(pick, among, Some(first)).unwrap_or(first);
        Some(among.all()[cheaper(among, pick.now, first, second)].index)
    }

    /// The cheapest of few, and of many the cheapest of so many random ones.
    fn peek(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        let cheapest = |places: &mut dyn Iterator<Item = usize>| {
            places
                .filter(|&place| (pick.may)(&among.all()[place]))
                .reduce(|best, place| cheaper(among, pick.now, best, place))
        };
        let place = match among.all().len() {
            few if few <= FEW => cheapest(&mut (0..few)),
            _ => cheapest(&mut (0..FEW).filter_map(|_| among.draw(None))),
        };
        Some(among.all()[place?].index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixed::{any, candidates, fixed};
    use super::*;

    fn picks(all: &[Candidate]) -> Vec<usize> {
        let among = candidates(all);
        let mut picks = vec![0; all.len()];
        (0..10_000).for_each(|_| picks[TwoChoices.pick(&any(), &among).unwrap()] += 1);
        picks
    }

    #[test]
    fn the_worst_of_three_is_never_chosen_and_equals_share() {
        let mut all = [0, 1, 2].map(|index| fixed(index, 0, 0));
        for count in picks(&all) {
            assert!((3_000..3_700).contains(&count), "{count}");
        }
        all[1] = fixed(1, 7, 0);
        let counts = picks(&all);
        assert_eq!(counts[1], 0);
        assert!(counts[0].abs_diff(counts[2]) < 600, "{counts:?}");
        all[0] = super::super::fixed::slow(0, 1_000_000);
        assert_eq!(TwoChoices.peek(&any(), &candidates(&all)), Some(2));
        assert_eq!(picks(&all)[0], 0, "failures weigh more than what is in flight");
    }

    #[test]
    fn a_weight_is_a_share_of_the_draws() {
        let mut all = [0, 1, 2, 3].map(|index| fixed(index, 0, 0));
        all[3].weight = 300;
        let counts = picks(&all);
        assert!(counts[3] > counts[0] * 2, "{counts:?}");
    }

    #[test]
    fn a_seed_gives_the_same_choices_for_ever() {
        fastrand::seed(42);
        let among = candidates(&[0, 1, 2].map(|index| fixed(index, 0, 0)));
        let golden: Vec<usize> = (0..20).map(|_| TwoChoices.pick(&any(), &among).unwrap()).collect();
        assert_eq!(golden, [2, 2, 1, 2, 2, 0, 2, 2, 2, 0, 1, 1, 2, 2, 0, 0, 2, 2, 0, 2]);
    }

    #[test]
    fn the_only_one_that_may_is_found_among_a_thousand() {
        let among = candidates(&(0..1_000).map(|index| fixed(index, 0, 0)).collect::<Vec<_>>());
        let may = |candidate: &Candidate| candidate.index == 7;
        assert_eq!(TwoChoices.pick(&Pick { may: &may, ..any() }, &among), Some(7));
    }
}
