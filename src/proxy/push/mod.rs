//! Following the changes at the origin: one WATCH after another, and what each reply makes of the cache.
//!
//! The order of a reply's steps is what all of it rests on: flights of the changed documents are let go and their entries
//! are outdated, then the position moves, then the lease is renewed, then the next WATCH says that all this has been done.

mod following;
mod vouched;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use self::following::{Following, Sign};
use self::vouched::Shared;
pub use self::vouched::{PushTtl, Vouched};
use super::Proxy;
use super::cache::Millis;
use crate::lock::lock;
use crate::source::Unwatched;
use crate::wire::{Batch, Pattern, Position, Watch};

/// The longest wait of a WATCH; it waits for a quarter of the lease if that is shorter, and the first one not at all.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A reply must come within this time after its wait.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Pauses after a failure, from the first, doubled, to the longest: a random part of each is waited for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long changes are not followed after an origin has said that it tells none, and after two origins have answered.
const NOT_TOLD: Duration = Duration::from_secs(30);
const SEVERAL_ORIGINS: Duration = Duration::from_secs(60);

/// What a proxy knows of the changes at its origin.
pub(super) struct Push {
    mode: PushTtl,
    shared: Shared,
    state: Mutex<State>,
    /// There is a position to follow from.
    begins: Notify,
}

#[derive(Default)]
struct State {
    following: Following,
    /// Changes are not followed until then.
    off_until: Option<Instant>,
    has_lapsed: bool,
    lapses: u64,
    resets: u64,
    changes: u64,
}

/// The `push` of METRICS.
#[derive(Serialize)]
pub(super) struct PushMetrics {
    /// `live`, `lapsed`, or `off` while nobody tells of changes.
    state: &'static str,
    /// The number of the last change that is known.
    seq: Option<u64>,
    /// Names that were told.
    changes: u64,
    /// Times at which anything might have changed.
    resets: u64,
    /// Leases that ended before the next word of the origin.
    lapses: u64,
}

impl Push {
    pub(super) fn new(mode: PushTtl) -> Self {
        let shared = Shared::new(mode == PushTtl::Ttl);
        Self { mode, shared, state: Mutex::default(), begins: Notify::new() }
    }

    /// What is known now.
    pub(super) fn vouched(&self) -> Vouched {
        self.shared.now()
    }

    /// For METRICS; `None` where changes are not followed.
    pub(super) fn metrics(&self, now: Millis) -> Option<PushMetrics> {
        let (state, vouched) = (lock(&self.state), self.vouched());
        let position = state.following.position.filter(|_| !vouched.is_nothing());
        let name = match position {
            None => "off",
            Some(_) if vouched.has_lapsed(now) => "lapsed",
            Some(_) => "live",
        };
        (self.mode != PushTtl::Off).then_some(PushMetrics {
            state: name,
            seq: position.map(|position| position.seq),
            changes: state.changes,
            resets: state.resets,
            lapses: state.lapses,
        })
    }

    /// A document that was asked for at `asked` was read at this position of the origin's log. False if it must not be kept:
    /// it would count as one whose changes are told, and they may not be.
    pub(super) fn came_from(&self, position: Option<Position>, asked: Millis) -> bool {
        if self.mode == PushTtl::Off {
            return true;
        }
        let mut state = lock(&self.state);
        let is_from_before = state.following.position.is_some() && !self.shared.now().is_after_reset(asked);
        if is_from_before || state.off_until.is_some() {
            return true;
        }
        match state.following.document(position, Instant::now()) {
            Sign::Nothing => {}
            Sign::Begins => {
                // This document is covered: its position was taken before it was read.
                self.shared.reset(Millis(asked.0.saturating_sub(1)));
                self.begins.notify_one();
            }
            Sign::Untold => return false,
            Sign::Moves => {
                state.resets += 1;
                self.shared.lapse();
                self.shared.reset(asked);
            }
            Sign::Several => self.several(&mut state),
        }
        true
    }

