//! The flags of the HTTP front end.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::{CacheArgs, Host, Listed, listed, units};
use crate::http::{CorsOrigin, HttpConfig, IgnoredQuery, Role};
use crate::net::ServerLimits;
use crate::wire::query::Parameters;

/// Whether and where to serve HTTP, and to which pages.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// Serve HTTP as well, on this port: documents, /metrics, health, and but for an origin the live page; 0 picks a free one
    /// [default: none; of a cluster 9080, or a free one when that is taken].
    #[arg(long, env = "DPROXY_HTTP_PORT", value_parser = units::port, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// The address to serve HTTP on [default: that of --host].
    #[arg(long, env = "DPROXY_HTTP_HOST", value_parser = Host::parse, value_name = "ADDRESS")]
    pub http_host: Option<Host>,
    /// Origins whose pages may read documents, such as https://app.example, or * [default: none].
    #[arg(long, env = "DPROXY_CORS_ORIGIN", value_delimiter = ',', num_args = 1.., value_parser = listed::item(str::parse::<CorsOrigin>), value_name = "ORIGIN")]
    pub cors_origin: Vec<Listed<CorsOrigin>>,
    /// Names by which requests may call this node where it listens on loopback, beside localhost, names without a dot and
    /// addresses [default: none].
    #[arg(long, env = "DPROXY_HTTP_NAMES", value_delimiter = ',', num_args = 1.., value_parser = listed::item(units::host), value_name = "NAME")]
    pub http_names: Vec<Listed<String>>,
    /// Parameters that documents have, such as fields,lang: a part of their keys, in the URLs of an API as well, while others are
    /// refused [default: none].
    #[arg(long, env = "DPROXY_QUERY", value_delimiter = ',', num_args = 1.., value_parser = listed::item(parameter), value_name = "NAME")]
    pub query: Vec<Listed<String>>,
    /// Parameters of a query that documents ignore, such as utm_*, or * for all [default: none; any is refused].
    #[arg(long, env = "DPROXY_IGNORE_QUERY", value_delimiter = ',', num_args = 1.., value_parser = listed::item(str::parse::<IgnoredQuery>), value_name = "NAME")]
    pub ignore_query: Vec<Listed<IgnoredQuery>>,
    /// A file with the token that POST /changed has to bring, read at each request [default: none, POST /changed is refused].
    #[arg(long, env = "DPROXY_CHANGED_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub changed_token_file: Option<PathBuf>,
}

impl HttpArgs {
    /// The names that are taken on a listener of `host`; `None` for all of them.
    pub fn names(&self, host: Host) -> Option<Vec<String>> {
        let names = listed::all(&self.http_names);
        (host.first().is_loopback() || !names.is_empty()).then_some(names)
    }

    /// The parameters that documents have.
    pub fn parameters(&self) -> Parameters {
        Parameters::new(listed::all(&self.query))
    }

    /// The configuration of the front end of the node whose line port is `node`. `cache` holds the rules of staleness of
    /// its proxies, if they are known here.
    pub fn config(
        &self,
        role: Role,
        node: u16,
        limits: ServerLimits,
        cache: Option<&CacheArgs>,
    ) -> HttpConfig {
        HttpConfig {
            role,
            node,
            cors: listed::all(&self.cors_origin),
            names: None,
            parameters: self.parameters(),
            ignore_query: listed::all(&self.ignore_query),
            stale_while_revalidate: cache.map_or(Duration::ZERO, |cache| cache.stale_while_revalidate),
            stale_if_error: cache.map_or(Duration::ZERO, |cache| cache.stale_if_error),
            changed_token_file: self.changed_token_file.clone(),
            limits,
        }
    }
}

fn parameter(name: &str) -> Result<String, &'static str> {
    match name.is_empty()
        || name.contains(['*', '&', '=', '?', '#', '%', '+'])
        || name.contains(char::is_whitespace)
    {
        true => Err("a parameter is named as in lang; those to be dropped are named by --ignore-query"),
        false => Ok(name.to_owned()),
    }
}
