//! Each node in turn; one of less weight than others passes some of its turns.

use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

use super::{Balance, Candidate, Reads};
use crate::wire::Key;

/// The turn is an index into the balancer's list: when that node has left or is down, the one behind it takes its turn.
#[derive(Default)]
pub(super) struct RoundRobin {
    next: AtomicUsize,
}

fn behind(candidates: &[Candidate], next: usize) -> Option<&Candidate> {
    candidates.iter().find(|candidate| candidate.index >= next).or(candidates.first())
}

impl RoundRobin {
    /// The index of the candidate whose turn it is; takes the turn.
    pub(super) fn turn(&self, candidates: &[Candidate]) -> Option<usize> {
        let mut chosen = None;
        // The closure may run again when another thread took a turn meanwhile: each turn is taken once.
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            chosen = behind(candidates, next).map(|candidate| candidate.index);
            chosen.map(|index| index + 1)
        });
        taken.ok().and(chosen)
    }

    /// The candidate whose turn it is, without taking it.
    pub(super) fn next<'a>(&self, candidates: &'a [Candidate]) -> Option<&'a Candidate> {
        behind(candidates, self.next.load(Ordering::Relaxed))
    }
}

impl Balance for RoundRobin {
    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn pick(&self, _key: Key<'_>, candidates: &[Candidate]) -> Option<usize> {
        let first = candidates.first()?.weight;
        if candidates.iter().all(|candidate| candidate.weight == first) {
            return self.turn(candidates);
        }
        let most = candidates.iter().map(|candidate| candidate.weight).max().unwrap_or(1);
        // The heaviest takes every turn of its own, so at least one is left.
        let takes_its_turn = |candidate: &&Candidate| fastrand::u32(..most.max(1)) < candidate.weight;
        let turns: SmallVec<[Candidate; super::FEW]> =
            candidates.iter().filter(takes_its_turn).copied().collect();
        self.turn(&turns)
    }

    fn peek(&self, _key: Key<'_>, candidates: &[Candidate]) -> Option<usize> {
        self.next(candidates).map(|candidate| candidate.index)
    }

    fn current_index(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }
}
