//! The number of changes that decide which nodes get requests: what is derived from the nodes is kept until it differs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts changes of members, health, drains, debts and shares.
#[derive(Default)]
pub(super) struct Changes(AtomicU64);

impl Changes {
    /// Notes a change that has been made: whoever reads the new count sees the change as well.
    pub(super) fn note(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
