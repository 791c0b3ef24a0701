//! The flags of `dproxy cluster`: those of its nodes, once for all.

use clap::Args;

use super::{ApiArgs, BalanceArgs, CacheArgs, ChangesArgs, HttpArgs, LinkArgs, ServerArgs, StoreArgs, units};

/// Flags of `dproxy cluster`.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// How many proxies.
    #[arg(long, env = "DPROXY_PROXIES_COUNT", default_value = "3", value_parser = units::few(), value_name = "N")]
    pub proxies: usize,
    /// The port of the balancer; 0 picks a free one.
    #[arg(long, env = "DPROXY_PORT", default_value = "9000", value_parser = units::port)]
    pub port: u16,
    /// The port of the origin; 0 picks a free one.
    #[arg(
        long,
        alias = "origin_port",
        env = "DPROXY_ORIGIN_PORT",
        default_value = "8000",
        value_parser = units::port,
        value_name = "PORT"
    )]
    pub origin_port: u16,
    /// The port of the first proxy, the others follow; 0 picks free ones.
    #[arg(long, env = "DPROXY_PROXY_PORT", default_value = "8001", value_parser = units::port, value_name = "PORT")]
    pub proxy_port: u16,
    /// Files and their layout.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The word of changes to proxies.
    #[command(flatten)]
    pub changes: ChangesArgs,
    /// Requests to an API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// The caches.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// How to choose among the proxies.
    #[command(flatten)]
    pub balance: BalanceArgs,
    /// Links between the nodes.
    #[command(flatten)]
    pub link: LinkArgs,
    /// The servers.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The HTTP front end of the balancer.
    #[command(flatten)]
    pub http: HttpArgs,
}
