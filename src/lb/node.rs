//! One proxy as the balancer sees it: its health, its load and its last METRICS.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tracing::{info, warn};

use super::balance::{Load, WHOLE, hash_of};
use super::changes::Changes;
use super::clock::Millis;
use super::drains::Drains;
use super::health::{Health, Rules, State};
use super::latency::Latency;
use super::owed::{Owed, Purge};
use super::polled::{LEAST, Polled};
use super::polls::Polls;
use crate::lock::lock;
use crate::net::Link;
use crate::stats::Counter;
use crate::wire::Status;

/// In place of the time since when a node is suspect: it is not.
const TRUSTED: Millis = Millis::MAX;

/// Numbers of one node that only grow.
#[derive(Default)]
pub(super) struct NodeCounts {
    pub(super) errors: Counter,
    /// Attempts here after another node had failed.
    pub(super) retries: Counter,
    /// Attempts here while another node was slow.
    pub(super) hedges: Counter,
    pub(super) refused_purges: Counter,
}

/// A proxy.
pub(super) struct Node {
    link: Link,
    /// A hash of its address: a node that left and came back is still one that a request has tried.
    pub(super) identity: u64,
    health: Mutex<Health>,
    /// The state in `health`, readable without its lock.
    state: AtomicU8,
    /// Whether a success would change `health`: if not, its lock is not taken.
    is_failing: AtomicBool,
    drains: Drains,
    /// Since when it is silent while requests wait: other nodes are preferred until it answers something.
    suspect_since: AtomicU64,
    owed: Mutex<Owed>,
    /// Whether `owed` holds a purge.
    owes: AtomicBool,
    /// Whether it refused the last purge that it answered.
    refuses_purges: AtomicBool,
    pub(super) counts: NodeCounts,
    pub(super) latency: Latency,
    /// The time of its last answer of any kind.
    last_word: AtomicU64,
    /// The time of its last sound reply to a request; polls do not count.
    last_reply: AtomicU64,
    /// The time without a reply after which a request is hedged.
    hedge_after_us: AtomicU64,
    /// The time of silence while requests wait after which it is suspect.
    silence_us: AtomicU64,
    /// The part of its weight that counts, in percent: rising when it is new.
    share: AtomicU32,
    starts_slowly: bool,
    pub(super) polled: Polled,
    pub(super) polls: Polls,
    /// Counts what decides whether it gets requests.
    changes: Arc<Changes>,
}

