//! A process and its nodes: the listeners, the tasks of each thread, and an end within the drain deadline.

use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::descriptors::Descriptors;
use super::listen::{Listen, address_of, listen};
use super::sockets::{Front, Sockets};
use super::systemd::{self, Watchdog};
use super::{shutdown, signals};
use crate::args::{HttpArgs, ServerArgs};
use crate::cores;
use crate::handler::Handler;
use crate::http::{Gateway, HttpConfig, Measured};
use crate::memory::Memory;
use crate::net::transport::{Bound, Listener, adopt};
use crate::net::{Server, ServerLimits, Unread};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A last duty, within the time that is left of the drain.
type Last = Box<dyn FnOnce(Duration) + Send>;

/// The nodes of this process.
#[derive(Default)]
pub(super) struct Process {
    stop: CancellationToken,
    /// Whether all roles are served by this process, each with flags of its own.
    pub(super) is_cluster: bool,
    /// The number of front ends of a cluster. Any other process has those of its one role.
    pub(super) front_ends: Option<usize>,
    /// The sockets that were handed over and are not served yet.
    sockets: Sockets,
    /// Whether settings came from a file.
    pub(super) has_settings: bool,
    /// Whether SIGHUP has a file read anew.
    pub(super) rereads: bool,
    /// Cancelled when the last line server has ended: until then HTTP goes on, and reports that the node is not ready.
    lines_ended: CancellationToken,
    /// The line servers that have not ended.
    lines: TaskTracker,
    /// The tasks of each thread. The process ends when all of them have.
    served: Vec<Vec<Task>>,
    /// Tasks of the first thread that are dropped at the end of the process.
    background: Vec<Task>,
    /// The memory that all of it may use.
    pub(super) memory: Memory,
    /// The limit of files that it may open.
    descriptors: Descriptors,
    /// The limit of connections of each front end.
    connections: Option<usize>,
    /// The count of unread bytes, shared by all nodes: the memory is the process's.
    unread: Option<Arc<Unread>>,
    /// Lines for standard output, once all nodes listen.
    pub(super) greeting: Vec<String>,
    /// The longest time that a stop may take.
    drain: Duration,
    /// Done one after another when all tasks have ended.
    pub(super) last: Vec<Last>,
}

impl Process {
    /// A process without nodes, that may use so much memory and open so many files, and to which these sockets were handed
    /// over.
    pub(super) fn within(memory: Memory, descriptors: Descriptors, sockets: Sockets) -> Self {
        Self { memory, descriptors, sockets, ..Self::default() }
    }

    /// Listens as the flags say, or takes over the socket that systemd hands to the node of this process.
    pub(super) fn listen(&mut self, role: &str, at: &Listen, args: &ServerArgs) -> Result<Vec<Bound>> {
        // Of a cluster, clients ask the balancer.
        let inherited = match self.is_cluster && role != "balancer" {
            true => Vec::new(),
            false => self.sockets.take(Front::Line, Some(at.port)),
        };
        if inherited.is_empty() { listen(role, at, args) } else { adopt_all(inherited, args) }
    }

    /// Whether HTTP is served: at a port, or on a socket that was handed over.
    pub(super) fn has_http(&self, args: &HttpArgs) -> bool {
        args.http_port.is_some() || !self.is_cluster && self.sockets.has(Front::Http)
    }

    /// The limits of a server of a role with so many front ends.
    pub(super) fn limits(&mut self, args: &ServerArgs, front_ends: usize) -> Result<ServerLimits> {
        let (memory, descriptors) = (self.memory, self.descriptors);
        let front_ends = self.front_ends.unwrap_or(front_ends);
        let connections = *self
            .connections
            .get_or_insert_with(|| descriptors.connections(args.max_connections, args.threads(), front_ends));
        let limits = args.limits(self.unread.get_or_insert_with(|| {
            let chosen = || said("max-unread", memory.unread(), memory);
            Arc::new(Unread::new(args.max_unread.unwrap_or_else(chosen)))
        }));
        let tls = self.server_tls(&args.tls)?;
        Ok(ServerLimits { max_connections: connections, tls, ..limits })
    }

    /// Serves a handler on every thread.
    pub(super) fn serve<H: Handler>(
        &mut self,
        role: &str,
        bound: Vec<Bound>,
        handler: Arc<H>,
        limits: ServerLimits,
    ) -> Result<SocketAddr> {
        let address = address_of(&bound)?;
        self.greeting.push(format!("dproxy {role} listens on {address}"));
        self.drain = self.drain.max(limits.drain);
        let server = Server::new(handler, limits, self.stop.clone());
        let lines = self.lines.clone();
        self.on_every_thread(bound, move |listener| {
            let (server, lines) = (server.clone(), lines.clone());
            async move { lines.track_future(server.serve(listener)).await }
        });
        Ok(address)
    }

