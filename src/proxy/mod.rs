//! The proxy: a read-through cache in front of an origin.
//!
//! ```text
//!   GET ──▶ cache ──fresh──────────────────────────▶ reply
//!             ├────stale, may be served───────────▶ reply, and a fetch in the background
//!             └────no entry ──▶ flight ──▶ upstream ──▶ cache, reply to all waiting requests
//! ```

mod absences;
pub mod cache;
mod clock;
mod failures;
mod fetched;
mod flight;
#[cfg(test)]
mod flight_tests;
mod freshness;
mod gate;
#[cfg(test)]
mod gate_tests;
mod hot_spots;
mod key_failures;
mod landing;
mod metrics;
mod miss;
mod not_kept;
mod not_stored;
mod pace;
mod prefixes;
mod purge;
mod push;
mod replies;
mod reread;
mod sketch;
mod sweep;
mod sync;
mod told;
mod turns;
#[cfg(test)]
mod turns_tests;
mod upstream;
mod walk;

use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::absences::Absences;
use self::cache::{Bounds, Cache, CacheType, Entry, Millis};
use self::clock::Clock;
use self::flight::Flights;
pub use self::freshness::Freshness;
use self::freshness::Verdict;
use self::hot_spots::HotSpots;
use self::key_failures::KeyFailures;
use self::landing::Landed;
use self::metrics::Counters;
use self::not_kept::NotKept;
use self::not_stored::NotStored;
pub use self::prefixes::{PrefixRule, Prefixes};
use self::purge::Purges;
use self::push::Push;
pub use self::push::{PushTtl, Vouched};
use self::replies::Asked;
pub use self::upstream::{FetchLimits, LEFT_ALONE};
use self::upstream::{Permit, Upstream};
use crate::admin::{Admins, FORBIDDEN};
use crate::certificates::Certificates;
use crate::handler::{Answer, Ask, Handler};
use crate::lock::lock;
use crate::net::link::Peer;
use crate::net::{Link, LinkLimits};
use crate::source::{LinkSource, Source};
use crate::stats::StartTime;
use crate::trace;
use crate::wire::query::Parameters;
use crate::wire::request::METRICS_ALONE;
use crate::wire::{Key, KeyBuf, Pattern, Reply, Request, Served, Status, Tell, Terms};

/// The settings of a proxy.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The port of this proxy, for the member `node` of its replies.
    pub node: u16,
    /// The name of the node in replies of sessions, METRICS and EXPLAIN, if it is to have one.
    pub name: Option<String>,
    /// The address of the origin.
    pub origin: Peer,
    /// Limits and deadlines of the connections to the origin.
    pub link: LinkLimits,
    /// The eviction policy.
    pub cache_type: CacheType,
    /// The capacity of the cache.
    pub bounds: Bounds,
    /// How long documents are fresh, and served when stale.
    pub freshness: Freshness,
    /// How long documents are fresh whose changes the origin tells.
    pub push_ttl: PushTtl,
    /// Limits and deadline of fetches.
    pub fetch: FetchLimits,
    /// The most requests that wait for one fetch.
    pub max_waiters: usize,
    /// The addresses that may purge.
    pub admins: Admins,
    /// The certificates that METRICS tells of.
    pub certificates: Certificates,
    /// The parameters that documents have.
    pub parameters: Parameters,
}

impl ProxyConfig {
    /// A proxy on port `node` in front of `origin`, with the defaults of the command line.
    pub fn new(node: u16, origin: Peer) -> Self {
        let fetch = FetchLimits::default();
        Self {
            node,
            name: None,
            origin,
            link: LinkLimits { patience: fetch.deadline, ..LinkLimits::default() },
            cache_type: CacheType::default(),
            bounds: Bounds::default(),
            freshness: Freshness::default(),
            push_ttl: PushTtl::default(),
            fetch,
            max_waiters: MAX_WAITERS,
            admins: Admins::default(),
            certificates: Certificates::default(),
            parameters: Parameters::default(),
        }
    }
}

/// The default limit of requests that wait for one fetch.
pub(crate) const MAX_WAITERS: usize = 10_000;
/// The most keys that are fetched, or wait for their fetch, at the same time.
const MAX_FLIGHTS: usize = 16 * 1024;

