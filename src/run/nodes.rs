//! The roles of a process, built from their flags.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use tracing::{info, warn};

use super::listen::{Listen, address_of, not_itself};
use super::process::{Process, said};
use crate::access_log::AccessLog;
use crate::admin::Admins;
use crate::args::{
    AccessLogArgs, CacheArgs, Command, HttpArgs, LbArgs, LinkArgs, OriginArgs, Place, ProxyArgs, ServerArgs,
    TellArg, listed,
};
use crate::certificates::Certificates;
use crate::config;
use crate::handler::Handler;
use crate::http::{Measured, Role};
use crate::lb::{Lb, LbConfig};
use crate::net::transport::Bound;
use crate::net::{LinkLimits, ServerLimits};
use crate::origin::changes::Changes;
use crate::origin::store::{DirStore, Sample};
use crate::origin::{Origin, OriginConfig, watcher};
use crate::proxy::Proxy;
use crate::source::HttpSource;

impl Process {
    /// Serves an origin; tells where its lines are served, and what its data directory has.
    pub(super) fn origin(&mut self, args: &OriginArgs) -> Result<(SocketAddr, Sample)> {
        let Place::Dir(data) = &args.store.data else {
            bail!(
                "an origin serves a directory, and --data is the URL of an API: run dproxy proxy --origin URL in its place; further proxies may stand behind that one, --origin dproxy://HOST:PORT, so that one node alone asks the API"
            );
        };
        let config = args.store.config();
        let documents = DirStore::open(data, config).with_context(|| {
            format!("cannot open the data directory {data:?}; make it, or name another with --data")
        })?;
        // Documents may come later: a directory without any is no error.
        let sample = documents.sample().unwrap_or(Sample::Nothing);
        if let Sample::OtherLayout(other) = &sample {
            warn!(
                "{data:?} has no document in the layout {}, but looks like {other}: try --layout {other}",
                config.layout
            );
        }
        let bound = self.listen("origin", &self.lines("origin", args.port, &args.server), &args.server)?;
        let changes = changes_of(data, args)?;
        let front_ends = 1 + usize::from(self.has_http(&args.http));
        let limits = self.limits(&args.server, front_ends)?;
        let config = OriginConfig {
            admins: Admins::new(listed::all(&args.admin_from)),
            watch_from: args.changes.watchers(),
            certificates: in_use(&limits, None),
            ..OriginConfig::default()
        };
        let limits = ServerLimits { enough: config.enough(), ..limits };
        let origin = Origin::telling(documents, config, changes);
        let address = self.role(Role::Origin, bound, origin, limits, &args.http, &args.server, None)?;
        Ok((address, sample))
    }

    /// Serves a proxy.
    pub(super) fn proxy(&mut self, args: &ProxyArgs) -> Result<SocketAddr> {
        let bound = self.listen("proxy", &self.lines("proxy", args.port, &args.server), &args.server)?;
        let port = address_of(&bound)?.port();
        if args.api().is_none() {
            not_itself(address_of(&bound)?, &args.peer(), "--origin-host and --origin-port, or --origin")?;
        }
        let link = self.link(&args.link, &args.server, args.max_document)?;
        let front_ends = 1 + usize::from(self.has_http(&args.http));
        let limits = self.limits(&args.server, front_ends)?;
        let certificates = in_use(&limits, Some(&link));
        let mut config = args.cache.config(port, args.peer(), link, args.max_document);
        config.certificates = certificates;
        config.bounds.bytes =
            args.cache.max_bytes.unwrap_or_else(|| said("max-bytes", self.memory.cache(1), self.memory));
        config.parameters = args.http.parameters();
        if let Some(even) = config.bounds.even() {
            info!(
                "the cache holds at most {} entries and {} MiB: the entries bind while they take less than {even} bytes on average",
                config.bounds.entries,
                config.bounds.bytes >> 20
            );
        }
        if config.freshness.ttl.is_none() {
            info!("documents are held until they are purged or evicted: --ttl gives them a time to live");
        }
        let proxy = match args.api() {
            None => Proxy::new(config),
            Some(api) => {
                let source = HttpSource::new(api).map_err(|why| anyhow!(why))?;
                Proxy::over(config, Box::new(source))
            }
        };
        if self.has_settings {
            self.rereads = true;
            let reread = proxy.clone();
            self.in_background(at_sighup(move || lifetimes_anew(&reread)));
        }
        self.in_background(proxy.clone().sweep());
        self.in_background(proxy.clone().follow_changes());
        self.role(Role::Proxy, bound, proxy, limits, &args.http, &args.server, Some(&args.cache))
    }

