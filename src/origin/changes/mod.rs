//! What has changed at an origin, and who knows of it: the answers to WATCH and CHANGED.
//!
//! ```text
//!   a file is saved ──▶ watcher ─┐
//!                                ├──▶ log ──▶ WATCH, which waits ──▶ proxies
//!   CHANGED article/1 ───────────┘     ◀── the next WATCH is the acknowledgement
//! ```
//! A reply to WATCH grants a lease: until its end the watcher may take it that it knows of every change. So an origin grants
//! one only while it can vouch that nothing escapes it, and begins a new epoch after a time in which it could not.

mod log;
mod reach;
mod watchers;

use std::collections::HashSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use self::log::{Log, Since};
use self::reach::{Reach, ReachMetrics};
use self::watchers::Watchers;
use crate::lock::lock;
use crate::wire::{Acked, Batch, Key, Position, Reply, Status, Watch};

/// A reply to WATCH waits for this time after a change: most changes do not come alone.
const SETTLES: Duration = Duration::from_millis(5);
/// The longest wait of a WATCH: a stop of the origin must not wait for it beyond its drain.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The most resources that are noted; of more, every one counts as asked for.
const RESOURCES: usize = 4096;

/// The log of an origin and its watchers.
pub struct Changes {
    state: std::sync::Mutex<State>,
    /// Counts what a waiting WATCH has to look at.
    moved: watch::Sender<u64>,
    /// A watcher has asked.
    asked: Notify,
    lease: Duration,
    /// The resources of the keys that were asked for: in the flat layout a file does not tell where its resource ends.
    resources: RwLock<HashSet<Box<str>>>,
}

struct State {
    log: Log,
    watchers: Watchers,
    reach: Reach,
    vouches: Vouches,
    resets: u64,
}

/// Whether the log has every change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Vouches {
    /// Nobody looks for changes.
    Never,
    /// Some may escape at the moment.
    NotNow,
    /// It has every change of its epoch.
    Yes,
}

/// What METRICS tells of changes.
#[derive(Serialize)]
pub(super) struct ChangeMetrics {
    /// The number of the last change in this epoch.
    seq: u64,
    /// Watchers with a lease.
    watchers: usize,
    /// Changes that the watcher which is furthest behind has not heard of.
    lag: u64,
    /// Epochs that were begun because changes may have escaped.
    resets: u64,
    /// Whether every change is seen at the moment.
    vouches: bool,
    #[serde(flatten)]
    reach: ReachMetrics,
}

impl Changes {
    /// A log for which nobody vouches. `lease` is how long a watcher may take it, after it has asked, that it knows everything.
    pub fn new(lease: Duration) -> Arc<Self> {
        let state = State {
            log: Log::new(),
            watchers: Watchers::default(),
            reach: Reach::default(),
            vouches: Vouches::Never,
            resets: 0,
        };
        Arc::new(Self {
            state: state.into(),
            moved: watch::Sender::new(0),
            asked: Notify::new(),
            lease,
            resources: RwLock::default(),
        })
    }

    /// Begins an epoch: from now on every change is told.
    pub fn begin(&self) {
        let mut state = lock(&self.state);
        if state.vouches != Vouches::Never {
            state.resets += 1;
        }
        state.log = Log::new();
        state.watchers.forget_positions();
        state.reach.new_epoch();
        state.vouches = Vouches::Yes;
        drop(state);
        self.wake();
    }

    /// Changes may escape until the next [`Changes::begin`]: no lease is granted.
    pub fn lose_track(&self) {
        lock(&self.state).vouches = Vouches::NotNow;
        self.wake();
    }

    /// Nobody looks for changes any more.
    pub fn end(&self) {
        lock(&self.state).vouches = Vouches::Never;
        self.wake();
    }

    /// The last change; `None` while nobody looks for changes.
    pub(super) fn position(&self) -> Option<Position> {
        let state = lock(&self.state);
        (state.vouches != Vouches::Never).then(|| state.log.head())
    }

