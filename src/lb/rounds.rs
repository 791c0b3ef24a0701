//! The rounds of a rescue: requests that wait share the next one.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
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
    next: Option<Arc<Round>>,
    last_began: Option<Instant>,
}

/// One check of all nodes. It wakes the requests that wait in the order in which they came, which a watch channel does not.
#[derive(Default)]
pub(super) struct Round {
    /// Whether a sound node was found, once that is known.
    found: Mutex<Option<bool>>,
    ended: Notify,
}

/// The part of the task that checks. Its drop ends the round: nothing was found, if nothing else was said.
pub(super) struct Checks(Arc<Round>);

impl Round {
    /// Whether a sound node was found, as soon as that is known.
    pub(super) async fn found(&self) -> bool {
        loop {
            let mut ended = pin!(self.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            if let Some(found) = *lock(&self.found) {
                return found;
            }
            ended.await;
        }
    }

    fn end(&self, found: bool) {
        lock(&self.found).get_or_insert(found);
        self.ended.notify_waiters();
    }
}

impl Checks {
    /// A sound node was found.
    pub(super) fn found(&self) {
        self.0.end(true);
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.end(false);
    }
}

impl Rounds {
    /// The next round. The first request prepares it, for a time that is at least `pause` after the beginning of the last one.
    pub(super) fn join(&self, pause: Duration, prepare: impl FnOnce(Instant, Checks)) -> Arc<Round> {
        let mut times = lock(&self.times);
        if let Some(round) = &times.next {
            return round.clone();
        }
        let begins = times.last_began.map_or_else(Instant::now, |last| last + pause);
        let round = Arc::new(Round::default());
        times.next = Some(round.clone());
        prepare(begins, Checks(round.clone()));
        round
    }

    /// The round that was prepared begins now.
    pub(super) fn begin(&self, now: Instant) {
        *lock(&self.times) = Times { next: None, last_began: Some(now) };
    }
}
