//! What a node last told of itself in METRICS, and how a node that came back catches up with its peers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::health::Millis;
use crate::lock::lock;
use crate::stats::ratio;
use crate::wire::{ReplyView, Status};

/// A share that is not held back, in percent.
pub(super) const WHOLE: u32 = 100;
/// The least that a node that came back gets, in percent of its share.
const LEAST: f64 = 10.0;
/// It has caught up at this part of its peers' hit ratio, seen over so many answers.
const CAUGHT_UP: f64 = 0.9;
const ANSWERS: u64 = 50;

/// A sound answer to METRICS. Older nodes print floats for whole numbers.
#[derive(Debug)]
pub(super) struct Told {
    metrics: Box<RawValue>,
    total: u64,
    origin_fetches: u64,
}

impl Told {
    /// Reads a reply.
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
            metrics: RawValue::from_string(reply.data.to_owned()).ok()?,
            total: numbers.total_requests as u64,
            origin_fetches: numbers.origin_fetches as u64,
        })
    }
}

/// What was told.
#[derive(Default)]
pub(super) struct Polled {
    /// What it said it had been asked in all, less what we had sent by then.
    beyond: AtomicU64,
    at: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    metrics: Option<Box<RawValue>>,
    origin_fetches: u64,
    /// Fetches of its earlier lives: a node that was started anew counts from 0.
    fetches_before: u64,
    back: Option<Back>,
}

/// What a node had done when it came back.
struct Back {
    at: Millis,
    answered: u64,
    hits: u64,
}

impl Polled {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    pub(super) fn told(&self, told: Told, sent: u64, now: Millis) {
        self.beyond.store(told.total.wrapping_sub(sent), Ordering::Relaxed);
        self.at.store(now.max(1), Ordering::Relaxed);
        let mut inner = self.lock();
        if told.origin_fetches < inner.origin_fetches {
            inner.fetches_before += inner.origin_fetches;
        }
        inner.origin_fetches = told.origin_fetches;
        inner.metrics = Some(told.metrics);
    }

    /// All that it was asked: what it last said, and what was sent since. Nothing when that is older than `stale`.
    pub(super) fn total_requests(&self, sent: u64, now: Millis, stale: Millis) -> Option<u64> {
        let at = self.at.load(Ordering::Relaxed);
        let is_used = at != 0 && now.saturating_sub(at) <= stale;
        is_used.then(|| self.beyond.load(Ordering::Relaxed).wrapping_add(sent))
    }

    /// The metrics it last told; nothing while it is down.
    pub(super) fn metrics(&self) -> Option<Box<RawValue>> {
        self.lock().metrics.clone()
    }

    /// What it fetched from the origin in all of its lives that we saw.
    pub(super) fn origin_fetches(&self) -> u64 {
        let inner = self.lock();
        inner.fetches_before + inner.origin_fetches
    }

    pub(super) fn went_down(&self) {
        let mut inner = self.lock();
        (inner.metrics, inner.back) = (None, None);
    }

    /// It gets requests again, or for the first time beside others.
    pub(super) fn came_back(&self, now: Millis, answered: u64, hits: u64) {
        self.lock().back = Some(Back { at: now, answered, hits });
    }

    /// How much of its share it gets, in percent. `did` is what it answered and how much of it was hits, `peers` the hit
    /// ratio of the others.
    pub(super) fn share(&self, did: (u64, u64), peers: f64, now: Millis, slow_start: Millis) -> u32 {
        let mut inner = self.lock();
        let Some(back) = &inner.back else { return WHOLE };
        // It may have been looked at just before it came back.
        let (answered, hits) = (did.0.saturating_sub(back.answered), did.1.saturating_sub(back.hits));
        let caught_up = answered >= ANSWERS && ratio(hits, answered) >= CAUGHT_UP * peers;
        let passed = now.saturating_sub(back.at);
        if caught_up || passed >= slow_start {
            inner.back = None;
            return WHOLE;
        }
        (LEAST + (f64::from(WHOLE) - LEAST) * passed as f64 / slow_start as f64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(total: u64, fetches: u64) -> Told {
        let text =
            format!(r#"{{"status":"OK","data":{{"total_requests":{total}.0,"origin_fetches":{fetches}}}}}"#);
        Told::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_stale_is_not_used_for_load() {
        let polled = Polled::default();
        assert_eq!(polled.total_requests(7, 100, 6_000), None);
        polled.told(told(50, 0), 7, 100);
        assert_eq!(polled.total_requests(9, 200, 6_000), Some(52));
        assert_eq!(polled.total_requests(9, 6_101, 6_000), None);
    }

    #[test]
    fn fetches_of_earlier_lives_count() {
        let polled = Polled::default();
        polled.told(told(1, 10), 0, 1);
        polled.told(told(1, 12), 0, 1);
        polled.told(told(1, 3), 0, 1);
        assert_eq!(polled.origin_fetches(), 15);
        assert!(Told::read(br#"{"status":"OK","data":{}}"#).is_none());
        assert!(Told::read(br#"{"status":"OVERLOADED","data":{"total_requests":1}}"#).is_none());
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
