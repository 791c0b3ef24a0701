//! When each request is due. Pure: times come in as arguments.
//!
//! In a closed loop a request is due as soon as a connection can send it. In an open loop requests are due at a fixed rate
//! whether the node keeps up or not, and latency counts from then: so a stall of the node shows in the latency of every
//! request that was due during it, and not only of those in flight when it began ("coordinated omission").

use std::time::Duration;

use tokio::time::Instant;

/// A run from its start to its end, and which part of it is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunTimes {
    /// When the first request is due.
    pub(super) start: Instant,
    /// The end of the warm-up: requests due before are not counted.
    pub(super) measured_from: Instant,
    /// No request is due from here on. `None` when the run ends after a number of requests.
    pub(super) end: Option<Instant>,
}

impl RunTimes {
    pub(super) fn is_past(&self, time: Instant) -> bool {
        self.end.is_some_and(|end| time >= end)
    }
}

/// The due times of one thread's requests.
#[derive(Debug)]
pub(super) struct Schedule {
    times: RunTimes,
    /// Counted requests still to send, in a run that ends after a number of requests.
    left: Option<u64>,
    open: Option<OpenLoop>,
}

#[derive(Debug)]
struct OpenLoop {
    /// Requests per second of all threads together.
    rate: f64,
    /// The number of this thread's next request. Numbers count over all threads, which take turns.
    next: u64,
    threads: u64,
}

impl OpenLoop {
    fn due(&self, times: &RunTimes, number: u64) -> Instant {
        times.start + Duration::from_secs_f64(number as f64 / self.rate)
    }
}

impl Schedule {
    /// The share of thread `index` of `threads`. `requests` and `rate` (per second) are those of all threads together.
    pub(super) fn new(
        times: RunTimes,
        requests: Option<u64>,
        rate: Option<f64>,
        index: usize,
        threads: usize,
    ) -> Self {
        let (index, threads) = (index as u64, threads as u64);
        let left = requests.map(|all| all / threads + u64::from(index < all % threads));
        let open = rate.map(|rate| OpenLoop { rate, next: index, threads });
        Self { times, left, open }
    }