/// The role: a cache, and single-flight fetches from the origin.
pub struct Proxy {
    node: u16,
    name: Option<&'static str>,
    cache: Box<dyn Cache>,
    bounds: Bounds,
    /// Whether the cache has evicted, and that was said.
    was_full: AtomicBool,
    flights: Arc<Flights<Landed>>,
    key_failures: Mutex<KeyFailures>,
    purges: Purges,
    not_kept: Mutex<NotKept>,
    not_stored: Mutex<NotStored>,
    absences: Mutex<Absences>,
    upstream: Upstream,
    /// Replaced as a whole when settings are read anew.
    freshness: ArcSwap<Freshness>,
    parameters: Parameters,
    push: Push,
    counters: Counters,
    hot_spots: HotSpots,
    start_time: StartTime,
    clock: Clock,
    admins: Admins,
    certificates: Certificates,
}

impl Proxy {
    /// A proxy with an empty cache. It fetches a document when a request for it has come, and while the origin fails one that
    /// was answered before, to find out whether it is well.
    pub fn new(config: ProxyConfig) -> Arc<Self> {
        let link = Link::new(config.origin.clone(), config.link.clone());
        let source = LinkSource::new(link, config.fetch.max_document);
        Self::over(config, Box::new(source))
    }

    /// A proxy with an empty cache over any source: the `origin` and the `link` of the configuration are of no concern to it.
    pub fn over(config: ProxyConfig, source: Box<dyn Source>) -> Arc<Self> {
        Arc::new(Self {
            node: config.node,
            // It lives as long as the process, and each reply has it.
            name: config.name.map(|name| &*name.leak()),
            cache: cache::build(config.cache_type, config.bounds),
            bounds: config.bounds,
            was_full: AtomicBool::new(false),
            flights: Flights::new(MAX_FLIGHTS, config.max_waiters),
            key_failures: Mutex::new(KeyFailures::new(config.fetch.origin_retry)),
            purges: Purges::new(),
            not_kept: Mutex::new(NotKept::new(config.bounds.largest())),
            not_stored: Mutex::new(NotStored::new()),
            absences: Mutex::new(Absences::within(config.bounds)),
            upstream: Upstream::new(source, config.fetch),
            freshness: ArcSwap::from_pointee(config.freshness),
            parameters: config.parameters,
            push: Push::new(config.push_ttl),
            counters: Counters::default(),
            hot_spots: HotSpots::new(),
            start_time: StartTime::now(),
            clock: Clock::new(),
            admins: config.admins,
            certificates: config.certificates,
        })
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }

    fn get(self: &Arc<Self>, key: Key<'_>, ask: &Ask<'_>) -> Answer {
        let now = self.clock.at(ask.now);
        let asked = Asked { deadline: ask.deadline, tell: ask.tell };
        // Before the entry: what it vouches for was purged by then of all that it does not.
        let vouched = self.push.vouched();
        let held = self.cache.get(key.as_str());
        let Some(entry) = held.filter(|entry| self.purges.shows(entry)) else {
            return self.miss(key, None, &asked);
        };
        let verdict = Freshness::while_fresh(&entry, vouched, now, fastrand::f64)
            .unwrap_or_else(|| self.freshness.load().past(&entry, vouched, now));
        match verdict {
            Verdict::Fresh => {}
            // A later document was fetched, and had no room.
            Verdict::StaleRefresh | Verdict::IfError if self.is_replaced(key, now) => {
                return self.miss(key, Some(entry), &asked);
            }
            Verdict::FreshRefresh | Verdict::StaleRefresh => self.refresh(key, now),
            // Its fetch failed a moment ago.
            Verdict::IfError if self.pauses(key, now) => {}
            Verdict::IfError => return self.miss(key, Some(entry), &asked),
            Verdict::Gone => return self.miss(key, None, &asked),
        }
        self.was_hit(key, &entry);
        if !entry.has_document() {
            self.counters.negative_hits.add_one();
        }
        let stale = !matches!(verdict, Verdict::Fresh | Verdict::FreshRefresh);
        Answer::Now(self.hit(entry, vouched, stale, &asked, now))
    }

    /// Counts a reply from the cache: a hit, fresh or stale, at once or after a fetch that failed.
    fn was_hit(&self, key: Key<'_>, entry: &Entry) {
        self.counters.hits.add_one();
        self.hot_spots.count(key, true);
        entry.count_use();
    }

    /// Counts any other reply: what was fetched for it, or an error.
    fn missed(&self, key: Key<'_>) {
        self.counters.misses.add_one();
        self.hot_spots.count(key, false);
    }

    /// Whether the last fetch of a key failed so lately that what is held is served without another.
    fn pauses(&self, key: Key<'_>, now: Millis) -> bool {
        lock(&self.key_failures).pauses(key.as_str(), now)
    }

    /// Whether a later document was served than the one that is held, and can be fetched again.
    fn is_replaced(&self, key: Key<'_>, now: Millis) -> bool {
        lock(&self.not_kept).has(key.as_str()) && !self.pauses(key, now)
    }

