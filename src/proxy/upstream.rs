//! A fetch: one request to the origin, within a limit of concurrent ones, and the meaning of its reply.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use super::cache::Millis;
use super::gate::{Flip, Gate, Pass};
use crate::blame::Fault;
use crate::lock::lock;
use crate::net::{Link, LinkError};
use crate::stats::{Counter, Gauge};
use crate::wire::{Document, Key, MAX_DOCUMENT, ReplyView, Request, Status};

/// The text for a client while the gate to a failing origin is closed.
pub(super) const LEFT_ALONE: &str = "the origin fails and is left alone for a moment";

/// The part of its deadline that a fetch may be forecast to wait for its turn; with a longer forecast it is refused.
const FORESEEN_WAIT: f64 = 0.5;
/// The part of its deadline that a fetch may really wait for its turn: longer than forecast if the origin became slower.
/// The rest is the time for the origin to answer.
const LONGEST_WAIT: f64 = 0.75;

/// The outcome of a fetch.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// The document.
    Document(Document),
    /// The origin said NOT_FOUND.
    Missing,
    /// Neither a document nor NOT_FOUND.
    Failed(Failure),
}

/// Why a fetch brought no document.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Whose fault it is.
    pub(super) fault: Fault,
    /// The text for the client.
    pub(super) why: Cow<'static, str>,
}

impl Failure {
    pub(super) fn new(fault: Fault, why: impl Into<Cow<'static, str>>) -> Self {
        Self { fault, why: why.into() }
    }

    /// The status for the client.
    pub(super) fn status(&self) -> Status {
        match self.fault {
            Fault::Ours => Status::Overloaded,
            Fault::Document | Fault::Source | Fault::Full => Status::OriginFailure,
        }
    }
}

/// The permission to send one fetch to the origin. A probe ends when its permit is dropped, whether it was sent or not.
pub(super) struct Permit {
    pass: Pass,
    gate: Arc<Mutex<Gate>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.pass == Pass::Probe {
            lock(&self.gate).give_back();
        }
    }
}

/// Limits and deadline of fetches.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// A fetch ends within this time, its wait for a turn included.
    pub deadline: Duration,
    /// Concurrent fetches; more wait for their turn.
    pub at_once: usize,
    /// The largest document in bytes.
    pub max_document: usize,
    /// The first pause of a failing origin; see `gate`.
    pub origin_retry: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(2),
            at_once: 64,
            max_document: MAX_DOCUMENT,
            origin_retry: Duration::from_secs(1),
        }
    }
}

/// The text for a line that is not a reply: most often the origin is an HTTP server.
const NOT_A_REPLY: &str =
    "the origin answered with something that is no reply of dproxy's protocol; HTTP is none";
/// The longest sentence of an origin that a client gets, in bytes as JSON.
const LONGEST_SENTENCE: usize = 300;
/// The text for a document that its origin cannot read, or that cannot be read here.
const NO_SOUND_DOCUMENT: &str = "the origin has no sound document under this key";

/// The origin, as a proxy sees it.
pub(super) struct Upstream {
    link: Link,
    limits: FetchLimits,
    gate: Arc<Mutex<Gate>>,
    turns: Semaphore,
    /// The time of one request to the origin in microseconds, a moving average. 0 before the first.
    pace_us: AtomicU64,
    /// Requests sent to the origin.
    pub(super) fetches: Counter,
    /// Requests that ended in neither a document nor NOT_FOUND, except by a fault of this proxy.
    pub(super) failures: Counter,
    /// Requests under way.
    pub(super) in_flight: Gauge,
}

impl Upstream {
    /// The origin behind `link`.
    pub(super) fn new(link: Link, limits: FetchLimits) -> Self {
        Self {
            link,
            limits,
            gate: Arc::new(Mutex::new(Gate::new(limits.origin_retry))),
            turns: Semaphore::new(limits.at_once),
            pace_us: AtomicU64::new(0),
            fetches: Counter::default(),
            failures: Counter::default(),
            in_flight: Gauge::default(),
        }
    }

