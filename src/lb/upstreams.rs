//! What GETs share: the nodes, the choice among them, the budgets for further attempts, and the limits of an attempt.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::Guard;
use tokio::sync::{Notify, Semaphore};

use super::budget::{Budget, HEDGES, RETRIES};
use super::choice::Choice;
use super::clock::{Clock, Millis};
use super::config::LbConfig;
use super::members::Membership;
use super::nodes::Member;
use super::rounds::Rounds;
use super::standing::Standing;
use super::wheel::Wheel;
use crate::lock::lock;
use crate::per_core::PerCore;
use crate::stats::{BusyCounter, Counter};

/// EXPLAINs under way at once: very many must not fill the links, on which GETs go as well.
const EXPLAINS: usize = 64;

/// The upstream side of a balancer, held by every GET under way.
pub(super) struct Upstreams {
    pub(super) clock: Clock,
    pub(super) members: Membership,
    pub(super) choice: Choice,
    pub(super) totals: Totals,
    /// Brings the next look of the health task at the nodes forward.
    pub(super) attention: Notify,
    /// Requests that wait for a sound node.
    pub(super) rescues: Rounds,
    /// One permit for each EXPLAIN under way.
    pub(super) explains: Semaphore,
    /// The time between two polls of a healthy node.
    pub(super) health_interval: Duration,
    /// The longest time until a node that came back gets its full share of requests.
    pub(super) slow_start: Millis,
    /// The deadline of one attempt.
    pub(super) try_deadline: Duration,
    /// The deadline of a purge at one node.
    pub(super) purge_deadline: Duration,
    /// The limit of requests in flight at one node.
    pub(super) max_in_flight: u64,
    /// The longest reply of a node, in bytes.
    pub(super) max_reply: usize,
    /// Whether hedges are wanted.
    pub(super) hedge: bool,
    /// Locked for a retry and by the health task, never for a plain request; so is `hedges`.
    retries: Mutex<Budget>,
    hedges: Mutex<Budget>,
    wheels: PerCore<Arc<Wheel>>,
}

/// Numbers over all nodes that only grow. Those of a single node are in [`super::node::NodeCounts`].
#[derive(Default)]
pub(super) struct Totals {
    /// GETs of clients.
    pub(super) requests: BusyCounter,
    /// Further attempts after a failed one.
    pub(super) retries: Counter,
    /// Further attempts beside a slow one.
    pub(super) hedges: Counter,
    /// Copies of requests that were sent to probing nodes.
    pub(super) trials: Counter,
    /// GETs that no node answered.
    pub(super) failures: Counter,
}

impl Upstreams {
    /// No nodes yet.
    pub(super) fn new(config: &LbConfig) -> Self {
        let clock = Clock::start();
        Self {
            clock,
            members: Membership::new(config, clock),
            choice: Choice::new(config.strategy, config.health_interval, config.panic_threshold),
            totals: Totals::default(),
            attention: Notify::new(),
            rescues: Rounds::default(),
            explains: Semaphore::new(EXPLAINS),
            health_interval: config.health_interval,
            slow_start: config.slow_start.as_millis() as Millis,
            try_deadline: config.try_deadline,
            purge_deadline: config.purge_deadline,
            max_in_flight: config.max_in_flight,
            max_reply: config.link.max_reply,
            hedge: config.hedge,
            retries: Mutex::new(Budget::new(RETRIES)),
            hedges: Mutex::new(Budget::new(HEDGES)),
            wheels: PerCore::new(config.cores(), Wheel::new),
        }
    }

    /// The nodes as they stand, for a moment: not to be held across an await.
    pub(super) fn standing(&self, now: Millis) -> Guard<Arc<Standing>> {
        self.choice.standing(&self.members, now)
    }

    /// The timers of this core.
    pub(super) fn wheel(&self) -> &Arc<Wheel> {
        self.wheels.here()
    }

    /// Pays for one retry; false when the budget is spent.
    pub(super) fn pay_retry(&self) -> bool {
        lock(&self.retries).take(self.clock.now(), self.totals.requests.get())
    }

    /// Pays for one hedge; false when the budget is spent.
    pub(super) fn pay_hedge(&self) -> bool {
        lock(&self.hedges).take(self.clock.now(), self.totals.requests.get())
    }

    /// Notes the number of requests up to now in both budgets.
    pub(super) fn note_requests(&self) {
        for budget in [&self.retries, &self.hedges] {
            lock(budget).note(self.clock.now(), self.totals.requests.get());
        }
    }

    pub(super) fn count_retry(&self, member: &Member) {
        self.totals.retries.add_one();
        member.node.counts.retries.add_one();
    }

    pub(super) fn count_hedge(&self, member: &Member) {
        self.totals.hedges.add_one();
        member.node.counts.hedges.add_one();
    }
}
