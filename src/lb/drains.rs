//! Who wants that a node gets no new requests: an operator, or the list of nodes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Either is enough.
#[derive(Default)]
pub(super) struct Drains {
    told: AtomicBool,
    listed: AtomicBool,
}

impl Drains {
    pub(super) fn any(&self) -> bool {
        self.are_told() || self.are_listed()
    }

    /// Whether an operator wants it.
    pub(super) fn are_told(&self) -> bool {
        self.told.load(Relaxed)
    }

    /// Whether the list wants it.
    pub(super) fn are_listed(&self) -> bool {
        self.listed.load(Relaxed)
    }

    /// True when that is a change.
    pub(super) fn tell(&self, draining: bool) -> bool {
        self.told.swap(draining, Relaxed) != draining
    }

    /// True when that is a change.
    pub(super) fn list(&self, draining: bool) -> bool {
        self.listed.swap(draining, Relaxed) != draining
    }
}
