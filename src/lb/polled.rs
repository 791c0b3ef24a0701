//! The last METRICS of a node, and how a node that came back catches up with its peers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::balance::WHOLE;
use super::clock::Millis;
use crate::lock::lock;
use crate::stats::ratio;
use crate::wire::{ReplyView, Status};

/// The first share of a node that came back, in percent.
pub(super) const LEAST: u32 = 10;
/// A node has caught up at this part of its peers' hit ratio.
const CAUGHT_UP: f64 = 0.9;
/// The least number of answers for a hit ratio.
const ANSWERS: u64 = 50;

/// A sound reply to METRICS. Older nodes print floats for whole numbers.
#[derive(Debug)]
pub(super) struct Report {
    metrics: Shown,
    total: u64,
    origin_fetches: u64,
}

impl Report {
    /// Parses a reply; `None` unless it is OK and has `total_requests`.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Numbers {
            total_requests: f64,
            #[serde(default)]
            origin_fetches: f64,
        }
        let reply = ReplyView::parse(line).ok().filter(|reply| reply.status == Status::Ok)?;
        let numbers: Numbers = serde_json::from_str(reply.data).ok()?;
        Some(Self {
            metrics: Shown::of(reply.data)?,
            total: numbers.total_requests as u64,
            origin_fetches: numbers.origin_fetches as u64,
        })
    }
}

/// METRICS of a node as the balancer's own show them.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// As they came.
    pub(super) whole: Box<RawValue>,
    /// Their numbers and words, without lists and objects: for METRICS of very many nodes.
    pub(super) summary: Box<RawValue>,
}

impl Shown {
    fn of(data: &str) -> Option<Self> {
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(data).ok()?;
        members.retain(|_, value| !value.get().starts_with(['{', '[']));
        let whole = RawValue::from_string(data.to_owned()).ok()?;
        Some(Self { whole, summary: to_raw_value(&members).ok()? })
    }
}

/// What is known from polls of one node.
#[derive(Default)]
pub(super) struct Polled {
    /// Requests the node got from others: its reported total minus what this balancer had sent when it reported.
    beyond: AtomicU64,
    /// The time of the last report; 0 before the first.
    at: AtomicU64,
    details: Mutex<Details>,
}

#[derive(Default)]
struct Details {
    metrics: Option<Shown>,
    origin_fetches: u64,
    /// Fetches before the last restart of the node: it counts from 0 after each.
    fetches_before: u64,
    back: Option<Back>,
}

/// The numbers of a node at the time it came back.
struct Back {
    at: Millis,
    answered: u64,
    hits: u64,
}

impl Polled {
    fn lock(&self) -> MutexGuard<'_, Details> {
        lock(&self.details)
    }

    /// Notes a report, and how many requests this balancer had `sent` by then.
    pub(super) fn note(&self, report: Report, sent: u64, now: Millis) {
        self.beyond.store(report.total.wrapping_sub(sent), Ordering::Relaxed);
        self.at.store(now.max(1), Ordering::Relaxed);
        let mut details = self.lock();
        if report.origin_fetches < details.origin_fetches {
            details.fetches_before += details.origin_fetches;
        }
        details.origin_fetches = report.origin_fetches;
        details.metrics = Some(report.metrics);
    }

    /// Whether there is a report, and none older than `stale`.
    pub(super) fn is_reported(&self, now: Millis, stale: Millis) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        at != 0 && now.saturating_sub(at) <= stale
    }

    /// The requests that the node got from others; below 0 in two's complement after it has restarted.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond.load(Ordering::Relaxed)
    }

    /// The last METRICS; `None` while the node is down.
    pub(super) fn metrics(&self, show: fn(&Shown) -> &Box<RawValue>) -> Option<Box<RawValue>> {
        self.lock().metrics.as_ref().map(show).cloned()
    }

    /// Its fetches from the origin over all of its restarts that polls have seen.
    pub(super) fn origin_fetches(&self) -> u64 {
        let details = self.lock();
        details.fetches_before + details.origin_fetches
    }

    /// Its METRICS are not shown any more.
    pub(super) fn went_down(&self) {
        let mut details = self.lock();
        (details.metrics, details.back) = (None, None);
    }

    /// It gets requests again, or for the first time beside others.
    pub(super) fn came_back(&self, now: Millis, answered: u64, hits: u64) {
        self.lock().back = Some(Back { at: now, answered, hits });
    }

    /// The share of the node in percent. `did` are its answers and how many of them were hits, `peers` is the hit ratio of
    /// the other nodes.
    pub(super) fn share(&self, did: (u64, u64), peers: f64, now: Millis, slow_start: Millis) -> u32 {
        let mut details = self.lock();
        let Some(back) = &details.back else { return WHOLE };
        // `did` may have been read just before the node came back.
        let (answered, hits) = (did.0.saturating_sub(back.answered), did.1.saturating_sub(back.hits));
        let caught_up = answered >= ANSWERS && ratio(hits, answered) >= CAUGHT_UP * peers;
        let passed = now.saturating_sub(back.at);
        if caught_up || passed >= slow_start {
            details.back = None;
            return WHOLE;
        }
        LEAST + (f64::from(WHOLE - LEAST) * passed as f64 / slow_start as f64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(total: u64, fetches: u64) -> Report {
        let text =
            format!(r#"{{"status":"OK","data":{{"total_requests":{total}.0,"origin_fetches":{fetches}}}}}"#);
        Report::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_stale_report_is_not_used_for_load() {
        let polled = Polled::default();
        assert!(!polled.is_reported(100, 6_000));
        polled.note(report(50, 0), 7, 100);
        assert!(polled.is_reported(200, 6_000));
        assert_eq!(polled.beyond() + 9, 52);
        assert!(!polled.is_reported(6_101, 6_000));
    }

    #[test]
    fn a_summary_has_the_numbers_and_no_lists() {
        let data =
            r#"{"hits":1.50,"hot_keys":[{"key":"a/1"}],"refused":{},"start_time":"t","total_requests":2}"#;
        let shown = Shown::of(data).unwrap();
        assert_eq!(shown.whole.get(), data);
        assert_eq!(shown.summary.get(), r#"{"hits":1.50,"start_time":"t","total_requests":2}"#);
    }

    #[test]
    fn fetches_before_a_restart_count() {
        let polled = Polled::default();
        polled.note(report(1, 10), 0, 1);
        polled.note(report(1, 12), 0, 1);
        polled.note(report(1, 3), 0, 1);
        assert_eq!(polled.origin_fetches(), 15);
        assert!(Report::read(br#"{"status":"OK","data":{}}"#).is_none());
        assert!(Report::read(br#"{"status":"OVERLOADED","data":{"total_requests":1}}"#).is_none());
    }

    #[test]
    fn the_share_rises_with_time_or_with_the_hits() {
        let polled = Polled::default();
        assert_eq!(polled.share((0, 0), 0.9, 5, 10_000), WHOLE);
        polled.came_back(1_000, 100, 90);
        assert_eq!(polled.share((100, 90), 0.9, 1_000, 10_000), 10);
        assert_eq!(polled.share((100, 90), 0.9, 6_000, 10_000), 55);
        assert_eq!(polled.share((200, 140), 0.9, 6_000, 10_000), 55, "still cold");
        assert_eq!(polled.share((1_100, 990), 0.9, 6_000, 10_000), WHOLE);
        polled.came_back(7_000, 1_100, 990);
        assert_eq!(polled.share((1_099, 989), 0.9, 7_000, 10_000), 10, "looked at just before it came back");
        assert_eq!(polled.share((1_100, 990), 0.9, 17_000, 10_000), WHOLE);
    }
}
