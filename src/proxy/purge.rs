//! PURGE: a request that comes after its reply gets no document from before the purge.

use std::sync::Arc;

use serde::Serialize;

use super::Proxy;
use crate::handler::Answer;
use crate::lock::lock;
use crate::pool;
use crate::wire::{Key, Pattern, Reply, Status};

/// The `data` of the reply to PURGE.
#[derive(Serialize)]
struct Purged {
    /// Entries removed, or marked stale by a soft purge.
    purged: usize,
}

impl Proxy {
    pub(super) fn purge(self: &Arc<Self>, pattern: Pattern<'_>, soft: bool) -> Answer {
        let prefix = match pattern {
            Pattern::One(key) => {
                let purged = self.flights.purge(|path| path == key.as_str(), || self.purge_one(key, soft));
                return Answer::Now(self.purged(purged));
            }
            Pattern::Beneath(prefix) => prefix.to_owned(),
        };
        let proxy = self.clone();
        // A pass over a large cache takes long: it must not run on a thread that serves.
        let purge = pool::run(move || {
            let forget = || proxy.purge_beneath(&prefix, soft);
            proxy.flights.purge(|path| path.starts_with(&prefix), forget)
        });
        let proxy = self.clone();
        Answer::later(async move {
            match purge.await {
                Ok(purged) => proxy.purged(purged),
                Err(_) => proxy.failed(Status::Overloaded, "the purge was cut short; ask again"),
            }
        })
    }

    fn purge_one(&self, key: Key<'_>, soft: bool) -> usize {
        lock(&self.key_failures).forget(key.as_str());
        let held = if soft { self.cache.peek(key.as_str()) } else { self.cache.remove(key.as_str()) };
        if let Some(entry) = &held {
            entry.purge_softly();
        }
        usize::from(held.is_some())
    }

    fn purge_beneath(&self, prefix: &str, soft: bool) -> usize {
        lock(&self.key_failures).forget_all();
        let mut softly = 0;
        let removed: usize = (0..self.cache.slices())
            .map(|slice| {
                self.cache.retain(slice, &mut |entry| {
                    let is_meant = entry.key().starts_with(prefix);
                    if is_meant && soft {
                        entry.purge_softly();
                        softly += 1;
                    }
                    !is_meant || soft
                })
            })
            .sum();
        removed + softly
    }

    fn purged(&self, purged: usize) -> Reply {
        self.counters.purged.add(purged as u64);
        Reply::json(&Purged { purged })
    }
}
