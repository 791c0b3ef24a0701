//! The flags of `dproxy cluster`: those of its nodes, once for all.

use std::net::IpAddr;

use clap::Args;

use super::{BalanceArgs, CacheArgs, HttpArgs, ServerArgs, StoreArgs, units};
use crate::http::CorsOrigin;

/// Flags of `dproxy cluster`.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// How many proxies.
    #[arg(long, env = "DPROXY_PROXIES_COUNT", default_value = "3", value_parser = units::count, value_name = "N")]
    pub proxies: usize,
    /// The port of the balancer; 0 picks a free one.
    #[arg(long, env = "DPROXY_PORT", default_value = "9000")]
    pub port: u16,
    /// The port of the origin; 0 picks a free one.
    #[arg(
        long,
        alias = "origin_port",
        env = "DPROXY_ORIGIN_PORT",
        default_value = "8000",
        value_name = "PORT"
    )]
    pub origin_port: u16,
    /// The port of the first proxy, the others follow; 0 picks free ones.
    #[arg(long, env = "DPROXY_PROXY_PORT", default_value = "8001", value_name = "PORT")]
    pub proxy_port: u16,
    /// Files and their layout.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The caches.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// How to choose among the proxies.
    #[command(flatten)]
    pub balance: BalanceArgs,
    /// The servers.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The port of the balancer's HTTP front end: documents, /metrics, and the live page; 0 picks a free one.
    #[arg(
        long,
        env = "DPROXY_HTTP_PORT",
        default_value = "9080",
        value_name = "PORT",
        help_heading = "HTTP"
    )]
    pub http_port: u16,
    /// The address to serve HTTP on [default: that of --host].
    #[arg(long, env = "DPROXY_HTTP_HOST", value_name = "ADDRESS", help_heading = "HTTP")]
    pub http_host: Option<IpAddr>,
    /// Origins whose pages may read documents, such as https://app.example, or *.
    #[arg(long, env = "DPROXY_CORS_ORIGIN", value_delimiter = ',', num_args = 1.., value_name = "ORIGIN", help_heading = "HTTP")]
    pub cors_origin: Vec<CorsOrigin>,
}

impl ClusterArgs {
    /// The HTTP front end of the balancer.
    pub fn http(&self) -> HttpArgs {
        HttpArgs {
            http_port: Some(self.http_port),
            http_host: self.http_host,
            cors_origin: self.cors_origin.clone(),
        }
    }
}