impl Node {
    /// A healthy node that gets requests from `cores` cores.
    pub(super) fn new(link: Link, rules: Rules, cores: usize, now: Millis, changes: Arc<Changes>) -> Self {
        Self {
            identity: hash_of(link.peer().to_string().as_bytes()),
            link,
            health: Mutex::new(Health::new(rules, now)),
            state: AtomicU8::new(State::Healthy as u8),
            is_failing: AtomicBool::new(false),
            drains: Drains::default(),
            suspect_since: AtomicU64::new(TRUSTED),
            owed: Mutex::default(),
            owes: AtomicBool::new(false),
            refuses_purges: AtomicBool::new(false),
            counts: NodeCounts::default(),
            latency: Latency::new(cores),
            last_word: AtomicU64::new(0),
            last_reply: AtomicU64::new(0),
            hedge_after_us: AtomicU64::new(u64::MAX),
            silence_us: AtomicU64::new(100_000),
            share: AtomicU32::new(WHOLE),
            starts_slowly: rules.starts_slowly,
            polled: Polled::default(),
            polls: Polls::default(),
            changes,
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

    /// Whether it may get requests if its health allows it, or in a panic.
    pub(super) fn is_open(&self) -> bool {
        !self.is_draining() && !self.owes.load(Ordering::Acquire)
    }

    pub(super) fn is_available(&self) -> bool {
        self.is_healthy() && self.is_open()
    }

    /// Whether a request or a poll failed and none succeeded since, or it is not healthy.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drains.any()
    }

    pub(super) fn drains(&self) -> &Drains {
        &self.drains
    }

    /// Stops or resumes new requests, as an operator says. True when that is a change.
    pub(super) fn drain(&self, draining: bool) -> bool {
        let is_change = self.drains.tell(draining);
        self.changes.note();
        is_change
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect_since.load(Ordering::Relaxed) != TRUSTED
    }

    /// How long it has been suspect, if it is.
    pub(super) fn suspect_for(&self, now: Millis) -> Option<Duration> {
        let since = self.suspect_since.load(Ordering::Relaxed);
        (since != TRUSTED).then(|| Duration::from_millis(now.saturating_sub(since)))
    }

    /// It is silent. True when it was not suspect before.
    pub(super) fn suspect(&self, now: Millis) -> bool {
        let order = Ordering::Relaxed;
        let is_change = self.suspect_since.compare_exchange(TRUSTED, now, order, order).is_ok();
        if is_change {
            self.changes.note();
        }
        is_change
    }

    /// It has answered something, or went down.
    pub(super) fn trust(&self) {
        if self.suspect_since.swap(TRUSTED, Ordering::Relaxed) != TRUSTED {
            self.changes.note();
        }
    }

    pub(super) fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    pub(super) fn set_share(&self, share: u32) {
        if self.share.swap(share, Ordering::Relaxed) != share {
            self.changes.note();
        }
    }

    pub(super) fn last_word(&self) -> Millis {
        self.last_word.load(Ordering::Relaxed)
    }

    pub(super) fn last_reply(&self) -> Millis {
        self.last_reply.load(Ordering::Relaxed)
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

    /// It joins other nodes: one poll must succeed before it gets requests, and then its share rises.
    pub(super) fn join(&self, now: Millis) {
        self.change(now, Health::join);
    }

    /// A request got a sound reply of any status.
    pub(super) fn answered(&self, took: Duration, hit: bool, now: Millis) {
        self.heard(now);
        if self.last_reply.load(Ordering::Relaxed) != now {
            self.last_reply.store(now, Ordering::Relaxed);
        }
        self.latency.record(took, hit, now);
    }

    /// A request was served.
    pub(super) fn served(&self, now: Millis) {
        if self.is_failing() {
            self.change(now, |health| health.request_succeeded(now));
        }
    }

    /// A request got ORIGIN_FAILURE.
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

    /// It answered something.
    pub(super) fn heard(&self, now: Millis) {
        if self.last_word.load(Ordering::Relaxed) != now {
            self.last_word.store(now, Ordering::Relaxed);
        }
    }

    /// Takes the right to send the one request that tries a probing node.
    pub(super) fn take_trial(&self, now: Millis) -> bool {
        self.state() == State::Probing && self.is_open() && self.health().take_trial(now)
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    /// Changes its health; `tell` returns whether the state has changed. That is logged here, once.
    pub(super) fn change(&self, now: Millis, tell: impl FnOnce(&mut Health) -> bool) {
        let mut health = self.health();
        let was_new = health.is_new();
        let flipped = tell(&mut health);
        let state = health.state();
        self.state.store(state as u8, Ordering::Relaxed);
        self.is_failing.store(state != State::Healthy || health.failures() > 0, Ordering::Relaxed);
        if !flipped {
            return;
        }
        if state == State::Healthy {
            self.polled.came_back(now, self.latency.answered(), self.latency.hits());
            if self.starts_slowly {
                // At once: beside a thousand nodes shares are looked at once a second.
                self.share.store(LEAST, Ordering::Relaxed);
            }
        }
        self.changes.note();
        let (failures, why, node) = (health.failures(), health.since().1.to_owned(), self.link.peer());
        drop(health);
        match state {
            State::Healthy if was_new => info!(%node, why, "the new node is healthy"),
            State::Healthy => info!(%node, why, "the node is healthy again"),
            State::Probing => info!(%node, why, "the node is tried with one request"),
            State::Down if failures == 0 => {}
            State::Down => {
                self.polled.went_down();
                warn!(%node, failures, why, "the node is down");
            }
        }
    }

    /// Changes the purges that it owes. It gets no requests until there are none.
    pub(super) fn owe<T>(&self, change: impl FnOnce(&mut Owed) -> T) -> T {
        let mut owed = lock(&self.owed);
        let changed = change(&mut owed);
        let owes = !owed.is_empty();
        if self.owes.swap(owes, Ordering::AcqRel) != owes {
            self.changes.note();
        }
        changed
    }

    /// It has done a purge.
    pub(super) fn has_purged(&self) {
        self.refuses_purges.store(false, Ordering::Relaxed);
    }

    /// It has refused a purge, and keeps what it holds. That is logged once until it does one.
    pub(super) fn has_refused_purge(&self, status: Status) {
        self.counts.refused_purges.add_one();
        if !self.refuses_purges.swap(true, Ordering::Relaxed) {
            let node = self.link.peer();
            warn!(%node, %status, "the node refuses a purge and keeps what it holds; is this balancer in its --admin-from?");
        }
    }

    /// Whether it refused the last purge that it answered.
    pub(super) fn refuses_purges(&self) -> bool {
        self.refuses_purges.load(Ordering::Relaxed)
    }

    /// Some purges that it owes, each with its number.
    pub(super) fn some_owed(&self, most: usize) -> Vec<(Purge, u64)> {
        lock(&self.owed).some(most)
    }

    /// The number of purges that it owes.
    pub(super) fn owed(&self) -> usize {
        lock(&self.owed).len()
    }

    pub(super) fn owes(&self) -> bool {
        self.owes.load(Ordering::Acquire)
    }
}

impl Load for Node {
    fn in_flight(&self) -> u64 {
        self.latency.in_flight()
    }

    fn total(&self, reported: bool) -> u64 {
        let beyond = if reported { self.polled.beyond() } else { 0 };
        self.latency.sent().wrapping_add(beyond)
    }

    fn latency_us(&self, now: Millis) -> u64 {
        self.latency.average_us(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::LinkLimits;

    #[test]
    fn a_node_that_left_and_came_back_has_the_same_identity() {
        let node = |peer: &str| {
            let (backoff, max_backoff) = (Duration::from_secs(1), Duration::from_secs(60));
            let link = Link::new(peer.parse().unwrap(), LinkLimits::default());
            Node::new(
                link,
                Rules { fails: 3, rises: 2, backoff, max_backoff, starts_slowly: true },
                1,
                0,
                Arc::default(),
            )
        };
        assert_eq!(node("10.0.0.1:8001").identity, node("10.0.0.1:8001").identity);
        assert_ne!(node("10.0.0.1:8001").identity, node("10.0.0.1:8002").identity);
    }

    #[test]
    fn a_node_that_came_back_has_the_least_share_at_once_unless_none_starts_slowly() {
        for (starts_slowly, share) in [(true, LEAST), (false, WHOLE)] {
            let link = Link::new("10.0.0.1:8001".parse().unwrap(), LinkLimits::default());
            let backoff = Duration::from_secs(1);
            let rules = Rules { fails: 3, rises: 1, backoff, max_backoff: backoff, starts_slowly };
            let node = Node::new(link, rules, 1, 0, Arc::default());
            assert_eq!(node.share(), WHOLE);
            node.join(1);
            node.change(2, |health| health.poll_succeeded(2));
            assert_eq!((node.is_healthy(), node.share()), (true, share));
        }
    }
}
