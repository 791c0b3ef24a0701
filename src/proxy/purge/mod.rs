//! PURGE: a request that comes after its reply gets no document from before the purge.
//!
//! A purge of one key removes it. A purge of a prefix or a tag is a mark, which costs the same however full the cache is; the memory
//! is freed by one walk for all marks that wait, in slices, off the serving threads.

mod marks;
#[cfg(test)]
mod marks_tests;
mod purges;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{sleep, timeout};

use self::marks::Kind;
pub(super) use self::purges::Purges;
use super::Proxy;
use crate::handler::Answer;
use crate::lock::lock;
use crate::wire::{Key, Pattern, Reply, Status};

/// How long a reply waits for the walk, so that it tells how much was purged.
const PATIENCE: Duration = Duration::from_millis(50);

/// The `data` of the reply to PURGE.
#[derive(Serialize)]
struct Purged {
    /// Entries removed, or marked stale by a soft purge.
    purged: usize,
    /// Only when the walk goes on: more entries may be found. None of them is shown meanwhile.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    at_least: bool,
}

impl Proxy {
    pub(super) fn purge(self: &Arc<Self>, pattern: Pattern<'_>, soft: bool) -> Answer {
        let kind = if soft { Kind::Soft } else { Kind::Hard };
        let mut purged = 0;
        if let Pattern::One(key) = pattern {
            purged = self.flights.purge(pattern, || self.purge_one(key, kind));
            self.purges.purged.add(purged as u64);
        }
        let Some(name) = self.mark(pattern) else { return Answer::Now(reply(purged, false)) };
        let marked = self.flights.purge(marked(pattern, &name), || self.purges.add(&name, kind));
        let Some(mark) = marked else {
            let full = "too many purges wait until the memory of those before them is freed; ask again";
            return Answer::Now(self.failed(Status::Overloaded, full));
        };
        // Fetches from before the purge note no failure any more.
        lock(&self.key_failures).forget_beneath(&name);
        tokio::spawn(self.clone().walk());
        let proxy = self.clone();
        Answer::later(async move {
            let is_known = timeout(patience(), proxy.purges.walked(&mark)).await.is_ok();
            reply(purged + mark.found.swap(0, Relaxed) as usize, !is_known)
        })
    }

    /// Documents have changed: they are fetched at their next use, and what is held is served if that fails. False if too many
    /// purges wait.
    pub(super) fn outdate(self: &Arc<Self>, pattern: Pattern<'_>) -> bool {
        if let Pattern::One(key) = pattern {
            self.flights.purge(pattern, || self.purge_one(key, Kind::Outdated));
        }
        let Some(name) = self.mark(pattern) else { return true };
        let mark = self.flights.purge(marked(pattern, &name), || self.purges.add(&name, Kind::Outdated));
        lock(&self.key_failures).unpause_beneath(&name);
        tokio::spawn(self.clone().walk());
        mark.is_some()
    }

    /// The name of the mark for a pattern; for one key, of the mark for its document with parameters, if there may be any.
    fn mark<'a>(&self, pattern: Pattern<'a>) -> Option<Cow<'a, str>> {
        match pattern {
            Pattern::Beneath(name) | Pattern::Tagged(name) => Some(Cow::Borrowed(name)),
            Pattern::One(key) if self.parameters.is_empty() || key.query().is_some() => None,
            Pattern::One(key) => Some(Cow::Owned(format!("{key}?"))),
        }
    }

    /// Makes documents stale whose rule has changed. False if too many purges wait.
    pub(super) fn soften(self: &Arc<Self>, prefix: &str) -> bool {
        let pattern = Pattern::Beneath(prefix);
        let mark = self.flights.purge(pattern, || self.purges.add(prefix, Kind::Soft));
        tokio::spawn(self.clone().walk());
        mark.is_some()
    }

    fn purge_one(&self, key: Key<'_>, kind: Kind) -> usize {
        match kind {
            Kind::Hard | Kind::Soft => lock(&self.key_failures).forget(key.as_str()),
            Kind::Outdated => lock(&self.key_failures).unpause(key.as_str()),
        }
        let Some(entry) = self.peek(key) else { return 0 };
        match kind {
            Kind::Hard => drop(self.cache.remove(key.as_str())),
            Kind::Outdated => entry.outdate(),
            Kind::Soft => entry.purge_softly(),
        }
        1
    }

    /// Checks every entry against the marks until none waits, unless another walk is under way.
    async fn walk(self: Arc<Self>) {
        let Some(mut turn) = self.purges.begin_walk() else { return };
        while let Some(marks) = turn.round() {
            let (mut slice, mut rest) = (0, Duration::ZERO);
            // An entry that comes while the walk is under way is newer than its marks.
            while slice < self.cache.slices() {
                sleep(rest).await;
                let checked = marks.clone();
                let Some(burst) = self.burst(slice, usize::MAX, move |entry| checked.check(entry)).await
                else {
                    return;
                };
                (slice, rest) = (burst.next, burst.rest());
            }
            self.purges.end_round(&marks);
        }
    }
}

/// What a mark of this name stands for.
fn marked<'a>(pattern: Pattern<'a>, name: &'a str) -> Pattern<'a> {
    match pattern {
        Pattern::One(_) => Pattern::Beneath(name),
        pattern => pattern,
    }
}

fn reply(purged: usize, at_least: bool) -> Reply {
    Reply::json(&Purged { purged, at_least })
}

/// In a simulation, readers come before the walk as often as after it.
fn patience() -> Duration {
    match cfg!(sim) && fastrand::bool() {
        true => Duration::ZERO,
        false => PATIENCE,
    }
}
