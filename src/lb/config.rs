//! The settings of a balancer.

use std::path::PathBuf;
use std::time::Duration;

use super::balance::Strategy;
use crate::admin::Admins;
use crate::net::LinkLimits;
use crate::net::link::Peer;

/// The settings of a balancer.
#[derive(Clone, Debug)]
pub struct LbConfig {
    /// The proxies.
    pub members: Members,
    /// The limits of the connections to each proxy.
    pub link: LinkLimits,
    /// How a proxy is chosen for a request.
    pub strategy: Strategy,
    /// The time between two polls of a healthy node.
    pub health_interval: Duration,
    /// A node goes down after this many failures in a row; at least 1.
    pub max_failures: u32,
    /// A node that is down needs this many successful polls in a row; at least 1.
    pub rises: u32,
    /// The first back-off of a node that failed requests. Each further one is twice as long.
    pub backoff: Duration,
    /// The longest back-off.
    pub max_backoff: Duration,
    /// The deadline of one attempt at one node.
    pub try_deadline: Duration,
    /// Whether a slow request is sent to a second node as well.
    pub hedge: bool,
    /// In percent: when fewer of the nodes are healthy, unhealthy ones get requests too. 0 turns this off.
    pub panic_threshold: u32,
    /// The longest time until a node that came back gets its full share of requests.
    pub slow_start: Duration,
    /// The limit of requests in flight at one node, those that wait for a connection included.
    pub max_in_flight: u64,
    /// The addresses that may use PURGE, DRAIN and UNDRAIN.
    pub admins: Admins,
}

/// Where the list of proxies comes from.
#[derive(Clone, Debug)]
pub struct Members {
    /// The proxies, by names or addresses.
    pub proxies: Vec<Peer>,
    /// A file that lists them instead.
    pub file: Option<PathBuf>,
    /// The time between two look-ups of the names.
    pub resolve_interval: Duration,
}

impl LbConfig {
    /// The number of cores that send requests: each has a session of its own to every proxy.
    pub(super) fn cores(&self) -> usize {
        self.link.sessions.max(1)
    }
}
