//! A circuit breaker before the origin: pure state, times come in as arguments.
//!
//! ```text
//!   healthy ──3 failures in a row──▶ failing: one probe at a time, at once, after retry, 2 · retry, … up to 30 s
//!      ◀──────────an answer──────────┘
//! ```
//! Only failures that `blame` calls the source's come here. Any answer ends the row, so a source fails when it answers
//! nobody; and a key of a kind that has not failed, or has only once or twice, is tried even then, one at a time.

use std::borrow::Cow;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use super::cache::Millis;
use crate::wire::{Key, KeyBuf};

/// From this many failures in a row on the origin counts as failing, and from this many keys on a kind.
const FAILING_FROM: u32 = 3;
/// With this many keys that failed, no further key is tried beside the probes.
const MOST_ACCUSED: usize = 8;
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
    /// A probe is under way.
    probing: bool,
    /// Probes that failed in a row, each of which doubles the pause.
    probes_failed: u32,
    pub(super) next_probe: Millis,
    last_error: Option<(Millis, Cow<'static, str>)>,
    /// The key of the last answer, and its time.
    last_answer: Option<(KeyBuf, Millis)>,
    /// Since when connections are refused.
    refused_since: Option<Millis>,
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
    /// After the probe that is under way, if that is answered.
    Behind,
}

