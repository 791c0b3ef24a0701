//! When a change was told last, and how long it took until no watcher was without it. Pure: times come in as arguments.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::watchers::Watchers;
use crate::wire::Position;

/// What is measured. One change at a time: those that come meanwhile count for `told` alone.
#[derive(Default)]
pub(super) struct Reach {
    told: Option<Instant>,
    /// A change that some watcher has not heard of, and when it was told.
    on_its_way: Option<(Position, Instant)>,
    took: Option<Duration>,
}

/// The part of METRICS.
#[derive(Serialize)]
pub(super) struct ReachMetrics {
    /// The time since the last change.
    told_seconds_ago: Option<f64>,
    /// The time that a change took last until each watcher had asked again, or had no lease any more.
    everywhere_seconds: Option<f64>,
}

impl Reach {
    /// A change is told.
    pub(super) fn begins(&mut self, change: Position, watchers: &Watchers, now: Instant) {
        self.told = Some(now);
        // Nothing is measured while nobody is told.
        if self.on_its_way.is_none() && !watchers.have_all_heard_of(change, now) {
            self.on_its_way = Some((change, now));
        }
    }

    /// A watcher has asked.
    pub(super) fn look(&mut self, watchers: &Watchers, now: Instant) {
        if let Some((change, began)) = self.on_its_way
            && watchers.have_all_heard_of(change, now)
        {
            (self.on_its_way, self.took) = (None, Some(now - began));
        }
    }

    /// Numbers of the epoch before say nothing any more.
    pub(super) fn new_epoch(&mut self) {
        self.on_its_way = None;
    }

    pub(super) fn metrics(&self, now: Instant) -> ReachMetrics {
        let seconds = |time: Duration| time.as_millis() as f64 / 1000.0;
        ReachMetrics {
            told_seconds_ago: self.told.map(|told| seconds(now - told)),
            everywhere_seconds: self.took.map(seconds),
        }
    }
}
