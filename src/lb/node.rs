//! One proxy as the balancer sees it: whether it gets requests, how much it carries, and what it has told.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tracing::{info, warn};

use super::balance::hash_of;
use super::health::{Health, Millis, Rules, State};
use super::latency::Latency;
use super::owed::{Owed, Purge};
use super::polled::{Polled, WHOLE};
use super::polls::Polls;
use crate::lock::lock;
use crate::net::Link;
use crate::stats::Counter;

/// Instead of when it became suspect.
const TRUSTED: Millis = Millis::MAX;

/// What a node did, as numbers that only grow.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) errors: Counter,
    /// Requests that came here because another node had failed.
    pub(super) retries: Counter,
    /// Requests that came here because another node was slow.
    pub(super) hedges: Counter,
}

/// A proxy.
pub(super) struct Node {
    link: Link,
    /// A hash of its address. One that left and came back is the same to a request that has tried it.
    pub(super) identity: u64,
    health: Mutex<Health>,
    /// The state of `health`, to be read without its lock.
    state: AtomicU8,
    /// Whether a success would change anything: else it is noted without the lock.
    is_failing: AtomicBool,
    draining: AtomicBool,
    /// Silent while requests wait: others are preferred until it gave a sign of life.
    suspect_since: AtomicU64,
    owed: Mutex<Owed>,
    owes: AtomicBool,
    pub(super) counts: Counts,
    pub(super) latency: Latency,
    /// When it last answered anything.
    last_word: AtomicU64,
    /// A request that waits for so many microseconds may be asked of another.
    hedge_after_us: AtomicU64,
    /// A node that says nothing for so long while requests wait is suspect.
    silence_us: AtomicU64,
    /// How much of its weight it gets, in percent: rising when it is new.
    share: AtomicU32,
    pub(super) polled: Polled,
    pub(super) polls: Polls,
}

