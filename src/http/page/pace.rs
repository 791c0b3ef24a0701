//! How often METRICS are read while no page is open: so that reading them is next to nothing, however long they are. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// After a reading there is none for this many times as long as it took.
const PART: u32 = 500;
/// The longest rest: what nobody looked at is noticed after this time at most.
const LONGEST: Duration = Duration::from_secs(30);

/// The time of the next reading.
#[derive(Default, Debug)]
pub(super) struct Pace(Option<Instant>);

impl Pace {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.0.is_none_or(|at| now >= at)
    }

    /// A reading took from `began` to `ended`.
    pub(super) fn rest(&mut self, began: Instant, ended: Instant) {
        self.0 = Some(ended + (PART * (ended - began)).min(LONGEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_followed_by_a_rest_of_hundreds_of_times_its_length() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let ms = |ms| began + Duration::from_millis(ms);
        assert!(pace.is_due(began));
        pace.rest(began, ms(1));
        assert!(!pace.is_due(ms(500)) && pace.is_due(ms(501)));
        pace.rest(began, ms(200));
        assert!(!pace.is_due(ms(30_000)) && pace.is_due(ms(30_200)));
    }
}
