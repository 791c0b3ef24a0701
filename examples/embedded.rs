//! A whole house within a program: documents in memory, a proxy that caches them, a balancer in front, and who asks.
//!
//! ```text
//! link ──▶ balancer ──▶ proxy ──▶ origin over a MemoryStore        one process, ports that the kernel picks
//! ```
//! Run it: `cargo run --example embedded`

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use dproxy::admin::Admins;
use dproxy::args::{self, BalanceArgs, CacheArgs};
use dproxy::handler::Handler;
use dproxy::lb::{Lb, Members};
use dproxy::net::link::Peer;
use dproxy::net::transport::{Bound, bind};
use dproxy::net::{Link, LinkLimits, Server, ServerLimits};
use dproxy::origin::Origin;
use dproxy::origin::store::MemoryStore;
use dproxy::proxy::Proxy;
use dproxy::wire::{Key, ReplyView, Request};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The largest document, in bytes.
const LARGEST: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let stop = CancellationToken::new();

    // The origin, over any `Store`: this one is a map.
    let documents = MemoryStore::new(LARGEST);
    documents.put("article/1", r#"{ "title": "Hello", "price": 1.10 }"#);
    let (bound, origin) = listener()?;
    serve(bound, Origin::new(documents, SECOND), &stop)?;

    // A proxy and a balancer: what is not said is as on the command line.
    let (bound, proxy) = listener()?;
    let cache: CacheArgs = args::group(&["--cache-type", "lru", "--capacity", "1000"])?;
    let role = Proxy::new(cache.config(proxy.port, origin, LinkLimits::default(), LARGEST));
    tokio::spawn(role.clone().sweep());
    serve(bound, role, &stop)?;
    let (bound, balancer) = listener()?;
    let balance: BalanceArgs = args::group(&["--strategy", "least_loaded"])?;
    let members = Members { proxies: vec![proxy], file: None, resolve_interval: 5 * SECOND };
    let config = balance.config(members, LinkLimits::default(), Admins::default());
    let lb = Lb::new(config).map_err(Error::msg)?;
    tokio::spawn(lb.clone().check_health());
    serve(bound, lb, &stop)?;

    // A link is what nodes ask each other with: one session, however many requests are under way.
    let link = Link::new(balancer, LinkLimits::default());
    let mut out = std::io::stdout();
    for path in ["article/1", "article/1", "article/2"] {
        let request = Request::Get(Key::parse(path.as_bytes())?);
        let line = link.ask(request, Instant::now() + 5 * SECOND).await?;
        let reply = ReplyView::parse(&line)?;
        writeln!(out, "{path}: {} {} (cache hit: {:?})", reply.status, reply.data, reply.cache_hit)?;
    }

    // Whoever serves answers what it has read, and ends.
    stop.cancel();
    Ok(())
}

/// A port of this machine that nobody has, and its name for those who ask there.
fn listener() -> Result<(Bound, Peer)> {
    let bound = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1, false)?.pop().context("one listener")?;
    let address = bound.address()?;
    Ok((bound, Peer { host: address.ip().to_string(), port: address.port() }))
}

/// Serves a role beside the rest of the program.
fn serve<H: Handler>(bound: Bound, role: Arc<H>, stop: &CancellationToken) -> Result<()> {
    let server = Server::new(role, ServerLimits::default(), stop.clone());
    let listener = bound.listen()?;
    tokio::spawn(async move { server.serve(listener).await });
    Ok(())
}
