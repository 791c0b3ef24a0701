//! What GETs share: the nodes, the choice among them, the budgets for further attempts, and the limits of an attempt.

use std::sync::Arc;
use std::time::Duration;

use super::budgets::Budgets;
use super::choice::Choice;
use super::clock::Clock;
use super::config::LbConfig;
use super::health_task::HealthTask;
use super::members::Membership;
use super::nodes::Member;
use super::totals::Totals;
use super::wheel::Wheel;
use crate::per_core::PerCore;

/// The upstream side of a balancer, held by every GET under way.
pub(super) struct Upstreams {
    pub(super) clock: Clock,
    pub(super) members: Arc<Membership>,
    pub(super) choice: Choice,
    pub(super) budgets: Arc<Budgets>,
    pub(super) totals: Arc<Totals>,
    pub(super) health: Arc<HealthTask>,
    /// The deadline of one attempt.
    pub(super) try_deadline: Duration,
    /// The limit of requests in flight at one node.
    pub(super) max_in_flight: u64,
    /// Whether hedges are wanted.
    pub(super) hedge: bool,
    wheels: PerCore<Arc<Wheel>>,
}

impl Upstreams {
    /// The nodes that the configuration names; each is healthy until it fails. Nothing is connected or polled yet. Fails when
    /// the file of the members is bad.
    pub(super) fn new(config: &LbConfig) -> Result<Self, String> {
        let (clock, totals) = (Clock::start(), Arc::new(Totals::default()));
        let members = Arc::new(Membership::new(config, clock));
        members.replace(&config.members.first()?);
        let budgets = Arc::new(Budgets::new(clock, totals.clone()));
        Ok(Self {
            clock,
            health: Arc::new(HealthTask::new(config, clock, members.clone(), budgets.clone())),
            members,
            choice: Choice::new(config.strategy, config.health_interval, config.panic_threshold),
            budgets,
            totals,
            try_deadline: config.try_deadline,
            max_in_flight: config.max_in_flight,
            hedge: config.hedge,
            wheels: PerCore::new(config.cores(), Wheel::new),
        })
    }

    /// The timers of this core.
    pub(super) fn wheel(&self) -> &Arc<Wheel> {
        self.wheels.here()
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