/// What a request may do.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Admission {
    /// Its own fetch; `None` while the gate is closed.
    pub(super) pass: Option<Pass>,
    /// The key to probe the origin with, before this request: one that was answered lately.
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
            probing: false,
            probes_failed: 0,
            next_probe: Millis(0),
            last_error: None,
            last_answer: None,
            refused_since: None,
        }
    }

    /// Whether to send a fetch now. With a stale entry to serve (`has_fallback`) a key that failed waits for an answer to another.
    pub(super) fn admit(&mut self, key: Key<'_>, now: Millis, has_fallback: bool) -> Admission {
        let own = |pass| Admission { pass, probe: None };
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
        if now >= self.next_probe && !self.probing {
            // One at a time: the next one is due a pause after this one failed.
            self.probing = true;
            let known = self
                .last_answer
                .as_ref()
                .map(|(known, _)| known)
                .filter(|known| known.as_str() != key.as_str());
            return match known {
                Some(known) if is_guilty => {
                    Admission { pass: self.behind(has_fallback), probe: Some(known.clone()) }
                }
                _ => own(Some(Pass::Probe)),
            };
        }
        if has_fallback {
            return own(None);
        }
        if !is_guilty && !self.probing {
            self.probing = true;
            return own(Some(Pass::Probe));
        }
        own(if is_guilty { self.behind(false) } else { Some(Pass::Behind) })
    }

    /// Until the first probe has failed the origin is under suspicion only, and its verdict may be waited for.
    fn behind(&self, has_fallback: bool) -> Option<Pass> {
        (self.probing && self.probes_failed == 0 && !has_fallback).then_some(Pass::Behind)
    }

    /// Whether so many keys of this kind, or of all kinds, have failed that one more is not worth a try.
    fn is_guilty(&self, kind: u64) -> bool {
        let of_kind = self.accused.iter().filter(|accused| accused.kind == kind).count();
        of_kind >= FAILING_FROM as usize || self.accused.len() >= MOST_ACCUSED
    }

    /// The probe has ended, or was never sent: the next one may start when it is due.
    pub(super) fn give_back(&mut self) {
        self.probing = false;
    }

    /// Whether a probe is under way.
    pub(super) fn is_probing(&self) -> bool {
        self.probing
    }

    /// The origin answered this key, with any status.
    pub(super) fn answered(&mut self, key: &KeyBuf, now: Millis) -> Option<Flip> {
        let was_failing = std::mem::take(&mut self.failures) >= FAILING_FROM;
        self.accused.clear();
        self.probes_failed = 0;
        self.refused_since = None;
        self.last_answer = Some((key.clone(), now));
        was_failing.then_some(Flip::Well)
    }

    /// A failure that is the origin's. Only a failed probe lengthens the pause: many fetches that were under way together
    /// fail together, and count as one failure. The first probe, with a key that was answered before, is due at once.
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
            Pass::Usual | Pass::Behind if was_failing => return None,
            Pass::Usual | Pass::Behind => {}
        }
        let flips = self.failures == FAILING_FROM;
        self.next_probe = match flips && self.last_answer.is_some() {
            true => now,
            false => later(now, self.pause()),
        };
        flips.then_some(Flip::Failing)
    }

    /// A connection was refused. Whether that is so new that the origin may be restarting.
    pub(super) fn refused(&mut self, now: Millis, restarts_within: Duration) -> bool {
        let since = *self.refused_since.get_or_insert(now);
        now.since(since) < restarts_within
    }

    /// Whether it answered a request, with any status, after `earlier`.
    pub(super) fn has_answered_since(&self, earlier: Millis) -> bool {
        self.last_answer.as_ref().is_some_and(|(_, at)| *at > earlier)
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

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Option<Pass> = Some(Pass::Usual);
    const PROBE: Option<Pass> = Some(Pass::Probe);
    const BEHIND: Option<Pass> = Some(Pass::Behind);

    /// Probed after a second.
    fn gate() -> Gate {
        Gate::new(Duration::from_secs(1))
    }

    fn key(path: &str) -> Key<'_> {
        Key::parse(path).unwrap()
    }

    fn fails(gate: &mut Gate, path: &str, now: u64) -> Option<Flip> {
        gate.failed(key(path), Pass::Usual, Millis(now), "late")
    }

    fn answers(gate: &mut Gate, path: &str, now: u64) -> Option<Flip> {
        gate.answered(&key(path).to_owned(), Millis(now))
    }

    fn admit(gate: &mut Gate, path: &str, now: u64) -> Option<Pass> {
        let admission = gate.admit(key(path), Millis(now), false);
        assert_eq!(admission.probe, None);
        admission.pass
    }

    fn probe_fails(gate: &mut Gate, now: u64) {
        gate.failed(key("a/1"), Pass::Probe, Millis(now), "late");
        gate.give_back();
    }

    /// A gate that closed at the time 3, before an origin that has never answered.
    fn closed() -> Gate {
        let mut gate = gate();
        assert_eq!((fails(&mut gate, "a/1", 1), fails(&mut gate, "a/2", 2)), (None, None));
        assert_eq!(fails(&mut gate, "a/3", 3), Some(Flip::Failing));
        gate
    }

    #[test]
    fn asks_a_failing_origin_ever_more_seldom() {
        let mut gate = closed();
        assert_eq!(admit(&mut gate, "a/4", 4), None);
        let mut asked = Vec::new();
        for now in (0..100_000).step_by(10) {
            if admit(&mut gate, "a/4", now).is_some() {
                asked.push(now);
                probe_fails(&mut gate, now);
            }
        }
        let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [2000, 4000, 8000, 16_000, 30_000, 30_000], "{asked:?}");
        assert_eq!(answers(&mut gate, "a/4", 100_000), Some(Flip::Well));
        assert_eq!(admit(&mut gate, "a/1", 100_000), USUAL);
    }

    #[test]
    fn with_something_stale_to_serve_a_key_that_failed_waits() {
        let mut gate = gate();
        fails(&mut gate, "a/1", 0);
        assert_eq!(gate.admit(key("a/1"), Millis(1), true).pass, None);
        assert_eq!(gate.admit(key("a/2"), Millis(1), true).pass, USUAL, "another key is not its fault");
        assert_eq!(admit(&mut gate, "a/1", 1), USUAL, "nothing stale, and one failure is below the limit");
        assert_eq!(gate.admit(key("a/1"), Millis(1_000), true).pass, USUAL);
    }

    #[test]
    fn many_that_fail_together_are_one_failure() {
        let mut gate = gate();
        for path in ["a/1", "a/2", "a/3", "a/4"].repeat(16) {
            fails(&mut gate, path, 10);
        }
        assert_eq!(admit(&mut gate, "a/9", 1009), None);
        assert_eq!(admit(&mut gate, "a/9", 1010), PROBE, "the first pause is not longer for that");
        assert_eq!(answers(&mut gate, "a/9", 1010), Some(Flip::Well));
        gate.give_back();
        assert_eq!(admit(&mut gate, "a/1", 1011), USUAL);
    }

    #[test]
    fn a_failure_has_a_time() {
        let mut gate = gate();
        fails(&mut gate, "a/1", 1);
        fails(&mut gate, "a/2", 2);
        assert!(!gate.is_failing_since(Millis(0)), "two failures are below the limit");
        fails(&mut gate, "a/3", 3);
        assert!(gate.is_failing_since(Millis(3)) && !gate.is_failing_since(Millis(4)));
        answers(&mut gate, "a/4", 4);
        assert!(!gate.is_failing_since(Millis(0)));
        assert!(gate.has_answered_since(Millis(3)) && !gate.has_answered_since(Millis(4)));
    }

    #[test]
    fn one_probe_at_a_time() {
        let mut gate = closed();
        assert_eq!(admit(&mut gate, "a/4", 1003), PROBE);
        assert_eq!(admit(&mut gate, "a/5", 2999), BEHIND, "the verdict is not there yet");
        fails(&mut gate, "a/6", 2999);
        probe_fails(&mut gate, 3000);
        assert_eq!(admit(&mut gate, "a/5", 4999), None, "the pause follows its failure");
        assert_eq!(admit(&mut gate, "a/5", 5000), PROBE);
        assert_eq!(admit(&mut gate, "a/6", 5000), None, "a probe has failed before");
        gate.give_back();
        assert_eq!(admit(&mut gate, "a/5", 5001), PROBE, "the probe before was never sent");
    }

    #[test]
    fn a_key_that_fails_three_times_is_not_its_source() {
        let mut gate = gate();
        for now in 0..3 {
            fails(&mut gate, "a/1", now);
        }
        assert!(gate.is_failing());
        assert_eq!(admit(&mut gate, "a/1", 4), None);
        assert_eq!(admit(&mut gate, "a/2", 4), PROBE, "one key proves little of another");
        assert_eq!(admit(&mut gate, "a/3", 4), BEHIND, "and the next waits for that");
        answers(&mut gate, "a/2", 5);
        gate.give_back();
        assert_eq!(admit(&mut gate, "a/3", 5), USUAL);
    }

    #[test]
    fn a_kind_that_fails_is_not_its_source_but_eight_keys_are() {
        let mut gate = closed();
        for path in ["b/1", "c/1", "d/1", "e/1", "f/1"] {
            assert_eq!(admit(&mut gate, path, 5), PROBE, "{path}");
            gate.failed(key(path), Pass::Probe, Millis(5), "late");
            gate.give_back();
        }
        assert_eq!(admit(&mut gate, "g/1", 6), None);
    }

    #[test]
    fn a_key_that_was_answered_is_the_first_probe_and_due_at_once() {
        let mut gate = gate();
        answers(&mut gate, "good/1", 0);
        for path in ["slow/1", "slow/2", "slow/3"] {
            fails(&mut gate, path, 10);
        }
        let admission = gate.admit(key("slow/4"), Millis(10), false);
        assert_eq!((admission.pass, admission.probe), (BEHIND, Some(key("good/1").to_owned())));
        assert_eq!(admit(&mut gate, "good/2", 11), BEHIND);
        answers(&mut gate, "good/1", 12);
        gate.give_back();
        assert_eq!(admit(&mut gate, "slow/4", 12), USUAL);
    }

    #[test]
    fn a_refused_connection_is_new_until_the_next_answer() {
        let (mut gate, new) = (gate(), Duration::from_secs(1));
        assert!(gate.refused(Millis(100), new) && gate.refused(Millis(1_099), new));
        assert!(!gate.refused(Millis(1_100), new) && !gate.refused(Millis(9_000), new));
        answers(&mut gate, "a/1", 9_001);
        assert!(gate.refused(Millis(9_002), new));
    }
}
