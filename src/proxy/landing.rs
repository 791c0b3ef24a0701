//! The end of a fetch: what it brought is kept, noted, and told to all who wait for it.

use std::sync::Arc;

use tracing::warn;

use super::Proxy;
use super::cache::Entry;
use super::fetched::{Failure, Fetched};
use super::flight::Ticket;
use super::freshness::Freshness;
use super::upstream::Permit;
use crate::blame::Fault;
use crate::lock::lock;
use crate::wire::KeyBuf;

/// The outcome of a flight, for all requests that wait for it.
#[derive(Clone, Debug)]
pub(super) enum Landed {
    /// A document, or NOT_FOUND; and whether it was stale when it came.
    Entry(Entry, bool),
    /// The document that was held, because it is younger than the one that came; and whether it is stale.
    Held(Entry, bool),
    Failed(Failure),
}

impl Proxy {
    /// Fetches, stores the entry, and lands the ticket. Runs in a task, so it outlives the request that started it.
    pub(super) async fn fly(self: Arc<Self>, permit: Permit, ticket: Ticket<Landed>) {
        let (fetched, asked) =
            self.upstream.fetch(permit, ticket.key(), || self.now(), ticket.awaited()).await;
        let key = ticket.key().clone();
        let entry = |document, past, lifetime| {
            let (begun, lifetime) = Freshness::inherited(past, asked, lifetime);
            Entry::new(key.as_str(), document, begun, lifetime, self.now().since(asked))
        };
        let landed = match fetched {
            Fetched::Document(document, past) => {
                let entry = entry(Some(document), past, self.freshness.lifetime(fastrand::f64()));
                Landed::Entry(entry, past.is_stale)
            }
            Fetched::Missing(past) => {
                Landed::Entry(entry(None, past, Some(self.freshness.negative_ttl)), false)
            }
            Fetched::Failed(failure) => Landed::Failed(failure),
        };
        if let Landed::Entry(entry, true) = &landed
            && let Some(held) = self.younger(entry)
        {
            let is_stale = !held.is_fresh(self.now());
            return ticket
                .land(&Landed::Held(held, is_stale), || lock(&self.key_failures).forget(key.as_str()));
        }
        ticket.land(&landed, || match &landed {
            Landed::Entry(entry, _) => self.store(entry),
            Landed::Held(..) => {}
            Landed::Failed(failure) => self.note(&key, failure),
        });
    }

    /// The document that is held, if it is younger. What another node serves as stale is no reason to give that up.
    fn younger(&self, entry: &Entry) -> Option<Entry> {
        let (held, now) = (self.cache.peek(entry.key()).filter(|held| self.purges.shows(held))?, self.now());
        (held.has_document() && held.age(now) < entry.age(now)).then_some(held)
    }

    /// Puts a fetched entry into the cache. One that is in the cache already is older than the origin's answer. No purge is
    /// marked meanwhile: it waits for the landing of the flight.
    fn store(&self, entry: &Entry) {
        self.purges.stamp(entry);
        let key = entry.key();
        lock(&self.key_failures).forget(key);
        let is_kept = entry.has_document() || !self.freshness.negative_ttl.is_zero();
        if is_kept && !self.cache.insert(entry.clone()) {
            return self.not_kept(entry);
        }
        if !is_kept {
            self.cache.remove(key);
        }
        lock(&self.not_kept).forget(key);
    }

    /// The cache has no room for this document. An older one is stale from now on, and served only if a fetch fails.
    fn not_kept(&self, entry: &Entry) {
        let key = entry.key();
        self.counters.not_kept.add_one();
        let mut not_kept = lock(&self.not_kept);
        let forgotten = not_kept.note(key, self.cache.weight(entry));
        if not_kept.is_first() {
            let why = not_kept.why(key).unwrap_or_default();
            warn!(key, "a document is served and not kept: {why}; METRICS counts further ones as not_kept");
        }
        drop(not_kept);
        match self.cache.peek(key) {
            Some(held) if !self.freshness.stale_if_error.is_zero() => held.purge_softly(),
            Some(_) => drop(self.cache.remove(key)),
            None => {}
        }
        // What is not known to be replaced must not be served as if it were not.
        if let Some(forgotten) = forgotten {
            self.cache.remove(&forgotten);
        }
    }

    /// Remembers that a key failed. What this proxy lacks says nothing of the key.
    fn note(&self, key: &KeyBuf, failure: &Failure) {
        if failure.was_asked && failure.fault != Fault::Ours {
            lock(&self.key_failures).failed(key, failure, self.now());
        }
    }
}
