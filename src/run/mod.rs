//! The composition root: from flags to the roles of a process. `house` serves them, to their end.

mod house;
mod listen;
pub mod logs;
mod manual;
#[cfg(feature = "otlp")]
mod otlp;
mod shutdown;
mod systemd;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tracing::warn;

use self::house::House;
use self::listen::{Listen, address_of};
use crate::admin::Admins;
use crate::args::{
    CacheArgs, Cli, ClusterArgs, Command, HttpArgs, LbArgs, OriginArgs, ProxyArgs, ServerArgs, impatience,
};
use crate::http::{Measured, Role};
use crate::lb::Lb;
use crate::net::link::Peer;
use crate::net::transport::bind;
use crate::origin::Origin;
use crate::origin::store::DirStore;
use crate::proxy::Proxy;
use crate::{bench, client, config, cores, simulate, terminal, watch};

/// A read of a document must end within this time: sooner than a proxy gives the fetch up.
const READ_DEADLINE: Duration = Duration::from_millis(1500);

/// Does what the command line says, to its end.
pub fn run(cli: Cli) -> Result<ExitCode> {
    // What is meant to be set and is not would be found out late.
    match &cli.command {
        Command::Origin(_) | Command::Proxy(_) | Command::Lb(_) | Command::Cluster(_) => {
            config::strays().iter().for_each(|stray| warn!("{stray}"));
        }
        Command::Client(_) | Command::Bench(_) => config::strays().iter().for_each(terminal::complain),
        Command::Simulate(_) | Command::Check(_) | Command::Completions(_) | Command::Man(_) => {}
    }
    let mut house = House::default();
    if matches!(cli.command, Command::Origin(_) | Command::Proxy(_) | Command::Lb(_)) {
        house.inherited =
            systemd::listener().context("the socket that was handed over is no TCP listener")?;
    }
    #[cfg(feature = "otlp")]
    let role = match cli.command {
        Command::Origin(_) => "origin",
        Command::Proxy(_) => "proxy",
        Command::Lb(_) => "lb",
        _ => "cluster",
    };
    match cli.command {
        Command::Origin(args) => house.origin(&args)?,
        Command::Proxy(args) => house.proxy(&args)?,
        Command::Lb(args) => house.lb(&args, None)?,
        Command::Cluster(args) => house.cluster(&args)?,
        Command::Simulate(args) => {
            simulate::command::run(&args, terminal::print)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Bench(args) => return bench::run(&args.config()),
        Command::Client(args) => {
            let runtime = cores::runtime()?;
            return match args.watched() {
                Some(watched) => runtime.block_on(watch::run(watched)),
                None => runtime.block_on(client::run(args.config())),
            };
        }
        Command::Check(args) => return Ok(config::check(&args, cli.config.as_deref())?),
        Command::Completions(args) => return manual::completions(&args),
        Command::Man(args) => return manual::man(&args),
    };
    #[cfg(feature = "otlp")]
    if let Some(export) = otlp::start(cli.spans.otlp_endpoint.as_deref(), role)? {
        house.last.push(Box::new(|left| export.flush(left)));
    }
    house.live()
}

impl House {
    fn origin(&mut self, args: &OriginArgs) -> Result<SocketAddr> {
        let store = &args.store;
        let documents =
            DirStore::open(&store.data, store.layout.into(), store.max_document).with_context(|| {
                format!(
                    "cannot open the data directory {:?}; make it, or name another with --data",
                    store.data
                )
            })?;
        let bound = self.listen("origin", &self.lines("origin", args.port, &args.server), &args.server)?;
        self.serve("origin", bound, Origin::new(documents, READ_DEADLINE), &args.server)
    }

    fn proxy(&mut self, args: &ProxyArgs) -> Result<SocketAddr> {
        let bound = self.listen("proxy", &self.lines("proxy", args.port, &args.server), &args.server)?;
        let port = address_of(&bound)?.port();
        let origin = Peer { host: args.origin_host.clone(), port: args.origin_port };
        let link = args.link.limits(args.server.threads(), args.max_document);
        let proxy = Proxy::new(args.cache.config(port, origin, link, args.max_document));
        self.beside(proxy.clone().sweep());
        if args.http.http_port.is_none() {
            // Nobody could read what would be measured.
            return self.serve("proxy", bound, proxy, &args.server);
        }
        let proxy = Measured::new(proxy);
        let address = self.serve("proxy", bound, proxy.clone(), &args.server)?;
        let config = args.http.config(Role::Proxy, port, self.limits(&args.server), Some(&args.cache));
        self.http(proxy, config, &args.http, &args.server)?;
        Ok(address)
    }

    /// `cache` is how the proxies hold documents, where that is known: other proxies may each do it in their way.
    fn lb(&mut self, args: &LbArgs, cache: Option<&CacheArgs>) -> Result<SocketAddr> {
        let bound =
            self.listen("balancer", &self.lines("balancer", args.port, &args.server), &args.server)?;
        let link = args.link.limits(args.server.threads(), args.max_document);
        let admins = Admins::new(args.admin_from.clone());
        let lb = Lb::new(args.balance.config(args.members(), link, admins))
            .map_err(|error| anyhow!("the list of proxies is bad: {error}"))?;
        self.beside(lb.clone().check_health());
        self.beside(lb.clone().follow());
        if args.proxies_file.is_some() {
            self.beside(reload_at_sighup(lb.clone()));
        }
        if args.http.http_port.is_none() {
            return self.serve("balancer", bound, lb, &args.server);
        }
        let lb = Measured::new(lb);
        let address = self.serve("balancer", bound, lb.clone(), &args.server)?;
        let config = args.http.config(Role::Balancer, address.port(), self.limits(&args.server), cache);
        self.http(lb, config, &args.http, &args.server)?;
        Ok(address)
    }

    /// Where a role's lines are served.
    fn lines(&self, role: &str, port: u16, args: &ServerArgs) -> Listen {
        let port_flag = match role {
            "origin" if self.is_cluster => "--origin-port",
            "proxy" if self.is_cluster => "--proxy-port",
            _ => "--port",
        };
        Listen { host: args.host, port, host_flag: "--host", port_flag }
    }

    fn cluster(&mut self, args: &ClusterArgs) -> Result<SocketAddr> {
        self.is_cluster = true;
        let ClusterArgs { store, server, .. } = args.clone();
        if let Some(told) = impatience(args.cache.fetch_deadline, args.balance.try_deadline) {
            warn!("{told}");
        }
        let http = HttpArgs { http_port: Some(http_port(args)), ..args.http.clone() };
        let max_document = store.max_document;
        let local = |address: SocketAddr| match address.ip().is_unspecified() {
            true => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
            false => address,
        };
        let origin =
            local(self.origin(&OriginArgs { port: args.origin_port, store, server: server.clone() })?);
        let mut proxies = Vec::new();
        for index in 0..args.proxies {
            let port = match args.proxy_port {
                0 => 0,
                first => {
                    u16::try_from(index).ok().and_then(|index| first.checked_add(index)).ok_or_else(|| {
                        anyhow!("there are no ports for {} proxies from {first} on", args.proxies)
                    })?
                }
            };
            let proxy = ProxyArgs {
                port,
                origin_host: origin.ip().to_string(),
                origin_port: origin.port(),
                cache: args.cache.clone(),
                link: args.link.clone(),
                max_document,
                server: server.clone(),
                http: HttpArgs::default(),
            };
            let address = local(self.proxy(&proxy)?);
            proxies.push(Peer { host: address.ip().to_string(), port: address.port() });
        }
        let lb = LbArgs {
            port: args.port,
            proxies,
            proxies_file: None,
            resolve_interval: Duration::from_secs(3600),
            balance: args.balance.clone(),
            max_document,
            admin_from: args.cache.admin_from.clone(),
            link: args.link.clone(),
            server,
            http,
        };
        let balancer = local(self.lb(&lb, Some(&args.cache))?);
        // By the name that it was called by, which may stand in no PATH.
        let program = std::env::args().next().unwrap_or_else(|| "dproxy".to_owned());
        self.greeting.push(format!("try it: {program} client --port {} --get article/1", balancer.port()));
        Ok(balancer)
    }
}

/// SIGHUP makes a balancer look at the file of its members.
async fn reload_at_sighup(lb: Arc<Lb>) {
    let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    let Ok(mut hangup) = signal.inspect_err(|error| warn!(%error, "SIGHUP is not heard")) else { return };
    while hangup.recv().await.is_some() {
        lb.reload();
    }
}

/// A cluster serves HTTP on a port of its own accord, and does not fail for it.
fn http_port(args: &ClusterArgs) -> u16 {
    const DEFAULT: u16 = 9080;
    let host = args.http.http_host.unwrap_or(args.server.host);
    args.http.http_port.unwrap_or_else(|| match bind(SocketAddr::new(host, DEFAULT), 1, false) {
        Ok(_) => DEFAULT,
        Err(error) => {
            warn!(%error, "HTTP is not served on port {DEFAULT} but on a free one; --http-port names another");
            0
        }
    })
}
