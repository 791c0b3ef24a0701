//! Fewest requests in flight, then fewest in all, then in turn.

use super::round_robin::RoundRobin;
use super::{Balance, Candidate};
use crate::wire::Key;

/// The turn decides among equals only.
#[derive(Default)]
pub(super) struct LeastLoaded {
    turn: RoundRobin,
}

impl Balance for LeastLoaded {
    fn pick(&self, _key: Key<'_>, candidates: &[Candidate]) -> Option<usize> {
        let load = |candidate: &Candidate| (candidate.in_flight, candidate.total);
        let least = candidates.iter().map(load).min()?;
        let equals: Vec<Candidate> =
            candidates.iter().filter(|candidate| load(candidate) == least).copied().collect();
        self.turn.turn(&equals)
    }

    fn current_index(&self) -> usize {
        self.turn.current_index()
    }
}
