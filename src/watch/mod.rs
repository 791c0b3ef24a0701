//! `dproxy client --metrics --watch`: a node's METRICS, polled and shown as they change.
//!
//! A terminal shows a picture, a pipe or a file gets a JSON object a line. A node without an answer is polled further, so
//! the view survives its restart.

mod history;
mod lines;
mod screen;

use std::io::stdout;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::stream::{Stream, StreamExt, unfold};
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::net::link::Peer;
use crate::net::tls::PeerTls;
use crate::net::{Link, LinkError, LinkLimits};
use crate::samples::Sample;
use crate::terminal::{self, can_draw, no_colour};
use crate::wire::Request;
use history::History;
use screen::Screen;

/// The exit code when the last poll was not answered.
const NO_REPLY: u8 = 3;
/// The limit of bytes of METRICS: a balancer's contain those of all its proxies.
const MAX_REPLY: usize = 64 << 20;

/// The settings of a view.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The node.
    pub peer: Peer,
    /// TLS to it; `None` for plain text.
    pub tls: Option<PeerTls>,
    /// The deadline of one poll.
    pub timeout: Duration,
    /// The time between two polls.
    pub every: Duration,
    /// The number of polls; `None` is no end.
    pub count: Option<usize>,
}

/// Shows METRICS until a key, the count or a signal ends it. The exit code is 3 if the last poll had no reply.
pub async fn run(watch: Watch) -> Result<ExitCode> {
    let mut history = History::default();
    match can_draw(&stdout()) {
        true => show(&watch, &mut history).await?,
        false => print(&watch, &mut history).await?,
    }
    Ok(if history.silence.is_none() { ExitCode::SUCCESS } else { ExitCode::from(NO_REPLY) })
}

/// The results of polls, one every interval; an error is a text for people.
fn polls(watch: &Watch) -> impl Stream<Item = Result<Sample, String>> {
    let limits = LinkLimits { max_reply: MAX_REPLY, tls: watch.tls.clone(), ..LinkLimits::default() };
    let link = Link::new(watch.peer.clone(), limits);
    let mut tick = interval(watch.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let timeout = watch.timeout;
    let polls = unfold((link, tick), move |(link, mut tick)| async move {
        tick.tick().await;
        let answer = match link.ask_apart(Request::Metrics, Instant::now() + timeout).await {
            Ok(line) => Sample::from_reply(&line, &link.peer().to_string()),
            Err(LinkError::Refused) => Err(format!("nothing listens on {}", link.peer())),
            Err(error) => Err(error.to_string()),
        };
        Some((answer, (link, tick)))
    });
    polls.take(watch.count.unwrap_or(usize::MAX))
}

/// Prints a line per poll, until the reader of the pipe closes it.
async fn print(watch: &Watch, history: &mut History) -> Result<()> {
    let peer = watch.peer.to_string();
    let mut polls = std::pin::pin!(polls(watch));
    while let Some(polled) = polls.next().await {
        let date = SystemTime::now();
        history.add(polled, Instant::now(), date);
        if !terminal::print(lines::line(history, &peer, date) + "\n")? {
            break;
        }
    }
    Ok(())
}

/// The terminal while it shows the picture. The drop restores it; a panic does as well.
struct Picture(DefaultTerminal);

impl Drop for Picture {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows the picture until a key or a signal ends it.
async fn show(watch: &Watch, history: &mut History) -> Result<()> {
    let screen = Screen { peer: watch.peer.to_string(), has_colours: !no_colour() };
    // Installed before the terminal changes: from then on each signal has to restore it.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let terminal =
        ratatui::try_init().context("cannot draw on this terminal; without one, lines are printed")?;
    let mut picture = Picture(terminal);
    let mut keys = EventStream::new();
    let mut polls = std::pin::pin!(polls(watch));
    loop {
        picture.0.draw(|frame| screen.draw(frame, history, SystemTime::now()))?;
        tokio::select! {
            polled = polls.next() => match polled {
                Some(polled) => history.add(polled, Instant::now(), SystemTime::now()),
                None => return Ok(()),
            },
            key = keys.next() => match key {
                Some(Ok(event)) if !leaves(&event) => {}
                _ => return Ok(()),
            },
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

fn leaves(event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return false };
    match code {
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
        KeyCode::Char('c') => modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}
