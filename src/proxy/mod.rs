//! The proxy: a read-through cache in front of an origin.
//!
//! ```text
//!   GET ──▶ cache ──fresh──────────────────────────▶ reply
//!             ├────stale, may be served───────────▶ reply, and a fetch behind it
//!             └────nothing ──▶ flight ──▶ upstream ──▶ cache, reply to all who wait
//! ```

pub mod cache;
mod flight;
#[cfg(test)]
mod flight_tests;
mod freshness;
mod gate;
mod metrics;
mod purge;
mod sketch;
mod sweep;
mod sync;
mod traffic;
mod upstream;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use self::cache::{Bounds, Cache, CacheType, Entry, Millis};
use self::flight::{Flights, Joined, Ticket};
pub use self::freshness::Freshness;
use self::freshness::Verdict;
use self::metrics::Counts;
use self::traffic::Traffic;
pub use self::upstream::FetchLimits;
use self::upstream::{Fetched, LEFT_ALONE, Leave, Upstream};
use crate::admin::{Admins, FORBIDDEN};
use crate::handler::{Answer, Ask, Handler};
use crate::net::link::Peer;
use crate::net::{Link, LinkLimits};
use crate::stats::StartTime;
use crate::trace;
use crate::wire::{Key, KeyBuf, Reply, Request, Served, Status};

/// What a proxy is told at its start.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Its own port, which its replies name.
    pub node: u16,
    /// Where the origin is.
    pub origin: Peer,
    /// How to ask it.
    pub link: LinkLimits,
    /// What to give up when the cache is full.
    pub cache_type: CacheType,
    /// How much to hold.
    pub bounds: Bounds,
    /// How long documents are good for.
    pub freshness: Freshness,
    /// What fetches are bounded by.
    pub fetch: FetchLimits,
    /// Requests that may wait for one fetch.
    pub max_waiters: usize,
    /// Who may purge.
    pub admins: Admins,
}

/// Keys that may be fetched, or wait to be, at the same time.
const MAX_FLIGHTS: usize = 16 * 1024;

/// The role.
pub struct Proxy {
    node: u16,
    cache: Box<dyn Cache>,
    flights: Arc<Flights<Landed>>,
    upstream: Upstream,
    freshness: Freshness,
    counts: Counts,
    traffic: Traffic,
    start_time: StartTime,
    began: Instant,
    admins: Admins,
}

/// What a flight brought to all who wait for it.
#[derive(Clone, Debug)]
enum Landed {
    /// A document, or the word that there is none.
    Entry(Arc<Entry>),
    Failed(Status, &'static str),
}

impl Proxy {
    /// A proxy with an empty cache. It fetches nothing by itself.
    pub fn new(config: ProxyConfig) -> Arc<Self> {
        Arc::new(Self {
            node: config.node,
            cache: cache::build(config.cache_type, config.bounds),
            flights: Flights::new(MAX_FLIGHTS, config.max_waiters),
            upstream: Upstream::new(Link::new(config.origin, config.link), config.fetch),
            freshness: config.freshness,
            counts: Counts::default(),
            traffic: Traffic::new(),
            start_time: StartTime::now(),
            began: Instant::now(),
            admins: config.admins,
        })
    }

    fn now(&self) -> Millis {
        self.millis(Instant::now())
    }

    fn millis(&self, at: Instant) -> Millis {
        Millis(at.saturating_duration_since(self.began).as_millis() as u64)
    }

    fn get(self: &Arc<Self>, key: Key<'_>, deadline: Option<Instant>, now: Millis) -> Answer {
        let Some(entry) = self.cache.get(key.as_str()) else {
            return self.miss(key, None, deadline);
        };
        match self.freshness.verdict(&entry, now, fastrand::f64) {
            Verdict::Fresh => {}
            Verdict::FreshRefresh | Verdict::StaleRefresh => self.refresh(key, now),
            Verdict::IfError => return self.miss(key, Some(entry), deadline),
            Verdict::Gone => return self.miss(key, None, deadline),
        }
        self.counts.hits.add_one();
        self.traffic.saw(key, true);
        entry.count_use();
        if entry.document().is_none() {
            self.counts.negative_hits.add_one();
        }
        Answer::Now(self.reply(&entry, true, now))
    }

    /// Fetches behind a reply, unless that is under way or the origin had better be left alone.
    fn refresh(self: &Arc<Self>, key: Key<'_>, now: Millis) {
        if self.flights.is_under_way(key.as_str()) {
            return;
        }
        let Some(leave) = self.upstream.admit(now, true) else { return };
        if let Some(ticket) = self.flights.begin(key.as_str()) {
            self.counts.refreshes.add_one();
            tokio::spawn(trace::carried(self.clone().fly(leave, key.to_owned(), ticket)));
        }
    }

