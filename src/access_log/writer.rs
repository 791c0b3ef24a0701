//! The thread that writes the log: all that waits, one round after another. It may wait for a disk; nobody waits for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{info, warn};

use super::line::Formatter;
use super::queue::{Answered, Batch};
use super::{AccessLog, AccessLogConfig, Target};

/// The time between two rounds.
const ROUND: Duration = Duration::from_millis(50);
/// The time that the last round has at the least.
const LAST_ROUND: Duration = Duration::from_millis(200);
/// The bytes of lines after which the file is written to; a write has a line more at the most.
const CHUNK: usize = 256 * 1024;

/// The running thread.
pub(super) struct Writer {
    thread: Thread,
    /// Closed when it has ended.
    ended: mpsc::Receiver<()>,
}

impl Writer {
    pub(super) fn start(log: &Arc<AccessLog>, config: &AccessLogConfig) -> io::Result<Self> {
        let (ending, ended) = mpsc::channel();
        let mut work = Work {
            log: log.clone(),
            formatter: Formatter::new(config.format),
            target: config.target.clone(),
            output: Output::open(&config.target)?,
            text: Vec::new(),
            is_failing: false,
        };
        let thread = thread::Builder::new().name("access log".into()).spawn(move || {
            let _ending = ending;
            work.rounds();
        })?;
        Ok(Self { thread: thread.thread().clone(), ended })
    }

    /// Waits for the end of the thread, which is told already: for a moment even if all patience is used up.
    pub(super) fn join(self, patience: Duration) {
        self.thread.unpark();
        if self.ended.recv_timeout(patience.max(LAST_ROUND)) == Err(mpsc::RecvTimeoutError::Timeout) {
            warn!("the access log could not be written to its end");
        }
    }
}

enum Output {
    File(File),
    Stdout(io::Stdout),
}

impl Output {
    fn open(target: &Target) -> io::Result<Self> {
        Ok(match target {
            Target::File(path) => Self::File(appended(path)?),
            Target::Stdout => Self::Stdout(io::stdout()),
        })
    }

    fn write_all(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(text),
            Self::Stdout(out) => out.lock().write_all(text).and_then(|()| out.flush()),
        }
    }
}

fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

struct Work {
    log: Arc<AccessLog>,
    formatter: Formatter,
    target: Target,
    output: Output,
    /// Lines that are not written yet.
    text: Vec<u8>,
    is_failing: bool,
}

impl Work {
    fn rounds(&mut self) {
        let mut batches = Vec::new();
        loop {
            // Read before the queues are taken, so that every record from before the stop is written.
            let is_last = self.log.stop.load(Ordering::Relaxed);
            if self.log.reopen.swap(false, Ordering::Relaxed) {
                self.reopen();
            }
            self.log.queue.take(&mut batches);
            self.write(&batches);
            if is_last {
                return;
            }
            thread::park_timeout(ROUND);
        }
    }

    /// Writes the requests of all cores in the order in which they ended.
    fn write(&mut self, batches: &[Batch]) {
        let mut records: Vec<Answered<'_>> = batches.iter().flat_map(Batch::records).collect();
        records.sort_by_key(|record| record.ended);
        let (date, now) = (SystemTime::now(), Instant::now());
        let mut lines = 0;
        for record in &records {
            let at = date.checked_sub(now.saturating_duration_since(record.ended)).unwrap_or(date);
            self.formatter.write(record, at, &mut self.text);
            lines += 1;
            if self.text.len() >= CHUNK {
                self.flush(std::mem::take(&mut lines));
            }
        }
        self.flush(lines);
    }

    fn flush(&mut self, lines: u64) {
        if lines == 0 {
            return;
        }
        match self.output.write_all(&self.text) {
            Ok(()) => {
                self.log.written.add(lines);
                self.is_failing = false;
            }
            Err(error) => {
                self.log.failed.add(lines);
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(%error, "the access log cannot be written; METRICS counts what is dropped");
                }
            }
        }
        self.text.clear();
    }

    fn reopen(&mut self) {
        match Output::open(&self.target) {
            Ok(output) => {
                self.output = output;
                info!("the access log was opened anew");
            }
            Err(error) => warn!(%error, "the access log cannot be opened anew; the old file is written to"),
        }
    }
}
