//! Each node in turn; one of less weight than others passes some of its turns.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Balance, Candidate, Candidates, Pick};

/// The limit of nodes that a look, which takes no turn, goes past.
pub(super) const LOOKS: usize = 64;

/// The turn is an index into the balancer's list: when that node has left or is down, the one behind it takes its turn.
#[derive(Default)]
pub(super) struct RoundRobin {
    next: AtomicUsize,
}

impl RoundRobin {
    /// The index that `find` finds for the turn; takes the turn.
    pub(super) fn take(&self, mut find: impl FnMut(usize) -> Option<usize>) -> Option<usize> {
        let mut chosen = None;
        // The closure may run again when another thread took a turn meanwhile: each turn is taken once.
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            chosen = find(next);
            chosen.map(|index| index + 1)
        });
        taken.ok().and(chosen)
    }

    /// The index whose turn is next.
    pub(super) fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }
}

impl Balance for RoundRobin {
    fn pick(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        let may = |candidate: &&Candidate| (pick.may)(candidate);
        self.take(|next| {
            let mut in_turn = among.in_turn(next).filter(may);
            let chosen = in_turn.find(|candidate| among.takes_its_turn(candidate));
            chosen.or_else(|| among.in_turn(next).find(may)).map(|candidate| candidate.index)
        })
    }

    fn peek(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        let mut near = among.in_turn(self.next()).take(LOOKS);
        near.find(|candidate| (pick.may)(candidate)).map(|candidate| candidate.index)
    }

    fn current_index(&self) -> usize {
        self.next()
    }
}
