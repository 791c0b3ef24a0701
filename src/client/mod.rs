//! The client: sends requests to a node, prints the replies, and ends with an exit code for the worst of them.

mod follow;
mod show;
mod table;
mod unreached;

use std::borrow::Cow;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::keylist::{KeyLines, NoKey};
use crate::net::link::Peer;
use crate::net::tls::PeerTls;
use crate::net::{Link, LinkError, LinkLimits};
use crate::terminal::{self, complain};
use crate::wire::escape::encoded;
use crate::wire::key::KeyError;
use crate::wire::{Changed, KeyBuf, Reply, ReplyView, Request, Status};

/// Requests of one client in flight at once.
const IN_FLIGHT: usize = 128;
/// The longest reply, in bytes.
const MAX_REPLY: usize = 256 << 20;

/// The exit code; a greater one is worse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Exit {
    Ok = 0,
    OtherStatus = 1,
    NoReply = 3,
}

/// The reply to one request, and how long it took.
struct TimedReply {
    line: Result<Bytes, LinkError>,
    took: Duration,
    /// Why it was not sent.
    complaint: Option<String>,
}

impl TimedReply {
    fn new(line: Result<Bytes, LinkError>, took: Duration) -> Self {
        Self { line, took, complaint: None }
    }

    /// The reply that any node would give to a line that is no key. Nothing is sent.
    fn to_no_key(error: &NoKey) -> Self {
        let line = Reply::text(Status::BadRequest, error.why.clone()).to_line();
        Self { line: Ok(line.into()), took: Duration::ZERO, complaint: Some(error.to_string()) }
    }
}

/// One run of the client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The node to ask.
    pub peer: Peer,
    /// TLS to it; `None` for plain text.
    pub tls: Option<PeerTls>,
    /// The requests to send.
    pub requests: Requests,
    /// The longest wait for each reply.
    pub timeout: Duration,
}

/// The requests of one run.
#[derive(Clone, Debug)]
pub enum Requests {
    /// One request line, on a connection of its own.
    Line(String),
    /// Keys of documents, asked for over one session.
    Documents(Vec<String>),
    /// A file of keys, one on each line, asked for over one session; `-` is standard input.
    Keys(PathBuf),
    /// Names of documents, each of which is asked for when it has changed.
    Follow(Vec<String>),
}

/// Sends the requests and prints the replies. Exit code: 0 when all were OK, 1 when one had another status or a line of a file
/// is no key, 3 when one had no reply.
pub async fn run(config: ClientConfig) -> Result<ExitCode> {
    let limits = LinkLimits {
        max_reply: MAX_REPLY,
        patience: config.timeout,
        tls: config.tls,
        ..LinkLimits::default()
    };
    let link = Link::new(config.peer, limits);
    let exit = match config.requests {
        Requests::Line(line) => ask_one(&link, &line, config.timeout).await?,
        Requests::Documents(paths) => {
            let parse = |path: &String| KeyBuf::parse(path).map_err(|error| refused(path, error));
            let keys = paths.iter().map(parse).collect::<Result<Vec<KeyBuf>, String>>();
            let keys = keys.unwrap_or_else(|error| usage(&error));
            ask_many(&link, stream::iter(keys.into_iter().map(Ok)), config.timeout).await?
        }
        Requests::Follow(names) => {
            let names = names.join(" ");
            let followed = Changed::parse(&names).unwrap_or_else(|error| usage(&error.to_string()));
            follow::follow(&link, followed, config.timeout).await?
        }
        Requests::Keys(file) => {
            let (keys, mut given) = (read_ahead(KeyLines::open(&file)?)?, 0_u64);
            let keys = keys.inspect(|_| given += 1);
            let exit = ask_many(&link, keys, config.timeout).await?;
            if given == 0 {
                bail!("there is no key in {}", file.display());
            }
            exit
        }
    };
    Ok(ExitCode::from(exit as u8))
}

/// Why a path is no key, and the one that may be meant.
fn refused(path: &str, error: KeyError) -> String {
    let meant = encoded(path);
    match KeyBuf::parse(&meant) {
        Ok(_) if !path.contains('%') => format!("{path:?}: {error}; write {meant}"),
        _ => format!("{path:?}: {error}"),
    }
}

