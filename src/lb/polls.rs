//! When a node is polled next; one poll at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::health::Millis;

/// The polls of one node.
#[derive(Default)]
pub(super) struct Polls(Arc<Inner>);

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    is_under_way: AtomicBool,
}

/// A poll that is under way, until it is dropped.
pub(super) struct Poll(Arc<Inner>);

impl Polls {
    /// Begins a poll if it is time for one, or `now` is as good.
    pub(super) fn begin(&self, now: Millis, at_once: bool) -> Option<Poll> {
        let is_due = at_once || now >= self.0.next.load(Ordering::Relaxed);
        let begun = is_due && !self.0.is_under_way.swap(true, Ordering::Relaxed);
        begun.then(|| Poll(self.0.clone()))
    }

    /// The next one not later than this.
    pub(super) fn hasten(&self, at: Millis) {
        self.0.next.fetch_min(at, Ordering::Relaxed);
    }
}

impl Poll {
    /// When the next one is due.
    pub(super) fn next_at(&self, at: Millis) {
        self.0.next.store(at, Ordering::Relaxed);
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.0.is_under_way.store(false, Ordering::Relaxed);
    }
}
