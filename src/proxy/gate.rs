//! A circuit breaker before the origin: pure state, times come in as arguments.
//!
//! ```text
//!   healthy ──3 failures in a row──▶ failing: one probe at a time, after retry, 2 · retry, … up to 30 s
//!      ◀──────────an answer──────────┘
//! ```

use std::borrow::Cow;
use std::time::Duration;

use super::cache::Millis;

/// From this many failures in a row on the origin counts as failing. Before that the fault may be one document's, so a
/// request without a stale entry to serve is let through.
const FAILING_FROM: u32 = 3;
/// The longest pause between two probes, unless the first pause is longer.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The health of the origin, by its answers.
#[derive(Debug)]
pub(super) struct Gate {
    /// The pause after the first failure.
    retry: Duration,
    /// Failures in a row.
    failures: u32,
    /// A probe is under way.
    probing: bool,
    /// Probes that failed in a row, each of which doubles the pause.
    probes_failed: u32,
    next_probe: Millis,
    last_error: Option<(Millis, Cow<'static, str>)>,
    /// The time of its last answer.
    last_answer: Option<Millis>,
}

/// How a fetch was let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pass {
    /// As one of many: the gate was open.
    Usual,
    /// As the only one, to find out whether the origin answers again. Ends with [`Gate::give_back`].
    Probe,
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
        let (failures, probing, probes_failed, next_probe) = (0, false, 0, Millis(0));
        Self { retry, failures, probing, probes_failed, next_probe, last_error: None, last_answer: None }
    }

    /// Whether to send a fetch now. With a stale entry to serve (`has_fallback`) the gate closes at the first failure.
    pub(super) fn admit(&mut self, now: Millis, has_fallback: bool) -> Option<Pass> {
        if self.failures == 0 {
            return Some(Pass::Usual);
        }
        if now >= self.next_probe && !self.probing {
            // One at a time: the next one is due a pause after this one failed.
            self.probing = true;
            return Some(Pass::Probe);
        }
        (self.failures < FAILING_FROM && !has_fallback).then_some(Pass::Usual)
    }

    /// The probe has ended, or was never sent: the next one may start when it is due.
    pub(super) fn give_back(&mut self) {
        self.probing = false;
    }

    /// The origin answered, with any status.
    pub(super) fn answered(&mut self, now: Millis) -> Option<Flip> {
        self.last_answer = Some(now);
        let was_failing = std::mem::take(&mut self.failures) >= FAILING_FROM;
        self.probes_failed = 0;
        was_failing.then_some(Flip::Well)
    }

    /// The origin did not answer. Only a failed probe lengthens the pause: many fetches that were under way together fail
    /// together, and count as one failure.
    pub(super) fn failed(
        &mut self,
        pass: Pass,
        now: Millis,
        error: impl Into<Cow<'static, str>>,
    ) -> Option<Flip> {
        let was_failing = self.is_failing();
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some((now, error.into()));
        match pass {
            Pass::Probe => self.probes_failed += u32::from(was_failing),
            Pass::Usual if was_failing => return None,
            Pass::Usual => {}
        }
        self.next_probe = later(now, self.pause());
        (self.failures == FAILING_FROM).then_some(Flip::Failing)
    }

    /// Whether it answered a request, with any status, after `earlier`.
    pub(super) fn has_answered_since(&self, earlier: Millis) -> bool {
        self.last_answer.is_some_and(|at| at > earlier)
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

    /// Probed after a second.
    fn gate() -> Gate {
        Gate::new(Duration::from_secs(1))
    }

    fn probe_fails(gate: &mut Gate, now: u64) {
        gate.failed(Pass::Probe, Millis(now), "late");
        gate.give_back();
    }

    #[test]
    fn asks_a_failing_origin_ever_more_seldom() {
        let mut gate = gate();
        assert_eq!(gate.admit(Millis(0), true), USUAL);
        assert_eq!(gate.failed(Pass::Usual, Millis(0), "late"), None);
        assert_eq!(gate.admit(Millis(1), true), None, "something stale can be served");
        assert_eq!(gate.admit(Millis(1), false), USUAL, "no fallback, and one failure is below the limit");
        gate.failed(Pass::Usual, Millis(2), "late");
        assert_eq!(gate.failed(Pass::Usual, Millis(3), "late"), Some(Flip::Failing));
        assert_eq!(gate.admit(Millis(4), false), None);
        let mut asked = Vec::new();
        for now in (0..100_000).step_by(10) {
            if gate.admit(Millis(now), false).is_some() {
                asked.push(now);
                probe_fails(&mut gate, now);
            }
        }
        let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [2000, 4000, 8000, 16_000, 30_000, 30_000], "{asked:?}");
        assert_eq!(gate.answered(Millis(0)), Some(Flip::Well));
        assert_eq!(gate.admit(Millis(100_000), true), USUAL);
    }

    #[test]
    fn many_that_fail_together_are_one_failure() {
        let mut gate = gate();
        for _ in 0..64 {
            gate.failed(Pass::Usual, Millis(10), "closed");
        }
        assert_eq!(gate.admit(Millis(1009), false), None);
        assert_eq!(gate.admit(Millis(1010), false), PROBE, "the first pause is not longer for that");
        assert_eq!(gate.answered(Millis(0)), Some(Flip::Well));
        assert_eq!(gate.admit(Millis(1011), false), USUAL);
    }

    #[test]
    fn a_failure_has_a_time() {
        let mut gate = gate();
        gate.failed(Pass::Usual, Millis(1), "late");
        gate.failed(Pass::Usual, Millis(2), "late");
        assert!(!gate.is_failing_since(Millis(0)), "two failures are below the limit");
        gate.failed(Pass::Usual, Millis(3), "late");
        assert!(gate.is_failing_since(Millis(3)) && !gate.is_failing_since(Millis(4)));
        gate.answered(Millis(0));
        assert!(!gate.is_failing_since(Millis(0)));
    }

    #[test]
    fn one_probe_at_a_time() {
        let mut gate = gate();
        for _ in 0..3 {
            gate.failed(Pass::Usual, Millis(0), "late");
        }
        assert_eq!(gate.admit(Millis(1000), false), PROBE);
        assert_eq!(gate.admit(Millis(2999), false), None, "the probe is still under way");
        gate.failed(Pass::Usual, Millis(2999), "one that was let through before says nothing new");
        probe_fails(&mut gate, 3000);
        assert_eq!(gate.admit(Millis(4999), false), None, "the pause follows its failure");
        assert_eq!(gate.admit(Millis(5000), false), PROBE);
        gate.give_back();
        assert_eq!(gate.admit(Millis(5001), false), PROBE, "the probe before was never sent");
    }
}
