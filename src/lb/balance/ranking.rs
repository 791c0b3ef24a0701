//! Candidates ranked by their loads: a tournament, in which a change of one load is a few comparisons and the winner is
//! known. Pure.
//!
//! Where equals meet, the one in front wins: so the first of the least from any place on is found as fast.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::{Candidate, Candidates, Load};

/// In place of a winner: there is none.
const NOBODY: u32 = u32::MAX;

/// What a candidate is compared by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank {
    in_flight: u64,
    total: u64,
    weight: u32,
}

impl Rank {
    pub(super) fn of(candidate: &Candidate, reported: bool) -> Self {
        Self::new(&*candidate.load, reported, candidate.weight)
    }

    fn new(load: &dyn Load, reported: bool, weight: u32) -> Self {
        Self { in_flight: load.in_flight(), total: load.total(reported), weight }
    }

    /// Compares the loads of two for their weights.
    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        let less = |ours: u64, theirs: u64| match self.weight == other.weight {
            true => ours.cmp(&theirs),
            false => (u128::from(ours) * u128::from(other.weight))
                .cmp(&(u128::from(theirs) * u128::from(self.weight))),
        };
        less(self.in_flight, other.in_flight).then_with(|| less(self.total, other.total))
    }
}

/// The ranks of the candidates of one list, by their places in it.
#[derive(Default)]
pub(super) struct Ranking {
    /// The number of the list.
    list: Option<u64>,
    reported: bool,
    /// Ids with their places, in order.
    places: Vec<(u64, usize)>,
    ranks: Vec<Rank>,
    /// The winners of all matches: the final at 1, the two before it at 2 and 3, and so on; in the last half the players.
    winners: Vec<u32>,
}

impl Ranking {
    /// Takes over a list and the loads of now, if it is not the one from before.
    pub(super) fn follow(&mut self, among: &Candidates) {
        if self.list == Some(among.number()) {
            return;
        }
        let all = among.all();
        (self.list, self.reported) = (Some(among.number()), among.are_reported());
        self.places.clear();
        self.places.extend(all.iter().enumerate().map(|(place, candidate)| (candidate.id, place)));
        self.places.sort_unstable();
        self.ranks.clear();
        self.ranks.extend(all.iter().map(|candidate| Rank::of(candidate, self.reported)));
        let players = all.len().next_power_of_two();
        self.winners.clear();
        self.winners.resize(players, NOBODY);
        self.winners
            .extend((0..players as u32).map(|at| if (at as usize) < all.len() { at } else { NOBODY }));
        (1..players).rev().for_each(|at| self.play(at));
    }

    /// Notes the load of the node of this id.
    pub(super) fn note(&mut self, id: u64, load: &dyn Load) {
        let Ok(at) = self.places.binary_search_by_key(&id, |(id, _)| *id) else { return };
        let place = self.places[at].1;
        self.ranks[place] = Rank::new(load, self.reported, self.ranks[place].weight);
        self.set(place, place as u32);
    }

    /// The place of the least that `may` be chosen, within so many looks; among equals the first from `from` on.
    pub(super) fn least(&mut self, from: usize, looks: usize, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut passed = SmallVec::<[usize; 8]>::new();
        let mut found = None;
        while passed.len() < looks
            && let Some(place) = self.first(from)
        {
            if may(place) {
                found = Some(place);
                break;
            }
            passed.push(place);
            self.set(place, NOBODY);
        }
        passed.into_iter().for_each(|place| self.set(place, place as u32));
        found
    }

    /// The first of the least from this place on, or the first of all.
    fn first(&self, from: usize) -> Option<usize> {
        let least = *self.winners.get(1)?;
        if least == NOBODY {
            return None;
        }
        let mut at = self.winners.len() / 2 + from;
        let mut best = self.winners.get(at).copied().unwrap_or(NOBODY);
        while at > 1 && at < self.winners.len() {
            if at.is_multiple_of(2) {
                best = self.winner(best, self.winners[at + 1]);
            }
            at /= 2;
        }
        let rank = |place: u32| &self.ranks[place as usize];
        let is_least = best != NOBODY && rank(best).cmp(rank(least)).is_eq();
        Some(if is_least { best } else { least } as usize)
    }

    fn set(&mut self, place: usize, player: u32) {
        let mut at = self.winners.len() / 2 + place;
        self.winners[at] = player;
        while at > 1 {
            at /= 2;
            self.play(at);
        }
    }

    fn play(&mut self, at: usize) {
        self.winners[at] = self.winner(self.winners[2 * at], self.winners[2 * at + 1]);
    }

    /// The winner of two players of which the first stands in front.
    fn winner(&self, first: u32, second: u32) -> u32 {
        match (first, second) {
            (only, NOBODY) | (NOBODY, only) => only,
            _ if self.ranks[second as usize].cmp(&self.ranks[first as usize]).is_lt() => second,
            _ => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Moving {
        in_flight: AtomicU64,
        total: AtomicU64,
    }

    impl Load for Moving {
        fn in_flight(&self) -> u64 {
            self.in_flight.load(Relaxed)
        }

        fn total(&self, _reported: bool) -> u64 {
            self.total.load(Relaxed)
        }

        fn latency_us(&self, _now: u64) -> u64 {
            0
        }
    }

    /// The model: looks at all.
    fn model(all: &[Candidate], from: usize, may: impl Fn(usize) -> bool) -> Option<usize> {
        let places = (from..all.len()).chain(0..from).filter(|place| may(*place));
        places.min_by(|a, b| Rank::of(&all[*a], true).cmp(&Rank::of(&all[*b], true)))
    }

    #[test]
    fn the_least_is_that_of_a_walk_through_all_after_any_changes() {
        let mut random = fastrand::Rng::with_seed(7);
        for count in [1, 2, 3, 17, 64, 100] {
            let loads: Vec<Arc<Moving>> = (0..count).map(|_| Arc::default()).collect();
            let candidate = |(index, load): (usize, &Arc<Moving>)| Candidate {
                index,
                id: random.u64(..),
                weight: [50, 100, 100, 300][index % 4],
                share: 100,
                load: load.clone(),
            };
            let all: Vec<Candidate> = loads.iter().enumerate().map(candidate).collect();
            let among = Candidates::new(all.clone(), false, true);
            let mut ranking = Ranking::default();
            ranking.follow(&among);
            for _ in 0..2_000 {
                let node = random.usize(..count);
                loads[node].in_flight.store(random.u64(..3), Relaxed);
                loads[node].total.fetch_add(random.u64(..2), Relaxed);
                ranking.note(all[node].id, &*loads[node]);
                let (from, but) = (random.usize(..=count), random.usize(..count));
                let may = |place: usize| place != but;
                assert_eq!(ranking.least(from, usize::MAX, may), model(&all, from, may));
                assert_eq!(ranking.least(from, usize::MAX, |_| true), model(&all, from, |_| true));
            }
            assert_eq!(ranking.least(0, usize::MAX, |_| false), None);
            ranking.note(1, &Moving::default());
        }
    }
}
