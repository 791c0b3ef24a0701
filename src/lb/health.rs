//! Whether a node gets requests: a pure state machine of events and their times.
//!
//! ```text
//!   healthy ──polls fail──▶ down ──`rises` polls succeed──────────────────────────────────▶ healthy
//!      └──requests fail──▶ down (ejected) ──back-off over, polls succeed──▶ probing ──one request──▶ healthy
//!                            ▲───────────────── it fails: twice the back-off ──┘
//! ```
//! Failed requests and failed polls are counted apart, and their sum counts against `fails`. A poll that succeeds resets
//! only the count of polls, so that it does not hide requests that fail.

use std::time::Duration;

use super::clock::Millis;

/// A trial without an outcome after this time is lost: it was not sent, or its client gave up.
const TRIAL_LOST: Millis = 3_000;
/// When a node that was healthy for this long plus twice its last back-off is ejected, it gets the first back-off again.
const FORGIVEN: Millis = 10_000;

/// Whether a node gets requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Healthy,
    Down,
    /// Ejected, and its back-off is over: one request is tried, as a copy where another node can answer it.
    Probing,
}

/// The thresholds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// A node goes down after this many failures in a row.
    pub(super) fails: u32,
    /// A node that is down needs this many successful polls in a row.
    pub(super) rises: u32,
    /// The first back-off: for this time an ejected node gets no requests.
    pub(super) backoff: Duration,
    /// The longest back-off.
    pub(super) max_backoff: Duration,
    /// Whether a node that came back gets less than its full share of requests at first.
    pub(super) starts_slowly: bool,
}

/// The health of one node.
#[derive(Debug)]
pub(super) struct Health {
    rules: Rules,
    state: State,
    /// When `state` last changed.
    since: Millis,
    /// Why it did.
    why: String,
    failed_requests: u32,
    failed_polls: u32,
    /// Polls that succeeded in a row while the node was not healthy.
    rises: u32,
    /// Whether the node went down for failed requests, or for silence while requests waited: then it is probed before it is
    /// healthy again. After failed polls alone it is not.
    ejected: bool,
    /// Ejections in a row: each doubles the back-off.
    ejections: u32,
    /// The end of the back-off.
    not_before: Millis,
    last_backoff: Millis,
    /// When the trial began whose outcome is awaited.
    trial: Option<Millis>,
    /// Whether the trial ended with ORIGIN_FAILURE, which proves nothing about the node.
    is_blind: bool,
    /// Whether it has joined and was not healthy yet.
    is_new: bool,
}

impl Health {
    /// A healthy node.
    pub(super) fn new(rules: Rules, now: Millis) -> Self {
        Self {
            rules,
            state: State::Healthy,
            since: now,
            why: "it has not failed".to_owned(),
            failed_requests: 0,
            failed_polls: 0,
            rises: 0,
            ejected: false,
            ejections: 0,
            not_before: 0,
            last_backoff: 0,
            trial: None,
            is_blind: false,
            is_new: false,
        }
    }

    /// The node joins a list of others: one poll must succeed before it gets requests. True, as the state changes.
    pub(super) fn join(&mut self) -> bool {
        self.turn_into(State::Down, "it has joined and was not polled yet", self.since);
        self.rises = self.rules.rises.saturating_sub(1);
        self.is_new = true;
        true
    }

