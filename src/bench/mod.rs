//! `dproxy bench`: puts load on a node and measures its replies.
//!
//! ```text
//!   keys, schedule ▶ worker (one for each thread) ─┬─ session, session, …   or   plain, plain, …   or   http, http, …
//!            ▲                                     └─ measurements ──▶ report
//!          pacer (open loop only)
//! ```
//! A request costs a few copies in memory beside its share of the system calls, so that the node is measured and not the
//! load. Every reply is parsed and checked as a node would do it.

mod config;
mod http;
mod keys;
mod measurements;
mod pacer;
mod plain;
mod progress;
mod report;
mod response;
mod schedule;
mod session;
mod worker;
mod zipf;

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::keys::Keys;
use self::measurements::Measurements;
use self::pacer::Pacer;
use self::progress::Progress;
use self::report::Report;
use self::schedule::RunTimes;
use self::worker::Worker;
use crate::cores;
use crate::keylist;
use crate::net::dial::dial;
use crate::net::link::hello;
use crate::net::transport::Stream;
use crate::net::{Link, LinkError, LinkLimits};
use crate::terminal::{Format, complain, print};
use crate::wire::{ReplyView, Request, Status};

pub use self::config::{BenchConfig, KeySource, Length, Mode};
pub use self::keys::KeyRange;

/// The longest reply, in bytes.
const MAX_REPLY: usize = 64 << 20;
/// From the start of the threads until the first request is due: time to connect.
const LEAD: Duration = Duration::from_millis(20);
/// How long [`is_closed_at_once`] waits.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);
/// The exit code when no reply came.
const NO_REPLY: u8 = 3;

/// Runs the load and prints the report. Exit code: 0 when all replies were OK, 3 when none came, else 1.
pub fn run(config: &BenchConfig) -> Result<ExitCode> {
    let keys = match &config.keys {
        KeySource::File(path) => match keylist::read(path)? {
            keys if keys.is_empty() => bail!("there is no key in {}", path.display()),
            keys => Keys::List(keys.into()),
        },
        KeySource::Range(range) => Keys::Range(range.clone()),
    };
    let runtime = cores::runtime()?;
    let Some((address, in_flight, mode)) = runtime.block_on(connect_once(config))? else {
        return Ok(ExitCode::from(NO_REPLY));
    };
    // The node may allow fewer on a session than were asked for, or have no sessions.
    let config = &BenchConfig { in_flight, mode, ..config.clone() };
    let start = Instant::now() + LEAD;
    let measured_from = start + config.warmup;
    let end = match config.length {
        Length::Time(time) => Some(measured_from + time),
        Length::Requests(_) => None,
    };
    let times = RunTimes { start, measured_from, end };
    let workers: Vec<Arc<Worker>> =
        (0..config.threads()).map(|index| Worker::new(config, address, &keys, times, index)).collect();
    let ended = load(&runtime, &workers, Progress::new(times, config.requests()))?;
    if ended < measured_from {
        complain("it was stopped during the warm-up: no request is counted yet");
        return Ok(ExitCode::FAILURE);
    }
    let mut sum = Measurements::new(times);
    workers.iter().for_each(|worker| sum.add(&worker.state().measurements));
    let report = Report::new(config, &sum, ended);
    if let (Some(rate), true) = (config.rate, report.behind_seconds > 0.0) {
        complain(format!(
            "the load was {:.1} s behind its rate of {rate} a second at the end: that is more than is possible here",
            report.behind_seconds
        ));
    }
    let is_refused = sum.replies() > 0 && sum.status(Status::BadRequest) == sum.replies();
    if is_refused && let Some(why) = runtime.block_on(refusal(config)) {
        complain(format!("{} refuses requests: {why}", config.peer));
    }
    print(
        match config.output {
            Format::Text => report.text(),
            Format::Json => report.json()?,
        } + "\n",
    )?;
    // Those that were due in the warm-up are replies, too.
    Ok(match (sum.replies().max(sum.replies_measured), report.errors) {
        (0, _) => ExitCode::from(NO_REPLY),
        (_, 0) => ExitCode::SUCCESS,
        (_, _) => ExitCode::FAILURE,
    })
}