    /// The permission to fetch now; `None` while the gate to a failing origin is closed.
    pub(super) fn admit(&self, now: Millis, has_fallback: bool) -> Option<Permit> {
        let pass = self.gate().admit(now, has_fallback)?;
        Some(Permit { pass, gate: self.gate.clone() })
    }

    /// How many fetches may be under way or wait for their turn, by the average time of earlier ones: the turn of the
    /// last one comes within [`FORESEEN_WAIT`]. One more would time out, after it had delayed others, so the caller
    /// refuses it at once.
    pub(super) fn in_time(&self) -> usize {
        let pace_us = self.pace_us.load(Ordering::Relaxed);
        let turns = self.limits.deadline.mul_f64(FORESEEN_WAIT).as_micros() as u64 / pace_us.max(1);
        (self.limits.at_once as u64).saturating_mul(1 + turns) as usize
    }

    /// Adds the time of one request to the average. Of two that are added at the same moment one may be lost, which is
    /// harmless.
    fn add_pace(&self, time: Duration) {
        let (before, took) = (self.pace_us.load(Ordering::Relaxed), time.as_micros() as u64);
        let pace_us = if before == 0 { took } else { before - before / 8 + took / 8 };
        self.pace_us.store(pace_us, Ordering::Relaxed);
    }

    /// Whether the origin is failing, and its last failure.
    pub(super) fn health(&self) -> (bool, Option<(Millis, Cow<'static, str>)>) {
        let gate = self.gate();
        (gate.is_failing(), gate.last_error())
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.gate)
    }

    /// Waits for a turn, then asks the origin. Returns the outcome, and when the origin was asked; `clock` tells the time.
    pub(super) async fn fetch(
        &self,
        permit: Permit,
        key: Key<'_>,
        clock: impl Fn() -> Millis,
    ) -> (Fetched, Millis) {
        let began = Instant::now();
        let deadline = began + self.limits.deadline;
        let _turn = match self.turns.try_acquire() {
            Ok(turn) => turn,
            Err(_) => {
                let waits_since = clock();
                let latest = began + self.limits.deadline.mul_f64(LONGEST_WAIT);
                let Ok(Ok(turn)) = timeout_at(latest, self.turns.acquire()).await else {
                    return (
                        Fetched::Failed(Failure::new(Fault::Ours, "too many fetches are under way")),
                        clock(),
                    );
                };
                // The gate may have closed while this fetch waited.
                if self.gate().is_failing_since(waits_since) {
                    return (Fetched::Failed(Failure::new(Fault::Source, LEFT_ALONE)), clock());
                }
                turn
            }
        };
        let asked = clock();
        let answer = {
            let _in_flight = self.in_flight.enter();
            self.fetches.add_one();
            let sent = Instant::now();
            let answer = self.link.ask(Request::Get(key), deadline).await;
            self.add_pace(sent.elapsed());
            answer
        };
        let fetched = match &answer {
            Ok(line) => self.read(line),
            Err(error) => {
                debug!(%key, origin = %self.link.peer(), %error, "a fetch failed");
                let answered_others = self.gate().has_answered_since(asked);
                Fetched::Failed(Failure::new(Fault::of_error(*error, answered_others), self.text_of(*error)))
            }
        };
        self.learn(&fetched, permit.pass, clock());
        (fetched, asked)
    }