    /// Whether it was never healthy.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// The node's name has no address: it is down at once, without a poll. Polls that succeed bring it back. True when
    /// the state changed.
    pub(super) fn lost(&mut self, why: &str, now: Millis) -> bool {
        let flips = self.state != State::Down;
        self.turn_into(State::Down, why, now);
        flips
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The time and the reason of the last change of state.
    pub(super) fn since(&self) -> (Millis, &str) {
        (self.since, &self.why)
    }

    /// Failed requests and failed polls in a row. A request that succeeds sets both counts to 0, a poll only that of polls.
    pub(super) fn failures(&self) -> u32 {
        self.failed_requests.saturating_add(self.failed_polls)
    }

    /// Takes the right to send the one request that tries a probing node.
    pub(super) fn take_trial(&mut self, now: Millis) -> bool {
        let free = self.trial.is_none_or(|began| now.saturating_sub(began) > TRIAL_LOST);
        let taken = self.state == State::Probing && free;
        if taken {
            self.trial = Some(now);
        }
        taken
    }

    /// A request was answered. True when the state changed.
    pub(super) fn request_succeeded(&mut self, now: Millis) -> bool {
        (self.failed_requests, self.failed_polls) = (0, 0);
        match self.state {
            State::Probing => self.become_healthy("the request that probed it was answered", now),
            State::Healthy | State::Down => false,
        }
    }

    /// A request failed. `may_eject` says whether another node could take its place; `jitter` is from 0 to 1.
    pub(super) fn request_failed(&mut self, why: &str, now: Millis, may_eject: bool, jitter: f64) -> bool {
        self.failed_requests = self.failed_requests.saturating_add(1);
        self.rises = 0;
        match self.state {
            State::Healthy if may_eject && self.failures() >= self.rules.fails => {
                self.eject(why, now, jitter)
            }
            State::Probing => self.eject(why, now, jitter),
            State::Healthy | State::Down => false,
        }
    }

    /// The node was silent while requests waited, and the poll that followed failed as well.
    pub(super) fn stalled(&mut self, why: &str, now: Millis, may_eject: bool, jitter: f64) -> bool {
        self.failed_polls = self.failed_polls.saturating_add(1);
        self.rises = 0;
        may_eject && self.state == State::Healthy && self.eject(why, now, jitter)
    }

    /// Notes that the node answered ORIGIN_FAILURE: it is up, but serves only documents that it has cached. While other
    /// nodes serve, the next poll allows another trial.
    pub(super) fn is_blind(&mut self) {
        self.is_blind = self.state == State::Probing;
    }

    /// A poll was answered while no other node serves. Rises, back-off and trial save clients a retry on this node; now they
    /// would cost them the reply.
    pub(super) fn is_needed(&mut self, now: Millis) -> bool {
        self.failed_polls = 0;
        self.state != State::Healthy && self.become_healthy("a poll succeeds, and no other node serves", now)
    }

    /// A poll was answered while other nodes serve.
    pub(super) fn poll_succeeded(&mut self, now: Millis) -> bool {
        self.failed_polls = 0;
        if self.state == State::Healthy {
            return false;
        }
        self.rises = self.rises.saturating_add(1);
        match self.state {
            State::Down if self.rises < self.rules.rises || now < self.not_before => false,
            State::Down if self.ejected => {
                self.trial = None;
                self.turn_into(State::Probing, "its back-off is over and polls succeed", now)
            }
            State::Down => self.become_healthy("polls succeed", now),
            // No request came to try the node with, or the trial was lost: the poll decides.
            State::Probing if self.trial.is_none_or(|began| now.saturating_sub(began) > TRIAL_LOST) => {
                self.become_healthy("polls succeed", now)
            }
            // The trial ended in ORIGIN_FAILURE: there may be another one.
            State::Probing if std::mem::take(&mut self.is_blind) => {
                self.trial = None;
                false
            }
            State::Probing | State::Healthy => false,
        }
    }

    /// A poll failed. This may take the last node down, as a failed request may not: it proves that the node is silent.
    pub(super) fn poll_failed(&mut self, why: &str, now: Millis) -> bool {
        self.failed_polls = self.failed_polls.saturating_add(1);
        self.rises = 0;
        match self.state {
            State::Healthy if self.failures() >= self.rules.fails => {
                self.ejected = false;
                self.turn_into(State::Down, why, now)
            }
            State::Probing => self.turn_into(State::Down, why, now),
            State::Healthy | State::Down => false,
        }
    }

    /// Takes the node down for a back-off: twice the last one, up to the limit, or the first one if that is forgiven.
    fn eject(&mut self, why: &str, now: Millis, jitter: f64) -> bool {
        let forgiven =
            self.state == State::Healthy && now.saturating_sub(self.since) > FORGIVEN + 2 * self.last_backoff;
        self.ejections = if forgiven { 1 } else { self.ejections.saturating_add(1) };
        let doubled = self.rules.backoff.saturating_mul(1 << (self.ejections - 1).min(16));
        let backoff = doubled.min(self.rules.max_backoff).mul_f64(1.0 + 0.1 * jitter);
        self.last_backoff = backoff.as_millis() as Millis;
        self.not_before = now + self.last_backoff;
        self.ejected = true;
        self.turn_into(State::Down, why, now)
    }

    fn become_healthy(&mut self, why: &str, now: Millis) -> bool {
        (self.failed_requests, self.failed_polls) = (0, 0);
        (self.ejected, self.is_new) = (false, false);
        self.turn_into(State::Healthy, why, now)
    }

    fn turn_into(&mut self, state: State, why: &str, now: Millis) -> bool {
        (self.state, self.since, self.rises, self.trial, self.is_blind) = (state, now, 0, None, false);
        why.clone_into(&mut self.why);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        let (backoff, max_backoff) = (Duration::from_secs(1), Duration::from_secs(60));
        Health::new(Rules { fails: 3, rises: 2, backoff, max_backoff, starts_slowly: true }, 0)
    }

    /// Fails requests until the node is ejected.
    fn eject(health: &mut Health, now: Millis) {
        assert!(!health.request_failed("x", now, true, 0.0) && !health.request_failed("x", now, true, 0.0));
        assert!(health.request_failed("x", now, true, 0.0));
        assert_eq!(health.state(), State::Down);
    }

    #[test]
    fn polls_take_a_node_down_and_bring_it_back() {
        let mut health = health();
        assert!(!health.poll_failed("gone", 1) && !health.poll_failed("gone", 2));
        assert!(!health.poll_succeeded(3), "a success resets the count");
        assert!(!health.poll_failed("gone", 4) && !health.poll_failed("gone", 5));
        assert!(health.poll_failed("gone", 6));
        assert_eq!((health.state(), health.since()), (State::Down, (6, "gone")));
        assert!(!health.poll_succeeded(7));
        assert!(!health.poll_failed("gone", 8), "a failure resets the rises");
        assert!(!health.poll_succeeded(9) && health.poll_succeeded(10));
        assert_eq!((health.state(), health.failures()), (State::Healthy, 0));
    }

    #[test]
    fn failed_requests_eject_and_one_request_tries_again() {
        let mut health = health();
        eject(&mut health, 100);
        for now in [200, 600, 1_000] {
            assert!(!health.poll_succeeded(now), "the back-off is not over");
        }
        assert!(health.poll_succeeded(1_200));
        assert_eq!(health.state(), State::Probing);
        assert!(health.take_trial(1_201) && !health.take_trial(1_202), "one request, not two");
        assert!(!health.poll_succeeded(1_300), "the request decides, not the poll");
        assert!(health.request_succeeded(1_400));
        assert_eq!((health.state(), health.failures()), (State::Healthy, 0));
    }

    #[test]
    fn a_probe_that_fails_doubles_the_back_off_up_to_a_minute() {
        let mut health = health();
        let mut now = 0;
        eject(&mut health, now);
        for backoff in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            now += backoff * 1_000;
            assert!(!health.poll_succeeded(now - 2) && !health.poll_succeeded(now - 1), "{backoff}");
            assert!(health.poll_succeeded(now), "{backoff}");
            assert!(health.take_trial(now) && health.request_failed("x", now, true, 0.0));
        }
        now += 60_000;
        assert!(!health.poll_succeeded(now) && health.poll_succeeded(now + 1));
        assert!(health.poll_succeeded(now + 2), "no request came, so polls will do");
        now += 200_000;
        health.request_succeeded(now);
        eject(&mut health, now);
        health.poll_succeeded(now + 1_000);
        assert!(health.poll_succeeded(now + 1_001), "a long good time is not forgotten");
    }

