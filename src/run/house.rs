//! The nodes of a process: what they listen on, what each thread serves, and how all of it ends.

use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::listen::{Listen, address_of, listen};
use super::shutdown;
use super::systemd::{self, Watchdog};
use crate::args::{HttpArgs, ServerArgs};
use crate::cores;
use crate::handler::Handler;
use crate::http::{Gateway, HttpConfig, Measured};
use crate::net::transport::{Bound, Listener, adopt};
use crate::net::{Server, ServerLimits, Unread};

/// What a thread does.
type Task = Pin<Box<dyn Future<Output = ()>>>;
/// Made on one thread, begun on another: the task itself never leaves the thread that it runs on.
type Job = Box<dyn FnOnce() -> Task + Send>;

/// The end of something, within a time.
type Last = Box<dyn FnOnce(Duration) + Send>;

/// The nodes of this process.
#[derive(Default)]
pub(super) struct House {
    stop: CancellationToken,
    /// Whether all roles are served by this process, each with flags of its own.
    pub(super) is_cluster: bool,
    /// A listener that was handed over to this process, for its one node.
    pub(super) inherited: Option<TcpListener>,
    /// Cancelled when no line is served any more: until then HTTP goes on, and says that the node is not ready.
    lines_ended: CancellationToken,
    /// The line servers that have not ended.
    lines: TaskTracker,
    /// What each thread serves.
    served: Vec<Vec<Job>>,
    /// What the first thread does beside, for as long as the process lives.
    beside: Vec<Job>,
    /// What waits to be read: memory is the process's, so all nodes have it in common.
    unread: Option<Arc<Unread>>,
    /// What to say once all of it listens.
    pub(super) greeting: Vec<String>,
    /// The longest time that a stop may take.
    drain: Duration,
    /// What is done when all else has ended, in what is left of that time.
    pub(super) last: Vec<Last>,
}

impl House {
    /// Listens where the flags say, unless a listener was handed over.
    pub(super) fn listen(&mut self, role: &str, at: &Listen, args: &ServerArgs) -> Result<Vec<Bound>> {
        match self.inherited.take() {
            Some(listener) => adopt(listener, args.threads()).context("cannot take the socket over"),
            None => listen(role, at, args),
        }
    }

    /// The limits of one of its servers.
    pub(super) fn limits(&mut self, args: &ServerArgs) -> ServerLimits {
        args.limits(self.unread.get_or_insert_with(|| Arc::new(Unread::new(args.max_unread))))
    }

    /// Serves a handler on every thread.
    pub(super) fn serve<H: Handler>(
        &mut self,
        role: &str,
        bound: Vec<Bound>,
        handler: Arc<H>,
        args: &ServerArgs,
    ) -> Result<SocketAddr> {
        let address = address_of(&bound)?;
        self.greeting.push(format!("dproxy {role} listens on {address}"));
        self.drain = self.drain.max(args.drain);
        let server = Server::new(handler, self.limits(args), self.stop.clone());
        let lines = self.lines.clone();
        self.on_every_thread(bound, move |listener| {
            let (server, lines) = (server.clone(), lines.clone());
            async move { lines.track_future(server.serve(listener)).await }
        });
        Ok(address)
    }

    /// Serves a handler over HTTP on every thread, if that is wanted.
    pub(super) fn http<H: Handler>(
        &mut self,
        handler: Arc<Measured<H>>,
        config: HttpConfig,
        args: &HttpArgs,
        server: &ServerArgs,
    ) -> Result<()> {
        let Some(port) = args.http_port else { return Ok(()) };
        let role = config.role.as_str();
        let host = args.http_host.unwrap_or(server.host);
        let at = Listen { host, port, host_flag: "--http-host", port_flag: "--http-port" };
        let bound = listen(role, &at, server)?;
        self.greeting.push(format!("dproxy {role} serves http on http://{}/", address_of(&bound)?));
        // Where a next process takes the port over, it is the one to say that the node is ready.
        let close = if server.reuse_port { &self.stop } else { &self.lines_ended };
        let gateway = Gateway::new(handler, config, self.stop.clone(), close.clone());
        self.beside(gateway.clone().watch());
        self.on_every_thread(bound, move |listener| {
            let gateway = gateway.clone();
            async move { gateway.serve(listener).await }
        });
        Ok(())
    }

    /// One listener a thread; what `serve` makes of it tells whether all of its connections ended by themselves.
    fn on_every_thread<S: Future<Output = bool> + 'static>(
        &mut self,
        bound: Vec<Bound>,
        serve: impl Fn(Listener) -> S + Clone + Send + 'static,
    ) {
        self.served.resize_with(self.served.len().max(bound.len()), Vec::new);
        for (served, bound) in self.served.iter_mut().zip(bound) {
            let serve = serve.clone();
            served.push(Box::new(move || {
                Box::pin(async move {
                    let drained = match bound.listen() {
                        Ok(listener) => serve(listener).await,
                        Err(error) => return error!(%error, "cannot listen"),
                    };
                    if !drained {
                        warn!("some connections did not end within the drain deadline and were cut");
                    }
                })
            }));
        }
    }

    /// Has the first thread do something beside what it serves.
    pub(super) fn beside(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.beside.push(Box::new(|| Box::pin(task)));
    }

    /// Serves until a signal, and ends when all is drained.
    pub(super) fn live(self) -> Result<ExitCode> {
        let Self { stop, lines_ended, lines, mut served, mut beside, greeting, drain, last, .. } = self;
        if let Some(mut watchdog) = Watchdog::asked_for() {
            for jobs in &mut served {
                let beat = watchdog.beat(stop.clone());
                jobs.push(Box::new(|| Box::pin(beat)));
            }
            let watch = watchdog.watch(stop.clone());
            beside.push(Box::new(|| Box::pin(watch)));
        }
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
            let set = tokio::task::LocalSet::new();
            for job in beside {
                set.spawn_local(job());
            }
            say(&greeting);
            systemd::ready();
            set.run_until(futures_util::future::join_all(first.into_iter().map(|job| job()))).await;
            // This thread hears the signals, so it stays until the others have drained as well.
            if tokio::task::spawn_blocking(|| others.join()).await.is_err() {
                warn!("the other threads could not be awaited");
            }
            let until = until.await.unwrap_or_else(|_| Instant::now());
            for last in last {
                let left = until.saturating_duration_since(Instant::now());
                // A panic in it was told, and all else is done.
                let _ = tokio::task::spawn_blocking(move || last(left)).await;
            }
        });
        // Reads that block, of a disk that hangs, must not hold the end up.
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }
}

/// Says on standard output what listens where. Nobody may be reading it, which is no reason to stop.
fn say(lines: &[String]) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    let _ = out.flush();
}
