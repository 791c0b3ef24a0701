//! A fetch: one request to the origin, within a limit of concurrent ones, and what its outcome says of the origin.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::cache::Millis;
use super::failures::{FailureKind, Failures};
use super::fetched::{Failure, Fetched};
use super::gate::{Flip, Gate, Mark, Pass};
use super::turns::{Refusal, Turns};
use crate::blame::Fault;
use crate::lock::lock;
use crate::net::LinkError;
use crate::source::{Brought, Kind, Source, Unmet, Validator, Wanted};
use crate::stats::{Counter, Gauge};
use crate::wire::{Key, KeyBuf, MAX_DOCUMENT};

/// The text for a client while the gate to a failing origin is closed.
pub const LEFT_ALONE: &str = "the origin fails and is left alone for a moment";

/// The text for a client while the origin has a pause that it asked for.
const ASKED_FOR_A_PAUSE: &str = "the origin asked for a pause";
/// By how much such a pause is longer at most, so that many nodes do not come back at once.
const WAIT_JITTER: f64 = 0.1;

/// A refused connection within this time of the first may be that of an origin that restarts: a fetch waits for it, at most
/// half of its deadline, and tries again after pauses that grow from the first to the last.
const RESTARTS_WITHIN: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// The gate, and a word to those who wait for a probe.
struct Door {
    gate: Mutex<Gate>,
    probe_ended: Notify,
}

/// The permission to send one fetch to the origin. Dropping it, used or not, ends a probe.
pub(super) struct Permit {
    pass: Pass,
    /// Whether something stale can be served instead.
    has_fallback: bool,
    door: Arc<Door>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if matches!(self.pass, Pass::Probe | Pass::Trial) {
            lock(&self.door.gate).give_back(self.pass);
            self.door.probe_ended.notify_waiters();
        }
    }
}

/// What a request may do about a missing document.
pub(super) struct Admitted {
    /// Fetch it; `None` while the gate to a failing origin is closed.
    pub(super) permit: Option<Permit>,
    /// Before that, fetch this key: it was answered lately, and finds out whether the origin is well.
    pub(super) probe: Option<(Permit, KeyBuf)>,
}

/// Limits and deadline of fetches.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// A fetch ends within this time, its wait for a turn included. One whose turn came in time may take an eighth longer.
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

/// The text for a key of a kind that is late.
const SLOW_KIND: &str =
    "the origin was late with documents of this kind, and few of them are fetched at once";
/// The text for a fetch that took long while others waited for its place.
const LOST_ITS_PLACE: &str = "the origin takes long for this document, and the place of the fetch was needed";

fn failed(fault: Fault, why: impl Into<Cow<'static, str>>) -> Fetched {
    Fetched::Failed(Failure::new(fault, why))
}

fn unasked(fault: Fault, why: &'static str) -> Fetched {
    Fetched::Failed(Failure::unasked(fault, why))
}

/// The origin, as a proxy sees it.
pub(super) struct Upstream {
    source: Box<dyn Source>,
    limits: FetchLimits,
    door: Arc<Door>,
    turns: Arc<Turns>,
    /// Requests sent to the origin.
    pub(super) fetches: Counter,
    /// Requests that ended in neither a document nor NOT_FOUND, except by a fault of this proxy.
    pub(super) failures: Failures,
    /// Bytes of the documents that came.
    pub(super) bytes: Counter,
    /// Requests that asked whether a document had changed, and those of them that were told that it had not.
    pub(super) revalidations: Counter,
    pub(super) not_modified: Counter,
    /// Requests under way.
    pub(super) in_flight: Gauge,
}

impl Upstream {
    /// The origin that `source` asks.
    pub(super) fn new(source: Box<dyn Source>, limits: FetchLimits) -> Self {
        Self {
            source,
            limits,
            door: Arc::new(Door {
                gate: Mutex::new(Gate::new(limits.origin_retry)),
                probe_ended: Notify::new(),
            }),
            turns: Turns::new(limits.at_once, limits.deadline),
            fetches: Counter::default(),
            failures: Failures::default(),
            bytes: Counter::default(),
            revalidations: Counter::default(),
            not_modified: Counter::default(),
            in_flight: Gauge::default(),
        }
    }

