//! A circuit breaker before the origin: pure state, times come in as arguments.
//!
//! ```text
//!   healthy ──3 failures in a row──▶ failing: one probe at a time, after pauses of up to 30 s
//!      ◀──────────an answer──────────┘          a key that was answered: 0, 2, 4 … · retry; any other: 1, 2, 4 … · retry
//! ```
//! Only failures that `blame` calls the source's come here. Any answer ends the row, so a source fails when it answers
//! nobody. It is probed with a key that was answered before, if there is one: any other may be slow or broken itself. A key
//! of a kind that has not failed, or has only once or twice, is tried between the probes, one at a time; when that fails the
//! pause does not grow. While the answered key is being fetched anyway, any key that has not failed is tried so.
//! An origin that asks for a pause gets no request until it is over, and is probed then. One that answers, and has no document for
//! any of eight keys in a row, counts as failing as well: its key is revoked, or its database away.

use std::borrow::Cow;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use super::cache::Millis;
use crate::wire::{Key, KeyBuf};

/// From this many failures in a row on the origin counts as failing, and a kind from this many failed keys on.
const FAILING_FROM: u32 = 3;
/// With this many keys that failed, no further key is tried beside the probes.
const MOST_ACCUSED: usize = 8;
/// From this many keys in a row on that were answered without a document, and may be at fault themselves, the origin is.
const DOUBTED_FROM: usize = 8;
/// The longest pause that an origin may ask for.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The longest pause between two probes, unless the first pause is longer.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The health of the origin, by its answers.
#[derive(Debug)]
pub(super) struct Gate {
    /// The pause after the first failure.
    retry: Duration,
    /// Failures in a row, without an answer to any other request.
    failures: u32,
    /// The keys that failed since the last answer, each once.
    accused: Vec<Mark>,
    /// The keys that were answered without a document since one was brought, each once.
    doubted: Vec<Mark>,
    /// A probe is under way.
    probing: bool,
    /// A trial is under way.
    trying: bool,
    /// Probes that failed in a row, each of which doubles the pause.
    probes_failed: u32,
    pub(super) next_probe: Millis,
    last_error: Option<(Millis, Cow<'static, str>)>,
    /// The key of the last answer, and its time.
    last_answer: Option<(KeyBuf, Millis)>,
    /// When it last said anything at all of a key.
    last_word: Option<Millis>,
    /// Since when connections are refused.
    refused_since: Option<Millis>,
    /// Until when the origin asked for no request.
    closed_until: Option<Millis>,
}

/// A key, and its kind: the first segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    key: u64,
    pub(super) kind: u64,
}

impl Mark {
    pub(super) fn of(key: Key<'_>) -> Self {
        let hash = |text: &str| BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
        Self { key: hash(key.as_str()), kind: hash(key.resource()) }
    }
}

/// How a fetch was let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pass {
    /// As one of many: the gate was open.
    Usual,
    /// As the only one, to find out whether the origin answers again. Ends with [`Gate::give_back`].
    Probe,
    /// Between the probes, as the only one: it can show that the origin answers, not that it fails. Ends with
    /// [`Gate::give_back`].
    Trial,
    /// After the probe that is under way, if that is answered.
    Behind,
}

/// What a request may do.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Admission {
    /// Its own fetch; `None` while the gate is closed.
    pub(super) pass: Option<Pass>,
    /// The key to probe the origin with, before this request: the last that was answered.
    pub(super) probe: Option<KeyBuf>,
}

/// A change of the origin's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flip {
    /// The origin counts as failing from now on.
    Failing,
    /// It answers again.
    Well,
}

impl Gate {
    /// An open gate. After a failure the first probe comes after `retry`.
    pub(super) fn new(retry: Duration) -> Self {
        Self {
            retry,
            failures: 0,
            accused: Vec::new(),
            doubted: Vec::new(),
            probing: false,
            trying: false,
            probes_failed: 0,
            next_probe: Millis(0),
            last_error: None,
            last_answer: None,
            last_word: None,
            refused_since: None,
            closed_until: None,
        }
    }

