//! The end of a fetch: what it brought is kept, noted, and told to all who wait for it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tracing::{info, warn};

use super::Proxy;
use super::cache::{Entry, Millis};
use super::fetched::{Failure, Fetched};
use super::flight::Ticket;
use super::upstream::Permit;
use crate::blame::Fault;
use crate::lock::lock;
use crate::source::{Known, Policy, Validator};
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
        let key = ticket.key().clone();
        let held = self.to_validate(&key);
        let validator = held.as_ref().and_then(validator_of);
        let in_doubt = self.upstream.kind().says_times() && self.upstream.health().0.is_some();
        let (fetched, asked) =
            self.upstream.fetch(permit, &key, || self.now(), ticket.awaited(), validator.as_ref()).await;
        let fetched = if in_doubt { self.believed(&key, fetched) } else { fetched };
        let may_be_kept = match &fetched {
            Fetched::Document(_, known) | Fetched::Missing(known) | Fetched::NotModified(known) => {
                self.push.came_from(known.past.position, asked)
            }
            Fetched::Failed(_) => true,
        };
        let (landed, not_stored) = self.landed(&key, fetched, asked, held.as_ref());
        if let Landed::Entry(entry, true) = &landed
            && let Some(held) = self.younger(entry)
        {
            let is_stale = !self.push.vouched().is_fresh(&held, self.now());
            return ticket
                .land(&Landed::Held(held, is_stale), || lock(&self.key_failures).forget(key.as_str()));
        }
        ticket.land(&landed, || match &landed {
            Landed::Entry(entry, _) if may_be_kept => self.store(&key, entry, not_stored),
            Landed::Entry(..) | Landed::Held(..) => {}
            Landed::Failed(failure) => self.note(&key, failure),
        });
    }

    /// Fetches for one request alone, and stores nothing: no other waits, because the answer must not be kept.
    pub(super) async fn fetch_alone(self: Arc<Self>, permit: Permit, key: KeyBuf) -> Landed {
        let (fetched, asked) = self.upstream.fetch(permit, &key, || self.now(), || true, None).await;
        let (landed, not_stored) = self.landed(&key, fetched, asked, None);
        match &landed {
            // The next request flies, and what it brings is kept.
            Landed::Entry(..) if not_stored.is_none() => lock(&self.not_stored).forget(key.as_str()),
            Landed::Entry(..) | Landed::Held(..) => {}
            Landed::Failed(failure) => self.note(&key, failure),
        }
        landed
    }

    /// A balancer before an API whose programs are down may say that there is nothing at all. So the first NOT_FOUND of an API
    /// that was failing removes no document: one more does, once it is well.
    fn believed(&self, key: &KeyBuf, fetched: Fetched) -> Fetched {
        let held = self.peek(key.as_key()).filter(Entry::has_document);
        match (fetched, held) {
            (Fetched::Missing(_), Some(held)) if !self.is_gone(&held, self.push.vouched()) => {
                let why = "the origin was failing, and says that there is no such document";
                Fetched::Failed(Failure::new(Fault::Document, why))
            }
            (fetched, _) => fetched,
        }
    }

    /// The document that is held and that its source can be asked about.
    fn to_validate(&self, key: &KeyBuf) -> Option<Entry> {
        self.peek(key.as_key()).filter(|entry| entry.has_document() && validator_of(entry).is_some())
    }

    /// What a fetch comes to, and why it must not be stored, if so. `held` is the document whose validator was sent.
    fn landed(
        &self,
        key: &KeyBuf,
        fetched: Fetched,
        asked: Millis,
        held: Option<&Entry>,
    ) -> (Landed, Option<&'static str>) {
        let (document, known) = match fetched {
            Fetched::Document(document, known) => (Some(document), known),
            Fetched::Missing(known) => (None, known),
            Fetched::NotModified(known) => {
                let document = held.and_then(|held| held.clone().into_document());
                (document, known.renewed(held.and_then(Entry::policy)))
            }
            Fetched::Failed(failure) => return (Landed::Failed(failure), None),
        };
        // Caches in front keep it no more than this one does.
        let known = match known.not_stored {
            Some(_) => Known { policy: Some(Box::new(Policy::of_no_time())), ..known },
            None => known,
        };
        let is_document = document.is_some();
        let (begun, lifetime) =
            self.freshness.load().span(key.as_str(), &known, asked, is_document, fastrand::f64());
        let (fetch, policy) = (self.now().since(asked), known.policy.as_deref());
        let entry = Entry::of_policy(key.as_str(), document, begun, lifetime, fetch, policy);
        (Landed::Entry(entry, known.past.is_stale && is_document), known.not_stored)
    }

    /// The document that is held, if it is younger. What another node serves as stale is no reason to give that up.
    fn younger(&self, entry: &Entry) -> Option<Entry> {
        let (held, now) = (self.cache.peek(entry.key()).filter(|held| self.purges.shows(held))?, self.now());
        (held.has_document() && held.age(now) < entry.age(now)).then_some(held)
    }

    /// Puts a fetched entry into the cache. One that is in the cache already is older than the origin's answer. No purge is
    /// marked meanwhile: it waits for the landing of the flight.
    fn store(&self, path: &KeyBuf, entry: &Entry, not_stored: Option<&'static str>) {
        self.purges.stamp(entry);
        let key = entry.key();
        lock(&self.key_failures).forget(key);
        match not_stored {
            Some(why) => self.must_not_store(path, why),
            None => lock(&self.not_stored).forget(key),
        }
        // A NOT_FOUND without a time is not kept; a document without one may be validated.
        let is_worth_it = entry.has_document() || entry.lifetime() != Some(Duration::ZERO);
        let is_kept = not_stored.is_none() && is_worth_it;
        if is_kept && !entry.has_document() {
            self.make_room_for_absence(entry);
        }
        if is_kept && !self.cache.insert(entry.clone()) {
            return self.not_kept(entry);
        }
        if !is_kept {
            self.cache.remove(key);
        }
        lock(&self.not_kept).forget(key);
        self.say_if_full();
    }

    /// Says once that the cache is full, and by which bound.
    fn say_if_full(&self) {
        if self.was_full.load(Relaxed) {
            return;
        }
        let usage = self.cache.usage();
        if usage.evictions == 0 || self.was_full.swap(true, Relaxed) {
            return;
        }
        let (entries, mib, most) = (usage.entries, usage.bytes >> 20, self.bounds.bytes >> 20);
        match usage.evicted_for_bytes {
            0 => warn!(
                "the cache is full by --capacity: {entries} entries, which take {mib} of {most} MiB; each further one evicts another"
            ),
            _ => info!(
                "the cache is full by --max-bytes: {most} MiB, {entries} entries; documents evict others"
            ),
        }
    }

    /// The source forbids that its answer for this key is stored.
    fn must_not_store(&self, key: &KeyBuf, why: &'static str) {
        let resource = key.as_key().resource();
        if lock(&self.not_stored).note(key.as_str(), resource, why, self.now()) {
            warn!(%key, "documents of {resource}/ are served and not stored: {why}");
        }
    }

    /// Removes other entries without a document, so that they all keep to their share of the cache.
    fn make_room_for_absence(&self, entry: &Entry) {
        let gone = lock(&self.absences).note(entry.key(), self.cache.weight(entry));
        for key in gone {
            if self.cache.peek(&key).is_some_and(|held| !held.has_document()) {
                self.cache.remove(&key);
            }
        }
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
            Some(held) if !self.freshness.load().serves_if_error(&held).is_zero() => held.purge_softly(),
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

/// What the source knows an entry's document by.
fn validator_of(entry: &Entry) -> Option<Validator<'_>> {
    entry.policy()?.validator
}
