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
    /// A probe has told of itself after this long.
    probe_deadline: Duration,
    failures: u32,
    /// Whether a probe is under way.
    probing: bool,
    /// How many probes have failed in a row.
    probes_failed: u32,
    next_probe: Millis,
    last_error: Option<(Millis, &'static str)>,
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
    /// An open gate, which after a failure waits `retry` before it asks again; a probe ends within `probe_deadline`.
    pub(super) fn new(retry: Duration, probe_deadline: Duration) -> Self {
        let (failures, probing, probes_failed, next_probe) = (0, false, 0, Millis(0));
        Self { retry, probe_deadline, failures, probing, probes_failed, next_probe, last_error: None }
    }

    /// Whether to ask now. A request that has a stale document to serve holds back after the first failure already.
    pub(super) fn admit(&mut self, now: Millis, has_fallback: bool) -> bool {
        if self.failures == 0 {
            return true;
        }
        if now >= self.next_probe {
            // One probe at a time: its failure says when the next one is due. One that is never heard of delays that.
            self.next_probe = later(now, self.probe_deadline + self.pause());
            self.probing = self.is_failing();
            return true;
        }
        self.failures < FAILING_FROM && !has_fallback
    }

    /// The origin answered, whatever it said.
    pub(super) fn answered(&mut self) -> Option<Flip> {
        let was_failing = std::mem::take(&mut self.failures) >= FAILING_FROM;
        (self.probing, self.probes_failed) = (false, 0);
        was_failing.then_some(Flip::Well)
    }

    /// It did not. Only a probe's failure lengthens the pause: of many fetches that fail together, all but the first few
    /// say what is known already.
    pub(super) fn failed(&mut self, now: Millis, error: &'static str) -> Option<Flip> {
        let was_failing = self.is_failing();
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some((now, error));
        if std::mem::take(&mut self.probing) {
            self.probes_failed += 1;
        } else if was_failing {
            return None;
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

    /// Probed after a second, by what takes two at most.
    fn gate() -> Gate {
        Gate::new(Duration::from_secs(1), Duration::from_secs(2))
    }

    #[test]
    fn asks_a_failing_origin_ever_more_seldom() {
        let mut gate = gate();
        assert!(gate.admit(Millis(0), true));
        assert_eq!(gate.failed(Millis(0), "late"), None);
        assert!(!gate.admit(Millis(1), true), "something stale can be served");
        assert!(gate.admit(Millis(1), false), "nothing else can be served, and once is no rule");
        gate.failed(Millis(2), "late");
        assert_eq!(gate.failed(Millis(3), "late"), Some(Flip::Failing));
        assert!(!gate.admit(Millis(4), false));
        let mut asked = Vec::new();
        for now in (0..100_000).step_by(10) {
            if gate.admit(Millis(now), false) {
                asked.push(now);
                gate.failed(Millis(now), "late");
            }
        }
        let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [2000, 4000, 8000, 16_000, 30_000, 30_000], "{asked:?}");
        assert_eq!(gate.answered(), Some(Flip::Well));
        assert!(gate.admit(Millis(100_000), true));
    }

    #[test]
    fn many_that_fail_together_are_one_failure() {
        let mut gate = gate();
        for _ in 0..64 {
            gate.failed(Millis(10), "closed");
        }
        assert!(!gate.admit(Millis(1009), false));
        assert!(gate.admit(Millis(1010), false), "the first pause is not longer for that");
        assert_eq!(gate.answered(), Some(Flip::Well));
        assert!(gate.admit(Millis(1011), false));
    }

    #[test]
    fn tells_when_it_failed() {
        let mut gate = gate();
        gate.failed(Millis(1), "late");
        gate.failed(Millis(2), "late");
        assert!(!gate.is_failing_since(Millis(0)), "twice is no rule");
        gate.failed(Millis(3), "late");
        assert!(gate.is_failing_since(Millis(3)) && !gate.is_failing_since(Millis(4)));
        gate.answered();
        assert!(!gate.is_failing_since(Millis(0)));
    }

    #[test]
    fn one_probe_at_a_time() {
        let mut gate = gate();
        for _ in 0..3 {
            gate.failed(Millis(0), "late");
        }
        assert!(gate.admit(Millis(1000), false));
        assert!(!gate.admit(Millis(1001), false), "the probe is still under way");
        assert!(!gate.admit(Millis(2999), false), "as it may be for its whole deadline");
        gate.failed(Millis(3000), "late");
        assert!(
            !gate.admit(Millis(4999), false) && gate.admit(Millis(5000), false),
            "the pause follows its failure"
        );
        assert!(gate.admit(Millis(9000), false), "that probe was never heard of");
    }
}