    #[test]
    fn a_node_that_is_needed_waits_for_no_back_off() {
        let mut health = health();
        eject(&mut health, 0);
        assert!(!health.poll_succeeded(10) && !health.poll_succeeded(20));
        assert!(health.is_needed(30) && health.state() == State::Healthy);
        assert!(!health.is_needed(31), "it is already");
        eject(&mut health, 32);
        assert!(!health.poll_succeeded(40) && !health.poll_succeeded(50), "others serve again");
    }

    #[test]
    fn a_trial_that_the_origin_fails_is_followed_by_another() {
        let mut health = health();
        eject(&mut health, 0);
        assert!(!health.poll_succeeded(900) && health.poll_succeeded(1_000) && health.take_trial(1_001));
        health.is_blind();
        assert!(!health.take_trial(1_002), "not at once: it can serve only what it has cached");
        assert!(!health.poll_succeeded(1_500) && health.take_trial(1_501), "but after the next poll");
        health.is_blind();
        assert!(health.is_needed(2_000), "when no other node serves, a poll is enough");
        assert_eq!(health.state(), State::Healthy);
    }

    #[test]
    fn a_node_that_joins_needs_one_poll() {
        let mut health = health();
        assert!(health.join() && health.state() == State::Down);
        assert!(health.poll_succeeded(5) && health.state() == State::Healthy);
    }

    #[test]
    fn a_node_without_an_address_is_down_at_once_and_comes_back_by_polls() {
        let mut health = health();
        assert!(health.lost("no address", 5) && !health.lost("no address", 6));
        assert_eq!((health.state(), health.since()), (State::Down, (6, "no address")));
        assert!(!health.poll_succeeded(7) && health.poll_succeeded(8));
    }

    #[test]
    fn jitter_makes_a_back_off_longer_by_up_to_a_tenth() {
        let mut health = health();
        for _ in 0..3 {
            health.request_failed("x", 0, true, 1.0);
        }
        assert!(
            !health.poll_succeeded(1_000) && !health.poll_succeeded(1_099) && health.poll_succeeded(1_100)
        );
    }

    #[test]
    fn polls_that_succeed_do_not_hide_requests_that_fail() {
        let mut health = health();
        for now in 0..2 {
            assert!(!health.request_failed("garbage", now, true, 0.0) && !health.poll_succeeded(now));
        }
        assert!(health.request_failed("garbage", 3, true, 0.0));
    }

    #[test]
    fn requests_never_eject_the_last_node() {
        let mut health = health();
        for now in 0..10 {
            assert!(!health.request_failed("x", now, false, 0.0) && !health.stalled("x", now, false, 0.0));
        }
        assert!(health.poll_failed("x", 11), "a poll may");
    }

    #[test]
    fn a_stall_needs_no_count_and_a_lost_trial_is_free_again() {
        let mut health = health();
        assert!(health.stalled("silent", 0, true, 0.0) && health.state() == State::Down);
        health.poll_succeeded(1_000);
        assert!(health.poll_succeeded(1_001) && health.take_trial(1_002));
        assert!(!health.take_trial(4_002) && health.take_trial(4_003));
        assert!(health.poll_failed("x", 4_004) && health.state() == State::Down);
    }
}
