//! The replies of a proxy: what stands beside the document, and what a proxy in front is told besides, so that it holds the
//! document as its source says.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

use super::Proxy;
use super::cache::{Entry, Millis};
use super::push::Vouched;
use crate::wire::{Meta, Reply, Served, Status, Tell, Terms, meta};

/// What a request for a document asks beside it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// When its client gives up.
    pub(super) deadline: Option<Instant>,
    /// What is to be told beside the document.
    pub(super) tell: Tell<'a>,
}

impl Proxy {
    /// The reply from the cache.
    #[inline]
    pub(super) fn hit(
        &self,
        entry: Entry,
        vouched: Vouched,
        stale: bool,
        asked: &Asked<'_>,
        now: Millis,
    ) -> Reply {
        if stale {
            self.counters.stale_served.add_one();
        }
        let tell = asked.tell;
        // Few ask for these, and they cost a lookup of what the source says.
        let terms = if tell.times { self.freshness.load().terms(&entry) } else { Terms::default() };
        // No other reply shows how old it is.
        let (age, served) = if stale || tell.times || tell.meta {
            let age = vouched.age(&entry, now);
            (age, self.served(&entry, age))
        } else {
            (Duration::ZERO, self.of_this_node())
        };
        reply(entry, age, Served { cache_hit: true, stale, terms, ..served }, asked)
    }

    /// The reply with what a fetch brought.
    pub(super) fn landed_reply(
        &self,
        entry: Entry,
        age: Duration,
        served: Served,
        asked: &Asked<'_>,
    ) -> Reply {
        let always = self.served(&entry, age);
        reply(entry, age, Served { stale: served.stale, terms: served.terms, ..always }, asked)
    }

    /// The members of a reply with an entry of this age.
    fn served(&self, entry: &Entry, age: Duration) -> Served {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let fresh_for = entry.lifetime().map(|lifetime| seconds(lifetime.saturating_sub(age)));
        Served { age: seconds(age), fresh_for, ..self.of_this_node() }
    }

    /// The members that every reply has: who it comes from.
    fn of_this_node(&self) -> Served {
        Served { node: self.node, name: self.name, ..Served::default() }
    }

    /// An error reply. As every reply of a proxy it names the node.
    pub(super) fn failed(&self, status: Status, why: impl Into<Cow<'static, str>>) -> Reply {
        Reply::text(status, why).with(self.of_this_node())
    }
}

#[inline]
fn reply(entry: Entry, age: Duration, served: Served, asked: &Asked<'_>) -> Reply {
    if asked.tell.meta {
        let reply = with_document(entry.clone(), served);
        return with_meta(reply, &entry, age, asked);
    }
    with_document(entry, served)
}

#[inline]
fn with_document(entry: Entry, served: Served) -> Reply {
    match entry.into_document() {
        Some(document) => Reply::document(document),
        None => Reply::null(Status::NotFound),
    }
    .with(served)
}

/// Adds what the source says of keeping the document. What it leaves to the flags of a proxy is left to those of the next.
fn with_meta(reply: Reply, entry: &Entry, age: Duration, asked: &Asked<'_>) -> Reply {
    let Some(policy) = entry.policy() else { return reply };
    let (left, past) = match entry.lifetime() {
        Some(lifetime) => (lifetime.saturating_sub(age), age.saturating_sub(lifetime)),
        None => (Duration::MAX, Duration::ZERO),
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let token = policy.validator.as_ref().and_then(|validator| meta::token(validator.as_bytes()));
    let meta = Meta {
        ttl_ms: policy.lifetime.map(|_| millis(left)),
        swr_ms: policy.stale_while_revalidate().map(|time| millis(time.saturating_sub(past))),
        sie_ms: policy.stale_if_error().map(|time| millis(time.saturating_sub(past))),
        etag: token.as_deref(),
        tags: Some(&*policy.tags).filter(|tags| !tags.is_empty()),
    };
    reply.with_meta(&meta, asked.tell.held)
}
