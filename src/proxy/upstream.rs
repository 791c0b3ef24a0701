//! What a fetch is: one question to the origin, at most so many at once, and what its line means.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use super::cache::Millis;
use super::gate::{Flip, Gate, Pass};
use crate::net::{Link, LinkError};
use crate::stats::{Counter, Gauge};
use crate::wire::{Document, Key, ReplyView, Request, Status};

/// What an asker is told who is not let through to a failing origin.
pub(super) const LEFT_ALONE: &str = "the origin fails and is left alone for a moment";

/// Which part of its deadline a fetch is let in to wait for its turn, and which it may really wait if the origin becomes
/// slower meanwhile: what is left is the origin's.
const FORESEEN_WAIT: f64 = 0.5;
const LONGEST_WAIT: f64 = 0.75;

/// What the origin said, or why it said nothing.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// The document.
    Document(Document),
    /// There is none.
    Missing,
    /// The origin failed; the text is for the asker.
    Failed(&'static str),
    /// The origin answers, but has no sound document under this key.
    Unfit(&'static str),
    /// Too much is under way already.
    Overloaded(&'static str),
}

/// The leave to ask the origin once. With its end, used or not, a probe is over.
pub(super) struct Leave {
    pass: Pass,
    gate: Arc<Mutex<Gate>>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.pass == Pass::Probe {
            lock(&self.gate).give_back();
        }
    }
}

/// What fetches are bounded by.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// A fetch must bring its document within this time.
    pub deadline: Duration,
    /// Fetches at once; the rest wait their turn.
    pub at_once: usize,
    /// The largest document.
    pub max_document: usize,
    /// How long a failing origin is left alone at first.
    pub origin_retry: Duration,
}

/// Of an origin whose line is no reply: most often a server of HTTP.
const NOT_A_REPLY: &str =
    "the origin answered with something that is no reply of dproxy's protocol; HTTP is none";

/// The origin, as a proxy sees it.
pub(super) struct Upstream {
    link: Link,
    limits: FetchLimits,
    gate: Arc<Mutex<Gate>>,
    room: Semaphore,
    /// How long a question takes, in microseconds: a mean in which older ones fade. 0 before the first.
    pace_us: AtomicU64,
    /// Questions asked.
    pub(super) fetches: Counter,
    /// Questions that brought neither a document nor the word that there is none.
    pub(super) failures: Counter,
    /// Questions under way.
    pub(super) in_flight: Gauge,
}

impl Upstream {
    /// Asked over this link.
    pub(super) fn new(link: Link, limits: FetchLimits) -> Self {
        Self {
            link,
            limits,
            gate: Arc::new(Mutex::new(Gate::new(limits.origin_retry))),
            room: Semaphore::new(limits.at_once),
            pace_us: AtomicU64::new(0),
            fetches: Counter::default(),
            failures: Counter::default(),
            in_flight: Gauge::default(),
        }
    }

    /// The leave to ask the origin now, if it is not to be left alone.
    pub(super) fn admit(&self, now: Millis, has_fallback: bool) -> Option<Leave> {
        let pass = self.gate().admit(now, has_fallback)?;
        Some(Leave { pass, gate: self.gate.clone() })
    }

    /// How many fetches may be under way or wait for their turn, so that the last one's comes in time: by the pace of those
    /// before. What comes beyond is better told at once than late, when it has taken the time of others.
    pub(super) fn in_time(&self) -> usize {
        let pace_us = self.pace_us.load(Ordering::Relaxed);
        let turns = self.limits.deadline.mul_f64(FORESEEN_WAIT).as_micros() as u64 / pace_us.max(1);
        (self.limits.at_once as u64).saturating_mul(1 + turns) as usize
    }

    /// Takes note of how long a question took. One that another core notes at the same moment may be lost.
    fn took(&self, time: Duration) {
        let (before, took) = (self.pace_us.load(Ordering::Relaxed), time.as_micros() as u64);
        let pace_us = if before == 0 { took } else { before - before / 8 + took / 8 };
        self.pace_us.store(pace_us, Ordering::Relaxed);
    }

    /// Whether the origin is failing, and its last failure.
    pub(super) fn health(&self) -> (bool, Option<(Millis, &'static str)>) {
        let gate = self.gate();
        (gate.is_failing(), gate.last_error())
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.gate)
    }

