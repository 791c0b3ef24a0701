//! How gently a failing origin is asked: pure state over times that come in as arguments.
//!
//! ```text
//!   well ──a failure──▶ failing: asked again after retry, 2 · retry, … up to a bound, one probe at a time
//!     ◀────an answer────┘
//! ```

use std::time::Duration;

use super::cache::Millis;

/// So many failures in a row stand for the origin, not for a document: before, a request that has nothing else to serve is
/// let through.
const FAILING_FROM: u32 = 3;
/// The longest pause between two probes.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What is known of the origin's health.
#[derive(Debug)]
pub(super) struct Gate {
    /// The pause after the first failure.
    retry: Duration,
    failures: u32,
    /// Whether a probe is under way.
    probing: bool,
    /// How many probes have failed in a row.
    probes_failed: u32,
    next_probe: Millis,
    last_error: Option<(Millis, &'static str)>,
}

/// How a fetch was let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pass {
    /// As one of many.
    Usual,
    /// As the one that finds out. It ends by being heard of, or by being given back.
    Probe,
}

/// What an answer, or none, changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flip {
    /// The origin is failing now.
    Failing,
    /// It answers again.
    Well,
}

impl Gate {
    /// An open gate, which after a failure waits `retry` before it asks again.
    pub(super) fn new(retry: Duration) -> Self {
        let (failures, probing, probes_failed, next_probe) = (0, false, 0, Millis(0));
        Self { retry, failures, probing, probes_failed, next_probe, last_error: None }
    }

    /// Whether to ask now. A request that has a stale document to serve holds back after the first failure already.
    pub(super) fn admit(&mut self, now: Millis, has_fallback: bool) -> Option<Pass> {
        if self.failures == 0 {
            return Some(Pass::Usual);
        }
        if now >= self.next_probe && !self.probing {
            // One at a time: its failure says when the next one is due.
            self.probing = true;
            return Some(Pass::Probe);
        }
        (self.failures < FAILING_FROM && !has_fallback).then_some(Pass::Usual)
    }

    /// The probe has ended, or was never sent: then another one may be, at once.
    pub(super) fn give_back(&mut self) {
        self.probing = false;
    }

    /// The origin answered, whatever it said.
    pub(super) fn answered(&mut self) -> Option<Flip> {
        let was_failing = std::mem::take(&mut self.failures) >= FAILING_FROM;
        self.probes_failed = 0;
        was_failing.then_some(Flip::Well)
    }

    /// It did not. Only a probe's failure lengthens the pause: of many fetches that fail together, all but the first few
    /// say what is known already.
    pub(super) fn failed(&mut self, pass: Pass, now: Millis, error: &'static str) -> Option<Flip> {
        let was_failing = self.is_failing();
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some((now, error));
        match pass {
            Pass::Probe => self.probes_failed += u32::from(was_failing),
            Pass::Usual if was_failing => return None,
            Pass::Usual => {}
        }
        self.next_probe = later(now, self.pause());
        (self.failures == FAILING_FROM).then_some(Flip::Failing)
    }

    /// Whether it is failing.
    pub(super) fn is_failing(&self) -> bool {
        self.failures >= FAILING_FROM
    }

    /// Whether it is failing, and failed after that time or at it.
    pub(super) fn is_failing_since(&self, earlier: Millis) -> bool {
        self.is_failing() && self.last_error.is_some_and(|(at, _)| at >= earlier)
    }

    /// The last failure, when it was and what.
    pub(super) fn last_error(&self) -> Option<(Millis, &'static str)> {
        self.last_error
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
        assert_eq!(gate.admit(Millis(1), false), USUAL, "nothing else can be served, and once is no rule");
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
        assert_eq!(gate.answered(), Some(Flip::Well));
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
        assert_eq!(gate.answered(), Some(Flip::Well));
        assert_eq!(gate.admit(Millis(1011), false), USUAL);
    }

    #[test]
    fn tells_when_it_failed() {
        let mut gate = gate();
        gate.failed(Pass::Usual, Millis(1), "late");
        gate.failed(Pass::Usual, Millis(2), "late");
        assert!(!gate.is_failing_since(Millis(0)), "twice is no rule");
        gate.failed(Pass::Usual, Millis(3), "late");
        assert!(gate.is_failing_since(Millis(3)) && !gate.is_failing_since(Millis(4)));
        gate.answered();
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
        assert_eq!(gate.admit(Millis(5001), false), PROBE, "that one was never sent");
    }
}