/// Whether the node closes behind its answer to HELLO: a balancer without sessions has passed it on, and the answer back.
async fn is_closed_at_once(stream: &mut Stream) -> bool {
    timeout(CLOSED_WITHIN, stream.read_u8()).await.is_ok()
}

/// Why the node takes no request at all, in its words: its port may be one of HTTP. `None` when it takes them, or does not say.
async fn refusal(config: &BenchConfig) -> Option<String> {
    let limits = LinkLimits { tls: config.tls.clone(), ..LinkLimits::default() };
    let link = Link::new(config.peer.clone(), limits);
    let line = link.ask_apart(Request::Metrics, Instant::now() + config.timeout).await.ok()?;
    let reply = ReplyView::parse(&line).ok()?;
    if reply.status == Status::BadRequest { serde_json::from_str(reply.data).ok() } else { None }
}

/// Connects once before the run, so that a wrong address or mode is reported and not measured: the address of the node, and
/// the requests in flight on each session. `None` when no reply came; that is reported here.
async fn connect_once(config: &BenchConfig) -> Result<Option<(IpAddr, usize, Mode)>> {
    let (peer, deadline) = (&config.peer, config.timeout);
    let dialled = async {
        let dialled = dial(&peer.host, peer.port, deadline).await?;
        dialled.secured(config.tls.as_ref(), &peer.host, deadline).await
    };
    let mut stream = match dialled.await {
        Ok(dialled) => dialled.stream,
        Err(error) => {
            complain(LinkError::of_dial(&error).advice(peer));
            return Ok(None);
        }
    };
    let address = stream.peer_addr()?.ip();
    let mut in_flight = config.in_flight();
    if config.mode == Mode::Session {
        match timeout(deadline, hello(&mut stream)).await {
            Ok(Ok(Some(_))) if is_closed_at_once(&mut stream).await => {
                complain(format!("{peer} passes sessions on and ends them; it is asked as with --plain"));
                return Ok(Some((address, config.in_flight(), Mode::Plain)));
            }
            Ok(Err(LinkError::Busy)) => {
                complain(LinkError::Busy.advice(peer));
                return Ok(None);
            }
            Ok(Ok(Some(limit))) if limit < in_flight => {
                complain(format!("{peer} takes {limit} requests in flight on a session, not {in_flight}"));
                in_flight = limit;
            }
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None) | Err(_)) => match refusal(config).await {
                Some(why) => bail!("{peer} refuses requests: {why}"),
                None => bail!("{peer} has no sessions; ask it with --plain"),
            },
            Err(_) => {
                complain(format!("{peer} does not answer; a node without sessions is asked with --plain"));
                return Ok(None);
            }
        }
    }
    Ok(Some((address, in_flight, config.mode)))
}

/// The load of one thread, until the run is over.
async fn work(worker: Arc<Worker>) {
    let mut tasks = JoinSet::new();
    for index in 0..worker.connections {
        match worker.config.mode {
            Mode::Session => tasks.spawn(session::run(worker.clone(), index)),
            Mode::Plain => tasks.spawn(plain::run(worker.clone(), index)),
            Mode::Http => tasks.spawn(http::run(worker.clone(), index, true)),
            Mode::HttpPlain => tasks.spawn(http::run(worker.clone(), index, false)),
        };
    }
    let pacer = worker.is_open_loop().then(|| Pacer::start(worker.clone())).transpose();
    if let Err(error) = pacer {
        return tracing::error!(%error, "cannot start the clock of the open loop");
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a connection of the load ended in a panic");
        }
    }
}

/// Runs each worker on a thread of its own until the run is over or a signal comes. Returns when that was.
fn load(
    runtime: &tokio::runtime::Runtime,
    workers: &[Arc<Worker>],
    mut progress: Progress,
) -> Result<Instant> {
    let stop = CancellationToken::new();
    // Ends when the last worker drops its sender.
    let (running, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
    let tasks = workers.iter().map(|worker| {
        let (worker, stop, running) = (worker.clone(), stop.clone(), running.clone());
        vec![async move {
            let _running = running;
            stop.run_until_cancelled(work(worker)).await;
        }]
    });
    let threads = cores::start(tasks)?;
    drop(running);
    let ended = runtime.block_on(async {
        let mut draw = tokio::time::interval(progress::EVERY);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                _ = all_done.recv() => break,
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
