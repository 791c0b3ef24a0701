//! The attempts of one request, and its reply when none of them brought one. Pure.

use super::nodes::Tried;
use crate::wire::{Reply, Status};

/// The limit of attempts after one that was sent and failed.
const MORE_TRIES: u32 = 2;

/// The limit of rescues of one request: a node may die again right after it was found.
const MOST_RESCUES: u32 = 3;

/// The outcome of one attempt.
pub(super) enum Outcome {
    /// A reply for the client, and whether the node has just fetched it from the origin.
    Reply(Reply, bool),
    /// An error reply that is no fault of the node; another node may do better.
    Soft(Reply),
    /// The node of this identity cannot reach the origin. Another node shows whether that is its own fault.
    Blind(Reply, u64),
    /// The node of this identity sent no sound document. Another node shows whether that is its own fault.
    Unfit(Reply, u64),
    /// The document is too long for this balancer. Another node shows whether it is the same there.
    TooLong(Reply),
    /// The request was not sent.
    NotSent,
    /// Not sent either: the node has its limit of requests in flight.
    Busy,
    /// It was sent, and no sound reply came.
    Failed,
    /// The client's own deadline has passed.
    TooLate,
    /// No attempt: there is no healthy node that was not tried.
    Nobody,
    /// No attempt: the budget for retries is spent.
    Unpaid,
}

/// The attempts of one request.
#[derive(Default)]
pub(super) struct Tries {
    /// The nodes that are not to be picked again.
    pub(super) tried: Tried,
    attempts: usize,
    rescues: u32,
    /// The number of retries that were paid from the budget.
    paid: u32,
    /// Whether the next attempt has to be paid.
    costs: bool,
    /// The reply if no attempt brings a better one.
    soft: Option<Reply>,
    /// The nodes that could not reach the origin.
    blind: Tried,
    /// The nodes whose document was at fault.
    unfit: Tried,
    /// Nodes whose document was too long.
    too_long: usize,
    pub(super) hedged: bool,
    busy: usize,
    too_late: bool,
}

impl Tries {
    /// One attempt, at the node of this identity.
    pub(super) fn first(identity: u64) -> Self {
        let mut tries = Self::default();
        tries.note(identity);
        tries
    }

    /// Notes an attempt at the node of this identity.
    pub(super) fn note(&mut self, identity: u64) {
        self.tried.push(identity);
        self.attempts += 1;
    }

    pub(super) fn is_first(&self) -> bool {
        self.attempts == 0
    }

    /// Takes the right to wait for a node, if none has answered so far.
    pub(super) fn take_rescue(&mut self) -> bool {
        let is_unheard = self.soft.is_none() && self.busy == 0 && !self.too_late;
        let taken = is_unheard && self.rescues < MOST_RESCUES;
        self.rescues += u32::from(taken);
        taken
    }

    /// Pays for the next attempt if it has to be paid; false when the budget is spent.
    pub(super) fn pay(&mut self, may_retry: impl FnOnce() -> bool) -> bool {
        self.costs = self.costs && !self.pay_for_retry(may_retry);
        !self.costs
    }

    /// Pays for an attempt after a failure.
    pub(super) fn pay_for_retry(&mut self, may_retry: impl FnOnce() -> bool) -> bool {
        let paid = self.paid < MORE_TRIES && may_retry();
        self.paid += u32::from(paid);
        paid
    }

    /// Notes an outcome without a reply. False when there is to be no further attempt.
    pub(super) fn go_on(&mut self, outcome: Outcome) -> bool {
        // Of two attempts side by side, one that failed has to be paid even if the other was not sent.
        self.costs |= matches!(
            outcome,
            Outcome::Failed
                | Outcome::Soft(_)
                | Outcome::Blind(..)
                | Outcome::Unfit(..)
                | Outcome::TooLong(_)
        );
        match outcome {
            Outcome::Busy => self.busy += 1,
            Outcome::Soft(reply) => drop(self.soft.get_or_insert(reply)),
            // ORIGIN_FAILURE tells the client more than OVERLOADED, so it takes its place.
            Outcome::Blind(reply, identity) => {
                self.soft = Some(reply);
                self.blind.push(identity);
            }
            Outcome::Unfit(reply, identity) => {
                self.soft = Some(reply);
                self.unfit.push(identity);
            }
            Outcome::TooLong(reply) => {
                self.soft = Some(reply);
                self.too_long += 1;
            }
            Outcome::TooLate => self.too_late = true,
            Outcome::Unpaid => return false,
            Outcome::NotSent | Outcome::Failed | Outcome::Nobody | Outcome::Reply(..) => {}
        }
        // What fails at two nodes fails everywhere.
        !self.too_late && self.blind.len() < 2 && self.unfit.len() + self.too_long < 2
    }