    /// Takes the next request if it is due, and returns when it was.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next_due(now);
        if due > now || self.is_over(now) {
            return None;
        }
        self.count(due);
        Some(due)
    }

    /// Gives up the requests of an open loop that were due earlier than `before` and not taken. Returns how many of them are
    /// counted.
    pub(super) fn give_up(&mut self, before: Instant) -> u64 {
        let mut given_up = 0;
        while self.open.is_some() && !self.is_over(before) {
            let due = self.next_due(before);
            if due >= before {
                break;
            }
            given_up += u64::from(due >= self.times.measured_from);
            self.count(due);
        }
        given_up
    }

    /// How many requests are due and not taken; always 0 in a closed loop.
    pub(super) fn backlog(&self, now: Instant) -> u64 {
        let Some(open) = &self.open else { return 0 };
        let is_due = |ahead: u64| {
            let due = open.due(&self.times, open.next + ahead * open.threads);
            due <= now && !self.times.is_past(due)
        };
        let until = self.times.end.map_or(now, |end| now.min(end));
        let since = until.saturating_duration_since(open.due(&self.times, open.next));
        let mut ahead = (since.as_secs_f64() * open.rate) as u64 / open.threads;
        // This estimate is rounded.
        while ahead > 0 && !is_due(ahead - 1) {
            ahead -= 1;
        }
        while is_due(ahead) {
            ahead += 1;
        }
        ahead
    }

    /// How long before `end` the next request was due; zero in a closed loop.
    pub(super) fn behind(&self, end: Instant) -> Duration {
        self.open
            .as_ref()
            .map_or(Duration::ZERO, |open| end.saturating_duration_since(open.due(&self.times, open.next)))
    }

    /// When the first request that is not due yet will be.
    pub(super) fn next_wake(&self, now: Instant) -> Instant {
        match &self.open {
            None => now,
            Some(open) => open.due(&self.times, open.next + self.backlog(now) * open.threads),
        }
    }

    /// Whether there are no more requests.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.left == Some(0) || self.times.is_past(self.next_due(now))
    }

    fn next_due(&self, now: Instant) -> Instant {
        self.open.as_ref().map_or(now, |open| open.due(&self.times, open.next))
    }

    fn count(&mut self, due: Instant) {
        if let Some(open) = &mut self.open {
            open.next += open.threads;
        }
        if let Some(left) = self.left.as_mut().filter(|_| due >= self.times.measured_from) {
            *left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn times(warmup: u32, end: Option<u32>) -> RunTimes {
        let start = Instant::now();
        RunTimes { start, measured_from: start + MS * warmup, end: end.map(|end| start + MS * end) }
    }

    #[test]
    fn a_closed_loop_is_always_due_until_its_end() {
        let times = times(1, Some(10));
        let mut schedule = Schedule::new(times, None, None, 0, 1);
        let at = |ms| times.start + MS * ms;
        assert_eq!(
            (schedule.take(at(0)), schedule.take(at(9)), schedule.take(at(10))),
            (Some(at(0)), Some(at(9)), None)
        );
        assert!(!schedule.is_over(at(9)) && schedule.is_over(at(10)) && schedule.backlog(at(9)) == 0);
    }

    #[test]
    fn a_number_of_requests_is_shared_and_the_warm_up_is_not_counted() {
        let times = times(5, None);
        let at = |ms| times.start + MS * ms;
        let taken = |index| {
            let mut schedule = Schedule::new(times, Some(5), None, index, 2);
            assert!(schedule.take(at(0)).is_some());
            std::iter::from_fn(|| schedule.take(at(5))).count()
        };
        assert_eq!((taken(0), taken(1)), (3, 2));
    }

    #[test]
    fn an_open_loop_is_due_at_its_times() {
        let times = times(2, Some(6));
        let at = |ms| times.start + MS * ms;
        let mut schedule = Schedule::new(times, None, Some(1000.0), 0, 1);
        assert_eq!((schedule.take(at(0)), schedule.take(at(0))), (Some(at(0)), None));
        assert_eq!((schedule.backlog(at(0)), schedule.next_wake(at(0))), (0, at(1)));
        // After a stall, requests are taken late but with their own due times.
        assert_eq!((schedule.backlog(at(4)), schedule.next_wake(at(4))), (4, at(5)));
        assert_eq!(schedule.take(at(4)), Some(at(1)));
        assert_eq!(schedule.give_up(at(4)), 2);
        assert_eq!(schedule.take(at(4)), Some(at(4)));
        assert!(!schedule.is_over(at(99)));
        assert_eq!((schedule.take(at(99)), schedule.take(at(99))), (Some(at(5)), None));
        assert!(schedule.is_over(at(99)) && schedule.backlog(at(99)) == 0);
    }

    /// Each look at it once took a step for each request that was due since the end.
    #[test]
    fn a_backlog_ends_with_the_run() {
        let times = times(0, Some(1000));
        let schedule = Schedule::new(times, None, Some(1e9), 0, 1);
        let (at_end, later) = (times.start + MS * 1000, times.start + MS * 100_000);
        assert_eq!((schedule.backlog(at_end), schedule.backlog(later)), (1_000_000_000, 1_000_000_000));
    }

    #[test]
    fn threads_take_turns() {
        let times = times(0, Some(4));
        let at = |ms| times.start + MS * ms;
        let all = |index| {
            let mut schedule = Schedule::new(times, None, Some(1000.0), index, 2);
            std::iter::from_fn(move || schedule.take(at(9))).collect::<Vec<_>>()
        };
        assert_eq!((all(0), all(1)), (vec![at(0), at(2)], vec![at(1), at(3)]));
    }
}
