//! The balancer: spreads GETs over the proxies that are healthy, and hides the failure of one behind another.
//!
//! ```text
//!   GET ──▶ get ──▶ choice picks a node ──▶ attempt ──sound reply──▶ relayed as it came
//!            ▲         ▲                       │
//!            │         └── not tried yet ◀─────┤ failed, slow        (tries, why, budgets)
//!            └── upstreams ◀── what GETs share
//!   follow ──▶ members ──▶ nodes: health, latency, polled ◀── health_task polls
//! ```
//! Each part owns its fields and knows only parts below it. From the top: get, health_task and
//! follow; hedge; attempt; upstreams; members; node.

mod attempt;
pub mod balance;
mod budget;
mod changes;
mod choice;
mod clock;
mod config;
mod drain;
mod drained_file;
mod drains;
mod explain;
mod follow;
mod get;
mod health;
mod health_task;
mod hedge;
mod latency;
mod list;
mod list_file;
mod members;
mod metrics;
mod node;
mod nodes;
mod owed;
mod owed_file;
mod polled;
mod polls;
mod purge;
mod rescue;
mod rounds;
mod standing;
mod told;
mod tries;
mod upstreams;
mod wheel;
mod why;

use std::net::IpAddr;
use std::sync::Arc;

use self::attempt::Terms;
pub use self::config::{LbConfig, Members};
use self::drain::{Wish, no_such_node};
use self::follow::{Follower, unresolved};
use self::upstreams::Upstreams;
use crate::admin::{Admins, FORBIDDEN};
use crate::certificates::Certificates;
use crate::handler::{Answer, Ask, Handler};
use crate::pool;
use crate::stats::StartTime;
use crate::wire::{Reply, Request, Status};

/// The role.
pub struct Lb {
    upstreams: Arc<Upstreams>,
    follower: Follower,
    admins: Admins,
    certificates: Certificates,
    start_time: StartTime,
}

impl Lb {
    /// A balancer that takes every node to be healthy until it learns better. It polls nothing by itself and follows no
    /// members: see [`Lb::check_health`] and [`Lb::follow`]. Fails when the file of its members is bad.
    pub fn new(config: LbConfig) -> Result<Arc<Self>, String> {
        let listed = config.members.first()?;
        let upstreams = Arc::new(Upstreams::new(&config));
        upstreams.members.replace(&unresolved(&listed));
        Ok(Arc::new(Self {
            follower: Follower::new(config.members.clone(), upstreams.clone(), listed),
            upstreams,
            admins: config.admins,
            certificates: config.certificates,
            start_time: StartTime::now(),
        }))
    }

    /// Polls the nodes, for ever.
    pub async fn check_health(self: Arc<Self>) {
        health_task::run(&self.upstreams).await;
    }

    /// Follows the members, for ever; see [`Lb::reload`]. Returns when they cannot change: addresses, and no file.
    pub async fn follow(self: Arc<Self>) {
        self.follower.run().await;
    }

    /// Reads the file of members now.
    pub fn reload(&self) {
        self.follower.reload();
    }

    /// The answer of an administrator's verb; FORBIDDEN for other clients.
    fn administer(&self, from: IpAddr, answer: impl FnOnce() -> Answer) -> Answer {
        match self.admins.has(from) {
            true => answer(),
            false => Answer::Now(Reply::text(Status::Forbidden, FORBIDDEN)),
        }
    }

    /// METRICS; those of many nodes are written on the pool.
    fn metrics(&self) -> Answer {
        let (upstreams, start_time) = (self.upstreams.clone(), self.start_time);
        let certificates = self.certificates.metrics();
        let write = move || Reply::json(&metrics::metrics(&upstreams, &start_time, certificates));
        if self.upstreams.members.nodes().0.len() < metrics::MANY {
            return Answer::Now(write());
        }
        let cut_short = |_| Reply::text(Status::Overloaded, "METRICS were cut short; ask again");
        Answer::later(async move { pool::run(write).await.unwrap_or_else(cut_short) })
    }
}

impl Handler for Lb {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        let upstreams = &self.upstreams;
        match ask.request {
            Request::Get(key) => {
                let terms = Terms { deadline: ask.deadline, tell_times: ask.tell.times };
                get::get(upstreams, key, terms, ask.now)
            }
            Request::Metrics => self.metrics(),
            Request::MetricsOf(node) => Answer::Now(match metrics::metrics_of(upstreams, node) {
                Some(metrics) => Reply::json(&metrics),
                None => no_such_node(&upstreams.members.nodes()),
            }),
            Request::Explain(key) => {
                let (upstreams, key) = (upstreams.clone(), key.to_owned());
                Answer::later(async move { explain::explain(&upstreams, key.as_key()).await })
            }
            Request::Purge { pattern, soft } => {
                self.administer(ask.from, || purge::purge(upstreams.clone(), pattern, soft))
            }
            Request::Drain { node, force } => {
                let wish = if force { Wish::DrainByForce } else { Wish::Drain };
                self.administer(ask.from, || drain::drain(upstreams, node, wish))
            }
            Request::Undrain(node) => {
                self.administer(ask.from, || drain::drain(upstreams, node, Wish::Undrain))
            }
            Request::Hello | Request::Watch(_) => {
                Answer::Now(Reply::text(Status::WrongMethod, "a balancer answers GET and METRICS"))
            }
            Request::Changed(changed) => {
                self.administer(ask.from, || told::told(upstreams.clone(), changed, ask.deadline))
            }
        }
    }
}
