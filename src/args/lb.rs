//! The flags of `dproxy lb`, and the configuration that they make.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::{HttpArgs, LinkArgs, Listed, ServerArgs, defaults, listed, server, units};
use crate::admin::{Admins, Network};
use crate::certificates::Certificates;
use crate::lb::balance::Strategy;
use crate::lb::{LbConfig, Members};
use crate::net::LinkLimits;
use crate::net::link::Peer;
use crate::wire::MAX_DOCUMENT;

/// Flags of `dproxy lb`.
#[derive(Args, Clone, Debug)]
pub struct LbArgs {
    /// The port to listen on; 0 picks a free one.
    #[arg(long, env = "DPROXY_PORT", default_value = "9000", value_parser = units::port)]
    pub port: u16,
    /// The proxies, as host:port: several values, or a comma list. A name stands for all of its addresses.
    #[arg(long, env = "DPROXY_PROXIES", default_value = defaults::list(&Members::default().proxies), value_delimiter = ',',
        num_args = 1.., value_parser = listed::item(units::peer), value_name = "HOST:PORT", conflicts_with = "proxies_file")]
    pub proxies: Vec<Listed<Peer>>,
    /// A file that lists them instead, one host:port a line, a weight and the word drain behind it if need be; it is watched
    /// [default: none].
    #[arg(long, env = "DPROXY_PROXIES_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub proxies_file: Option<PathBuf>,
    /// How to choose among them.
    #[command(flatten)]
    pub balance: BalanceArgs,
    /// A directory for the state that survives a restart: the purges that proxies owe, and the drained proxies [default: none].
    #[arg(long, env = "DPROXY_STATE_DIR", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
    /// The largest document.
    #[arg(long, env = "DPROXY_MAX_DOCUMENT", default_value = defaults::size(MAX_DOCUMENT), value_parser = units::size, value_name = "SIZE",
        help_heading = server::HEADING)]
    pub max_document: usize,
    /// Links to the proxies.
    #[command(flatten)]
    pub link: LinkArgs,
    /// Whose addresses may PURGE, DRAIN and UNDRAIN: addresses or networks such as 10.0.0.0/8.
    #[arg(long, env = "DPROXY_ADMIN_FROM", default_value = Admins::default().to_string(), value_delimiter = ',', num_args = 1..,
        value_parser = listed::item(str::parse::<Network>), value_name = "NETWORK", help_heading = server::HEADING)]
    pub admin_from: Vec<Listed<Network>>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The HTTP front end.
    #[command(flatten)]
    pub http: HttpArgs,
}

impl LbArgs {
    /// The source of the list of proxies.
    pub fn members(&self) -> Members {
        Members {
            proxies: listed::all(&self.proxies),
            file: self.proxies_file.clone(),
            resolve_interval: self.link.resolve_interval,
        }
    }
}

