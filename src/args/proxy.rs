//! The flags of `dproxy proxy`, and the configuration that they make.

use std::time::Duration;

use clap::Args;

use super::prefix::{self, PrefixArg};
use super::{ApiArgs, HttpArgs, LinkArgs, Listed, Place, ServerArgs, defaults, listed, place, server, units};
use crate::admin::{Admins, Network};
use crate::certificates::Certificates;
use crate::net::LinkLimits;
use crate::net::link::Peer;
use crate::proxy::cache::{Bounds, CacheType};
use crate::proxy::{FetchLimits, Freshness, MAX_WAITERS, ProxyConfig, PushTtl};
use crate::source::ApiConfig;
use crate::wire::MAX_DOCUMENT;
use crate::wire::query::Parameters;

/// The heading of the flags of fetches in the help.
pub(super) const FETCHING: &str = "Fetching";

/// Flags of `dproxy proxy`.
#[derive(Args, Clone, Debug)]
pub struct ProxyArgs {
    /// The port to listen on; 0 picks a free one.
    #[arg(long, env = "DPROXY_PORT", default_value = "8001", value_parser = units::port)]
    pub port: u16,
    /// The URL that documents come from, in place of a host and a port: an API, in which {path}, {resource} and {key} stand for
    /// those of a document, a bucket such as s3://bucket/prefix, or dproxy://host:port [default: an origin at --origin-host and --origin-port].
    #[arg(long, env = "DPROXY_ORIGIN", value_parser = place::origin, value_name = "URL", conflicts_with_all = ["origin_host", "origin_port"])]
    pub origin: Option<Place>,
    /// The host of the origin.
    #[arg(
        long,
        alias = "origin_host",
        env = "DPROXY_ORIGIN_HOST",
        default_value = "127.0.0.1",
        value_parser = units::host,
        value_name = "HOST"
    )]
    pub origin_host: String,
    /// The port of the origin.
    #[arg(
        long,
        alias = "origin_port",
        env = "DPROXY_ORIGIN_PORT",
        default_value = "8000",
        value_parser = units::port_there,
        value_name = "PORT"
    )]
    pub origin_port: u16,
    /// Requests to an API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// The largest document.
    #[arg(long, env = "DPROXY_MAX_DOCUMENT", default_value = defaults::size(MAX_DOCUMENT), value_parser = units::size, value_name = "SIZE",
        help_heading = server::HEADING)]
    pub max_document: usize,
    /// Links to the origin.
    #[command(flatten)]
    pub link: LinkArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The HTTP front end.
    #[command(flatten)]
    pub http: HttpArgs,
}