    fn several(&self, state: &mut State) {
        self.off(state, SEVERAL_ORIGINS);
        warn!("several origins answer at one address: changes at one of them are not followed for a minute");
    }

    fn off(&self, state: &mut State, time: Duration) {
        self.shared.forget();
        state.following = Following::default();
        state.off_until = Some(Instant::now() + time);
    }
}

impl Proxy {
    /// Follows the changes at the origin for ever; returns at once where they are not to be followed, or can never be told.
    pub async fn follow_changes(self: Arc<Self>) {
        if self.push.mode == PushTtl::Off {
            return;
        }
        let id = fastrand::u64(..);
        let (mut wait, mut pause) = (Duration::ZERO, PAUSES.0);
        loop {
            let (position, off_until) = {
                let state = lock(&self.push.state);
                (state.following.position, state.off_until)
            };
            if let Some(until) = off_until {
                tokio::time::sleep_until(until).await;
                lock(&self.push.state).off_until = None;
                continue;
            }
            if position.is_none() {
                // An older origin tells no position, and is never bothered.
                self.push.begins.notified().await;
                wait = Duration::ZERO;
                continue;
            }
            let (sent, deadline) = (self.now(), Instant::now() + wait + ANSWERS_WITHIN);
            let watch = Watch { since: position, wait, by: Some(id) };
            let Some(asked) = self.upstream.source().watch(watch, deadline) else { return };
            match asked.await {
                Ok(batch) => {
                    pause = PAUSES.0;
                    match self.apply(&batch, position, sent) {
                        Some(lease) => wait = (lease / 4).min(LONGEST_WAIT),
                        None => sleep(PAUSES.0.mul_f64(fastrand::f64())).await,
                    }
                }
                Err(Unwatched::NotTold) => self.push.off(&mut lock(&self.push.state), NOT_TOLD),
                Err(Unwatched::Failed(error)) => {
                    debug!(%error, "the origin was not heard of changes");
                    self.note_lapse();
                    sleep(pause.mul_f64(fastrand::f64())).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Takes over what a WATCH from `since` on, sent at `sent`, has brought. The lease, if there is one.
    fn apply(self: &Arc<Self>, batch: &Batch, since: Option<Position>, sent: Millis) -> Option<Duration> {
        for name in &batch.changes {
            // A name that cannot be read, or has no room among the purges, may be any.
            if !Pattern::parse(name).is_ok_and(|pattern| self.outdate(pattern)) {
                self.push.shared.reset(self.now());
            }
        }
        let mut state = lock(&self.push.state);
        // A document has come from elsewhere meanwhile.
        if state.following.position != since || state.off_until.is_some() {
            return None;
        }
        state.changes += batch.changes.len() as u64;
        if batch.reset && batch.lease_ms == 0 {
            // The origin does not know either.
            return None;
        }
        let sign = state.following.moves_to(batch.position(), Instant::now());
        if sign == Sign::Several {
            self.push.several(&mut state);
            return None;
        }
        // Names of another epoch say nothing about what changed before it, whatever the origin says.
        if batch.reset || sign == Sign::Moves {
            state.resets += 1;
            self.push.shared.reset(self.now());
        }
        if batch.lease_ms == 0 {
            return None;
        }
        let vouched = self.push.vouched();
        if std::mem::take(&mut state.has_lapsed) {
            info!("the origin tells of changes again");
        } else if vouched.has_lapsed(self.now()) {
            state.lapses += 1;
        }
        self.push.shared.renew(sent, Millis(sent.0 + batch.lease_ms));
        Some(Duration::from_millis(batch.lease_ms))
    }

    fn note_lapse(&self) {
        let mut state = lock(&self.push.state);
        if self.push.vouched().has_lapsed(self.now()) && !std::mem::replace(&mut state.has_lapsed, true) {
            state.lapses += 1;
            warn!(
                "the origin is not heard of changes: documents are fresh for their time to live from now on"
            );
        }
    }
}