    /// Asks the origin when there is room. Tells what it said, and when it was asked; `clock` says what time it is.
    pub(super) async fn fetch(
        &self,
        leave: Leave,
        key: Key<'_>,
        clock: impl Fn() -> Millis,
    ) -> (Fetched, Millis) {
        let began = Instant::now();
        let deadline = began + self.limits.deadline;
        let _room = match self.room.try_acquire() {
            Ok(room) => room,
            Err(_) => {
                let waits_since = clock();
                let latest = began + self.limits.deadline.mul_f64(LONGEST_WAIT);
                let Ok(Ok(room)) = timeout_at(latest, self.room.acquire()).await else {
                    return (Fetched::Overloaded("too many fetches are under way"), clock());
                };
                // It was let in by what was known when its wait began.
                if self.gate().is_failing_since(waits_since) {
                    return (Fetched::Failed(LEFT_ALONE), clock());
                }
                room
            }
        };
        let asked = clock();
        let answer = {
            let _in_flight = self.in_flight.enter();
            self.fetches.add_one();
            let asks = Instant::now();
            let answer = self.link.ask(Request::Get(key), deadline).await;
            self.took(asks.elapsed());
            answer
        };
        let fetched = match &answer {
            Ok(line) => self.read(line),
            Err(LinkError::Busy) => Fetched::Overloaded("too many requests wait for the origin"),
            Err(error) => {
                debug!(%key, origin = %self.link.peer(), %error, "a fetch failed");
                Fetched::Failed(told(*error))
            }
        };
        self.learn(&fetched, leave.pass, clock());
        (fetched, asked)
    }

    /// What the origin's line means.
    fn read(&self, line: &[u8]) -> Fetched {
        let Ok(reply) = ReplyView::parse(line) else {
            debug!(origin = %self.link.peer(), "the origin's reply is not one");
            return Fetched::Failed(NOT_A_REPLY);
        };
        match reply.status {
            Status::Ok => match reply.document(self.limits.max_document) {
                Ok(document) => Fetched::Document(document),
                Err(_) => Fetched::Unfit("the document is larger than this proxy takes"),
            },
            Status::NotFound => Fetched::Missing,
            Status::BadDocument => Fetched::Unfit("the origin has no sound document under this key"),
            Status::Overloaded => Fetched::Failed("the origin is overloaded"),
            _ => Fetched::Failed("the origin answered with another status"),
        }
    }

    fn learn(&self, fetched: &Fetched, pass: Pass, now: Millis) {
        let origin = self.link.peer();
        let flip = match fetched {
            Fetched::Document(_) | Fetched::Missing => self.gate().answered(),
            Fetched::Unfit(_) => {
                self.failures.add_one();
                self.gate().answered()
            }
            Fetched::Failed(why) => {
                self.failures.add_one();
                self.gate().failed(pass, now, why)
            }
            Fetched::Overloaded(_) => None,
        };
        match flip {
            Some(Flip::Failing) => {
                warn!(%origin, "the origin fails: what is held is served, and it is asked now and then");
            }
            Some(Flip::Well) => info!(%origin, "the origin answers again"),
            None => {}
        }
    }
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an asker is told.
fn told(error: LinkError) -> &'static str {
    match error {
        LinkError::Refused | LinkError::Unresolved => "the origin cannot be reached",
        LinkError::Late => "the origin did not answer in time",
        LinkError::Broken => "the origin closed the connection before it had answered",
        LinkError::Garbage | LinkError::Busy => NOT_A_REPLY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::LinkLimits;

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_not_sent_is_given_back() {
        let link = Link::new("127.0.0.1:9".parse().unwrap(), LinkLimits::default());
        let (origin_retry, deadline) = (Duration::from_secs(10), Duration::from_secs(2));
        // No fetch finds room here.
        let limits = FetchLimits { deadline, at_once: 0, max_document: 1024, origin_retry };
        let upstream = Upstream::new(link, limits);
        for _ in 0..3 {
            upstream.learn(&Fetched::Failed("closed"), Pass::Usual, Millis(0));
        }
        let probe = upstream.admit(Millis(10_000), false).unwrap();
        assert!(upstream.admit(Millis(10_000), false).is_none(), "one at a time");
        let key = Key::parse(b"a/1").unwrap();
        let (fetched, _) = upstream.fetch(probe, key, || Millis(10_000)).await;
        assert!(matches!(fetched, Fetched::Overloaded(_)));
        assert!(upstream.admit(Millis(10_000), false).is_some(), "the next one probes at once");
    }
}