async fn ask_one(link: &Link, line: &str, timeout: Duration) -> Result<Exit> {
    let request = match Request::parse(line) {
        Ok(request) => request,
        Err(error) => usage(&error.to_string()),
    };
    let began = Instant::now();
    let line = link.ask_apart(request, began + timeout).await;
    let reply = TimedReply::new(line, began.elapsed());
    let is_for_people = matches!(request, Request::Metrics | Request::Explain(_)) && stdout().is_terminal();
    if let Some(table) = reply.line.as_ref().ok().filter(|_| is_for_people).and_then(|line| tabled(line)) {
        terminal::print(terminal::harmless(&table).as_bytes())?;
        return Ok(Exit::Ok);
    }
    let (mut exit, _) = print(&reply, link.peer(), &mut String::new())?;
    let sentences = match (request, &reply.line) {
        (Request::Purge { .. }, Ok(line)) => unreached::unpurged(line),
        (Request::Changed(_), Ok(line)) => unreached::untold(line),
        _ => Vec::new(),
    };
    for sentence in sentences {
        complain(sentence);
        exit = exit.max(Exit::OtherStatus);
    }
    Ok(exit)
}

/// The data of an OK as a table.
fn tabled(line: &[u8]) -> Option<String> {
    let view = ReplyView::parse(line).ok().filter(|view| view.status == Status::Ok)?;
    table::table(&serde_json::from_str(view.data).ok()?)
}

/// The keys of a list as a thread of their own reads them, few of them ahead.
fn read_ahead(keys: KeyLines) -> Result<impl Stream<Item = Result<KeyBuf>> + Unpin> {
    let (sender, mut receiver) = mpsc::channel(IN_FLIGHT);
    // Its end is not waited for: a read of standard input may never return.
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        for key in keys {
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    })?;
    Ok(stream::poll_fn(move |cx| receiver.poll_recv(cx)))
}

/// Asks for documents over one session and prints the replies in the order of the keys, until nobody reads them any more.
async fn ask_many(
    link: &Link,
    keys: impl Stream<Item = Result<KeyBuf>> + Unpin,
    timeout: Duration,
) -> Result<Exit> {
    let mut replies = keys
        .map(|key| async move {
            let key = match key {
                Ok(key) => key,
                Err(error) => return error.downcast().map(|error| TimedReply::to_no_key(&error)),
            };
            let began = Instant::now();
            let line = link.ask(Request::Get(key.as_key()), began + timeout).await;
            anyhow::Ok(TimedReply::new(line, began.elapsed()))
        })
        .buffered(IN_FLIGHT);
    let (mut worst, mut complaint) = (Exit::Ok, String::new());
    while let Some(reply) = replies.next().await {
        let (exit, is_read) = print(&reply?, link.peer(), &mut complaint)?;
        worst = worst.max(exit);
        if !is_read {
            break;
        }
    }
    Ok(worst)
}

/// Prints one reply: indented on a terminal, else on one line. `last_complaint` keeps a complaint from being repeated for
/// each request in a row. False when standard output is closed.
fn print(reply: &TimedReply, peer: &Peer, last_complaint: &mut String) -> Result<(Exit, bool)> {
    let (exit, text, wrong) = match &reply.line {
        Ok(line) => match ReplyView::parse(line) {
            Ok(view) if view.status == Status::Ok => (Exit::Ok, String::from_utf8_lossy(line), None),
            Ok(_) => (Exit::OtherStatus, String::from_utf8_lossy(line), reply.complaint.clone()),
            Err(error) => no_reply(format!("{peer} answered, but {error}; is it a dproxy node?")),
        },
        Err(error) => no_reply(error.advice(peer)),
    };
    if let Some(wrong) = wrong.filter(|wrong| wrong != last_complaint) {
        complain(&wrong);
        *last_complaint = wrong;
    }
    let shown = show::with_latency(&text, reply.took);
    let shown = match stdout().is_terminal() {
        true => terminal::harmless(&show::indented(&shown)).into_owned(),
        false => shown,
    };
    Ok((exit, terminal::print(shown + "\n")?))
}

fn no_reply<'a>(why: String) -> (Exit, Cow<'a, str>, Option<String>) {
    (Exit::NoReply, Reply::null(Status::ClientConnectionError).to_line().into(), Some(why))
}

/// Ends the process as clap does for a wrong command line: with exit code 2.
fn usage(error: &str) -> ! {
    complain(format!("{error}; see dproxy client --help"));
    std::process::exit(2);
}
