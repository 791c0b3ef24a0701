//! The data of METRICS, and of EXPLAIN for one key.

use std::borrow::Cow;

use serde::Serialize;

use super::Proxy;
use super::cache::{Entry, Millis};
use super::failures::ByKind;
use super::hot_spots::{HotKey, Prefix};
use super::push::PushMetrics;
use crate::certificates::CertificateMetrics;
use crate::lock::lock;
use crate::stats::{BusyCounter, Counter, ratio};
use crate::wire::Key;

/// The counters of a proxy.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) hits: BusyCounter,
    pub(super) misses: Counter,
    /// Requests that joined the fetch of another request.
    pub(super) coalesced: Counter,
    /// Fetches that renew an entry which was served meanwhile.
    pub(super) refreshes: Counter,
    pub(super) stale_served: Counter,
    /// Hits on an entry that says NOT_FOUND.
    pub(super) negative_hits: Counter,
    pub(super) expirations: Counter,
    /// Documents that were fetched and are too large for the cache.
    pub(super) not_kept: Counter,
}

/// The `data` of METRICS. Fields may be added, never removed or renamed.
#[derive(Serialize)]
pub(super) struct Metrics {
    /// The name of `--node-name`.
    node_name: Option<&'static str>,
    start_time: String,
    total_requests: u64,
    hit_rate: f64,
    hits: u64,
    misses: u64,
    origin_fetches: u64,
    origin_failures: u64,
    origin_failures_by: ByKind,
    /// Of the documents that it brought.
    origin_bytes: u64,
    origin_failing: bool,
    /// What documents are fetched from: `node` or `http`.
    source: &'static str,
    /// Fetches that asked whether a document had changed, and those of them to which it had not.
    revalidations: u64,
    not_modified: u64,
    fetches_in_flight: u64,
    entries: usize,
    bytes: usize,
    /// The bounds of these two; null is none.
    max_entries: Option<usize>,
    max_bytes: usize,
    evictions: u64,
    evictions_by: EvictionsBy,
    expirations: u64,
    not_kept: u64,
    coalesced: u64,
    refreshes: u64,
    stale_served: u64,
    negative_hits: u64,
    purged: u64,
    /// Purged prefixes whose memory is not freed yet.
    purges_waiting: usize,
    /// How changes at the origin are followed; null if they are not.
    push: Option<PushMetrics>,
    /// When those in use end; null without any.
    certificates: Option<CertificateMetrics>,
    prefixes: Vec<Prefix>,
    hot_keys: Vec<HotKey>,
}

/// Evictions by the bound that they kept.
#[derive(Serialize)]
struct EvictionsBy {
    entries: u64,
    bytes: u64,
}

/// The `data` of EXPLAIN: the entry of a key, its last failure, and that of the origin with any key.
#[derive(Serialize)]
pub(super) struct Explanation<'a> {
    key: &'a str,
    node: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    cached: bool,
    /// `fresh`, `stale`, or null without an entry.
    state: Option<&'static str>,
    /// Whether the entry says NOT_FOUND.
    negative: bool,
    age_seconds: Option<f64>,
    ttl_left_seconds: Option<f64>,
    /// By which rule it lives, or would: `header` (its source says so), `prefix …/*`, `flag`.
    rule: String,
    /// The whole time to live that it was given; null for ever, and without an entry.
    lifetime_seconds: Option<f64>,
    /// Whether it stays fresh for as long as the origin tells of no change of it.
    changes_told: bool,
    size: Option<usize>,
    hits: u32,
    fetch_under_way: bool,
    /// What it is fetched from: `node` or `http`.
    source: &'static str,
    /// Whom it is asked of: the address of a node, or the URL of an API.
    asked_of: String,
    /// Whether its source can be asked if it has changed.
    validator: bool,
    /// The tags by which it may be purged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    /// Why the document that was fetched last is not in the cache; null if it was kept.
    not_kept: Option<String>,
    /// Why the last fetch of this key failed; null once one has succeeded.
    last_error: Option<Cow<'static, str>>,
    last_error_age_seconds: Option<f64>,
    /// In how long a request may fetch it again; null unless the last fetch failed.
    tried_again_in_seconds: Option<f64>,
    origin_failing: bool,
    /// The last failure that was the origin's, with any key.
    origin_error: Option<Cow<'static, str>>,
    origin_error_age_seconds: Option<f64>,
}

