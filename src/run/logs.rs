//! Logs to standard error, which never stop a node: a reader that is slow, gone or full loses lines, not requests.

use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::{LogArgs, LogFormat};
use crate::terminal::has_colours;

/// Lines that may wait for a slow reader.
const WAITING: usize = 1024;

/// How long the end of the process waits for lines that are still on their way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// As long as it lives there is a log; when it goes, what was said has been written.
pub struct Log(SyncSender<Word>);

impl Drop for Log {
    fn drop(&mut self) {
        let (said, all_said) = sync_channel(1);
        if self.0.try_send(Word::Last(said)).is_ok() {
            // A reader that takes nothing does not keep the process from ending.
            let _ = all_said.recv_timeout(LAST_WORDS);
        }
    }
}

/// What the writing thread is handed.
enum Word {
    Line(Vec<u8>),
    Last(SyncSender<()>),
}

/// Begins to log as the flags say.
pub fn start(args: &LogArgs) -> Result<Log> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {:?}", args.log))?;
    let lines = Lines::start();
    let log = Log(lines.0.clone());
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .with_ansi(has_colours(&io::stderr()))
        // It would write to standard error that it cannot write to standard error, and panic.
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => format.init(),
        LogFormat::Json => format.json().init(),
    }
    Ok(log)
}

/// Hands lines to a thread that writes them.
#[derive(Clone)]
struct Lines(SyncSender<Word>);

impl Lines {
    fn start() -> Self {
        let (lines, waiting) = sync_channel(WAITING);
        std::thread::spawn(move || {
            for word in waiting {
                // There is nowhere to say that nothing can be said, and nobody need be waiting for the end of it.
                let _ = match word {
                    Word::Line(line) => io::stderr().write_all(&line).is_ok(),
                    Word::Last(said) => said.try_send(()).is_ok(),
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
    /// Takes one whole line: that is how the subscriber writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.try_send(Word::Line(line.to_vec())) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
