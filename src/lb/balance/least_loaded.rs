//! The node with the fewest requests in flight; among equals the fewest in all; among those in turn. Loads count by weight.
//!
//! Few nodes are looked at one by one. Many are ranked: each request that begins or ends moves one node up or down, and the
//! least is known at once. What else changes a load, a report of a node, is taken over when the list is derived anew.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ranking::{Rank, Ranking};
use super::round_robin::{LOOKS, RoundRobin};
use super::{Balance, Candidate, Candidates, FEW, Load, Pick};
use crate::lock::lock;
use crate::wire::Key;

/// The strategy `least_loaded`; the turn decides among equals only.
#[derive(Default)]
pub(super) struct LeastLoaded {
    turn: RoundRobin,
    ranking: Mutex<Ranking>,
    /// Whether `ranking` was ever in use: with few nodes no request waits for its lock. Once set it stays set: a short list of
    /// suspect nodes in between must not make the ranking miss a change of load.
    is_ranked: AtomicBool,
}

/// The least loaded of few; among equals the one whose turn comes first.
fn least(among: &Candidates, next: usize, may: impl Fn(&Candidate) -> bool) -> Option<usize> {
    let rank = |candidate: &Candidate| Rank::of(candidate, among.are_reported());
    let those = among.in_turn(next).filter(|candidate| may(candidate));
    let least = those.map(|candidate| (rank(candidate), candidate.index)).min_by(|a, b| a.0.cmp(&b.0));
    least.map(|(_, index)| index)
}

impl LeastLoaded {
    /// The least loaded candidate that may be chosen when it is this turn.
    fn find(
        &self,
        among: &Candidates,
        next: usize,
        looks: usize,
        may: impl Fn(&Candidate) -> bool,
    ) -> Option<usize> {
        let is_ranked = among.all().len() > FEW;
        if !is_ranked {
            return least(among, next, may);
        }
        if !self.is_ranked.load(Ordering::Relaxed) {
            self.is_ranked.store(true, Ordering::Relaxed);
        }
        let mut ranking = lock(&self.ranking);
        ranking.follow(among);
        let place = ranking.least(among.place(next), looks, |place| may(&among.all()[place]))?;
        Some(among.all()[place].index)
    }

    fn note(&self, node: u64, load: &dyn Load) {
        if self.is_ranked.load(Ordering::Relaxed) {
            lock(&self.ranking).note(node, load);
        }
    }
}

impl Balance for LeastLoaded {
    fn pick(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        // One that came back is passed over for a part of the requests, unless there is nobody else.
        let takes = |candidate: &Candidate| (pick.may)(candidate) && candidate.takes_its_share();
        self.turn.take(|next| {
            let chosen = self.find(among, next, usize::MAX, takes);
            chosen.or_else(|| self.find(among, next, usize::MAX, pick.may))
        })
    }

    fn peek(&self, pick: &Pick<'_>, among: &Candidates) -> Option<usize> {
        self.find(among, self.turn.next(), LOOKS, pick.may)
    }

    fn current_index(&self) -> usize {
        self.turn.current_index()
    }

    fn keeps_loads(&self) -> bool {
        true
    }

    fn sent(&self, _key: Key<'_>, node: u64, load: &dyn Load) {
        self.note(node, load);
    }

    fn ended(&self, _key: Key<'_>, node: u64, load: &dyn Load, _hit: Option<bool>) {
        self.note(node, load);
    }
}
