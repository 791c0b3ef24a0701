//! All roles within a program: documents in memory, a proxy that caches them, a balancer in front, and a client.
//!
//! ```text
//! link ──▶ balancer ──▶ proxy ──▶ origin over a MemoryStore        one process, ports that the kernel picks
//! ```
//! Run it: `cargo run --no-default-features --example embedded`. It needs nothing of the command line.

use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dproxy::handler::Handler;
use dproxy::lb::balance::Strategy;
use dproxy::lb::{Lb, LbConfig, Members};
use dproxy::net::link::Peer;
use dproxy::net::transport::{Bound, bind};
use dproxy::net::{Link, LinkLimits, Server, ServerLimits};
use dproxy::origin::store::MemoryStore;
use dproxy::origin::{Origin, OriginConfig};
use dproxy::proxy::cache::{Bounds, CacheType};
use dproxy::proxy::{Freshness, Proxy, ProxyConfig};
use dproxy::wire::{Key, MAX_DOCUMENT, ReplyView, Request};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let stop = CancellationToken::new();

    // The origin, over any `Store`: this one is a map.
    let documents = MemoryStore::new(MAX_DOCUMENT);
    documents.put("article/1", r#"{ "title": "Hello", "price": 1.10 }"#);
    let (bound, origin) = listener()?;
    serve(bound, Origin::new(documents, OriginConfig::default()), ServerLimits::default(), &stop)?;

    // A proxy and a balancer: all other settings are the defaults of the command line.
    let (bound, proxy) = listener()?;
    let role = Proxy::new(ProxyConfig {
        cache_type: CacheType::Lru,
        bounds: Bounds { entries: 1000, ..Bounds::default() },
        freshness: Freshness { ttl: None, ..Freshness::default() },
        ..ProxyConfig::new(proxy.port, origin)
    });
    tokio::spawn(role.clone().sweep());
    serve(bound, role, ServerLimits::default(), &stop)?;
    let (bound, balancer) = listener()?;
    let config = LbConfig { strategy: Strategy::LeastLoaded, ..LbConfig::new(Members::new(vec![proxy])) };
    // More requests at once would make the proxies no faster.
    let limits = ServerLimits { enough: config.enough(), ..ServerLimits::default() };
    let lb = Lb::new(config)?;
    tokio::spawn(lb.clone().check_health());
    serve(bound, lb, limits, &stop)?;

    // A link asks a node: one session carries all requests that are in flight.
    let link = Link::new(balancer, LinkLimits::default());
    let mut out = std::io::stdout();
    for path in ["article/1", "article/1", "article/2"] {
        let request = Request::Get(Key::parse(path)?);
        let line = link.ask(request, Instant::now() + Duration::from_secs(5)).await?;
        let reply = ReplyView::parse(&line)?;
        writeln!(out, "{path}: {} {} (cache hit: {:?})", reply.status, reply.data, reply.cache_hit)?;
    }

    // Servers answer the requests that they have read, and end.
    stop.cancel();
    Ok(())
}

/// A free port of this machine, and its name for clients.
fn listener() -> Result<(Bound, Peer), Box<dyn Error>> {
    let bound = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1, false)?.pop().ok_or("one listener")?;
    let peer = bound.address()?.into();
    Ok((bound, peer))
}

/// Serves a role in the background.
fn serve<H: Handler>(
    bound: Bound,
    role: Arc<H>,
    limits: ServerLimits,
    stop: &CancellationToken,
) -> Result<(), Box<dyn Error>> {
    let server = Server::new(role, limits, stop.clone());
    let listener = bound.listen()?;
    tokio::spawn(async move { server.serve(listener).await });
    Ok(())
}
