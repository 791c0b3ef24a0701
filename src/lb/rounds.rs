//! The rounds of a rescue: requests that wait share the next one.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::lock::lock;
use crate::stats::Gauge;

/// The requests that wait for a node, and the round that they wait for.
#[derive(Default)]
pub(super) struct Rounds {
    pub(super) waiting: Gauge,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    /// The next round, until it begins: a request never joins an older one, whose checks may have failed before a node came
    /// back.
    next: Option<watch::Receiver<bool>>,
    last_began: Option<Instant>,
}

impl Rounds {
    /// The next round: turns true when it finds a node, and ends without that when it finds none. The first request prepares
    /// it, for a time that is at least `pause` after the beginning of the last one.
    pub(super) fn join(
        &self,
        pause: Duration,
        prepare: impl FnOnce(Instant, watch::Sender<bool>),
    ) -> watch::Receiver<bool> {
        let mut times = lock(&self.times);
        if let Some(round) = &times.next {
            return round.clone();
        }
        let begins = times.last_began.map_or_else(Instant::now, |last| last + pause);
        let (found, round) = watch::channel(false);
        times.next = Some(round.clone());
        prepare(begins, found);
        round
    }

    /// The round that was prepared begins now.
    pub(super) fn begin(&self, now: Instant) {
        *lock(&self.times) = Times { next: None, last_began: Some(now) };
    }
}