    /// Nothing fresh is held: waits for a fetch. `fallback` is served when that fails.
    fn miss(
        self: &Arc<Self>,
        key: Key<'_>,
        fallback: Option<Arc<Entry>>,
        deadline: Option<Instant>,
    ) -> Answer {
        self.traffic.saw(key, false);
        let joined = match self.flights.join(key.as_str()) {
            Joined::Following(answer) => {
                self.counts.coalesced.add_one();
                answer
            }
            Joined::Leading(ticket, answer) => {
                if let Some(entry) = self.landed_meanwhile(key) {
                    let landed = Landed::Entry(entry);
                    ticket.land(&landed, || ());
                    return Answer::Now(self.settle(landed, fallback));
                }
                let Some(leave) = self.upstream.admit(self.now(), fallback.is_some()) else {
                    let failed = Landed::Failed(Status::OriginFailure, LEFT_ALONE);
                    ticket.land(&failed, || ());
                    return Answer::Now(self.settle(failed, fallback));
                };
                tokio::spawn(trace::carried(self.clone().fly(leave, key.to_owned(), ticket)));
                answer
            }
            Joined::Full => {
                let full =
                    Landed::Failed(Status::Overloaded, "too many requests wait for fetches at this proxy");
                return Answer::Now(self.settle(full, fallback));
            }
        };
        let proxy = self.clone();
        Answer::later(async move {
            // A fetch ends within its own deadline, so only an asker's may be earlier.
            let landing = async {
                match deadline {
                    None => joined.await.ok(),
                    Some(deadline) => timeout_at(deadline, joined).await.ok().and_then(Result::ok),
                }
            };
            let _step = trace::step("the fetch");
            let landed = landing.await;
            let landed =
                landed.unwrap_or(Landed::Failed(Status::OriginFailure, "the fetch did not end in time"));
            proxy.settle(landed, fallback)
        })
    }

    /// What a flight brought that landed between our look into the cache and now.
    fn landed_meanwhile(&self, key: Key<'_>) -> Option<Arc<Entry>> {
        self.cache.peek(key.as_str()).filter(|entry| entry.is_fresh(self.now()))
    }

    /// One fetch, from take-off to landing. It outlives whoever asked first.
    async fn fly(self: Arc<Self>, leave: Leave, key: KeyBuf, ticket: Ticket<Landed>) {
        let (fetched, asked) = self.upstream.fetch(leave, key.as_key(), || self.now()).await;
        self.flights.limit(self.upstream.in_time().min(MAX_FLIGHTS));
        let entry = |document, lifetime| {
            Arc::new(Entry::new(key.as_str(), document, asked, lifetime, self.now().since(asked)))
        };
        let landed = match fetched {
            Fetched::Document(document) => {
                Landed::Entry(entry(Some(document), self.freshness.lifetime(fastrand::f64())))
            }
            Fetched::Missing => Landed::Entry(entry(None, Some(self.freshness.negative_ttl))),
            Fetched::Failed(why) | Fetched::Unfit(why) => Landed::Failed(Status::OriginFailure, why),
            Fetched::Overloaded(why) => Landed::Failed(Status::Overloaded, why),
        };
        ticket.land(&landed, || match &landed {
            Landed::Entry(entry) => self.hold(entry),
            Landed::Failed(..) => {}
        });
    }

    /// Takes what was fetched into the cache.
    fn hold(&self, entry: &Arc<Entry>) {
        let is_kept = entry.document().is_some() || !self.freshness.negative_ttl.is_zero();
        if !is_kept || !self.cache.insert(entry.clone()) {
            // What was held under the key is no longer what the origin says.
            self.cache.remove(entry.key());
        }
    }

    /// The reply to a request that had to wait, or for which there was no room.
    fn settle(&self, landed: Landed, fallback: Option<Arc<Entry>>) -> Reply {
        match (landed, fallback) {
            (Landed::Entry(entry), _) => {
                self.counts.misses.add_one();
                self.reply(&entry, false, self.now())
            }
            (Landed::Failed(..), Some(entry)) if !self.freshness.is_gone(&entry, self.now()) => {
                self.counts.hits.add_one();
                entry.count_use();
                self.reply(&entry, true, self.now())
            }
            (Landed::Failed(status, why), _) => {
                self.counts.misses.add_one();
                self.failed(status, why)
            }
        }
    }

    fn reply(&self, entry: &Entry, cache_hit: bool, now: Millis) -> Reply {
        let stale = cache_hit && !entry.is_fresh(now);
        if stale {
            self.counts.stale_served.add_one();
        }
        let served = Served {
            cache_hit,
            node: self.node,
            age: entry.age(now).as_secs() as u32,
            stale,
            fresh_for: entry.fresh_until().map(|until| until.since(now).as_secs() as u32),
        };
        match entry.document() {
            Some(document) => Reply::document(document.clone()),
            None => Reply::null(Status::NotFound),
        }
        .with(served)
    }

    /// An error, which names the node as every reply of a proxy does.
    fn failed(&self, status: Status, why: impl Into<Cow<'static, str>>) -> Reply {
        let served = Served { cache_hit: false, node: self.node, age: 0, stale: false, fresh_for: None };
        Reply::text(status, why).with(served)
    }

    fn if_admin(&self, from: IpAddr, answer: impl FnOnce() -> Answer) -> Answer {
        match self.admins.has(from) {
            true => answer(),
            false => Answer::Now(self.failed(Status::Forbidden, FORBIDDEN)),
        }
    }
}

impl Handler for Proxy {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        match ask.request {
            Request::Get(key) => self.get(key, ask.deadline, self.millis(ask.now)),
            Request::Metrics => Answer::Now(Reply::json(&self.metrics())),
            Request::Explain(key) => Answer::Now(Reply::json(&self.explain(key))),
            Request::Purge { pattern, soft } => self.if_admin(ask.from, || self.purge(pattern, soft)),
            Request::Drain(_) | Request::Undrain(_) | Request::Hello => Answer::Now(
                self.failed(Status::WrongMethod, "a proxy answers GET, METRICS, EXPLAIN and PURGE"),
            ),
        }
    }

    fn error(&self, status: Status, text: String) -> Reply {
        self.failed(status, text)
    }
}
