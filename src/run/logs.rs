//! Logs to standard error. They never hold up a node: when standard error is slow or closed, lines are lost, not requests.

use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::LogArgs;
use crate::terminal::{Format, has_colours};

/// Lines in the queue of the writing thread, at most; further ones are lost.
const WAITING: usize = 1024;

/// The end of the process waits this long for queued lines.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// The log of this process. Its drop waits until all queued lines are written, within a deadline.
pub struct Log(SyncSender<Message>);

impl Drop for Log {
    fn drop(&mut self) {
        let (flushed, all_flushed) = sync_channel(1);
        if self.0.try_send(Message::Flush(flushed)).is_ok() {
            // A standard error that takes nothing must not keep the process from ending.
            let _ = all_flushed.recv_timeout(FLUSH_DEADLINE);
        }
    }
}

/// A message to the writing thread.
enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Starts to log as the flags say. Fails on a filter that is none.
pub fn start(args: &LogArgs) -> Result<Log> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {:?}", args.log))?;
    let lines = Lines::start();
    let log = Log(lines.0.clone());
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .with_ansi(has_colours(&io::stderr()))
        // It reports a failed write to standard error on standard error, and panics.
        .log_internal_errors(false);
    match args.log_format {
        Format::Text => format.init(),
        Format::Json => format.json().init(),
    }
    Ok(log)
}

/// The queue of the writing thread.
#[derive(Clone)]
struct Lines(SyncSender<Message>);

impl Lines {
    fn start() -> Self {
        let (lines, queue) = sync_channel(WAITING);
        std::thread::spawn(move || {
            for message in queue {
                // A failed write cannot be reported anywhere, and the receiver of a flush may have stopped waiting.
                let _ = match message {
                    Message::Line(line) => io::stderr().write_all(&line).is_ok(),
                    Message::Flush(flushed) => flushed.try_send(()).is_ok(),
                };
            }
        });
        Self(lines)
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    /// Queues one whole line: the subscriber writes line by line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.try_send(Message::Line(line.to_vec())) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
