//! The settings of a balancer, and their defaults: the command line takes them from here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::balance::Strategy;
use crate::admin::Admins;
use crate::certificates::Certificates;
use crate::net::LinkLimits;
use crate::net::link::Peer;

/// The number of requests in flight on each core that keeps all proxies busy. With eight times as many, two thirds of the
/// replies and seven times the memory were measured; with these, as many replies as at the best.
const ENOUGH: usize = 2048;

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
    /// The deadline of a purge at one node: a node that is up gets requests meanwhile.
    pub purge_deadline: Duration,
    /// The directory for what is to survive a restart: the purges that nodes owe.
    pub state_dir: Option<PathBuf>,
    /// The addresses that may use PURGE, DRAIN and UNDRAIN.
    pub admins: Admins,
    /// The certificates that METRICS tells of.
    pub certificates: Certificates,
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

impl Members {
    /// A fixed list. Names in it are looked up again every ten seconds.
    pub fn new(proxies: Vec<Peer>) -> Self {
        Self { proxies, file: None, resolve_interval: Duration::from_secs(10) }
    }
}

impl Default for Members {
    /// Three proxies of this machine, on the ports 8001 to 8003.
    fn default() -> Self {
        Self::new((8001..=8003).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).collect())
    }
}

impl Default for LbConfig {
    fn default() -> Self {
        let try_deadline = Duration::from_millis(2500);
        let link = LinkLimits {
            max_in_flight: 16 * 1024,
            max_waiting: 16 * 1024,
            max_wait: Duration::from_secs(1),
            patience: try_deadline,
            ..LinkLimits::default()
        };
        Self {
            members: Members::default(),
            max_in_flight: (link.max_in_flight + link.max_waiting) as u64,
            link,
            strategy: Strategy::default(),
            health_interval: Duration::from_secs(2),
            max_failures: 3,
            rises: 2,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            try_deadline,
            hedge: true,
            panic_threshold: 0,
            slow_start: Duration::from_secs(10),
            purge_deadline: Duration::from_secs(60),
            state_dir: None,
            admins: Admins::default(),
            certificates: Certificates::default(),
        }
    }
}

impl LbConfig {
    /// A balancer over `members`, with the defaults of the command line.
    pub fn new(members: Members) -> Self {
        Self { members, ..Self::default() }
    }

    /// The number of requests at once that keeps all proxies busy: the [`enough`](crate::net::ServerLimits::enough) of the
    /// balancer's server.
    pub fn enough(&self) -> usize {
        ENOUGH * self.cores()
    }

    /// The number of cores that send requests: each has a session of its own to every proxy.
    pub(super) fn cores(&self) -> usize {
        self.link.sessions.max(1)
    }
}
