//! Each in turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Balance, Candidate};
use crate::wire::Key;

/// The turn is a place in the balancer's list: when a node is gone, the next one behind it takes its turn.
#[derive(Default)]
pub(super) struct RoundRobin {
    next: AtomicUsize,
}

impl RoundRobin {
    /// The candidate whose turn it is.
    pub(super) fn turn(&self, candidates: &[Candidate]) -> Option<usize> {
        let mut chosen = None;
        // The closure may run again when another thread took a turn meanwhile: each turn is taken once.
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            let behind = candidates.iter().find(|candidate| candidate.index >= next).or(candidates.first());
            chosen = behind.map(|candidate| candidate.index);
            chosen.map(|index| index + 1)
        });
        taken.ok().and(chosen)
    }
}

impl Balance for RoundRobin {
    fn pick(&self, _key: Key<'_>, candidates: &[Candidate]) -> Option<usize> {
        self.turn(candidates)
    }

    fn current_index(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }
}