impl Node {
    /// Healthy until it fails; asked from `cores` cores.
    pub(super) fn new(link: Link, rules: Rules, cores: usize, now: Millis) -> Self {
        Self {
            identity: hash_of(link.peer().to_string().as_bytes()),
            link,
            health: Mutex::new(Health::new(rules, now)),
            state: AtomicU8::new(State::Healthy as u8),
            is_failing: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            suspect_since: AtomicU64::new(TRUSTED),
            owed: Mutex::default(),
            owes: AtomicBool::new(false),
            counts: Counts::default(),
            latency: Latency::new(cores),
            last_word: AtomicU64::new(0),
            hedge_after_us: AtomicU64::new(u64::MAX),
            silence_us: AtomicU64::new(100_000),
            share: AtomicU32::new(WHOLE),
            polled: Polled::default(),
            polls: Polls::default(),
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            state if state == State::Healthy as u8 => State::Healthy,
            state if state == State::Probing as u8 => State::Probing,
            _ => State::Down,
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.state() == State::Healthy
    }

    /// Whether it may be asked at all: a panic looks at nothing else.
    pub(super) fn is_open(&self) -> bool {
        !self.draining.load(Ordering::Relaxed) && !self.owes.load(Ordering::Acquire)
    }

    pub(super) fn is_available(&self) -> bool {
        self.is_healthy() && self.is_open()
    }

    /// Whether a request or a poll failed and none succeeded since, or it is not healthy.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Says whether it gets no new requests. True when that is news.
    pub(super) fn drain(&self, draining: bool) -> bool {
        self.draining.swap(draining, Ordering::Relaxed) != draining
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect_since.load(Ordering::Relaxed) != TRUSTED
    }

    /// Whether it has been for so long.
    pub(super) fn is_suspect_for(&self, now: Millis, long: Duration) -> bool {
        let since = self.suspect_since.load(Ordering::Relaxed);
        since != TRUSTED && Duration::from_millis(now.saturating_sub(since)) >= long
    }

    /// It is silent. True when that is news.
    pub(super) fn suspect(&self, now: Millis) -> bool {
        let order = Ordering::Relaxed;
        self.suspect_since.compare_exchange(TRUSTED, now, order, order).is_ok()
    }

    /// It has said something, or was given up.
    pub(super) fn trust(&self) {
        self.suspect_since.store(TRUSTED, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.latency.in_flight()
    }

    pub(super) fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    pub(super) fn set_share(&self, share: u32) {
        self.share.store(share, Ordering::Relaxed);
    }

    pub(super) fn last_word(&self) -> Millis {
        self.last_word.load(Ordering::Relaxed)
    }

    pub(super) fn hedge_after(&self) -> Duration {
        Duration::from_micros(self.hedge_after_us.load(Ordering::Relaxed))
    }

    pub(super) fn silence(&self) -> Duration {
        Duration::from_micros(self.silence_us.load(Ordering::Relaxed))
    }

    pub(super) fn set_patience(&self, hedge_after_us: u64, silence_us: u64) {
        self.hedge_after_us.store(hedge_after_us, Ordering::Relaxed);
        self.silence_us.store(silence_us, Ordering::Relaxed);
    }

    /// It joins others: one poll must succeed before it gets requests, and then its share rises.
    pub(super) fn join(&self, now: Millis) {
        self.change(now, Health::join);
    }

    /// A request was answered by a sound reply, whatever it says.
    pub(super) fn answered(&self, took: Duration, hit: bool, now: Millis) {
        self.heard(now);
        self.latency.record(took, hit, now);
    }

    /// A request was served.
    pub(super) fn served(&self, now: Millis) {
        if self.is_failing() {
            self.change(now, |health| health.request_succeeded(now));
        }
    }

    /// A request was answered with the word that the origin is away.
    pub(super) fn is_blind(&self, now: Millis) {
        if self.is_failing() {
            self.change(now, |health| {
                health.is_blind();
                false
            });
        }
    }

    /// A request failed. `may_eject` says whether another node could take its place.
    pub(super) fn request_failed(&self, why: &str, now: Millis, may_eject: bool) {
        self.counts.errors.add_one();
        self.latency.penalise(now);
        self.change(now, |health| health.request_failed(why, now, may_eject, fastrand::f64()));
    }

    /// It said something.
    pub(super) fn heard(&self, now: Millis) {
        if self.last_word.load(Ordering::Relaxed) != now {
            self.last_word.store(now, Ordering::Relaxed);
        }
    }

    /// Takes the right to send the one request that probes it.
    pub(super) fn take_trial(&self, now: Millis) -> bool {
        self.state() == State::Probing && self.is_open() && self.health().take_trial(now)
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    /// Tells its health something. A change of state is logged here, once.
    pub(super) fn change(&self, now: Millis, tell: impl FnOnce(&mut Health) -> bool) {
        let mut health = self.health();
        let flipped = tell(&mut health);
        let state = health.state();
        self.state.store(state as u8, Ordering::Relaxed);
        self.is_failing.store(state != State::Healthy || health.failures() > 0, Ordering::Relaxed);
        if !flipped {
            return;
        }
        let (failures, why, node) = (health.failures(), health.since().1.to_owned(), self.link.peer());
        drop(health);
        match state {
            State::Healthy => {
                self.polled.came_back(now, self.latency.answered(), self.latency.hits());
                info!(%node, why, "the node is healthy again");
            }
            State::Probing => info!(%node, why, "the node is tried with one request"),
            State::Down if failures == 0 => {}
            State::Down => {
                self.polled.went_down();
                warn!(%node, failures, why, "the node is down");
            }
        }
    }

    /// Changes what it owes; it gets no requests before nothing is left.
    pub(super) fn owe<T>(&self, change: impl FnOnce(&mut Owed) -> T) -> T {
        let mut owed = lock(&self.owed);
        let changed = change(&mut owed);
        self.owes.store(!owed.is_empty(), Ordering::Release);
        changed
    }

    /// One purge that it owes, and the number of its wish.
    pub(super) fn first_owed(&self) -> Option<(Purge, u64)> {
        lock(&self.owed).first()
    }

    /// How many purges it owes.
    pub(super) fn owed(&self) -> usize {
        lock(&self.owed).len()
    }

    pub(super) fn owes(&self) -> bool {
        self.owes.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::LinkLimits;

    #[test]
    fn one_that_left_and_came_back_is_the_same_to_who_has_tried_it() {
        let node = |peer: &str| {
            let (backoff, max_backoff) = (Duration::from_secs(1), Duration::from_secs(60));
            let link = Link::new(peer.parse().unwrap(), LinkLimits::default());
            Node::new(link, Rules { fails: 3, rises: 2, backoff, max_backoff }, 1, 0)
        };
        assert_eq!(node("10.0.0.1:8001").identity, node("10.0.0.1:8001").identity);
        assert_ne!(node("10.0.0.1:8001").identity, node("10.0.0.1:8002").identity);
    }
}
