//! The node with the fewest requests in flight; among equals the fewest in all; among those in turn. Loads count by weight.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::round_robin::RoundRobin;
use super::{Balance, Candidate, Reads};
use crate::wire::Key;

/// The strategy `least_loaded`; the turn decides among equals only.
#[derive(Default)]
pub(super) struct LeastLoaded {
    turn: RoundRobin,
}

/// Compares the loads of two for their weights.
fn by_load(a: &Candidate, b: &Candidate) -> Ordering {
    let less = |ours: u64, theirs: u64| {
        (u128::from(ours) * u128::from(b.weight)).cmp(&(u128::from(theirs) * u128::from(a.weight)))
    };
    less(a.in_flight, b.in_flight).then(less(a.total, b.total))
}

fn equals(candidates: &[Candidate]) -> SmallVec<[Candidate; super::FEW]> {
    let Some(least) = candidates.iter().min_by(|a, b| by_load(a, b)) else { return SmallVec::new() };
    candidates.iter().filter(|candidate| by_load(candidate, least).is_eq()).copied().collect()
}

impl Balance for LeastLoaded {
    fn reads(&self) -> Reads {
        Reads { in_flight: true, total: true, ..Reads::default() }
    }

    fn pick(&self, _key: Key<'_>, candidates: &[Candidate]) -> Option<usize> {
        self.turn.turn(&equals(candidates))
    }

    fn peek(&self, _key: Key<'_>, candidates: &[Candidate]) -> Option<usize> {
        self.turn.next(&equals(candidates)).map(|candidate| candidate.index)
    }

    fn current_index(&self) -> usize {
        self.turn.current_index()
    }
}
