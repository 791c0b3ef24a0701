//! How the requests ended: counts, and a histogram of latencies.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::schedule::RunTimes;
use crate::wire::{ReplyView, Status};

/// Latencies are recorded between these two bounds, in nanoseconds: 100 ns and 1 hour.
const SHORTEST: u64 = 100;
const LONGEST: u64 = 3_600_000_000_000;
/// Latencies are exact to this number of decimal digits.
const DIGITS: u8 = 3;

/// Why a request has no valid reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failed {
    /// No connection was made.
    Refused,
    /// The connection ended before the reply came.
    Broken,
    /// No reply came within the timeout.
    Late,
    /// The bytes that came are not one valid reply to a request in flight.
    Bad,
    /// Over HTTP: another status than 200, 404 and 410.
    Status,
    /// Open loop: no connection could send the request within the timeout.
    NotSent,
}

impl Failed {
    pub(super) const ALL: [Failed; 6] =
        [Failed::Refused, Failed::Broken, Failed::Late, Failed::Bad, Failed::Status, Failed::NotSent];

    /// The name in the JSON report.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Failed::Refused => "refused",
            Failed::Broken => "broken",
            Failed::Late => "late",
            Failed::Bad => "bad_reply",
            Failed::Status => "status",
            Failed::NotSent => "not_sent",
        }
    }
}

/// The counts of one thread, or the sums of all threads.
pub(super) struct Measurements {
    pub(super) times: RunTimes,
    /// Of each valid reply, in nanoseconds from when its request was due.
    pub(super) latency: Histogram<u64>,
    statuses: [u64; Status::ALL.len()],
    failures: [u64; Failed::ALL.len()],
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Replies that came in the measured time, whenever their requests were due: for the throughput.
    pub(super) replies_measured: u64,
    /// The bytes of these replies, line ends included.
    pub(super) bytes_measured: u64,
    /// When the last counted request ended.
    pub(super) last: Option<Instant>,
    /// Open loop: how far behind its schedule the load was at the end.
    pub(super) behind: Duration,
}

impl Measurements {
    pub(super) fn new(times: RunTimes) -> Self {
        let latency = Histogram::new_with_bounds(SHORTEST, LONGEST, DIGITS);
        Self {
            times,
            #[expect(
                clippy::expect_used,
                reason = "the bounds are constants, and every unit test makes one"
            )]
            latency: latency.expect("valid bounds"),
            statuses: [0; Status::ALL.len()],
            failures: [0; Failed::ALL.len()],
            hits: 0,
            misses: 0,
            replies_measured: 0,
            bytes_measured: 0,
            last: None,
            behind: Duration::ZERO,
        }
    }

    /// Counts a reply line that came at `now`; its request was due at `due`.
    pub(super) fn reply(&mut self, due: Instant, now: Instant, line: &[u8]) {
        match ReplyView::parse(line) {
            Ok(reply) => self.answered(due, now, reply.status, reply.cache_hit, line.len() + 1),
            Err(_) => self.failure(due, now, Failed::Bad),
        }
    }

    /// Counts a valid reply of this length in bytes that came at `now`, and whether it came from a cache, if it says so.
    pub(super) fn answered(
        &mut self,
        due: Instant,
        now: Instant,
        status: Status,
        hit: Option<bool>,
        length: usize,
    ) {
        if now >= self.times.measured_from && !self.times.is_past(now) {
            self.replies_measured += 1;
            self.bytes_measured += length as u64;
        }
        if due < self.times.measured_from {
            return;
        }
        self.latency.saturating_record(nanos(now.saturating_duration_since(due)).max(1));
        self.statuses[status as usize] += 1;
        self.hits += u64::from(hit == Some(true));
        self.misses += u64::from(hit == Some(false));
        self.last = self.last.max(Some(now));
    }

    /// Counts a request without a valid reply, if it was due in the measured time.
    pub(super) fn failure(&mut self, due: Instant, now: Instant, failure: Failed) {
        if due >= self.times.measured_from {
            self.add_failures(failure, 1);
            self.last = self.last.max(Some(now));
        }
    }

    /// Counts `count` requests without a valid reply that were due in the measured time.
    pub(super) fn add_failures(&mut self, failure: Failed, count: u64) {
        self.failures[failure as usize] += count;
    }

    /// Adds the counts of another thread.
    pub(super) fn add(&mut self, other: &Measurements) {
        // Fails only for histograms with different bounds.
        let _ = self.latency.add(&other.latency);
        self.statuses.iter_mut().zip(other.statuses).for_each(|(sum, count)| *sum += count);
        self.failures.iter_mut().zip(other.failures).for_each(|(sum, count)| *sum += count);
        self.hits += other.hits;
        self.misses += other.misses;
        self.replies_measured += other.replies_measured;
        self.bytes_measured += other.bytes_measured;
        self.last = self.last.max(other.last);
        self.behind = self.behind.max(other.behind);
    }

    /// Replies with a status.
    pub(super) fn status(&self, status: Status) -> u64 {
        self.statuses[status as usize]
    }

    /// Requests that failed in this way.
    pub(super) fn failed(&self, failure: Failed) -> u64 {
        self.failures[failure as usize]
    }

    /// Valid replies.
    pub(super) fn replies(&self) -> u64 {
        self.statuses.iter().sum()
    }

    /// Requests that ended, one way or the other.
    pub(super) fn requests(&self) -> u64 {
        self.replies() + self.failures.iter().sum::<u64>()
    }

    /// Requests that did not end with status OK.
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
    fn counts_requests_that_were_due_after_the_warm_up() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut measurements = Measurements::new(RunTimes {
            start,
            measured_from: start + second,
            end: Some(start + 2 * second),
        });
        let ok = br#"{"status":"OK","data":1,"cache_hit":true,"node":1}"#;
        measurements.reply(start, start + second, ok);
        assert_eq!((measurements.requests(), measurements.replies_measured), (0, 1));
        measurements.reply(start + second, start + 3 * second, ok);
        measurements.reply(start + second, start + second, br#"{"status":"NOT_FOUND","data":null}"#);
        measurements.reply(start + second, start + second, b"{}");
        measurements.failure(start, start, Failed::Late);
        measurements.failure(start + second, start + second, Failed::Late);
        assert_eq!(
            (
                measurements.requests(),
                measurements.replies(),
                measurements.errors(),
                measurements.replies_measured
            ),
            (4, 2, 3, 2)
        );
        assert_eq!((measurements.status(Status::NotFound), measurements.failed(Failed::Bad)), (1, 1));
        assert_eq!((measurements.hits, measurements.misses), (1, 0));
        assert!((measurements.latency.max() as f64 / 2e9 - 1.0).abs() < 0.001);
        let mut sum = Measurements::new(measurements.times);
        sum.add(&measurements);
        sum.add(&measurements);
        assert_eq!((sum.requests(), sum.latency.len()), (8, 4));
    }

    #[test]
    fn all_lists_statuses_and_failures_by_their_numbers() {
        for (at, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, at);
        }
        for (at, failure) in Failed::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, at);
        }
    }
}
