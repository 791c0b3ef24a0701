//! The choice of a node for a key: the strategy, and how it sees the nodes.

use std::time::Duration;

use super::balance::{Balance, Strategy};
use super::clock::Millis;
use super::nodes::{Candidates, Member, Nodes, Tried, View};
use crate::wire::Key;

/// The strategy of this balancer with its state.
pub(super) struct Choice {
    strategy: Strategy,
    balance: Box<dyn Balance>,
    /// As of the time 0.
    view: View,
}

impl Choice {
    /// METRICS count for three health intervals.
    pub(super) fn new(strategy: Strategy, health_interval: Duration, panic_threshold: u32) -> Self {
        let balance = strategy.build();
        let view = View {
            now: 0,
            stale: 3 * health_interval.as_millis() as Millis,
            by_key: balance.goes_by_key(),
            reads: balance.reads(),
            panic: panic_threshold,
        };
        Self { strategy, balance, view }
    }

    fn view(&self, now: Millis) -> View {
        View { now, ..self.view }
    }

    /// The node for a request; it takes a turn.
    pub(super) fn pick<'n>(
        &self,
        key: Key<'_>,
        nodes: &'n Nodes,
        tried: &Tried,
        now: Millis,
    ) -> Option<&'n Member> {
        nodes.0.get(self.balance.pick(key, &nodes.candidates(tried, self.view(now)))?)
    }

    /// The node that a request would go to; takes no turn.
    pub(super) fn peek<'n>(&self, key: Key<'_>, nodes: &'n Nodes, now: Millis) -> Option<&'n Member> {
        nodes.0.get(self.balance.peek(key, &nodes.candidates(&Tried::new(), self.view(now)))?)
    }

    /// A node for a second attempt beside one that is open, with fewer than `below` requests in flight; takes no turn.
    pub(super) fn peek_beside<'n>(
        &self,
        key: Key<'_>,
        nodes: &'n Nodes,
        tried: &Tried,
        below: u64,
        now: Millis,
    ) -> Option<&'n Member> {
        let mut view = self.view(now);
        view.reads.in_flight = true;
        let mut candidates: Candidates = nodes.candidates(tried, view);
        candidates.retain(|candidate| candidate.in_flight < below);
        nodes.0.get(self.balance.peek(key, &candidates)?)
    }

    pub(super) fn strategy(&self) -> &'static str {
        self.strategy.as_str()
    }

    /// The strategy itself: requests report to it, and it says what may be done with a key.
    pub(super) fn balance(&self) -> &dyn Balance {
        &*self.balance
    }
}
