//! A whole cluster in one process: an origin, proxies in front of it, a balancer in front of these.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use tracing::warn;

use super::process::{Process, said};
use crate::args::{
    Amount, CacheArgs, ClusterArgs, HttpArgs, LbArgs, Listed, OriginArgs, Place, ProxyArgs, ServerArgs,
    StoreArgs, misfits,
};
use crate::net::link::Peer;
use crate::net::transport::bind;
use crate::origin::store::{Layout, Sample};

/// The port of the balancer's HTTP unless one is given.
const HTTP_PORT: u16 = 9080;

impl Process {
    /// Serves all nodes of a cluster.
    pub(super) fn cluster(&mut self, args: &ClusterArgs) -> Result<()> {
        self.is_cluster = true;
        let (serves, asks) = (args.server.tls.tls_cert.is_some(), args.link.peer.peer_ca.is_some());
        if serves != asks {
            bail!(
                "the nodes of a cluster ask each other over TLS, or none does: --tls-cert and --peer-ca go together"
            );
        }
        // Lines of each node, and HTTP of the balancer.
        self.front_ends = Some(args.proxies + 3);
        misfits(|_, id| amount(args, id)).iter().for_each(|misfit| warn!("{}", misfit.advice));
        // Before the nodes take their ports: they might take this one.
        let http = HttpArgs { http_port: Some(http_port(args)), ..args.http.clone() };
        // A request of a client is logged once, where it comes in.
        let behind = args.server.unlogged();
        let (origin, sample) = match &args.store.data {
            // Each proxy asks the API itself: no node between them could tell it more.
            Place::Api(_) => (args.store.data.clone(), Sample::Nothing),
            Place::Dir(_) | Place::Node(_) => {
                let (origin, sample) = self.origin(&OriginArgs {
                    port: args.origin_port,
                    store: args.store.clone(),
                    changes: args.changes.clone(),
                    admin_from: args.cache.admin_from.clone(),
                    server: behind.clone(),
                    http: HttpArgs::default(),
                })?;
                (Place::Node(loopback(origin).into()), sample)
            }
        };
        let max_bytes = args
            .cache
            .max_bytes
            .unwrap_or_else(|| said("max-bytes", self.memory.cache(args.proxies), self.memory));
        let capacity = Some(args.cache.bounds().entries);
        let cache = CacheArgs { max_bytes: Some(max_bytes), capacity, ..args.cache.clone() };
        let mut proxies = Vec::new();
        for index in 0..args.proxies {
            let proxy = loopback(self.proxy(&proxy(args, &cache, &behind, index, origin.clone())?)?);
            proxies.push(Listed::from(Peer::from(proxy)));
        }
        let lb = LbArgs {
            port: args.port,
            proxies,
            proxies_file: None,
            // Nodes of one process restart together.
            state_dir: None,
            balance: args.balance.clone(),
            max_document: args.store.max_document,
            admin_from: args.cache.admin_from.clone(),
            link: args.link.clone(),
            server: args.server.clone(),
            http,
        };
        let balancer = loopback(self.lb(&lb, Some(&args.cache))?);
        self.greeting.push(to_try(&args.store, &sample, balancer.port()));
        Ok(())
    }
}

/// The value of a setting that all nodes have in common.
fn amount(args: &ClusterArgs, id: &str) -> Option<Amount> {
    let time = |time| Some(Amount::Time(time));
    match id {
        "fetch_deadline" => time(args.cache.fetch_deadline),
        "try_deadline" => time(args.balance.try_deadline),
        "health_interval" => time(args.balance.health_interval),
        "backoff" => time(args.balance.backoff),
        "max_backoff" => time(args.balance.max_backoff),
        "idle_deadline" => time(args.server.idle_deadline),
        "drain" => time(args.server.drain),
        "min_ttl" => time(args.cache.min_ttl),
        "max_ttl" => args.cache.max_ttl.map(Amount::Time),
        "max_document" => Some(Amount::Size(args.store.max_document)),
        "max_bytes" => args.cache.max_bytes.map(Amount::Size),
        _ => None,
    }
}

/// The last line of the start: a request that works, or why there is none.
fn to_try(store: &StoreArgs, sample: &Sample, port: u16) -> String {
    // By the name that it was called by, which may stand in no PATH.
    let program = std::env::args().next().unwrap_or_else(|| "dproxy".to_owned());
    let Place::Dir(data) = &store.data else {
        return format!("try it: {program} client --port {port} --get RESOURCE/KEY");
    };
    match sample {
        Sample::Document(key) => format!("try it: {program} client --port {port} --get {key}"),
        Sample::OtherLayout(other) => {
            format!("there is no document to try: {data:?} looks like the other layout, --layout {other}")
        }
        Sample::Nothing => {
            let file = match store.config().layout {
                Layout::Flat => "article1.json",
                Layout::Nested => "article/1.json",
            };
            format!(
                "there is no document in {data:?} yet; put one there as {file}, then try it: {program} client --port {port} --get article/1"
            )
        }
    }
}

/// The flags of the proxy at `index`, as if it had been started by itself.
fn proxy(
    args: &ClusterArgs,
    cache: &CacheArgs,
    server: &ServerArgs,
    index: usize,
    origin: Place,
) -> Result<ProxyArgs> {
    let port = match args.proxy_port {
        0 => Some(0),
        first => u16::try_from(index).ok().and_then(|index| first.checked_add(index)),
    };
    let port = port.with_context(|| {
        format!("there are no ports for {} proxies from {} on", args.proxies, args.proxy_port)
    })?;
    Ok(ProxyArgs {
        port,
        origin: Some(origin),
        origin_host: String::new(),
        origin_port: 0,
        api: args.api.clone(),
        cache: CacheArgs { node_name: named(args, index), ..cache.clone() },
        link: args.link.clone(),
        max_document: args.store.max_document,
        server: server.clone(),
        http: HttpArgs { query: args.http.query.clone(), ..HttpArgs::default() },
    })
}

/// The name of the proxy at `index`: all of a process have one flag.
fn named(args: &ClusterArgs, index: usize) -> Option<String> {
    args.cache.node_name.as_ref().map(|name| format!("{name}-{index}"))
}

/// The address to reach a node of this machine at: one that listens on all addresses is asked on loopback.
fn loopback(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        false => address,
    }
}

/// The port for HTTP: the usual one if none was given, or a free one when that is taken.
fn http_port(args: &ClusterArgs) -> u16 {
    let host = args.http.http_host.unwrap_or(args.server.host);
    args.http.http_port.unwrap_or_else(|| match bind(SocketAddr::new(host.first(), HTTP_PORT), 1, false) {
        Ok(_) => HTTP_PORT,
        Err(error) => {
            warn!(%error, "HTTP is not served on port {HTTP_PORT} but on a free one; --http-port names another");
            0
        }
    })
}
