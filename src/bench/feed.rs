//! When each request is due: pure, times come in as arguments.
//!
//! In a closed loop a request is due as soon as there is a place for it. In an open loop requests are due at their times
//! whether the node keeps up or not, and their latency counts from then on: a stall is seen by all who came during it,
//! not only by those who were under way when it began.

use std::time::Duration;

use tokio::time::Instant;

/// The stretch of a run that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// When the first request is due.
    pub(super) start: Instant,
    /// The end of the warm-up: what is due before is not counted.
    pub(super) begin: Instant,
    /// What would be due from here on is not asked; `None` when requests are counted and not time.
    pub(super) end: Option<Instant>,
}

impl Window {
    pub(super) fn is_past(&self, time: Instant) -> bool {
        self.end.is_some_and(|end| time >= end)
    }
}

/// The requests of one thread.
#[derive(Debug)]
pub(super) struct Feed {
    window: Window,
    /// How many of those that count are left, where they are numbered.
    left: Option<u64>,
    open: Option<Open>,
}

/// Where an open loop is.
#[derive(Debug)]
struct Open {
    /// Requests in a second, of all threads.
    rate: f64,
    /// The number of the next request, counted over all threads, which take turns.
    next: u64,
    threads: u64,
}

impl Open {
    fn due(&self, window: &Window, number: u64) -> Instant {
        window.start + Duration::from_secs_f64(number as f64 / self.rate)
    }
}

impl Feed {
    /// The requests of thread `index` of `threads`: `requests` in all of them, at `rate` in all of them.
    pub(super) fn new(
        window: Window,
        requests: Option<u64>,
        rate: Option<f64>,
        index: usize,
        threads: usize,
    ) -> Self {
        let (index, threads) = (index as u64, threads as u64);
        let left = requests.map(|all| all / threads + u64::from(index < all % threads));
        let open = rate.map(|rate| Open { rate, next: index, threads });
        Self { window, left, open }
    }

    /// Takes the next request, if one is due: since when.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next_due(now);
        if due > now || self.is_over(now) {
            return None;
        }
        self.count(due);
        Some(due)
    }

    /// Gives up what has been due since before `before` and was never taken: how many of those that count.
    pub(super) fn give_up(&mut self, before: Instant) -> u64 {
        let mut given_up = 0;
        while self.open.is_some() && !self.is_over(before) {
            let due = self.next_due(before);
            if due >= before {
                break;
            }
            given_up += u64::from(due >= self.window.begin);
            self.count(due);
        }
        given_up
    }

    /// How many are due and not taken; always none in a closed loop.
    pub(super) fn backlog(&self, now: Instant) -> u64 {
        let Some(open) = &self.open else { return 0 };
        let is_due = |mine: u64| {
            let due = open.due(&self.window, open.next + mine * open.threads);
            due <= now && !self.window.is_past(due)
        };
        let since = now.saturating_duration_since(open.due(&self.window, open.next));
        let mut mine = (since.as_secs_f64() * open.rate) as u64 / open.threads;
        // The guess is rounded, and does not know the end.
        while mine > 0 && !is_due(mine - 1) {
            mine -= 1;
        }
        while is_due(mine) {
            mine += 1;
        }
        mine
    }

    /// When the first that is not due yet will be.
    pub(super) fn next_wake(&self, now: Instant) -> Instant {
        match &self.open {
            None => now,
            Some(open) => open.due(&self.window, open.next + self.backlog(now) * open.threads),
        }
    }

    /// Whether there is nothing more to ask.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.left == Some(0) || self.window.is_past(self.next_due(now))
    }

    fn next_due(&self, now: Instant) -> Instant {
        self.open.as_ref().map_or(now, |open| open.due(&self.window, open.next))
    }

    fn count(&mut self, due: Instant) {
        if let Some(open) = &mut self.open {
            open.next += open.threads;
        }
        if let Some(left) = self.left.as_mut().filter(|_| due >= self.window.begin) {
            *left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn window(warmup: u32, end: Option<u32>) -> Window {
        let start = Instant::now();
        Window { start, begin: start + MS * warmup, end: end.map(|end| start + MS * end) }
    }

    #[test]
    fn a_closed_loop_is_always_due_until_its_end() {
        let window = window(1, Some(10));
        let mut feed = Feed::new(window, None, None, 0, 1);
        let at = |ms| window.start + MS * ms;
        assert_eq!((feed.take(at(0)), feed.take(at(9)), feed.take(at(10))), (Some(at(0)), Some(at(9)), None));
        assert!(!feed.is_over(at(9)) && feed.is_over(at(10)) && feed.backlog(at(9)) == 0);
    }

    #[test]
    fn numbered_requests_are_shared_and_the_warm_up_is_free() {
        let window = window(5, None);
        let at = |ms| window.start + MS * ms;
        let taken = |index| {
            let mut feed = Feed::new(window, Some(5), None, index, 2);
            assert!(feed.take(at(0)).is_some());
            std::iter::from_fn(|| feed.take(at(5))).count()
        };
        assert_eq!((taken(0), taken(1)), (3, 2));
    }

    #[test]
    fn an_open_loop_is_due_at_its_times() {
        let window = window(2, Some(6));
        let at = |ms| window.start + MS * ms;
        let mut feed = Feed::new(window, None, Some(1000.0), 0, 1);
        assert_eq!((feed.take(at(0)), feed.take(at(0))), (Some(at(0)), None));
        assert_eq!((feed.backlog(at(0)), feed.next_wake(at(0))), (0, at(1)));
        // A stall: what was due in it is taken late, with its own time.
        assert_eq!((feed.backlog(at(4)), feed.next_wake(at(4))), (4, at(5)));
        assert_eq!(feed.take(at(4)), Some(at(1)));
        assert_eq!(feed.give_up(at(4)), 2);
        assert_eq!(feed.take(at(4)), Some(at(4)));
        assert!(!feed.is_over(at(99)));
        assert_eq!((feed.take(at(99)), feed.take(at(99))), (Some(at(5)), None));
        assert!(feed.is_over(at(99)) && feed.backlog(at(99)) == 0);
    }

    #[test]
    fn threads_take_turns() {
        let window = window(0, Some(4));
        let at = |ms| window.start + MS * ms;
        let all = |index| {
            let mut feed = Feed::new(window, None, Some(1000.0), index, 2);
            std::iter::from_fn(move || feed.take(at(9))).collect::<Vec<_>>()
        };
        assert_eq!((all(0), all(1)), (vec![at(0), at(2)], vec![at(1), at(3)]));
    }
}
