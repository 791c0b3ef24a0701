//! The two budgets of the balancer: one for retries, one for hedges.

use std::sync::{Arc, Mutex};

use super::budget::{Allowance, Budget};
use super::clock::Clock;
use super::totals::Totals;
use crate::lock::lock;

/// A fifth of the requests, and ten a second so that a quiet balancer can retry at all.
const RETRIES: Allowance = Allowance { share: 0.2, per_second: 10.0 };
/// A fiftieth of the requests: when all nodes are slow, hedges must not make them slower.
const HEDGES: Allowance = Allowance { share: 0.02, per_second: 0.0 };

/// Both budgets. Their locks are taken for a retry, a hedge and each look of the health task, never for a plain request.
pub(super) struct Budgets {
    clock: Clock,
    totals: Arc<Totals>,
    retries: Mutex<Budget>,
    hedges: Mutex<Budget>,
}

impl Budgets {
    pub(super) fn new(clock: Clock, totals: Arc<Totals>) -> Self {
        let budget = |allowance| Mutex::new(Budget::new(allowance));
        Self { clock, totals, retries: budget(RETRIES), hedges: budget(HEDGES) }
    }

    /// Pays for one retry; false when the budget is spent.
    pub(super) fn pay_retry(&self) -> bool {
        self.with(&self.retries, Budget::take)
    }

    /// Pays for one hedge; false when the budget is spent.
    pub(super) fn pay_hedge(&self) -> bool {
        self.with(&self.hedges, Budget::take)
    }

    /// Notes the number of requests up to now.
    pub(super) fn note(&self) {
        self.with(&self.retries, Budget::note);
        self.with(&self.hedges, Budget::note);
    }

    fn with<T>(&self, budget: &Mutex<Budget>, act: impl FnOnce(&mut Budget, u64, u64) -> T) -> T {
        let mut budget = lock(budget);
        act(&mut budget, self.clock.now(), self.totals.requests.get())
    }
}