    /// Whether a key may be fetched now.
    pub(super) fn admit(&self, key: Key<'_>, now: Millis, has_fallback: bool) -> Admitted {
        let admission = self.gate().admit(key, now, has_fallback);
        let permit = |pass, has_fallback| Permit { pass, has_fallback, door: self.door.clone() };
        Admitted {
            permit: admission.pass.map(|pass| permit(pass, has_fallback)),
            probe: admission.probe.map(|key| (permit(Pass::Probe, true), key)),
        }
    }

    /// Whether a key may be fetched in place of a known one, which was to be the `probe` and cannot be begun.
    pub(super) fn admit_instead(
        &self,
        mut probe: Permit,
        key: Key<'_>,
        has_fallback: bool,
    ) -> Option<Permit> {
        probe.pass = self.gate().instead_of_probe(key, has_fallback)?;
        probe.has_fallback = has_fallback;
        Some(probe)
    }

    /// Where documents come from.
    pub(super) fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// While the origin is failing, when it is probed next; and its last failure.
    pub(super) fn health(&self) -> (Option<Millis>, Option<(Millis, Cow<'static, str>)>) {
        let gate = self.gate();
        (gate.is_failing().then_some(gate.next_probe), gate.last_error())
    }

    /// What the origin is.
    pub(super) fn kind(&self) -> Kind {
        self.source.kind()
    }

    /// Why no request is sent now, while the origin has a pause that it asked for.
    pub(super) fn is_closed(&self, now: Millis) -> Option<Failure> {
        self.gate().is_closed(now).then(|| Failure::unasked(Fault::Full, ASKED_FOR_A_PAUSE))
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.door.gate)
    }

    /// Waits for its turn, then asks the origin. The outcome, and the time when the origin was asked; `clock` is the time now,
    /// `is_awaited` says whether a request waits for the outcome.
    pub(super) async fn fetch(
        &self,
        permit: Permit,
        key: &KeyBuf,
        clock: impl Fn() -> Millis,
        is_awaited: impl Fn() -> bool + Send + 'static,
        validator: Option<&Validator<'_>>,
    ) -> (Fetched, Millis) {
        let deadline = Instant::now() + self.limits.deadline;
        let waits_since = clock();
        let kind = Mark::of(key.as_key()).kind;
        if permit.pass == Pass::Behind && !self.probe_was_answered(deadline).await {
            let refused =
                self.is_closed(clock()).map_or_else(|| unasked(Fault::Source, LEFT_ALONE), Fetched::Failed);
            return (refused, clock());
        }
        let is_single = matches!(permit.pass, Pass::Probe | Pass::Trial);
        let turn = self.turns.take(kind, is_single, deadline, is_awaited).await;
        let mut turn = match turn {
            Ok(turn) => turn,
            Err(Refusal::TooMany) => {
                return (unasked(Fault::Ours, "too many fetches are under way"), clock());
            }
            // It may be this proxy's way to the origin that is slow: another proxy is worth a try.
            Err(Refusal::SlowKind) => return (unasked(Fault::Source, SLOW_KIND), clock()),
        };
        // The gate may have closed while this fetch waited.
        if let Some(refused) = self.is_closed(clock()) {
            return (Fetched::Failed(refused), clock());
        }
        if !is_single && self.gate().is_failing_since(waits_since) && clock() > waits_since {
            return (unasked(Fault::Source, LEFT_ALONE), clock());
        }
        let asked = clock();
        let answer = tokio::select! {
            biased;
            answer = self.ask(&permit, key.as_key(), validator, &clock, deadline) => answer,
            () = turn.lost() => {
                self.turns.was_late(kind);
                self.failures.count(FailureKind::Late);
                return (failed(Fault::Document, LOST_ITS_PLACE), asked);
            }
        };
        drop(turn);
        let (answer, took) = answer;
        if !matches!(answer, Err(Unmet::NoAnswer(..))) {
            self.turns.answered(kind, took);
        }
        if let Some(kind) = FailureKind::of(&answer) {
            self.failures.count(kind);
        }
        let fetched = match answer {
            Err(Unmet::NoAnswer(error, why)) => {
                debug!(%key, origin = %self.source, %error, "a fetch failed");
                if error == LinkError::Late {
                    self.turns.was_late(kind);
                }
                // In the second half of the wait: an answer soon after the request was sent says nothing of a link that
                // was cut then.
                let half = Millis(asked.0.midpoint(clock().0));
                let answered_others = self.gate().has_answered_since(half);
                let fault = Fault::of_error(error, answered_others);
                if error == LinkError::Late && fault == Fault::Document {
                    // Nothing was learned of the origin.
                    return (failed(fault, why), asked);
                }
                failed(fault, why)
            }
            Err(Unmet::Unfit { fault, why, wait }) => {
                Fetched::Failed(Failure { wait, ..Failure::new(fault, why) })
            }
            Ok(Brought::Document(document, known)) => {
                self.bytes.add(document.len() as u64);
                Fetched::Document(document, known)
            }
            Ok(Brought::Missing(known)) => Fetched::Missing(known),
            Ok(Brought::NotModified(known)) => {
                self.not_modified.add_one();
                Fetched::NotModified(known)
            }
        };
        self.learn(key, &fetched, permit.pass, clock());
        (fetched, asked)
    }