    /// Starts a fetch in the background, unless one is under way or failed a moment ago, or the gate to a failing origin is
    /// closed.
    fn refresh(self: &Arc<Self>, key: Key<'_>, now: Millis) {
        if self.pauses(key, now) || self.flights.is_under_way(key.as_str()) {
            return;
        }
        let Some(permit) = self.admit(key, now, true) else { return };
        if let Some(ticket) = self.flights.begin(key) {
            self.counters.refreshes.add_one();
            tokio::spawn(trace::carried(self.clone().fly(permit, ticket)));
        }
    }

    /// The permission to fetch a key; a probe that the gate wants before is begun, unless its key is being fetched.
    fn admit(self: &Arc<Self>, key: Key<'_>, now: Millis, has_fallback: bool) -> Option<Permit> {
        let admitted = self.upstream.admit(key, now, has_fallback);
        let Some((probe, known)) = admitted.probe else { return admitted.permit };
        let Some(ticket) = self.flights.begin(known.as_key()) else {
            return self.upstream.admit_instead(probe, key, has_fallback);
        };
        tokio::spawn(trace::carried(self.clone().fly(probe, ticket)));
        admitted.permit
    }

    /// The entry of a key, fresh or not, unless it was purged. Does not count as a use.
    fn peek(&self, key: Key<'_>) -> Option<Entry> {
        self.cache.peek(key.as_str()).filter(|entry| self.purges.shows(entry))
    }

    /// The reply to a request that missed the cache, by the outcome of its fetch or the reason why there was none. Counts
    /// it as a hit if the `fallback` is served, else as a miss.
    fn settle(
        &self,
        key: Key<'_>,
        landed: Landed,
        fallback: Option<Entry>,
        collapsed: bool,
        asked: &Asked<'_>,
    ) -> Reply {
        let was_held = matches!(landed, Landed::Held(..));
        let vouched = self.push.vouched();
        match (landed, fallback) {
            (Landed::Entry(entry, stale) | Landed::Held(entry, stale), fallback) => {
                self.missed(key);
                // What was fetched for this request has no age but that which it brought.
                let fetch_time = if was_held { Duration::ZERO } else { entry.fetch_time() };
                let age = vouched.age(&entry, self.now()).saturating_sub(fetch_time);
                let terms =
                    Terms { was_stale: fallback.is_some(), collapsed, ..self.freshness.load().terms(&entry) };
                self.landed_reply(entry, age, Served { stale, terms, ..Served::default() }, asked)
            }
            (Landed::Failed(_), Some(entry)) if !self.is_gone(&entry, vouched) => {
                self.was_hit(key, &entry);
                let with_times = Asked { tell: Tell { times: true, ..asked.tell }, ..*asked };
                // It was not fresh when it was asked for, and whatever was told since may not have found it: it need not be in
                // the cache any more.
                self.hit(entry, vouched, true, &with_times, self.now())
            }
            (Landed::Failed(failure), _) => {
                self.missed(key);
                let of_document = failure.fault.is_of_document();
                self.failed(failure.status(), failure.why).blaming_document(of_document)
            }
        }
    }

    /// Whether an entry whose fetch failed is too old to be served. What is known to have changed may still be vouched for:
    /// its time runs from the first failure on.
    fn is_gone(&self, entry: &Entry, vouched: Vouched) -> bool {
        let now = self.now();
        let fails_for_long = || {
            let since = lock(&self.key_failures).of(entry.key()).map(|failure| failure.since);
            let most = self.freshness.load().serves_if_error(entry);
            since.is_some_and(|since| now.since(since) >= most)
        };
        self.freshness.load().is_gone(entry, vouched, now) || entry.is_outdated() && fails_for_long()
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
            Request::Get(key) => self.get(key, &ask),
            Request::Metrics => Answer::Now(Reply::json(&self.metrics())),
            Request::MetricsOf(_) => Answer::Now(self.failed(Status::BadRequest, METRICS_ALONE)),
            Request::Explain(key) => Answer::Now(Reply::json(&self.explain(key))),
            Request::Purge { pattern, soft } => self.if_admin(ask.from, || self.purge(pattern, soft)),
            Request::Drain { .. } | Request::Undrain(_) | Request::Hello | Request::Watch(_) => Answer::Now(
                self.failed(Status::WrongMethod, "a proxy answers GET, METRICS, EXPLAIN, PURGE and CHANGED"),
            ),
            Request::Changed(changed) => self.if_admin(ask.from, || self.told(changed, ask.deadline)),
        }
    }

    fn error(&self, status: Status, text: String) -> Reply {
        self.failed(status, text)
    }
}