    /// The outcome that the origin's line stands for.
    fn read(&self, line: &[u8]) -> Fetched {
        let reply = match ReplyView::parse(line) {
            Ok(reply) => reply,
            Err(error) => {
                debug!(origin = %self.link.peer(), %error, "the origin's reply is not one");
                let fault = Fault::of_line(error);
                let why = if fault == Fault::Source { NOT_A_REPLY } else { NO_SOUND_DOCUMENT };
                return Fetched::Failed(Failure::new(fault, why));
            }
        };
        let Some(fault) = Fault::of_reply(&reply) else {
            return match (reply.status, reply.document(self.limits.max_document)) {
                (Status::NotFound, _) => Fetched::Missing,
                (_, Ok(document)) => Fetched::Document(document),
                (_, Err(_)) => Fetched::Failed(Failure::new(Fault::Document, self.too_large())),
            };
        };
        let (is_its_own, why) = match reply.status {
            Status::BadDocument => (true, NO_SOUND_DOCUMENT),
            Status::Overloaded => (true, "the origin is overloaded"),
            Status::OriginFailure => (true, "the origin cannot read its documents"),
            _ => (false, "the origin answered with another status"),
        };
        let sentence = sentence(&reply).filter(|_| is_its_own).map_or(Cow::Borrowed(why), Cow::Owned);
        Fetched::Failed(Failure::new(fault, sentence))
    }

    /// Tells the gate how a fetch ended, and counts failures. A fault of this proxy says nothing of the origin.
    fn learn(&self, fetched: &Fetched, pass: Pass, now: Millis) {
        let origin = self.link.peer();
        let flip = match fetched {
            Fetched::Document(_) | Fetched::Missing => self.gate().answered(now),
            Fetched::Failed(Failure { fault: Fault::Ours, .. }) => None,
            Fetched::Failed(Failure { fault: Fault::Source, why }) => {
                self.failures.add_one();
                self.gate().failed(pass, now, why.clone())
            }
            Fetched::Failed(Failure { fault: Fault::Document | Fault::Full, .. }) => {
                self.failures.add_one();
                self.gate().answered(now)
            }
        };
        match flip {
            Some(Flip::Failing) => {
                warn!(%origin, "the origin fails: what is held is served, and it is asked now and then");
            }
            Some(Flip::Well) => info!(%origin, "the origin answers again"),
            None => {}
        }
    }

    fn too_large(&self) -> String {
        format!(
            "the document is larger than {} bytes, the --max-document of this proxy",
            self.limits.max_document
        )
    }

    /// The text for the client when the link brought no reply.
    fn text_of(&self, error: LinkError) -> Cow<'static, str> {
        match error {
            LinkError::Refused | LinkError::Unresolved => "the origin cannot be reached".into(),
            LinkError::Late => "the origin did not answer in time".into(),
            LinkError::Broken => "the origin closed the connection before it had answered".into(),
            LinkError::Busy => "too many requests wait for the origin".into(),
            LinkError::Exhausted => {
                "this proxy has no ports, descriptors or memory left for a connection".into()
            }
            LinkError::TooLong => self.too_large().into(),
            LinkError::NotText => NO_SOUND_DOCUMENT.into(),
            LinkError::Garbage => NOT_A_REPLY.into(),
        }
    }
}

/// The origin's own sentence for people; a longer text is no sentence.
fn sentence(reply: &ReplyView<'_>) -> Option<String> {
    let is_short = reply.data.len() <= LONGEST_SENTENCE;
    let text: Option<String> = is_short.then(|| serde_json::from_str(reply.data).ok()).flatten();
    text.filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::LinkLimits;

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_not_sent_is_given_back() {
        let link = Link::new("127.0.0.1:9".parse().unwrap(), LinkLimits::default());
        let (origin_retry, deadline) = (Duration::from_secs(10), Duration::from_secs(2));
        // No fetch gets a turn.
        let limits = FetchLimits { deadline, at_once: 0, max_document: 1024, origin_retry };
        let upstream = Upstream::new(link, limits);
        for _ in 0..3 {
            upstream.learn(&Fetched::Failed(Failure::new(Fault::Source, "closed")), Pass::Usual, Millis(0));
        }
        let probe = upstream.admit(Millis(10_000), false).unwrap();
        assert!(upstream.admit(Millis(10_000), false).is_none(), "one at a time");
        let key = Key::parse(b"a/1").unwrap();
        let (fetched, _) = upstream.fetch(probe, key, || Millis(10_000)).await;
        assert!(matches!(fetched, Fetched::Failed(Failure { fault: Fault::Ours, .. })));
        assert!(upstream.admit(Millis(10_000), false).is_some(), "the next one probes at once");
    }
}