impl Proxy {
    pub(super) fn metrics(&self) -> Metrics {
        let (hits, misses) = (self.counters.hits.get(), self.counters.misses.get());
        let usage = self.cache.usage();
        Metrics {
            node_name: self.name,
            start_time: self.start_time.rfc3339(),
            total_requests: hits + misses,
            hit_rate: ratio(hits, hits + misses),
            hits,
            misses,
            origin_fetches: self.upstream.fetches.get(),
            origin_failures: self.upstream.failures.total(),
            origin_failures_by: self.upstream.failures.by_kind(),
            origin_bytes: self.upstream.bytes.get(),
            origin_failing: self.upstream.health().0.is_some(),
            source: self.upstream.kind().as_str(),
            revalidations: self.upstream.revalidations.get(),
            not_modified: self.upstream.not_modified.get(),
            fetches_in_flight: self.upstream.in_flight.get(),
            entries: usage.entries,
            bytes: usage.bytes,
            max_entries: self.bounds.entries_bound(),
            max_bytes: self.bounds.bytes,
            evictions: usage.evictions,
            evictions_by: EvictionsBy {
                entries: usage.evictions.saturating_sub(usage.evicted_for_bytes),
                bytes: usage.evicted_for_bytes,
            },
            expirations: self.counters.expirations.get(),
            not_kept: self.counters.not_kept.get(),
            coalesced: self.counters.coalesced.get(),
            refreshes: self.counters.refreshes.get(),
            stale_served: self.counters.stale_served.get(),
            negative_hits: self.counters.negative_hits.get(),
            purged: self.purges.purged.get(),
            purges_waiting: self.purges.waiting(),
            push: self.push.metrics(self.now()),
            certificates: self.certificates.metrics(),
            prefixes: self.hot_spots.prefixes(),
            hot_keys: self.hot_spots.hot_keys(),
        }
    }

    fn why_not_kept(&self, key: Key<'_>, now: Millis) -> Option<String> {
        let forbidden = lock(&self.not_stored).why(key.as_str(), now);
        forbidden.map(str::to_owned).or_else(|| lock(&self.not_kept).why(key.as_str()))
    }

    /// Describes the entry of a key. Fetches nothing, counts nothing.
    pub(super) fn explain<'a>(&self, key: Key<'a>) -> Explanation<'a> {
        let (now, vouched) = (self.now(), self.push.vouched());
        let held = self.peek(key);
        let entry = held.as_ref();
        let failure = lock(&self.key_failures).of(key.as_str()).cloned();
        let (next_probe, origin_error) = self.upstream.health();
        // Without a document to serve meanwhile every request is a try, while the gate is open.
        let own = failure.as_ref().map(|failure| entry.map_or(now, |_| failure.pauses_until));
        let tried_again = own.max(next_probe).map(|at| at.since(now).as_secs_f64());
        let freshness = self.freshness.load();
        let policy = entry.and_then(Entry::policy);
        let rule = freshness.rule(key.as_str(), entry.is_none_or(Entry::has_document), policy.as_ref());
        Explanation {
            rule: rule.to_string(),
            lifetime_seconds: entry.and_then(Entry::lifetime).map(|lifetime| lifetime.as_secs_f64()),
            key: key.as_str(),
            node: self.node,
            name: self.name,
            cached: entry.is_some(),
            state: entry.map(|entry| if vouched.is_fresh(entry, now) { "fresh" } else { "stale" }),
            negative: entry.is_some_and(|entry| !entry.has_document()),
            age_seconds: entry.map(|entry| vouched.age(entry, now).as_secs_f64()),
            ttl_left_seconds: entry
                .and_then(|entry| vouched.fresh_until(entry))
                .map(|until| (until.0 as f64 - now.0 as f64) / 1000.0),
            changes_told: entry.is_some_and(|entry| vouched.holds(entry, now)),
            size: entry.filter(|entry| entry.has_document()).map(|entry| entry.size()),
            hits: entry.map_or(0, |entry| entry.uses()),
            fetch_under_way: self.flights.is_under_way(key.as_str()),
            source: self.upstream.kind().as_str(),
            asked_of: self.upstream.source().to_string(),
            validator: policy.as_ref().is_some_and(|policy| policy.validator.is_some()),
            tags: policy
                .iter()
                .flat_map(|policy| policy.tags.split_ascii_whitespace())
                .map(str::to_owned)
                .collect(),
            not_kept: self.why_not_kept(key, now),
            last_error_age_seconds: failure.as_ref().map(|failure| now.since(failure.at).as_secs_f64()),
            tried_again_in_seconds: tried_again,
            last_error: failure.map(|failure| failure.why),
            origin_failing: next_probe.is_some(),
            origin_error_age_seconds: origin_error.as_ref().map(|(at, _)| now.since(*at).as_secs_f64()),
            origin_error: origin_error.map(|(_, error)| error),
        }
    }
}