    /// Whether to send a fetch now. With a stale entry to serve (`has_fallback`) a key that failed waits for an answer to another.
    pub(super) fn admit(&mut self, key: Key<'_>, now: Millis, has_fallback: bool) -> Admission {
        let own = |pass| Admission { pass, probe: None };
        if self.is_closed(now) {
            return own(None);
        }
        if self.failures == 0 {
            return own(Some(Pass::Usual));
        }
        let mark = Mark::of(key);
        let failed_before = self.accused.contains(&mark);
        if !self.is_failing() {
            let waits = has_fallback && failed_before && now < self.next_probe;
            return own((!waits).then_some(Pass::Usual));
        }
        let is_guilty = failed_before || self.is_guilty(mark.kind);
        let known = self.last_answer.as_ref().map(|(known, _)| known);
        let known = known.filter(|known| known.as_str() != key.as_str()).cloned();
        // A probe with any other key than a known one is no better than a trial, and not made beside it.
        if now >= self.next_probe && !self.probing && (known.is_some() || !self.trying) {
            // One at a time: the next one is due a pause after this one failed.
            self.probing = true;
            return match known {
                None => own(Some(Pass::Probe)),
                // Whoever brings a probe about waits for its verdict.
                known => Admission { pass: (!has_fallback).then_some(Pass::Behind), probe: known },
            };
        }
        if !has_fallback && !is_guilty && !self.is_probing() {
            self.trying = true;
            return own(Some(Pass::Trial));
        }
        own(self.behind(is_guilty, has_fallback))
    }

    /// The known key cannot be fetched as the probe that was granted: it is being fetched already, or there is no room. A key
    /// that has not failed is tried in its place, of whatever kind; with many that failed it is the probe itself. `None`: the
    /// probe is to be given back.
    pub(super) fn instead_of_probe(&mut self, key: Key<'_>, has_fallback: bool) -> Option<Pass> {
        if has_fallback || self.accused.contains(&Mark::of(key)) {
            return None;
        }
        if !self.trying && self.accused.len() >= MOST_ACCUSED {
            return Some(Pass::Probe);
        }
        self.probing = false;
        let is_first = !std::mem::replace(&mut self.trying, true);
        Some(if is_first { Pass::Trial } else { Pass::Behind })
    }

    /// A key may wait for the verdict of what is under way; a guilty one only until the first probe has failed: so long the
    /// origin is under suspicion only.
    fn behind(&self, is_guilty: bool, has_fallback: bool) -> Option<Pass> {
        let is_promising =
            if is_guilty { self.probing && self.probes_failed == 0 } else { self.is_probing() };
        (is_promising && !has_fallback).then_some(Pass::Behind)
    }

    /// Whether so many keys of this kind, or of all kinds, have failed that one more is not worth a try.
    fn is_guilty(&self, kind: u64) -> bool {
        let of_kind = self.accused.iter().filter(|accused| accused.kind == kind).count();
        of_kind >= FAILING_FROM as usize || self.accused.len() >= MOST_ACCUSED
    }

    /// A probe or trial has ended, or was never sent: the next one may start when it is due.
    pub(super) fn give_back(&mut self, pass: Pass) {
        match pass {
            Pass::Probe => self.probing = false,
            Pass::Trial => self.trying = false,
            Pass::Usual | Pass::Behind => {}
        }
    }

    /// Whether a probe or a trial is under way.
    pub(super) fn is_probing(&self) -> bool {
        self.probing || self.trying
    }

    /// The origin answered this key with a document, or with a status that says nothing of any other.
    pub(super) fn answered(&mut self, key: &KeyBuf, now: Millis) -> Option<Flip> {
        if self.is_closed(now) {
            // It was asked before the origin wanted its pause.
            return None;
        }
        let was_failing = std::mem::take(&mut self.failures) >= FAILING_FROM;
        self.accused.clear();
        self.doubted.clear();
        self.probes_failed = 0;
        self.refused_since = None;
        self.last_answer = Some((key.clone(), now));
        self.last_word = Some(now);
        was_failing.then_some(Flip::Well)
    }

