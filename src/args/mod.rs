//! The command line: the flags, and the configuration that they make for each role. Defaults come from the roles. No I/O.
#![allow(
    rustdoc::invalid_html_tags,
    rustdoc::bare_urls,
    reason = "doc comments are the help that people read in a terminal"
)]

mod access_log;
#[cfg(feature = "tools")]
mod bench;
#[cfg(feature = "https")]
mod bucket;
mod changes;
mod choices;
mod client;
mod cluster;
mod defaults;
mod extras;
mod host;
mod http;
mod lb;
mod link;
pub mod listed;
mod origin;
mod pairs;
mod place;
pub mod prefix;
mod proxy;
mod server;
#[cfg(feature = "tools")]
mod simulate;
mod tls;
pub mod units;
#[cfg(feature = "tools")]
mod watch;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};

pub use access_log::AccessLogArgs;
#[cfg(feature = "tools")]
pub use bench::BenchArgs;
pub use changes::{ChangesArgs, TellArg};
pub use client::ClientArgs;
pub use cluster::ClusterArgs;
pub use defaults::size;
pub use extras::CheckArgs;
#[cfg(feature = "tools")]
pub use extras::{CompletionsArgs, ManArgs};
pub use host::Host;
pub use http::HttpArgs;
pub use lb::{BalanceArgs, LbArgs};
pub use link::LinkArgs;
pub use listed::Listed;
pub use origin::{LayoutArg, OriginArgs, StoreArgs};
pub use pairs::{Amount, Misfit, misfits};
pub use place::{ApiArgs, Place};
pub use proxy::{CacheArgs, ProxyArgs, usual_ttl};
pub use server::ServerArgs;
#[cfg(feature = "tools")]
pub use simulate::SimulateArgs;
pub use tls::{PeerArgs, TlsArgs, bad_files};
#[cfg(feature = "tools")]
pub use watch::WatchArgs;

use crate::terminal::Format;

/// The place of global flags in the help: behind those of the subcommand.
const LAST: usize = 900;

/// The version, with profile and target of the build, and in a release its commit.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILT_FROM"), ")");

/// Whether a heading is one of limits that few people change: `--help` shows them, `-h` does not.
fn is_limits(heading: &str) -> bool {
    [server::HEADING, link::HEADING, proxy::FETCHING].contains(&heading)
}

/// The definition of all flags: for parsing, the help, the manual and completions.
pub fn command() -> clap::Command {
    // A value may begin with a minus: its parser has a better error than "unexpected argument". And the help would show
    // the value of a variable, which is empty when it is not set.
    let tidy = |arg: clap::Arg| {
        let (takes_values, is_rare) =
            (arg.get_action().takes_values(), arg.get_help_heading().is_some_and(is_limits));
        let arg = arg.hide_env_values(true).hide_short_help(is_rare);
        if takes_values { arg.allow_negative_numbers(true) } else { arg }
    };
    Cli::command().mut_args(tidy).mut_subcommands(move |role| role.mut_args(tidy))
}

/// A distributed read-through cache for JSON documents.
#[derive(Parser, Debug)]
#[command(
    name = "dproxy",
    version = VERSION,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Every setting can come from a flag, from its variable (DPROXY_MAX_BYTES for --max-bytes), \
    or from a file given with --config, in the table of its role; the first of these counts. \
    dproxy check shows what they come to.\n\
    Durations read 250ms, 30s, 5m; a bare number is seconds. Sizes read 64KiB, 256MiB.\n\n\
    Try it:  dproxy cluster   and, beside it,   dproxy client --get article/1"
)]
pub struct Cli {
    /// What to be.
    #[command(subcommand)]
    pub command: Command,
    /// Read settings from a TOML file: a table per role, named and filled as the flags are.
    #[arg(long, global = true, env = "DPROXY_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath, display_order = LAST)]
    pub config: Option<PathBuf>,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where spans go.
    #[cfg(feature = "otlp")]
    #[command(flatten)]
    pub spans: SpanArgs,
}

