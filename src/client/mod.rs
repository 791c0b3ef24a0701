//! The client: asks a node, prints what it says, and tells how it went by the exit code.

mod show;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use crate::args::ClientArgs;
use crate::net::link::Peer;
use crate::net::{Link, LinkError, LinkLimits};
use crate::watch::{self, Watch};
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
    took: std::time::Duration,
}

/// Asks what the flags say.
pub fn run(args: &ClientArgs) -> Result<ExitCode> {
    let peer = match args.peer() {
        Ok(peer) => peer,
        Err(error) => usage(&error),
    };
    if args.watch {
        let (timeout, every, count) = (args.timeout, args.every, args.count);
        return crate::cores::runtime()?.block_on(watch::run(Watch { peer, timeout, every, count }));
    }
    let link = Link::new(peer, LinkLimits { max_reply: MAX_REPLY, ..LinkLimits::default() });
    let outcome = crate::cores::runtime()?.block_on(ask(args, &link))?;
    Ok(ExitCode::from(outcome as u8))
}

async fn ask(args: &ClientArgs, link: &Link) -> Result<Outcome> {
    let what = &args.what;
    let text = if let [path] = &what.get[..] {
        format!("GET {path}")
    } else if what.metrics {
        "METRICS".to_owned()
    } else if let Some(path) = &what.purge {
        format!("PURGE {path}")
    } else if let Some(path) = &what.purge_soft {
        format!("PURGE soft {path}")
    } else if let Some(path) = &what.explain {
        format!("EXPLAIN {path}")
    } else {
        return ask_many(args, link).await;
    };
    let request = match Request::parse(text.as_bytes()) {
        Ok(request) => request,
        Err(error) => usage(&error.to_string()),
    };
    let began = Instant::now();
    let line = link.ask_apart(request, began + args.timeout).await;
    print(&Answer { line, took: began.elapsed() }, link.peer())
}

/// Asks for many documents over one session; their replies are printed in the order in which they were asked for.
async fn ask_many(args: &ClientArgs, link: &Link) -> Result<Outcome> {
    let keys = match &args.what.keys {
        Some(path) => read_keys(path).with_context(|| format!("cannot read the keys in {path:?}"))?,
        None => args.what.get.clone(),
    };
    let parsed: Result<Vec<KeyBuf>, String> = keys
        .iter()
        .map(|key| KeyBuf::parse(key.as_bytes()).map_err(|error| format!("{key:?}: {error}")))
        .collect();
    let keys = match parsed {
        Ok(keys) => keys,
        Err(error) => usage(&error),
    };
    let mut answers = stream::iter(keys)
        .map(|key| async move {
            let began = Instant::now();
            let line = link.ask(Request::Get(key.as_key()), began + args.timeout).await;
            Answer { line, took: began.elapsed() }
        })
        .buffered(IN_FLIGHT);
    let mut worst = Outcome::Ok;
    while let Some(answer) = answers.next().await {
        worst = worst.max(print(&answer, link.peer())?);
    }
    Ok(worst)
}

fn read_keys(path: &std::path::Path) -> std::io::Result<Vec<String>> {
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin())?,
        false => std::fs::read_to_string(path)?,
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
