//! The flags of `dproxy lb`, and what they mean to it.

use std::time::Duration;

use clap::Args;

use super::{LinkArgs, ServerArgs, units};
use crate::lb::LbConfig;
use crate::lb::balance::Strategy;
use crate::net::LinkLimits;
use crate::net::link::Peer;

/// Flags of `dproxy lb`.
#[derive(Args, Clone, Debug)]
pub struct LbArgs {
    /// The port to listen on; 0 picks a free one.
    #[arg(long, env = "DPROXY_PORT", default_value = "9000")]
    pub port: u16,
    /// The proxies, as host:port: several values, or a comma list.
    #[arg(long, env = "DPROXY_PROXIES", default_value = "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003", value_delimiter = ',',
        num_args = 1.., value_parser = units::peer, value_name = "HOST:PORT")]
    pub proxies: Vec<Peer>,
    /// How to choose among them.
    #[command(flatten)]
    pub balance: BalanceArgs,
    /// The largest document.
    #[arg(long, env = "DPROXY_MAX_DOCUMENT", default_value = "1MiB", value_parser = units::size, value_name = "SIZE")]
    pub max_document: usize,
    /// Links to the proxies.
    #[command(flatten)]
    pub link: LinkArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// How a balancer chooses, and when it gives a node up.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Balance")]
pub struct BalanceArgs {
    /// round_robin: each in turn; least_loaded: fewest in flight, then fewest requests in all.
    #[arg(long, env = "DPROXY_STRATEGY", default_value = "round_robin", value_name = "STRATEGY")]
    pub strategy: Strategy,
    /// How often each proxy is polled.
    #[arg(long, alias = "health_interval", env = "DPROXY_HEALTH_INTERVAL", default_value = "2s",
        value_parser = units::positive_duration, value_name = "TIME")]
    pub health_interval: Duration,
    /// So many failures in a row make a proxy unhealthy.
    #[arg(long, aliases = ["max_failures", "fails"], env = "DPROXY_MAX_FAILURES", default_value = "3",
        value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub max_failures: u32,
    /// One try at a proxy must bring a reply within this time.
    #[arg(long, env = "DPROXY_TRY_DEADLINE", default_value = "2.5s", value_parser = units::positive_duration, value_name = "TIME")]
    pub try_deadline: Duration,
}

impl BalanceArgs {
    /// A balancer over `proxies`, which it asks as `link` says.
    pub fn config(&self, proxies: Vec<Peer>, link: LinkLimits) -> LbConfig {
        LbConfig {
            proxies,
            link,
            strategy: self.strategy,
            health_interval: self.health_interval,
            max_failures: self.max_failures,
            try_deadline: self.try_deadline,
        }
    }
}
