//! Logs to standard error, which never stop a node: a reader that is slow, gone or full loses lines, not requests.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::{LogArgs, LogFormat};

/// Lines that may wait for a slow reader.
const WAITING: usize = 1024;

/// Begins to log as the flags say.
pub fn start(args: &LogArgs) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| {
        format!("--log {:?} is no filter; write info, debug, or dproxy::lb=debug", args.log)
    })?;
    let has_colours =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines::start())
        .with_ansi(has_colours)
        // It would write to standard error that it cannot write to standard error, and panic.
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Hands lines to a thread that writes them.
#[derive(Clone)]
struct Lines(SyncSender<Vec<u8>>);

impl Lines {
    fn start() -> Self {
        let (lines, waiting) = sync_channel::<Vec<u8>>(WAITING);
        std::thread::spawn(move || {
            for line in waiting {
                // There is nowhere to say that nothing can be said.
                let _ = io::stderr().write_all(&line);
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
        match self.0.try_send(line.to_vec()) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
