//! The client: asks a node, prints what it says, and tells how it went by the exit code.

mod refused;
mod show;

use std::borrow::Cow;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use crate::keylist;
use crate::net::link::Peer;
use crate::net::{Link, LinkError, LinkLimits};
use crate::terminal::{self, complain};
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
        What::Documents(paths) => {
            let parse =
                |path: &String| KeyBuf::parse(path.as_bytes()).map_err(|error| format!("{path:?}: {error}"));
            let keys = paths.iter().map(parse).collect::<Result<Vec<KeyBuf>, String>>();
            ask_many(&link, keys.unwrap_or_else(|error| usage(&error)), config.timeout).await?
        }
        What::Keys(file) => {
            let keys = keylist::read(&file)?;
            if keys.is_empty() {
                complain(format!("there is no key in {}", file.display()));
            }
            ask_many(&link, keys, config.timeout).await?
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
    let answer = Answer { line, took: began.elapsed() };
    let mut outcome = print(&answer, link.peer(), &mut String::new())?;
    if let (Request::Purge { .. }, Ok(line)) = (request, &answer.line) {
        for refusal in refused::refusals(line) {
            complain(refusal);
            outcome = outcome.max(Outcome::OtherStatus);
        }
    }
    Ok(outcome)
}

/// Asks for many documents over one session; their replies are printed in the order in which they were asked for.
async fn ask_many(link: &Link, keys: Vec<KeyBuf>, timeout: Duration) -> Result<Outcome> {
    let mut answers = stream::iter(keys)
        .map(|key| async move {
            let began = Instant::now();
            let line = link.ask(Request::Get(key.as_key()), began + timeout).await;
            Answer { line, took: began.elapsed() }
        })
        .buffered(IN_FLIGHT);
    let (mut worst, mut complaint) = (Outcome::Ok, String::new());
    while let Some(answer) = answers.next().await {
        worst = worst.max(print(&answer, link.peer(), &mut complaint)?);
    }
    Ok(worst)
}

/// Prints one answer: indented for people, one line for programs. What it complains of is told once in a row.
fn print(answer: &Answer, peer: &Peer, complaint: &mut String) -> Result<Outcome> {
    let (outcome, text, wrong) = match &answer.line {
        Ok(line) => match ReplyView::parse(line) {
            Ok(reply) if reply.status == Status::Ok => (Outcome::Ok, String::from_utf8_lossy(line), None),
            Ok(_) => (Outcome::OtherStatus, String::from_utf8_lossy(line), None),
            Err(error) => no_reply(format!("{peer} answered, but {error}; is it a dproxy node?")),
        },
        Err(error) => no_reply(error.advice(peer)),
    };
    if let Some(wrong) = wrong.filter(|wrong| wrong != complaint) {
        complain(&wrong);
        *complaint = wrong;
    }
    let shown = show::with_latency(&text, answer.took);
    let shown = if stdout().is_terminal() { show::indented(&shown) } else { shown };
    terminal::print(shown + "\n")?;
    Ok(outcome)
}

fn no_reply<'a>(why: String) -> (Outcome, Cow<'a, str>, Option<String>) {
    (Outcome::NoReply, Reply::null(Status::ClientConnectionError).to_line().into(), Some(why))
}

/// Ends like any other wrong use of the command line.
fn usage(error: &str) -> ! {
    complain(format!("{error}; see dproxy client --help"));
    std::process::exit(2);
}