/// How a proxy caches and fetches.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cache")]
pub struct CacheArgs {
    /// What goes when the cache is full.
    #[arg(long, alias = "cache_type", env = "DPROXY_CACHE_TYPE", default_value_t, value_name = "TYPE")]
    pub cache_type: CacheType,
    /// How long a document is fresh [default: 30s with the type ttl, else for ever].
    #[arg(long, env = "DPROXY_TTL", value_parser = time_to_live, value_name = "TIME")]
    pub ttl: Option<Duration>,
    /// By how much each document's time is shortened at most, so that they do not expire together.
    #[arg(long, env = "DPROXY_TTL_JITTER", default_value = defaults::fraction(Freshness::default().ttl_jitter), value_parser = units::fraction, value_name = "PART")]
    pub ttl_jitter: f64,
    /// How long past its time a document is served at once and fetched behind.
    #[arg(long, env = "DPROXY_STALE_WHILE_REVALIDATE", default_value = defaults::time(Freshness::default().stale_while_revalidate), value_parser = units::duration, value_name = "TIME")]
    pub stale_while_revalidate: Duration,
    /// How long past its time a document is served when the origin fails.
    #[arg(long, env = "DPROXY_STALE_IF_ERROR", default_value = defaults::time(Freshness::default().stale_if_error), value_parser = units::duration, value_name = "TIME")]
    pub stale_if_error: Duration,
    /// How long the word that there is no such document is kept.
    #[arg(long, env = "DPROXY_NEGATIVE_TTL", default_value = defaults::time(Freshness::default().negative_ttl), value_parser = life, value_name = "TIME")]
    pub negative_ttl: Duration,
    /// Other lifetimes beneath a prefix, as often as need be: flags/*=ttl:2s,stale-while-revalidate:1s, also stale-if-error and
    /// negative-ttl. The longest prefix counts; read anew from --config at SIGHUP [default: none].
    #[arg(long, env = "DPROXY_PREFIX", value_delimiter = ';', value_parser = listed::item(prefix::rule), value_name = "RULE")]
    pub prefix: Vec<Listed<PrefixArg>>,
    /// How long a document is fresh whose changes the origin tells.
    #[arg(long, env = "DPROXY_PUSH_TTL", default_value_t, value_name = "HOW")]
    pub push_ttl: PushTtl,
    /// The shortest time that a document of an API is fresh, whatever the API says, unless that is no-cache or no-store.
    #[arg(long, env = "DPROXY_MIN_TTL", default_value = defaults::time(Freshness::default().min_ttl), value_parser = life, value_name = "TIME")]
    pub min_ttl: Duration,
    /// The longest time that a document of an API is fresh, whatever the API says [default: none].
    #[arg(long, env = "DPROXY_MAX_TTL", value_parser = time_to_live, value_name = "TIME")]
    pub max_ttl: Option<Duration>,
    /// Serve documents for --stale-if-error while an API fails, even if it says must-revalidate or no-cache.
    #[arg(long, env = "DPROXY_STALE_IF_ERROR_ALWAYS")]
    pub stale_if_error_always: bool,
    /// Entries to hold at most; --max-bytes may be reached first [default: 10000, or no bound beside --max-bytes].
    #[arg(long, aliases = ["lru_capacity", "lru-capacity"], env = "DPROXY_CAPACITY",
        value_parser = |text: &str| units::count_to(Bounds::MOST_ENTRIES, text), value_name = "N")]
    pub capacity: Option<usize>,
    /// Memory to hold at most: keys, documents and bookkeeping; alone it is the only bound. One document takes a sixteenth at
    /// most [default: half of the memory there is, at most 256MiB].
    #[arg(long, env = "DPROXY_MAX_BYTES", value_parser = cache_size, value_name = "SIZE")]
    pub max_bytes: Option<usize>,
    /// A fetch must bring its document within this time; keep it below the --try-deadline of the balancer.
    #[arg(long, env = "DPROXY_FETCH_DEADLINE", default_value = defaults::time(FetchLimits::default().deadline), value_parser = units::positive_duration, value_name = "TIME",
        help_heading = FETCHING)]
    pub fetch_deadline: Duration,
    /// Fetches at once; the rest wait their turn.
    #[arg(long, env = "DPROXY_MAX_FETCHES", default_value_t = FetchLimits::default().at_once, value_parser = units::count, value_name = "N",
        help_heading = FETCHING)]
    pub max_fetches: usize,
    /// Requests that may wait for one fetch.
    #[arg(long, hide = true, env = "DPROXY_MAX_WAITERS", default_value_t = MAX_WAITERS, value_parser = units::count, value_name = "N",
        help_heading = FETCHING)]
    pub max_waiters: usize,
    /// How long a failing origin is left alone; it doubles up to 30s. A held document that cannot be fetched is served so long
    /// without another try; that doubles three times.
    #[arg(long, env = "DPROXY_ORIGIN_RETRY", default_value = defaults::time(FetchLimits::default().origin_retry), value_parser = units::positive_duration, value_name = "TIME",
        help_heading = FETCHING)]
    pub origin_retry: Duration,
    /// The name of the node, which tells it from those of other machines: in replies of sessions, METRICS, EXPLAIN and
    /// Cache-Status; in a cluster each has its number behind it [default: none].
    #[arg(long, env = "DPROXY_NODE_NAME", value_parser = units::node_name, value_name = "NAME", help_heading = server::HEADING)]
    pub node_name: Option<String>,
    /// Addresses and networks that may purge.
    #[arg(long, env = "DPROXY_ADMIN_FROM", default_value = Admins::default().to_string(), value_delimiter = ',', num_args = 1..,
        value_parser = listed::item(str::parse::<Network>), value_name = "NETWORK", help_heading = server::HEADING)]
    pub admin_from: Vec<Listed<Network>>,
}

