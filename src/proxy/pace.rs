//! How long a fetch takes these days, from the answers of the last ones. Pure; times come in as arguments.

use std::time::Duration;

use tokio::time::Instant;

/// A mean is forgotten after this time without another, or after two fetches' time: before that the source may have changed.
const FORGOTTEN: Duration = Duration::from_secs(1);

/// The pace of a source that answers a limited number of fetches at once.
///
/// One answer says little of a thousand that may follow. The mean is that of a whole round, as many answers as fetches may
/// run at once: a source that works on fewer at a time than it is asked for shows in it, because all of them wait there.
#[derive(Debug)]
pub(super) struct Pace {
    /// The answers of a round.
    round: u32,
    answers: u32,
    total: Duration,
    /// The last answer.
    at: Option<Instant>,
    /// The mean of the last whole round, and its end.
    mean: Option<(Duration, Instant)>,
    /// A moving average of all answers, which lasts.
    usual: Option<Duration>,
}

impl Pace {
    pub(super) fn new(at_once: usize) -> Self {
        let round = u32::try_from(at_once).unwrap_or(u32::MAX).max(1);
        Self { round, answers: 0, total: Duration::ZERO, at: None, mean: None, usual: None }
    }

    /// A fetch was answered.
    pub(super) fn note(&mut self, took: Duration, now: Instant) {
        self.usual = Some(self.usual.map_or(took, |usual| usual - usual / 8 + took / 8));
        if self.at.is_some_and(|at| now.saturating_duration_since(at) > FORGOTTEN.max(2 * took)) {
            (self.answers, self.total) = (0, Duration::ZERO);
        }
        self.at = Some(now);
        self.answers += 1;
        self.total += took;
        if self.answers >= self.round {
            self.mean = Some((self.total / self.answers, now));
            (self.answers, self.total) = (0, Duration::ZERO);
        }
    }

    /// The time of a fetch by the last round; `None` when that was not lately.
    pub(super) fn recent(&self, now: Instant) -> Option<Duration> {
        let (mean, at) = self.mean?;
        (now.saturating_duration_since(at) <= FORGOTTEN.max(2 * mean)).then_some(mean)
    }

    /// The usual time of a fetch that is answered, also from long ago; `None` before the first answer.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn one_slow_fetch_says_nothing_of_a_thousand() {
        let (mut pace, now) = (Pace::new(64), Instant::now());
        pace.note(200 * MS, now);
        assert_eq!((pace.recent(now), pace.usual()), (None, Some(200 * MS)));
        for _ in 0..63 {
            pace.note(200 * MS, now);
        }
        assert_eq!(pace.recent(now), Some(200 * MS), "a whole round does");
    }

    #[tokio::test]
    async fn a_change_of_pace_is_followed_within_a_second_both_ways() {
        for (before, after) in [(200, 20), (20, 200)] {
            let (mut pace, mut now) = (Pace::new(64), Instant::now());
            let mut rounds = |pace: &mut Pace, took: u32, rounds: u32| {
                let begun = now;
                for answer in 0..64 * rounds {
                    // Spread evenly, as 64 slots bring them.
                    now = begun + took * MS * answer / 64;
                    pace.note(took * MS, now);
                }
                (now - begun, now)
            };
            rounds(&mut pace, before, 3);
            let (passed, now) = rounds(&mut pace, after, 2);
            assert!(passed < Duration::from_secs(1));
            assert_eq!(pace.recent(now), Some(after * MS));
        }
    }

    #[tokio::test]
    async fn what_is_long_ago_is_forgotten() {
        let (mut pace, now) = (Pace::new(2), Instant::now());
        pace.note(200 * MS, now);
        pace.note(200 * MS, now);
        assert_eq!(pace.recent(now + 1_000 * MS), Some(200 * MS));
        assert_eq!(pace.recent(now + 1_001 * MS), None);
        pace.note(20 * MS, now);
        pace.note(20 * MS, now + 5_000 * MS);
        assert_eq!(pace.recent(now + 5_000 * MS), None, "half a round of then and half of now is none");
    }
}
