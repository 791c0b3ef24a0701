//! The client: asks a node, prints what it says, and tells how it went by the exit code.

mod show;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use crate::net::link::Peer;
use crate::net::{Link, LinkError, LinkLimits};
use crate::wire::{KeyBuf, Reply, ReplyView, Request, Status};

/// Requests of one client in flight at once.
const IN_FLIGHT: usize = 128;
/// The longest reply that a client takes.
const MAX_REPLY: usize = 256 << 20;

/// How it went, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Outcome {
    Ok = 0,
    OtherStatus = 1,
    NoReply = 3,
}

/// What came for one request, and how long it took.
struct Answer {
    line: Result<Bytes, LinkError>,
    took: Duration,
}

/// Whom to ask, what, and how long to wait.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Whom.
    pub peer: Peer,
    /// What.
    pub what: What,
    /// A reply must come within this time.
    pub timeout: Duration,
}

/// What to ask.
#[derive(Clone, Debug)]
pub enum What {
    /// One line, on a connection of its own.
    Line(String),
    /// Documents, over one session.
    Documents(Vec<String>),
    /// Documents whose paths stand in a file, one a line; `-` is standard input.
    Keys(PathBuf),
}

/// Asks, prints what comes, and tells how it went.
pub async fn run(config: ClientConfig) -> Result<ExitCode> {
    let link = Link::new(config.peer, LinkLimits { max_reply: MAX_REPLY, ..LinkLimits::default() });
    let outcome = match config.what {
        What::Line(line) => ask_one(&link, &line, config.timeout).await?,
        What::Documents(paths) => ask_many(&link, &paths, config.timeout).await?,
        What::Keys(file) => {
            let paths = read_keys(&file).with_context(|| format!("cannot read the keys in {file:?}"))?;
            ask_many(&link, &paths, config.timeout).await?
        }
    };
    Ok(ExitCode::from(outcome as u8))
}

async fn ask_one(link: &Link, line: &str, timeout: Duration) -> Result<Outcome> {
    let request = match Request::parse(line.as_bytes()) {
        Ok(request) => request,
        Err(error) => usage(&error.to_string()),
    };
    let began = Instant::now();
    let line = link.ask_apart(request, began + timeout).await;
    print(&Answer { line, took: began.elapsed() }, link.peer())
}

/// Asks for many documents over one session; their replies are printed in the order in which they were asked for.
async fn ask_many(link: &Link, paths: &[String], timeout: Duration) -> Result<Outcome> {
    let parse = |path: &String| KeyBuf::parse(path.as_bytes()).map_err(|error| format!("{path:?}: {error}"));
    let keys: Vec<KeyBuf> = match paths.iter().map(parse).collect() {
        Ok(keys) => keys,
        Err(error) => usage(&error),
    };
    let mut answers = stream::iter(keys)
        .map(|key| async move {
            let began = Instant::now();
            let line = link.ask(Request::Get(key.as_key()), began + timeout).await;
            Answer { line, took: began.elapsed() }
        })
        .buffered(IN_FLIGHT);
    let mut worst = Outcome::Ok;
    while let Some(answer) = answers.next().await {
        worst = worst.max(print(&answer, link.peer())?);
    }
    Ok(worst)
}

fn read_keys(file: &Path) -> std::io::Result<Vec<String>> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin())?,
        false => std::fs::read_to_string(file)?,
    };
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Prints one answer: indented for people, one line for programs.
fn print(answer: &Answer, peer: &Peer) -> Result<Outcome> {
    let mut outcome = Outcome::NoReply;
    let mut text = Reply::null(Status::ClientConnectionError).to_line();
    match &answer.line {
        Ok(line) => match ReplyView::parse(line) {
            Ok(reply) => {
                outcome = if reply.status == Status::Ok { Outcome::Ok } else { Outcome::OtherStatus };
                text = String::from_utf8_lossy(line).into_owned();
            }
            Err(error) => complain(&format!("{peer} answered, but {error}; is it a dproxy node?")),
        },
        Err(LinkError::Refused) => complain(&format!(
            "nothing listens on {peer}; start it with: dproxy cluster (or dproxy origin, proxy, lb), or name another with --host and --port"
        )),
        Err(error) => complain(&format!("{peer}: {error}")),
    }
    let mut out = std::io::stdout().lock();
    let shown = show::with_latency(&text, answer.took);
    let shown = if out.is_terminal() { show::indented(&shown) } else { shown };
    match writeln!(out, "{shown}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            bail!("cannot write the reply: {error}")
        }
        // Whoever read has what it wanted.
        Ok(()) | Err(_) => Ok(outcome),
    }
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "dproxy: {text}");
}

/// Ends like any other wrong use of the command line.
fn usage(error: &str) -> ! {
    complain(&format!("{error}\n\nFor more information, try 'dproxy client --help'."));
    std::process::exit(2);
}
