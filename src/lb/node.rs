//! One proxy as the balancer sees it: whether it is healthy, and how much it carries.
//!
//! ```text
//!   healthy ──max failures in a row──▶ down ──a poll succeeds──▶ healthy
//! ```

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::value::RawValue;
use tracing::{info, warn};

use crate::net::Link;
use crate::stats::{Counter, Entered, Gauge};

/// What a success or failure was seen by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// A client's request.
    Request,
    /// A poll of METRICS.
    Poll,
}

/// A proxy.
pub(super) struct Node {
    link: Link,
    max_failures: u32,
    healthy: AtomicBool,
    /// Failures in a row.
    failures: AtomicU32,
    in_flight: Gauge,
    sent: Counter,
    errors: Counter,
    /// Whether it has ever told how much it had been asked.
    is_polled: AtomicBool,
    /// What it said it had been asked in all, less what we had sent by then.
    polled_beyond: AtomicU64,
    metrics: Mutex<Option<Box<RawValue>>>,
}

impl Node {
    pub(super) fn new(link: Link, max_failures: u32) -> Self {
        Self {
            link,
            max_failures: max_failures.max(1),
            healthy: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            in_flight: Gauge::default(),
            sent: Counter::default(),
            errors: Counter::default(),
            is_polled: AtomicBool::new(false),
            polled_beyond: AtomicU64::new(0),
            metrics: Mutex::new(None),
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.get()
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.get()
    }

    pub(super) fn failures_in_a_row(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether it has ever told how much it had been asked.
    pub(super) fn is_polled(&self) -> bool {
        self.is_polled.load(Ordering::Relaxed)
    }

    /// All that it was ever asked: what it last said, and what was sent since.
    pub(super) fn total_requests(&self) -> u64 {
        self.polled_beyond.load(Ordering::Relaxed).wrapping_add(self.sent.get())
    }

    /// The metrics it last told; nothing while it is down.
    pub(super) fn metrics(&self) -> Option<Box<RawValue>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a request for as long as it is in flight.
    pub(super) fn begin(&self) -> Entered<'_> {
        self.sent.add_one();
        self.in_flight.enter()
    }

    /// It answered a poll: its metrics, and how many requests it has had in all.
    pub(super) fn polled(&self, metrics: Box<RawValue>, total: u64) {
        self.polled_beyond.store(total.wrapping_sub(self.sent.get()), Ordering::Relaxed);
        self.is_polled.store(true, Ordering::Relaxed);
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = Some(metrics);
        self.succeeded(Source::Poll);
    }

    /// A success resets the count of failures; that of a poll brings a node back.
    pub(super) fn succeeded(&self, source: Source) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if source == Source::Poll && !self.healthy.swap(true, Ordering::Relaxed) {
            info!(node = %self.link.peer(), "the node is healthy again");
        }
    }

    /// One more failure in a row. `may_go_down` says whether that may be too many.
    pub(super) fn failed(&self, source: Source, why: &str, may_go_down: bool) {
        if source == Source::Request {
            self.errors.add_one();
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let is_too_many = failures >= self.max_failures && (may_go_down || source == Source::Poll);
        if is_too_many && self.healthy.swap(false, Ordering::Relaxed) {
            *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = None;
            warn!(node = %self.link.peer(), failures, why, "the node is down");
        }
    }
}
