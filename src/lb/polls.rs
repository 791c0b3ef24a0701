//! The time of a node's next poll; one poll at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::clock::Millis;

/// The polls of one node.
#[derive(Default)]
pub(super) struct Polls(Arc<Schedule>);

#[derive(Default)]
struct Schedule {
    next: AtomicU64,
    is_under_way: AtomicBool,
}

/// A poll that is under way until this is dropped.
pub(super) struct PollUnderWay(Arc<Schedule>);

impl Polls {
    /// Begins a poll if one is due (or wanted `at_once`) and none is under way.
    pub(super) fn begin(&self, now: Millis, at_once: bool) -> Option<PollUnderWay> {
        let is_due = at_once || now >= self.0.next.load(Ordering::Relaxed);
        let begun = is_due && !self.0.is_under_way.swap(true, Ordering::Relaxed);
        begun.then(|| PollUnderWay(self.0.clone()))
    }

    /// Brings the next poll forward to this time.
    pub(super) fn hasten(&self, at: Millis) {
        self.0.next.fetch_min(at, Ordering::Relaxed);
    }
}

impl PollUnderWay {
    /// Sets the time of the next poll.
    pub(super) fn next_at(&self, at: Millis) {
        self.0.next.store(at, Ordering::Relaxed);
    }
}

impl Drop for PollUnderWay {
    fn drop(&mut self) {
        self.0.is_under_way.store(false, Ordering::Relaxed);
    }
}