    /// Asks the origin, again while it may be restarting: while connections are refused, and once after one was lost. The
    /// answer to the last try, and the time that it took.
    async fn ask(
        &self,
        permit: &Permit,
        key: Key<'_>,
        validator: Option<&Validator<'_>>,
        clock: &impl Fn() -> Millis,
        deadline: Instant,
    ) -> (Result<Brought, Unmet>, Duration) {
        let _in_flight = self.in_flight.enter();
        self.fetches.add_one();
        if validator.is_some() {
            self.revalidations.add_one();
        }
        let restarts_within = RESTARTS_WITHIN.min(self.limits.deadline / 2);
        let (mut pause, mut was_lost) = (FIRST_PAUSE, false);
        loop {
            let sent = Instant::now();
            let deadline_of_try = self.turns.answer_by(deadline, sent);
            let wanted = Wanted { key, validator, deadline: deadline_of_try, is_again: was_lost };
            let answer = self.source.ask(wanted).await;
            let may_restart = match answer {
                Err(Unmet::NoAnswer(LinkError::Refused | LinkError::Unresolved, _)) => {
                    self.gate().refused(clock(), restarts_within)
                }
                // The kernel may have accepted even the second connection for a process that was ending.
                Err(Unmet::NoAnswer(LinkError::Broken, _)) => {
                    !std::mem::replace(&mut was_lost, true) && !self.gate().is_failing()
                }
                _ => false,
            };
            // Both come at once: an origin that let us wait for a connection is silent, and does not restart.
            let waits = may_restart
                && sent.elapsed() < restarts_within
                && !permit.has_fallback
                && Instant::now() + pause < deadline;
            if !waits {
                return (answer, sent.elapsed());
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Waits until the probe that is under way has ended. Whether the origin is well then.
    async fn probe_was_answered(&self, deadline: Instant) -> bool {
        loop {
            let mut ended = pin!(self.door.probe_ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            {
                let gate = self.gate();
                if !gate.is_failing() || !gate.is_probing() {
                    return !gate.is_failing();
                }
            }
            if timeout_at(deadline, ended).await.is_err() {
                return false;
            }
        }
    }

    /// Tells the gate how a fetch ended. A fault of this proxy says nothing of the origin.
    fn learn(&self, key: &KeyBuf, fetched: &Fetched, pass: Pass, now: Millis) {
        let origin = &self.source;
        let flip = match fetched {
            Fetched::Document(..) | Fetched::NotModified(_) | Fetched::Missing(_) => {
                self.gate().answered(key, now)
            }
            Fetched::Failed(Failure { wait: Some(wait), why, .. }) => {
                // Nodes that were told at the same time do not come back at the same time.
                let wait = wait.mul_f64(1.0 + WAIT_JITTER * fastrand::f64());
                self.gate().close(now, wait, why.clone())
            }
            Fetched::Failed(Failure { fault: Fault::Ours, .. }) => None,
            Fetched::Failed(Failure { fault: Fault::Source, why, .. }) => {
                self.gate().failed(key.as_key(), pass, now, why.clone())
            }
            Fetched::Failed(Failure { fault: Fault::Doubt, why, .. }) => {
                self.gate().doubted(key.as_key(), pass, now, why.clone())
            }
            Fetched::Failed(Failure { fault: Fault::Document | Fault::Full, .. }) => {
                self.gate().answered(key, now)
            }
        };
        match flip {
            Some(Flip::Failing) => {
                warn!(%origin, "the origin fails: what is held is served, and it is asked now and then");
            }
            Some(Flip::Well) => {
                info!(%origin, "the origin answers again");
                // Whoever waits for a probe or a trial knows enough.
                self.door.probe_ended.notify_waiters();
            }
            None => {}
        }
    }
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