    /// Adds changes: keys and prefixes (`<prefix>/*`). The position of the last one.
    pub fn add(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Position {
        let head = {
            let State { log, watchers, reach, .. } = &mut *lock(&self.state);
            names.into_iter().for_each(|name| log.add(name.as_ref()));
            reach.begins(log.head(), watchers, Instant::now());
            log.head()
        };
        self.wake();
        head
    }

    fn wake(&self) {
        self.moved.send_modify(|moved| *moved += 1);
    }

    /// Notes that a key is asked for, before its document is read.
    pub(super) fn note(&self, key: Key<'_>) {
        let resource = key.resource();
        if self.noted(|noted| noted.contains(resource) || noted.len() > RESOURCES) {
            return;
        }
        let mut resources = self.resources.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        resources.insert(resource.into());
    }

    /// Whether a document of this resource may be held anywhere: only if it was asked for.
    #[cfg(all(target_os = "linux", not(sim)))]
    pub(super) fn may_be_held(&self, resource: &str) -> bool {
        self.noted(|noted| noted.contains(resource) || noted.len() > RESOURCES)
    }

    fn noted<R>(&self, of: impl FnOnce(&HashSet<Box<str>>) -> R) -> R {
        of(&self.resources.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Answers a WATCH: at once if something has changed, else when something does, or after its wait.
    pub(super) async fn watch(self: Arc<Self>, watch: Watch) -> Reply {
        let began = Instant::now();
        let until = began + watch.wait.min(LONGEST_WAIT);
        let mut moved = self.moved.subscribe();
        let mut has_settled = false;
        let lease = {
            let mut state = lock(&self.state);
            let heard = watch.since.filter(|since| since.epoch == state.log.head().epoch);
            let has_lease = watch.by.is_some_and(|id| state.watchers.ask(id, heard, began, self.lease));
            let State { watchers, reach, .. } = &mut *state;
            reach.look(watchers, began);
            if has_lease { self.lease } else { Duration::ZERO }
        };
        self.asked.notify_waiters();
        loop {
            moved.mark_unchanged();
            let (head, since, vouches) = {
                let state = lock(&self.state);
                (state.log.head(), state.log.since(watch.since), state.vouches)
            };
            let is_over = Instant::now() >= until;
            let changes = match (vouches, since) {
                (Vouches::Never, _) => return not_told(),
                (Vouches::NotNow, _) if is_over => return batch(head, Duration::ZERO, None),
                (Vouches::NotNow, _) => None,
                (Vouches::Yes, Since::Unknown) => return batch(head, lease, None),
                (Vouches::Yes, Since::Nothing) if is_over => return batch(head, lease, Some(Vec::new())),
                (Vouches::Yes, Since::Nothing) => None,
                (Vouches::Yes, Since::Changed(names)) => Some(names),
            };
            match changes {
                Some(names) if has_settled => return batch(head, lease, Some(names)),
                Some(_) => {
                    has_settled = true;
                    sleep(SETTLES).await;
                }
                // Fails only at its deadline: the sender is here.
                None => drop(timeout_at(until, moved.changed()).await),
            }
        }
    }

    /// Answers a CHANGED: at once, or when each watcher has heard of it or has no lease any more.
    pub(super) async fn told(self: Arc<Self>, names: Vec<String>, wait_for_all: bool) -> Reply {
        if self.position().is_none() {
            return not_told();
        }
        let change = self.add(names);
        let mut behind = lock(&self.state).watchers.behind(change, Instant::now());
        let (mut acked, mut lapsed) = (behind.acked, 0);
        while let (true, Some(until)) = (wait_for_all, behind.until()) {
            let asked = self.asked.notified();
            let (heard, ended) = lock(&self.state).watchers.look_again(&mut behind, change, Instant::now());
            (acked, lapsed) = (acked + heard, lapsed + ended);
            if heard + ended == 0 {
                // Either a watcher asks, or the last lease ends.
                let _ = timeout_at(until, asked).await;
            }
        }
        let (acked, lapsed) = (acked as u64, lapsed as u64);
        Reply::json(&Acked { seq: Some(change.seq), acked, lapsed, only_here: false })
    }

    /// For METRICS; `None` while nobody looks for changes.
    pub(super) fn metrics(&self) -> Option<ChangeMetrics> {
        let (state, now) = (lock(&self.state), Instant::now());
        let head = state.log.head();
        let behind = state.watchers.behind(head, now);
        (state.vouches != Vouches::Never).then(|| ChangeMetrics {
            seq: head.seq,
            watchers: behind.acked + behind.waiting.len(),
            lag: state.watchers.lag(head, now),
            resets: state.resets,
            vouches: state.vouches == Vouches::Yes,
            reach: state.reach.metrics(now),
        })
    }
}

fn not_told() -> Reply {
    let why = "this origin tells nobody of changes: --changes is off, or its files cannot be watched";
    Reply::text(Status::WrongMethod, why)
}

fn batch(head: Position, lease: Duration, changes: Option<Vec<String>>) -> Reply {
    Reply::json(&Batch::new(head, lease, changes))
}

#[cfg(test)]
mod tests;