/// How a balancer chooses, and when it gives a node up.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Balance")]
pub struct BalanceArgs {
    /// Which proxy a request goes to.
    #[arg(long, env = "DPROXY_STRATEGY", default_value = LbConfig::default().strategy.as_str(), value_name = "STRATEGY")]
    pub strategy: Strategy,
    /// How often each proxy is polled.
    #[arg(long, alias = "health_interval", env = "DPROXY_HEALTH_INTERVAL", default_value = defaults::time(LbConfig::default().health_interval),
        value_parser = units::positive_duration, value_name = "TIME")]
    pub health_interval: Duration,
    /// So many failures in a row make a proxy unhealthy.
    #[arg(long, aliases = ["max_failures", "fails"], env = "DPROXY_MAX_FAILURES", default_value_t = LbConfig::default().max_failures,
        value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub max_failures: u32,
    /// So many polls in a row must succeed before an unhealthy proxy is healthy again.
    #[arg(long, env = "DPROXY_RISES", default_value_t = LbConfig::default().rises, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub rises: u32,
    /// A proxy that failed requests is left alone for this time, twice as long each further time.
    #[arg(long, env = "DPROXY_BACKOFF", default_value = defaults::time(LbConfig::default().backoff), value_parser = units::positive_duration, value_name = "TIME")]
    pub backoff: Duration,
    /// And for this time at the most.
    #[arg(long, env = "DPROXY_MAX_BACKOFF", default_value = defaults::time(LbConfig::default().max_backoff), value_parser = units::positive_duration, value_name = "TIME")]
    pub max_backoff: Duration,
    /// When fewer than this percentage of the proxies is healthy, all are used; 0 is never.
    #[arg(long, hide = true, env = "DPROXY_PANIC_THRESHOLD", default_value_t = LbConfig::default().panic_threshold, value_parser = clap::value_parser!(u32).range(..=100), value_name = "PERCENT")]
    pub panic_threshold: u32,
    /// The share of a proxy that comes back rises for this time, or until it hits as often as the others.
    #[arg(long, env = "DPROXY_SLOW_START", default_value = defaults::time(LbConfig::default().slow_start), value_parser = units::duration, value_name = "TIME")]
    pub slow_start: Duration,
    /// Ask a second proxy as well when the first takes longer than the others do in 95 of 100 cases.
    #[arg(long, env = "DPROXY_HEDGE", action = clap::ArgAction::Set, default_value = defaults::switch(LbConfig::default().hedge), value_parser = units::switch,
        value_name = "on|off")]
    pub hedge: bool,
    /// Requests under way at one proxy.
    #[arg(long, env = "DPROXY_PROXY_MAX_IN_FLIGHT", default_value_t = LbConfig::default().link.max_in_flight, value_parser = units::in_flight, value_name = "N")]
    pub proxy_max_in_flight: usize,
    /// Requests that may wait for a place at one proxy; further ones are told OVERLOADED.
    #[arg(long, hide = true, env = "DPROXY_PROXY_MAX_WAITING", default_value_t = LbConfig::default().link.max_waiting, value_parser = units::count, value_name = "N")]
    pub proxy_max_waiting: usize,
    /// How long one of them may wait.
    #[arg(long, hide = true, env = "DPROXY_PROXY_MAX_WAIT", default_value = defaults::time(LbConfig::default().link.max_wait), value_parser = units::positive_duration, value_name = "TIME")]
    pub proxy_max_wait: Duration,
    /// One try at a proxy must bring a reply within this time; keep it above the --fetch-deadline of the proxies.
    #[arg(long, env = "DPROXY_TRY_DEADLINE", default_value = defaults::time(LbConfig::default().try_deadline), value_parser = units::positive_duration, value_name = "TIME")]
    pub try_deadline: Duration,
    /// A purge at one proxy is waited for during this time, while the proxy is up and gets requests; then it is owed.
    #[arg(long, env = "DPROXY_PURGE_DEADLINE", default_value = defaults::time(LbConfig::default().purge_deadline), value_parser = units::positive_duration, value_name = "TIME")]
    pub purge_deadline: Duration,
}

impl BalanceArgs {
    /// The configuration of a balancer over `members`. Limits per proxy are divided among the sessions of its `link`.
    pub fn config(&self, members: Members, link: LinkLimits, admins: Admins) -> LbConfig {
        LbConfig {
            members,
            link: LinkLimits {
                max_in_flight: self.proxy_max_in_flight.div_ceil(link.sessions),
                max_waiting: self.proxy_max_waiting.div_ceil(link.sessions),
                max_wait: self.proxy_max_wait,
                patience: self.try_deadline,
                plain_connections: link.plain_connections.min(self.proxy_max_in_flight),
                ..link
            },
            strategy: self.strategy,
            health_interval: self.health_interval,
            max_failures: self.max_failures,
            rises: self.rises,
            backoff: self.backoff,
            max_backoff: self.max_backoff,
            try_deadline: self.try_deadline,
            hedge: self.hedge,
            panic_threshold: self.panic_threshold,
            slow_start: self.slow_start,
            max_in_flight: (self.proxy_max_in_flight + self.proxy_max_waiting) as u64,
            purge_deadline: self.purge_deadline,
            state_dir: None,
            admins,
            certificates: Certificates::default(),
        }
    }
}
