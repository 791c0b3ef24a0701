//! Load for any node, and what it does under it: `dproxy bench`.
//!
//! ```text
//!   keys ▶ feed ▶ worker (one a thread) ─┬─ session, session, …   or   plain, plain, …
//!            ▲                           └─ tally ──▶ report
//!          pacer (open loop only)
//! ```
//! Each connection is a socket of its own. A request costs a few moves of memory beside its share of the system calls, so
//! that a node is measured and not the load. Every reply is taken apart as a node would.

mod config;
mod feed;
mod keys;
mod pacer;
mod plain;
mod progress;
mod report;
mod session;
mod slots;
mod tally;
mod worker;
mod zipf;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::feed::{Feed, Window};
use self::keys::{Keys, Order};
use self::pacer::Pacer;
use self::progress::Progress;
use self::tally::Tally;
use self::worker::{Orders, Worker};
use crate::cores;
use crate::keylist;
use crate::net::LinkError;
use crate::net::link::hello;
use crate::net::transport;
use crate::terminal::{complain, print};

pub use self::config::{Config, KeySource, Length, Mode, Output};
pub use self::keys::{KeyRange, KeyRangeError};
pub use self::report::{Latency, Report};

/// The longest reply that is taken.
const MAX_REPLY: usize = 64 << 20;
/// From when the threads are told to when the first request is due: time to connect.
const LEAD: Duration = Duration::from_millis(20);
/// The exit code when nothing answered.
const NO_REPLY: u8 = 3;

/// Puts the load on, and says what came of it. Exit code: 0 when all replies were OK, 3 when there was none, else 1.
pub fn run(config: &Config) -> Result<ExitCode> {
    let keys = match &config.keys {
        KeySource::File(path) => match keylist::read(path)? {
            keys if keys.is_empty() => bail!("there is no key in {}", path.display()),
            keys => Keys::List(keys.into()),
        },
        KeySource::Range(range) => Keys::Range(range.clone()),
    };
    let runtime = cores::runtime()?;
    let Some(orders) = runtime.block_on(try_out(config))? else { return Ok(ExitCode::from(NO_REPLY)) };
    // A node may have said that it takes fewer.
    let config = &Config { in_flight: orders.in_flight, ..config.clone() };
    let start = Instant::now() + LEAD;
    let begin = start + config.warmup;
    let end = match config.length {
        Length::Time(time) => Some(begin + time),
        Length::Requests(_) => None,
    };
    let window = Window { start, begin, end };
    let workers: Vec<Arc<Worker>> =
        (0..config.threads()).map(|index| worker(config, orders, &keys, window, index)).collect();
    let ended = load(&runtime, &workers, Progress::new(window, config.requests()))?;
    if ended < begin {
        complain("it was stopped while it warmed up: nothing is counted yet");
        return Ok(ExitCode::FAILURE);
    }
    let mut sum = Tally::new(window);
    workers.iter().for_each(|worker| sum.add(&worker.state().tally));
    let report = Report::new(config, &sum, ended);
    print(
        match config.output {
            Output::Text => report.text(),
            Output::Json => report.json()?,
        } + "\n",
    )?;
    Ok(match (sum.replies(), report.errors) {
        (0, _) => ExitCode::from(NO_REPLY),
        (_, 0) => ExitCode::SUCCESS,
        (_, _) => ExitCode::FAILURE,
    })
}

fn worker(config: &Config, orders: Orders, keys: &Keys, window: Window, index: usize) -> Arc<Worker> {
    let threads = config.threads();
    let connections = config.connections / threads + usize::from(index < config.connections % threads);
    Worker::new(
        Orders { connections, ..orders },
        Feed::new(window, config.requests(), config.rate, index, threads),
        Order::new(keys.clone(), config.zipf, config.seed, index, threads),
        Tally::new(window),
    )
}

/// Connects once, so that a mistake is told and not measured. `None` when nothing answers, which is said.
async fn try_out(config: &Config) -> Result<Option<Orders>> {
    let (peer, deadline) = (&config.peer, config.timeout);
    let mut stream = match transport::dial(&peer.host, peer.port, deadline).await {
        Ok(stream) => stream,
        Err(error) => {
            complain(LinkError::of_dial(&error).advice(peer));
            return Ok(None);
        }
    };
    let address = stream.peer_addr()?.ip();
    let mut in_flight = config.in_flight();
    if config.mode == Mode::Session {
        match timeout(deadline, hello(&mut stream)).await {
            Ok(Ok(Some(most))) if most < in_flight => {
                complain(format!("{peer} takes {most} requests in flight on a session, not {in_flight}"));
                in_flight = most;
            }
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None) | Err(_)) => bail!("{peer} has no sessions; ask it with --plain"),
            Err(_) => {
                complain(format!("{peer} does not answer; a node without sessions is asked with --plain"));
                return Ok(None);
            }
        }
    }
    Ok(Some(Orders {
        address,
        port: peer.port,
        mode: config.mode,
        connections: config.connections,
        in_flight,
        timeout: config.timeout,
        is_open_loop: config.rate.is_some(),
    }))
}

/// Puts the load on, to its end.
async fn work(worker: Arc<Worker>) {
    let mut tasks = JoinSet::new();
    for index in 0..worker.orders.connections {
        match worker.orders.mode {
            Mode::Session => tasks.spawn(session::run(worker.clone(), index)),
            Mode::Plain => tasks.spawn(plain::run(worker.clone(), index)),
        };
    }
    let pacer = worker.orders.is_open_loop.then(|| Pacer::start(worker.clone())).transpose();
    if let Err(error) = pacer {
        return tracing::error!(%error, "an open loop needs a thread for its clock");
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a connection of the load ended in a panic");
        }
    }
}

type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Runs the workers, each on a thread of its own, to their end or to a signal; tells when that was.
fn load(
    runtime: &tokio::runtime::Runtime,
    workers: &[Arc<Worker>],
    mut progress: Progress,
) -> Result<Instant> {
    let stop = CancellationToken::new();
    let (running, mut all) = tokio::sync::mpsc::channel::<()>(1);
    let jobs = workers.iter().map(|worker| {
        let (worker, stop, running) = (worker.clone(), stop.clone(), running.clone());
        let job: Job = Box::new(move || {
            Box::pin(async move {
                let _running = running;
                stop.run_until_cancelled(work(worker)).await;
            })
        });
        vec![job]
    });
    let threads = cores::start(jobs)?;
    drop(running);
    let ended = runtime.block_on(async {
        let mut draw = tokio::time::interval(progress::EVERY);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                _ = all.recv() => break,
                Some(()) = interrupt.recv() => break stop.cancel(),
                Some(()) = terminate.recv() => break stop.cancel(),
                _ = draw.tick() => progress.draw(workers),
            }
        }
        Ok::<_, std::io::Error>(Instant::now())
    })?;
    threads.join();
    Ok(ended)
}