    /// The origin answered this key in a way that may be about it alone, or about all keys. It is about all when so many keys
    /// in a row got no better answer. An origin that is failing is not well for that.
    pub(super) fn doubted(
        &mut self,
        key: Key<'_>,
        pass: Pass,
        now: Millis,
        error: impl Into<Cow<'static, str>>,
    ) -> Option<Flip> {
        self.last_word = Some(now);
        if self.is_failing() {
            return self.failed(key, pass, now, error);
        }
        let mark = Mark::of(key);
        if !self.doubted.contains(&mark) {
            self.doubted.push(mark);
        }
        // It lives: a row of failures without an answer has ended.
        self.accused.clear();
        self.refused_since = None;
        let is_of_all = self.doubted.len() >= DOUBTED_FROM;
        self.failures = if is_of_all { FAILING_FROM - 1 } else { 0 };
        if is_of_all { self.failed(key, pass, now, error) } else { None }
    }

    /// A failure that is the origin's. Only a failed probe lengthens the pause: many fetches that were under way together
    /// fail together, and lengthen nothing. The first probe, with a key that was answered before, is due at once.
    pub(super) fn failed(
        &mut self,
        key: Key<'_>,
        pass: Pass,
        now: Millis,
        error: impl Into<Cow<'static, str>>,
    ) -> Option<Flip> {
        let was_failing = self.is_failing();
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some((now, error.into()));
        let mark = Mark::of(key);
        if self.accused.len() < MOST_ACCUSED && !self.accused.contains(&mark) {
            self.accused.push(mark);
        }
        match pass {
            Pass::Probe => self.probes_failed += u32::from(was_failing),
            Pass::Trial | Pass::Usual | Pass::Behind if was_failing => return None,
            Pass::Trial | Pass::Usual | Pass::Behind => {}
        }
        let flips = self.failures == FAILING_FROM;
        self.next_probe = match flips && self.last_answer.is_some() {
            true => now,
            false => later(now, self.pause()),
        };
        flips.then_some(Flip::Failing)
    }

    /// The origin asks for no request for `wait` (Retry-After), which is cut. Then it is probed, as one that has failed: of all
    /// that wait one request goes first.
    pub(super) fn close(
        &mut self,
        now: Millis,
        wait: Duration,
        error: impl Into<Cow<'static, str>>,
    ) -> Option<Flip> {
        let was_failing = self.is_failing();
        let until = later(now, wait.min(MAX_WAIT)).max(self.closed_until.unwrap_or_default());
        self.failures = self.failures.max(FAILING_FROM);
        self.closed_until = Some(until);
        self.next_probe = until;
        self.last_error = Some((now, error.into()));
        (!was_failing).then_some(Flip::Failing)
    }

    /// Whether the origin has asked for a pause that is not over.
    pub(super) fn is_closed(&self, now: Millis) -> bool {
        self.closed_until.is_some_and(|until| now < until)
    }

    /// A connection was refused. Whether that is so new that the origin may be restarting.
    pub(super) fn refused(&mut self, now: Millis, restarts_within: Duration) -> bool {
        let since = *self.refused_since.get_or_insert(now);
        now.since(since) < restarts_within
    }

    /// Whether it answered a request, with whatever, after `earlier`.
    pub(super) fn has_answered_since(&self, earlier: Millis) -> bool {
        self.last_word.is_some_and(|at| at > earlier)
    }

    /// Whether it is failing.
    pub(super) fn is_failing(&self) -> bool {
        self.failures >= FAILING_FROM
    }

    /// Whether the origin is failing, and its last failure was not before `earlier`.
    pub(super) fn is_failing_since(&self, earlier: Millis) -> bool {
        self.is_failing() && self.last_error.as_ref().is_some_and(|(at, _)| *at >= earlier)
    }

    /// The time and the text of the last failure.
    pub(super) fn last_error(&self) -> Option<(Millis, Cow<'static, str>)> {
        self.last_error.clone()
    }

    fn pause(&self) -> Duration {
        let doublings = self.probes_failed.min(16);
        (self.retry * 2_u32.pow(doublings)).min(MAX_PAUSE.max(self.retry))
    }
}

fn later(now: Millis, wait: Duration) -> Millis {
    Millis(now.0 + wait.as_millis() as u64)
}