/// A time to live, or 0: in whole milliseconds, so that none is cut.
pub(super) fn life(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        life if life > Freshness::LONGEST_TTL => {
            Err(format!("it must be {}d at the most", Freshness::LONGEST_TTL.as_secs() / 86_400))
        }
        life if !life.subsec_nanos().is_multiple_of(1_000_000) => {
            Err("write whole milliseconds, such as 1ms".to_owned())
        }
        life => Ok(life),
    }
}

/// A time to live above 0.
pub(super) fn time_to_live(text: &str) -> Result<Duration, String> {
    units::positive_duration(text).and_then(|_| life(text))
}

/// A size that holds something: one document may take a sixteenth of it.
fn cache_size(text: &str) -> Result<usize, String> {
    match units::size(text)? {
        size if size < Bounds::LEAST_BYTES => {
            let least = defaults::size(Bounds::LEAST_BYTES);
            Err(format!("it must be {least} at the least; one document takes a sixteenth of it at most"))
        }
        size => Ok(size),
    }
}

/// The time to live of the cache type `ttl`, as it would be typed.
pub fn usual_ttl() -> String {
    Freshness::default().ttl.map_or_else(String::new, defaults::time)
}

impl ProxyArgs {
    /// Where the node is that documents come from, if it is one.
    pub fn peer(&self) -> Peer {
        match &self.origin {
            Some(Place::Node(peer)) => peer.clone(),
            _ => Peer { host: self.origin_host.clone(), port: self.origin_port },
        }
    }

    /// The API that documents come from, if it is one.
    pub fn api(&self) -> Option<ApiConfig> {
        let Some(Place::Api(api)) = &self.origin else { return None };
        Some(ApiConfig {
            template: api.template.clone(),
            bucket: api.bucket.clone(),
            headers: self.api.origin_header.clone(),
            ca: self.api.origin_ca.clone(),
            connect_deadline: self.link.connect_deadline,
            resolve_interval: self.link.resolve_interval,
            max_document: self.max_document,
            most_idle: self.cache.max_fetches,
            stale_if_error_always: self.cache.stale_if_error_always,
        })
    }
}

impl CacheArgs {
    /// The configuration of a proxy on `port` in front of `origin`. `link` gives the limits of the link to it.
    pub fn config(&self, port: u16, origin: Peer, link: LinkLimits, max_document: usize) -> ProxyConfig {
        ProxyConfig {
            node: port,
            name: self.node_name.clone(),
            origin,
            link: LinkLimits { patience: self.fetch_deadline, ..link },
            cache_type: self.cache_type,
            bounds: self.bounds(),
            freshness: self.freshness(),
            push_ttl: self.push_ttl,
            parameters: Parameters::default(),
            fetch: FetchLimits {
                deadline: self.fetch_deadline,
                at_once: self.max_fetches,
                max_document,
                origin_retry: self.origin_retry,
            },
            max_waiters: self.max_waiters,
            admins: Admins::new(listed::all(&self.admin_from)),
            certificates: Certificates::default(),
        }
    }

    /// How much a cache holds: who says how many bytes means bytes, however many entries they are.
    pub fn bounds(&self) -> Bounds {
        let usual = Bounds::default();
        let entries = if self.max_bytes.is_some() { Bounds::MOST_ENTRIES } else { usual.entries };
        Bounds { entries: self.capacity.unwrap_or(entries), bytes: self.max_bytes.unwrap_or(usual.bytes) }
    }

    /// How long documents are fresh, and served when stale.
    pub fn freshness(&self) -> Freshness {
        Freshness {
            ttl: match self.cache_type {
                CacheType::Ttl => self.ttl.or(Freshness::default().ttl),
                CacheType::Lru | CacheType::S3fifo => self.ttl,
            },
            ttl_jitter: self.ttl_jitter,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            negative_ttl: self.negative_ttl,
            min_ttl: self.min_ttl,
            max_ttl: self.max_ttl,
            prefixes: prefix::all(&listed::all(&self.prefix)),
        }
    }
}
