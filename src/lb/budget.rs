//! A budget for further attempts: a part of the requests of the last ten seconds, so that retries cannot multiply the load
//! when all nodes fail.
//!
//! Pure. It is given the running total of requests now and then, so a request with one attempt costs it nothing.

use std::collections::VecDeque;

use super::clock::Millis;

/// The time that counts.
const WINDOW: Millis = 10_000;
/// The resolution of that.
const STEP: Millis = 250;

/// The size of a budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// This part of the requests,
    share: f64,
    /// and this many per second.
    per_second: f64,
}

/// A fifth of the requests, and ten a second so that a quiet balancer can retry at all.
pub(super) const RETRIES: Allowance = Allowance { share: 0.2, per_second: 10.0 };
/// A fiftieth of the requests: when all nodes are slow, hedges must not make them slower. And one a second, so that a client
/// whose request hangs is helped when there are no other requests to earn a hedge.
pub(super) const HEDGES: Allowance = Allowance { share: 0.02, per_second: 1.0 };

/// A budget and what was spent of it.
#[derive(Debug)]
pub(super) struct Budget {
    allowance: Allowance,
    /// Steps of time: when each began, the total of requests by then, the attempts paid in it.
    moments: VecDeque<(Millis, u64, u64)>,
}

impl Budget {
    pub(super) fn new(allowance: Allowance) -> Self {
        Self { allowance, moments: VecDeque::from([(0, 0, 0)]) }
    }

    /// Notes the total of requests by now.
    pub(super) fn note(&mut self, now: Millis, requests: u64) {
        if self.moments.back().is_none_or(|(at, ..)| now >= at + STEP) {
            self.moments.push_back((now, requests, 0));
        }
        // The newest moment outside the window is kept: the requests after it are those within.
        while self.moments.get(1).is_some_and(|(at, ..)| at + WINDOW <= now) {
            self.moments.pop_front();
        }
    }

    /// Pays for one attempt; false when the budget is spent.
    pub(super) fn take(&mut self, now: Millis, requests: u64) -> bool {
        self.note(now, requests);
        let before = self.moments.front().map_or(0, |(_, before, _)| *before);
        let in_window = |(at, ..): &&(Millis, u64, u64)| at + STEP + WINDOW > now;
        let spent: u64 = self.moments.iter().filter(in_window).map(|(.., spent)| spent).sum();
        let seconds = WINDOW as f64 / 1_000.0;
        let may = self.allowance.share * requests.saturating_sub(before) as f64
            + self.allowance.per_second * seconds;
        let taken = ((spent + 1) as f64) <= may;
        if taken && let Some((.., spent)) = self.moments.back_mut() {
            *spent += 1;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(budget: &mut Budget, now: Millis, requests: u64) -> usize {
        (0..100_000).take_while(|_| budget.take(now, requests)).count()
    }

    #[test]
    fn a_fifth_of_the_requests_and_ten_a_second() {
        let mut budget = Budget::new(RETRIES);
        assert_eq!(takes(&mut budget, 0, 0), 100);
        assert_eq!(takes(&mut budget, 5_000, 1_000), 200);
        assert_eq!(takes(&mut budget, 9_999, 1_000), 0);
        assert_eq!(takes(&mut budget, 10_300, 1_000), 100, "what was spent at first is forgotten");
        assert_eq!(takes(&mut budget, 60_000, 1_000), 100, "and so are the requests");
    }

    #[test]
    fn when_all_fail_retries_are_no_more_than_a_fifth() {
        let mut budget = Budget::new(RETRIES);
        let (mut requests, mut more) = (0u64, 0u64);
        for now in 0..60_000 {
            for _ in 0..10 {
                requests += 1;
                more += u64::from(budget.take(now, requests)) + u64::from(budget.take(now, requests));
            }
        }
        assert!(more as f64 <= 0.2 * requests as f64 + 10.0 * 70.0, "{more} of {requests}");
        assert!(more as f64 >= 0.19 * requests as f64, "{more} of {requests}");
    }

    #[test]
    fn a_request_that_hangs_alone_is_hedged_though_earlier_hedges_took_the_share() {
        let mut budget = Budget::new(HEDGES);
        assert_eq!(takes(&mut budget, 0, 600), 22, "a fiftieth, and one a second");
        assert_eq!(takes(&mut budget, 5_000, 600), 0);
        assert_eq!(takes(&mut budget, 60_000, 600), 10, "no request came since");
    }
}
