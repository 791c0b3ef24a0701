//! The time of a node's next poll; one poll at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::clock::Millis;

/// The polls of one node.
#[derive(Default)]
pub(super) struct Polls {
    next: AtomicU64,
    under_way: Arc<Mutex<()>>,
}

/// A poll that is under way until this is dropped.
pub(super) type PollUnderWay = OwnedMutexGuard<()>;

impl Polls {
    /// Begins a poll if one is due (or wanted `at_once`) and none is under way.
    pub(super) fn begin(&self, now: Millis, at_once: bool) -> Option<PollUnderWay> {
        let is_due = at_once || now >= self.next.load(Ordering::Relaxed);
        if is_due { self.under_way.clone().try_lock_owned().ok() } else { None }
    }

    /// Begins a poll when the one under way, if any, has ended.
    pub(super) async fn begin_next(&self) -> PollUnderWay {
        self.under_way.clone().lock_owned().await
    }

    /// Sets the time of the next poll.
    pub(super) fn next_at(&self, at: Millis) {
        self.next.store(at, Ordering::Relaxed);
    }

    /// Brings the next poll forward to this time.
    pub(super) fn hasten(&self, at: Millis) {
        self.next.fetch_min(at, Ordering::Relaxed);
    }
}
