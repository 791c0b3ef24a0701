//! What came of the requests: counts, and a histogram of their latencies.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::feed::Window;
use crate::wire::{ReplyView, Status};

/// The finest step of latencies, in nanoseconds.
const FINEST: u64 = 100;
/// Beyond this, latencies are as long as this.
const LONGEST: u64 = 3_600_000_000_000;
/// Decimal digits of a latency that are true.
const DIGITS: u8 = 3;

/// Why a request has no sound reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// No connection was made.
    Refused,
    /// The connection ended first.
    Broken,
    /// No reply came in time.
    Late,
    /// What came is not one sound reply, or is none to this request.
    Bad,
    /// It was due, and in all its time no connection had a place for it.
    NotSent,
}

impl Failure {
    pub(super) const ALL: [Failure; 5] =
        [Failure::Refused, Failure::Broken, Failure::Late, Failure::Bad, Failure::NotSent];

    /// Its name for scripts.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::Broken => "broken",
            Failure::Late => "late",
            Failure::Bad => "bad_reply",
            Failure::NotSent => "not_sent",
        }
    }
}

/// The counts of one thread, or of all.
pub(super) struct Tally {
    pub(super) window: Window,
    /// In nanoseconds, of every sound reply.
    pub(super) latency: Histogram<u64>,
    statuses: [u64; Status::ALL.len()],
    failures: [u64; Failure::ALL.len()],
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Replies that came, and their bytes, within the window, whenever they were due: the throughput.
    pub(super) in_window: u64,
    pub(super) bytes: u64,
    /// When the last request that counts ended.
    pub(super) last: Option<Instant>,
}

impl Tally {
    pub(super) fn new(window: Window) -> Self {
        let latency = Histogram::new_with_bounds(FINEST, LONGEST, DIGITS);
        Self {
            window,
            #[expect(clippy::expect_used, reason = "the bounds are constants, and a test makes one")]
            latency: latency.expect("bounds that a histogram can have"),
            statuses: [0; Status::ALL.len()],
            failures: [0; Failure::ALL.len()],
            hits: 0,
            misses: 0,
            in_window: 0,
            bytes: 0,
            last: None,
        }
    }

    /// Counts the line of a reply that came at `now` for a request due at `due`.
    pub(super) fn reply(&mut self, due: Instant, now: Instant, line: &[u8]) {
        let Ok(reply) = ReplyView::parse(line) else { return self.failure(due, now, Failure::Bad) };
        if now >= self.window.begin && !self.window.is_past(now) {
            self.in_window += 1;
            self.bytes += line.len() as u64 + 1;
        }
        if due < self.window.begin {
            return;
        }
        self.latency.saturating_record(nanos(now.saturating_duration_since(due)).max(1));
        self.statuses[reply.status as usize] += 1;
        self.hits += u64::from(reply.cache_hit == Some(true));
        self.misses += u64::from(reply.cache_hit == Some(false));
        self.last = self.last.max(Some(now));
    }

    /// Counts a request without a sound reply.
    pub(super) fn failure(&mut self, due: Instant, now: Instant, failure: Failure) {
        if due >= self.window.begin {
            self.failures(failure, 1);
            self.last = self.last.max(Some(now));
        }
    }

    /// Counts so many that are known to count.
    pub(super) fn failures(&mut self, failure: Failure, count: u64) {
        self.failures[failure as usize] += count;
    }

    /// Adds what another thread counted.
    pub(super) fn add(&mut self, other: &Tally) {
        // Both have the same bounds: there is nothing that does not fit.
        let _ = self.latency.add(&other.latency);
        self.statuses.iter_mut().zip(other.statuses).for_each(|(sum, count)| *sum += count);
        self.failures.iter_mut().zip(other.failures).for_each(|(sum, count)| *sum += count);
        self.hits += other.hits;
        self.misses += other.misses;
        self.in_window += other.in_window;
        self.bytes += other.bytes;
        self.last = self.last.max(other.last);
    }

    /// Replies with a status.
    pub(super) fn status(&self, status: Status) -> u64 {
        self.statuses[status as usize]
    }

    /// Requests that failed in this way.
    pub(super) fn failed(&self, failure: Failure) -> u64 {
        self.failures[failure as usize]
    }

    /// Sound replies.
    pub(super) fn replies(&self) -> u64 {
        self.statuses.iter().sum()
    }

    /// Requests that ended, one way or the other.
    pub(super) fn requests(&self) -> u64 {
        self.replies() + self.failures.iter().sum::<u64>()
    }

    /// Requests that did not end with OK.
    pub(super) fn errors(&self) -> u64 {
        self.requests() - self.status(Status::Ok)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_was_due_after_the_warm_up() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut tally = Tally::new(Window { start, begin: start + second, end: Some(start + 2 * second) });
        let ok = br#"{"status":"OK","data":1,"cache_hit":true,"node":1}"#;
        tally.reply(start, start + second, ok);
        assert_eq!((tally.requests(), tally.in_window), (0, 1));
        tally.reply(start + second, start + 3 * second, ok);
        tally.reply(start + second, start + second, br#"{"status":"NOT_FOUND","data":null}"#);
        tally.reply(start + second, start + second, b"{}");
        tally.failure(start, start, Failure::Late);
        tally.failure(start + second, start + second, Failure::Late);
        assert_eq!((tally.requests(), tally.replies(), tally.errors(), tally.in_window), (4, 2, 3, 2));
        assert_eq!((tally.status(Status::NotFound), tally.failed(Failure::Bad)), (1, 1));
        assert_eq!((tally.hits, tally.misses), (1, 0));
        assert!((tally.latency.max() as f64 / 2e9 - 1.0).abs() < 0.001);
        let mut sum = Tally::new(tally.window);
        sum.add(&tally);
        sum.add(&tally);
        assert_eq!((sum.requests(), sum.latency.len()), (8, 4));
    }

    #[test]
    fn the_statuses_are_numbered_as_they_are_listed() {
        for (at, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, at);
        }
        for (at, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, at);
        }
    }
}