    /// The nodes that could not reach the origin: at fault if another one does.
    pub(super) fn blind(&self) -> &[u64] {
        &self.blind
    }

    /// The nodes without a sound document: at fault if another one has it.
    pub(super) fn unfit(&self) -> &[u64] {
        &self.unfit
    }

    /// The reply when no node gave one. `owes` says whether healthy nodes get no requests because they owe purges.
    pub(super) fn verdict(self, owes: bool) -> Reply {
        if let Some(reply) = self.soft {
            return reply;
        }
        let (status, text) = match self.attempts {
            0 if owes => {
                (Status::ProxyError, "every healthy proxy owes a purge and gets no requests before it")
            }
            0 => (Status::ProxyError, "there is no healthy proxy to try: all are down or drained"),
            tried if self.busy == tried => {
                (Status::Overloaded, "every proxy has as many requests as it may have")
            }
            _ if self.too_late => {
                (Status::ProxyUnreachable, "no proxy answered within the deadline of the request")
            }
            _ => (Status::ProxyUnreachable, "every proxy that was tried failed"),
        };
        Reply::text(status, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_of_failed_attempts_are_paid_and_at_most_two() {
        let mut tries = Tries::first(1);
        assert!(tries.pay(|| false), "nothing failed yet");
        assert!(tries.go_on(Outcome::NotSent) && tries.pay(|| false), "what was not sent costs nothing");
        assert!(tries.go_on(Outcome::Failed) && !tries.pay(|| false), "the budget is empty");
        assert!(
            tries.go_on(Outcome::NotSent) && !tries.pay(|| false),
            "nor does one that was not sent fill it"
        );
        assert!(tries.pay(|| true) && tries.pay(|| false), "one failure is paid for once");
        assert!(tries.go_on(Outcome::Failed) && tries.pay(|| true));
        assert!(tries.go_on(Outcome::Failed) && !tries.pay(|| true), "twice is enough");
    }

    #[test]
    fn the_verdict_tells_what_happened() {
        let verdict = |outcomes: Vec<Outcome>| {
            let mut tries = Tries::default();
            for (identity, outcome) in outcomes.into_iter().enumerate() {
                tries.note(identity as u64);
                tries.go_on(outcome);
            }
            tries.verdict(false).status
        };
        let soft = |status| Outcome::Soft(Reply::null(status));
        assert_eq!(verdict(vec![]), Status::ProxyError);
        assert_eq!(verdict(vec![Outcome::Busy, Outcome::Busy]), Status::Overloaded);
        assert_eq!(verdict(vec![Outcome::Busy, Outcome::Failed]), Status::ProxyUnreachable);
        assert_eq!(verdict(vec![Outcome::Failed, Outcome::TooLate]), Status::ProxyUnreachable);
        let blind = Outcome::Blind(Reply::null(Status::OriginFailure), 7);
        let both = vec![blind, soft(Status::Overloaded)];
        assert_eq!(verdict(both), Status::OriginFailure);
    }

    #[test]
    fn a_document_that_is_broken_at_two_proxies_is_broken_everywhere() {
        let unfit = |identity| Outcome::Unfit(Reply::null(Status::OriginFailure), identity);
        let mut tries = Tries::first(1);
        assert!(tries.go_on(unfit(1)) && tries.pay(|| true));
        assert_eq!(tries.unfit(), [1]);
        assert!(!tries.go_on(unfit(2)));
        assert_eq!(tries.verdict(false).status, Status::OriginFailure);
    }

    #[test]
    fn a_request_that_nobody_answered_is_rescued_at_most_three_times() {
        let mut tries = Tries::first(1);
        assert!(tries.go_on(Outcome::Failed) && tries.take_rescue() && tries.take_rescue());
        assert!(tries.take_rescue() && !tries.take_rescue());
        for heard in [Outcome::Soft(Reply::null(Status::Overloaded)), Outcome::Busy, Outcome::TooLate] {
            let mut tries = Tries::first(1);
            tries.go_on(heard);
            assert!(!tries.take_rescue());
        }
    }

    #[test]
    fn two_proxies_that_cannot_reach_the_origin_are_enough() {
        let mut tries = Tries::first(1);
        assert!(tries.go_on(Outcome::Blind(Reply::null(Status::OriginFailure), 1)));
        assert_eq!(tries.blind(), [1]);
        assert!(!tries.go_on(Outcome::Blind(Reply::null(Status::OriginFailure), 2)));
    }
}
