//! The access log: a line for each request for a document, and for each that changes what nodes hold or ask.
//!
//! ```text
//!   request ──▶ queue of this core ──every 50 ms──▶ writer, a thread ──▶ line ──▶ file or standard output
//!                └─full: dropped, and counted
//! ```
//! No request waits for the log: what the writer cannot keep up with is dropped. A node without an access log pays one branch
//! a request. METRICS, EXPLAIN and WATCH are of nobody's documents, and are not logged.

mod line;
mod queue;
mod writer;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

pub use self::line::LineFormat;
use self::queue::Queue;
use self::writer::Writer;
use crate::handler::Ask;
use crate::stats::Counter;
use crate::wire::{Reply, Request};

/// The settings of an access log.
#[derive(Clone, Debug)]
pub struct AccessLogConfig {
    /// Where lines are written.
    pub target: Target,
    /// The form of a line.
    pub format: LineFormat,
    /// The share of requests that are logged, chosen at random, 0..1.
    pub share: f64,
}

/// Where lines are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Appended to a file, which is made if it is not there.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{path:?}"),
            Self::Stdout => f.write_str("on standard output"),
        }
    }
}

/// An access log, shared by all front ends of a node.
pub struct AccessLog {
    queue: Queue,
    share: f64,
    written: Counter,
    /// Lines that could not be written.
    failed: Counter,
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// The log and its writer, which ends with it.
pub struct Running {
    log: Arc<AccessLog>,
    writer: Writer,
}

/// A request whose reply is to be logged.
pub struct Asked<'a> {
    from: IpAddr,
    method: &'static str,
    /// A key, a pattern or a node.
    what: Cow<'a, str>,
    began: Instant,
}

impl Asked<'_> {
    /// A copy that owns its text, for a reply that comes later.
    pub fn into_owned(self) -> Asked<'static> {
        Asked { what: Cow::Owned(self.what.into_owned()), ..self }
    }
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be opened, or no thread be started.
    pub fn open(config: &AccessLogConfig) -> io::Result<Running> {
        let log = Arc::new(Self {
            queue: Queue::default(),
            share: config.share,
            written: Counter::default(),
            failed: Counter::default(),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let writer = Writer::start(&log, config)?;
        Ok(Running { log, writer })
    }

    /// The request, if its reply is to be logged.
    pub fn asked<'a>(&self, ask: &Ask<'a>) -> Option<Asked<'a>> {
        let (method, what) = named(ask.request)?;
        let is_chosen = self.share >= 1.0 || fastrand::f64() < self.share;
        is_chosen.then_some(Asked { from: ask.from, method, what, began: ask.now })
    }

    /// Logs a reply: queues it, or drops it.
    pub fn replied(&self, asked: &Asked<'_>, reply: &Reply) {
        self.queue.push(asked, reply, Instant::now());
    }

    /// Has the file opened anew before the next line: the old one may have been renamed.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Lines that were written so far.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// Requests that are not in the log, because the writer was too slow or could not write.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped() + self.failed.get()
    }
}

impl Running {
    /// The log.
    pub fn log(&self) -> &Arc<AccessLog> {
        &self.log
    }

    /// Writes the queued records and ends the writer; waits for it for `patience` at the most.
    pub fn close(self, patience: Duration) {
        self.log.stop.store(true, Ordering::Relaxed);
        self.writer.join(patience);
    }
}

/// The method of a request that is logged, and what it is about.
fn named(request: Request<'_>) -> Option<(&'static str, Cow<'_, str>)> {
    Some(match request {
        Request::Get(key) => ("GET", key.as_str().into()),
        Request::Purge { pattern, soft: false } => ("PURGE", pattern.to_string().into()),
        Request::Purge { pattern, soft: true } => ("PURGE soft", pattern.to_string().into()),
        Request::Changed(changed) => {
            let names: Vec<String> = changed.patterns().map(|pattern| pattern.to_string()).collect();
            ("CHANGED", names.join(",").into())
        }
        Request::Drain { node, force: false } => ("DRAIN", node.into()),
        Request::Drain { node, force: true } => ("DRAIN force", node.into()),
        Request::Undrain(node) => ("UNDRAIN", node.into()),
        Request::Metrics
        | Request::MetricsOf(_)
        | Request::Explain(_)
        | Request::Hello
        | Request::Watch(_) => return None,
    })
}