/// Logs go to standard error.
#[derive(Args, Debug)]
#[command(next_help_heading = "Logs (to standard error)")]
pub struct LogArgs {
    /// What to log: off, error, warn, info, debug, trace, or parts such as dproxy::lb=debug.
    #[arg(long, global = true, env = "DPROXY_LOG", default_value = "info", value_parser = units::filter, value_name = "FILTER",
        display_order = LAST)]
    pub log: String,
    /// How to write it.
    #[arg(long, global = true, env = "DPROXY_LOG_FORMAT", default_value = "text", value_name = "FORMAT", display_order = LAST)]
    pub log_format: Format,
}

/// Spans of requests.
#[cfg(feature = "otlp")]
#[derive(Args, Debug)]
#[command(next_help_heading = "Spans (OTLP)")]
pub struct SpanArgs {
    /// Send spans of requests to the collector at this URL, such as http://127.0.0.1:4318; all else is set by the
    /// variables of OpenTelemetry, OTEL_TRACES_SAMPLER among them [default: OTEL_EXPORTER_OTLP_ENDPOINT, or nowhere].
    #[arg(long, global = true, env = "DPROXY_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// The roles.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve documents from files: the single source of truth.
    #[command(
        after_help = "Example:  dproxy origin --data data\n          GET article/1 reads data/article1.json"
    )]
    Origin(OriginArgs),
    /// Cache documents in front of an origin.
    #[command(
        after_help = "Examples:  dproxy proxy --port 8001 --cache-type lru --capacity 50000\n           \
        dproxy proxy --origin https://api.example.com/v1/{path}"
    )]
    Proxy(ProxyArgs),
    /// Balance clients over proxies.
    #[command(
        after_help = "Example:  dproxy lb --proxies 127.0.0.1:8001 127.0.0.1:8002 --strategy least_loaded"
    )]
    Lb(LbArgs),
    /// Ask a node.
    #[command(
        override_usage = "dproxy client [OPTIONS] --get <PATH>...\n       dproxy client [OPTIONS] --metrics [--watch]\n       \
        dproxy client [OPTIONS] --keys, --purge, --explain, --drain ...",
        after_help = "Examples:  dproxy client --get article/1\n           dproxy client --metrics --port 8001\n           \
        dproxy client --metrics --watch\n\n\
        Exit code: 0 OK, 1 any other status, 2 wrong usage, 3 no reply came."
    )]
    Client(ClientArgs),
    #[cfg(feature = "tools")]
    /// Put load on a node, and see what it does under it.
    #[command(
        after_help = "Examples:  dproxy bench --port 8001 --key-range article/1..1000 --zipf 1.0\n           \
        dproxy bench --rate 5000 --duration 30s --output json\n\n\
        Exit code: 0 every reply was OK, 1 some were not, 2 wrong usage, 3 nothing answered."
    )]
    Bench(BenchArgs),
    /// Run origin, proxies and balancer in one process.
    #[command(after_help = "Examples:  dproxy cluster --proxies 3 --data data\n           \
        dproxy cluster --data https://api.example.com/v1/{path}")]
    Cluster(ClusterArgs),
    #[cfg(feature = "tools")]
    /// Run a log through the cache, to choose its type and size.
    #[command(
        after_help = "Examples:  dproxy simulate --trace keys.txt --cache-type lru,s3fifo --capacity 1%,5%,10%\n           \
        dproxy simulate --trace access.log --max-bytes 256MiB,1GiB --ttl 30s\n           \
        dproxy simulate --trace access.log --max-bytes 256MiB --proxies 3 --strategy hash\n           \
        varnishncsa -d | dproxy simulate --trace - --capacity 2000,10000"
    )]
    Simulate(SimulateArgs),
    /// Tell what is wrong with a configuration file, and what all settings come to.
    #[command(after_help = "Examples:  dproxy check --config dproxy.toml\n           dproxy check proxy\n\n\
        Each setting is shown with where it came from. Exit code: 0, or 2 when something is wrong.")]
    Check(CheckArgs),
    #[cfg(feature = "tools")]
    /// Print completions for a shell.
    #[command(
        after_help = "Example:  dproxy completions bash > ~/.local/share/bash-completion/completions/dproxy"
    )]
    Completions(CompletionsArgs),
    #[cfg(feature = "tools")]
    /// Print the manual, as roff.
    #[command(
        after_help = "Examples:  dproxy man | man -l -\n           dproxy man --out ~/.local/share/man/man1"
    )]
    Man(ManArgs),
}