    /// Serves a handler over HTTP on every thread.
    pub(super) fn http<H: Handler>(
        &mut self,
        handler: Arc<Measured<H>>,
        config: HttpConfig,
        args: &HttpArgs,
        server: &ServerArgs,
    ) -> Result<()> {
        let role = config.role.as_str();
        let host = args.http_host.unwrap_or(server.host);
        let config = HttpConfig { names: args.names(host), ..config };
        let port = args.http_port.unwrap_or(0);
        let at = Listen { host, port, host_flag: "--http-host", port_flag: "--http-port" };
        let inherited = self.sockets.take(Front::Http, args.http_port);
        let bound =
            if inherited.is_empty() { listen(role, &at, server)? } else { adopt_all(inherited, server)? };
        handler.serves_http(address_of(&bound)?.port());
        self.greeting.push(format!("dproxy {role} serves http on http://{}/", address_of(&bound)?));
        // When another process takes the port over, readiness is for that process to report.
        let close = if server.reuse_port { &self.stop } else { &self.lines_ended };
        let gateway = Gateway::new(handler, config, self.stop.clone(), close.clone());
        self.in_background(gateway.clone().watch());
        self.on_every_thread(bound, move |listener| {
            let gateway = gateway.clone();
            async move { gateway.serve(listener).await }
        });
        Ok(())
    }

    /// Gives each thread one listener of each address. `serve` returns false when it had to cut connections.
    fn on_every_thread<S: Future<Output = bool> + Send + 'static>(
        &mut self,
        bound: Vec<Bound>,
        serve: impl Fn(Listener) -> S + Clone + Send + 'static,
    ) {
        // Listeners of a second address come behind those of the first, one for each thread again.
        let address = bound.first().map(|bound| bound.address().ok());
        let threads = bound.iter().filter(|bound| Some(bound.address().ok()) == address).count().max(1);
        self.served.resize_with(self.served.len().max(threads), Vec::new);
        for (index, bound) in bound.into_iter().enumerate() {
            let serve = serve.clone();
            self.served[index % threads].push(Box::pin(async move {
                let drained = match bound.listen() {
                    Ok(listener) => serve(listener).await,
                    Err(error) => return error!(%error, "cannot listen"),
                };
                if !drained {
                    warn!("some connections did not end within the drain deadline and were cut");
                }
            }));
        }
    }

    /// Runs a task on the first thread for as long as the process lives.
    pub(super) fn in_background(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.push(Box::pin(task));
    }

    /// Serves until a signal, and returns when all nodes have drained.
    pub(super) fn live(self) -> Result<ExitCode> {
        self.sockets.none_is_left()?;
        let rereads = self.rereads;
        let Self {
            stop,
            lines_ended,
            lines,
            mut served,
            mut background,
            greeting,
            drain,
            last,
            descriptors,
            ..
        } = self;
        if let Some(mut watchdog) = Watchdog::asked_for() {
            for tasks in &mut served {
                tasks.push(Box::pin(watchdog.beat(stop.clone())));
            }
            background.push(Box::pin(watchdog.watch(stop.clone())));
        }
        descriptors.suffice(served.len(), served.iter().map(Vec::len).sum())?;
        let mut threads = served.into_iter();
        let first = threads.next().context("nothing to serve")?;
        let others = cores::start(threads)?;
        let runtime = cores::runtime()?;
        let stopped = stop.clone();
        runtime.block_on(async {
            tokio::spawn(async move {
                if let Err(error) = shutdown::watch(stop).await {
                    warn!(%error, "signals are not heard: only SIGKILL will stop this process");
                }
            });
            let until = tokio::spawn(async move {
                stopped.cancelled().await;
                let until = Instant::now() + drain;
                lines.close();
                lines.wait().await;
                lines_ended.cancel();
                until
            });
            tokio::spawn(signals::explain(rereads));
            for task in background {
                tokio::spawn(task);
            }
            greet(&greeting);
            systemd::ready();
            join_all(first).await;
            // This thread handles the signals, so it stays until the others have drained as well.
            if tokio::task::spawn_blocking(|| others.join()).await.is_err() {
                warn!("the other threads could not be awaited");
            }
            let until = until.await.unwrap_or_else(|_| Instant::now());
            for last in last {
                let left = until.saturating_duration_since(Instant::now());
                // A panic in it was logged, and the others are still to be done.
                let _ = tokio::task::spawn_blocking(move || last(left)).await;
            }
        });
        // Reads that a hanging disk blocks must not hold up the end.
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }
}

/// Logs a default that was chosen by the memory there is, and returns it.
pub(super) fn said(flag: &str, bytes: usize, memory: Memory) -> usize {
    info!("--{flag} is {} MiB by default, of {memory}", bytes >> 20);
    bytes
}

/// Listens with sockets that another process opened, on every thread.
fn adopt_all(sockets: Vec<TcpListener>, args: &ServerArgs) -> Result<Vec<Bound>> {
    let adopted = sockets.into_iter().map(|socket| adopt(socket, args.threads()));
    let adopted: Vec<Vec<Bound>> =
        adopted.collect::<std::io::Result<_>>().context("cannot take a socket over")?;
    Ok(adopted.into_iter().flatten().collect())
}

/// Prints where each node listens. A closed standard output is no reason to stop.
fn greet(lines: &[String]) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    let _ = out.flush();
}