    /// Serves a balancer. `cache` is how its proxies hold documents, if that is known: HTTP tells clients.
    pub(super) fn lb(&mut self, args: &LbArgs, cache: Option<&CacheArgs>) -> Result<SocketAddr> {
        let bound =
            self.listen("balancer", &self.lines("balancer", args.port, &args.server), &args.server)?;
        if args.proxies_file.is_none() {
            for proxy in listed::all(&args.proxies) {
                not_itself(address_of(&bound)?, &proxy, "--proxies")?;
            }
        }
        let link = self.link(&args.link, &args.server, args.max_document)?;
        let front_ends = 1 + usize::from(self.has_http(&args.http));
        let limits = self.limits(&args.server, front_ends)?;
        let certificates = in_use(&limits, Some(&link));
        let admins = Admins::new(listed::all(&args.admin_from));
        let balance = args.balance.config(args.members(), link, admins);
        if let Some(directory) = &args.state_dir {
            try_state_dir(directory).with_context(|| {
                format!("nothing can be kept in {directory:?}; name another directory with --state-dir")
            })?;
        }
        let config = LbConfig { state_dir: args.state_dir.clone(), certificates, ..balance };
        let limits = ServerLimits { enough: config.enough(), ..limits };
        let lb = Lb::new(config).map_err(|error| anyhow!("the list of proxies is bad: {error}"))?;
        self.in_background(lb.clone().check_health());
        self.in_background(lb.clone().follow());
        if args.proxies_file.is_some() {
            self.rereads = true;
            let reloaded = lb.clone();
            self.in_background(at_sighup(move || reloaded.reload()));
        }
        self.role(Role::Balancer, bound, lb, limits, &args.http, &args.server, cache)
    }

    /// Serves a role: its lines, and HTTP if that is wanted.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is of the role, and the three have no more in common"
    )]
    fn role<H: Handler>(
        &mut self,
        role: Role,
        bound: Vec<Bound>,
        handler: Arc<H>,
        limits: ServerLimits,
        http: &HttpArgs,
        server: &ServerArgs,
        cache: Option<&CacheArgs>,
    ) -> Result<SocketAddr> {
        let log = self.access_log(&server.access_log)?;
        if !self.has_http(http) && log.is_none() {
            // Nobody would see what is measured.
            return self.serve(role.as_str(), bound, handler, limits);
        }
        let handler = Measured::logged(handler, log);
        let address = self.serve(role.as_str(), bound, handler.clone(), limits.clone())?;
        if self.has_http(http) {
            let config = http.config(role, address.port(), limits, cache);
            self.http(handler, config, http, server)?;
        }
        Ok(address)
    }

    /// Opens the access log, if there is to be one. It is opened anew at SIGHUP, and written to its end at the stop.
    fn access_log(&mut self, args: &AccessLogArgs) -> Result<Option<Arc<AccessLog>>> {
        let Some(config) = args.config() else { return Ok(None) };
        let running = AccessLog::open(&config).with_context(|| {
            format!("cannot open the access log {}; name another with --access-log", config.target)
        })?;
        let log = running.log().clone();
        self.last.push(Box::new(|left| running.close(left)));
        self.rereads = true;
        let reopened = log.clone();
        self.in_background(at_sighup(move || reopened.reopen()));
        Ok(Some(log))
    }

    /// The limits of a node's links, and their TLS.
    fn link(&mut self, args: &LinkArgs, server: &ServerArgs, max_document: usize) -> Result<LinkLimits> {
        let tls = self.peer_tls(&args.peer)?;
        Ok(LinkLimits { tls, ..args.limits(server.threads(), max_document) })
    }

    /// Where a role listens for lines.
    fn lines(&self, role: &str, port: u16, args: &ServerArgs) -> Listen {
        let port_flag = match role {
            "origin" if self.is_cluster => "--origin-port",
            "proxy" if self.is_cluster => "--proxy-port",
            _ => "--port",
        };
        Listen { host: args.host, port, host_flag: "--host", port_flag }
    }
}

/// The certificates of a node: of its listeners, and of its links if it has some.
fn in_use(server: &ServerLimits, link: Option<&LinkLimits>) -> Certificates {
    Certificates {
        listener: server.tls.as_ref().map(|tls| tls.in_use().clone()),
        peer: link.and_then(|link| link.tls.as_ref()?.in_use().cloned()),
    }
}

/// The log of changes of an origin, and who fills it.
fn changes_of(data: &Path, args: &OriginArgs) -> Result<Arc<Changes>> {
    let changes = Changes::new(args.changes.lease);
    match args.changes.changes {
        TellArg::Auto => watcher::start(data, args.store.config().layout, &changes)
            .context("no thread can be started that watches the data directory")?,
        TellArg::Told => changes.begin(),
        TellArg::Off => {}
    }
    Ok(changes)
}

/// Makes a state directory and writes to it, so that a purge need not find out that nothing is kept there.
fn try_state_dir(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let file = directory.join(format!("try.{}", std::process::id()));
    std::fs::write(&file, b"")?;
    std::fs::remove_file(&file)
}

/// Reads the settings again for how long documents live; the rest of them needs a restart.
fn lifetimes_anew(proxy: &Arc<Proxy>) {
    match config::command_line(std::env::args_os()).map(|cli| cli.command) {
        Ok(Command::Proxy(args)) => proxy.live_by(args.cache.freshness()),
        Ok(Command::Cluster(args)) => proxy.live_by(args.cache.freshness()),
        Ok(_) => return,
        Err(why) => return warn!("the settings are as they were: {}", why.to_string().trim_end()),
    }
    info!("the lifetimes of documents were read anew; any other setting needs a restart");
}

/// Does it at each SIGHUP.
async fn at_sighup(reread: impl Fn()) {
    let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    let Ok(mut hangup) = signal.inspect_err(|error| warn!(%error, "SIGHUP is not heard")) else { return };
    while hangup.recv().await.is_some() {
        reread();
    }
}
