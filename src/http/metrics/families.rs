//! Names, units and meanings of the numbers of METRICS in Prometheus.
//!
//! A number that METRICS lacks is left out, so one table serves proxies and balancers of every version.

use prometheus_client::registry::Unit;
use serde_json::Value;

/// A metric, and the place of its number in METRICS.
pub(super) struct Family {
    /// The members that lead to the number.
    path: &'static [&'static str],
    /// For a text: the value is 1 if the text equals this word, else 0.
    word: Option<&'static str>,
    /// Without unit and `_total`: the encoder appends them.
    pub(super) name: &'static str,
    pub(super) unit: Option<Unit>,
    pub(super) is_counter: bool,
    pub(super) help: &'static str,
}

impl Family {
    /// The number in METRICS; true is 1, false is 0. `None` where it is missing.
    pub(super) fn value(&self, metrics: &Value) -> Option<f64> {
        let value = self.path.iter().try_fold(metrics, |value, member| value.get(member))?;
        let flag = |is: bool| f64::from(u8::from(is));
        match self.word {
            Some(word) => value.as_str().map(|text| flag(text == word)),
            None => value.as_f64().or_else(|| value.as_bool().map(flag)),
        }
    }
}

const fn counter(path: &'static [&'static str], name: &'static str, help: &'static str) -> Family {
    Family { path, word: None, name, unit: None, is_counter: true, help }
}

/// A gauge that is 1 while a text of METRICS is this word.
const fn state(
    path: &'static [&'static str],
    word: &'static str,
    name: &'static str,
    help: &'static str,
) -> Family {
    Family { path, word: Some(word), name, unit: None, is_counter: false, help }
}

const fn gauge(path: &'static [&'static str], name: &'static str, help: &'static str) -> Family {
    Family { path, word: None, name, unit: None, is_counter: false, help }
}

/// A gauge of bytes.
const fn bytes(path: &'static [&'static str], name: &'static str, help: &'static str) -> Family {
    Family { path, word: None, name, unit: Some(Unit::Bytes), is_counter: false, help }
}

/// The metrics of the node itself.
pub(super) const ONE: &[Family] = &[
    counter(&["hits"], "dproxy_cache_hits", "GETs served from the cache"),
    counter(&["misses"], "dproxy_cache_misses", "GETs that had to wait for the origin, or failed"),
    counter(&["negative_hits"], "dproxy_cache_negative_hits", "Hits on a cached NOT_FOUND"),
    counter(&["stale_served"], "dproxy_cache_stale_served", "Hits on stale documents"),
    counter(&["coalesced"], "dproxy_cache_coalesced", "GETs that waited for the fetch of another GET"),
    counter(
        &["refreshes"],
        "dproxy_cache_refreshes",
        "Fetches in the background, after a reply from the cache",
    ),
    counter(&["evictions"], "dproxy_cache_evictions", "Entries removed to keep the limits of the cache"),
    counter(
        &["expirations"],
        "dproxy_cache_expirations",
        "Entries removed because they were too old to be served",
    ),
    counter(
        &["not_kept"],
        "dproxy_cache_not_kept",
        "Documents that were fetched and are too large for the cache",
    ),
    counter(&["purged"], "dproxy_cache_purged", "Entries that a purge removed or marked stale"),
    gauge(
        &["purges_waiting"],
        "dproxy_cache_purges_waiting",
        "Purged prefixes whose memory is not freed yet",
    ),
    gauge(&["entries"], "dproxy_cache_entries", "Entries held"),
    gauge(&["max_entries"], "dproxy_cache_max_entries", "The most entries"),
    bytes(&["max_bytes"], "dproxy_cache_max", "The most memory of the cache"),
    bytes(&["bytes"], "dproxy_cache", "Memory of keys, documents and their bookkeeping"),
    counter(&["origin_fetches"], "dproxy_origin_fetches", "Requests to the origin"),
    counter(&["origin_failures"], "dproxy_origin_failures", "Requests to the origin without an answer"),
    counter(
        &["revalidations"],
        "dproxy_origin_revalidations",
        "Requests to the origin that asked if a document had changed",
    ),
    counter(&["not_modified"], "dproxy_origin_not_modified", "Those of them to which it had not"),
    Family {
        path: &["origin_bytes"],
        word: None,
        name: "dproxy_origin",
        unit: Some(Unit::Bytes),
        is_counter: true,
        help: "Bytes of the documents that the origin brought",
    },
    gauge(&["origin_failing"], "dproxy_origin_failing", "1 while the origin fails and is only probed"),
    gauge(&["fetches_in_flight"], "dproxy_origin_fetches_in_flight", "Requests to the origin under way"),
    counter(&["retries"], "dproxy_balancer_retries", "Tries of a GET at another proxy"),
    counter(&["failures"], "dproxy_balancer_failures", "GETs that no proxy answered"),
    counter(&["hedges"], "dproxy_balancer_hedges", "GETs sent to a second proxy because the first was slow"),
    counter(
        &["trials"],
        "dproxy_balancer_trials",
        "Copies of GETs sent to proxies that had failed, to try them",
    ),
    gauge(
        &["changes", "watchers"],
        "dproxy_changes_watchers",
        "Nodes that are told of changes, and have a lease",
    ),
    gauge(&["changes", "lag"], "dproxy_changes_lag", "Changes that the slowest of them has not heard of"),
    counter(
        &["changes", "resets"],
        "dproxy_changes_resets",
        "Times at which any document might have changed",
    ),
    state(
        &["push", "state"],
        "live",
        "dproxy_push_live",
        "1 while the origin tells of every change, so that documents are fresh until they change",
    ),
    state(
        &["push", "state"],
        "lapsed",
        "dproxy_push_lapsed",
        "1 while the origin is not heard of changes, so that times to live count",
    ),
    counter(
        &["push", "lapses"],
        "dproxy_push_lapses",
        "Leases that ended before the next word of the origin",
    ),
    counter(&["push", "resets"], "dproxy_push_resets", "Times at which all that is held might have changed"),
    counter(&["push", "changes"], "dproxy_push_changes", "Names of changed documents that the origin told"),
    counter(&["access_log", "written"], "dproxy_access_log_lines", "Lines written to the access log"),
    counter(
        &["access_log", "dropped"],
        "dproxy_access_log_dropped",
        "Requests that are not in the access log: the disk was too slow, or failed",
    ),
];

/// The metrics of each proxy, as its balancer sees it.
pub(super) const NODE: &[Family] = &[
    gauge(&["healthy"], "dproxy_node_healthy", "1 while the proxy is healthy, 0 while it is down"),
    state(&["state"], "draining", "dproxy_node_draining", "1 while the proxy is drained"),
    gauge(&["in_flight"], "dproxy_node_requests_in_flight", "GETs under way at the proxy from here"),
    counter(&["requests"], "dproxy_node_requests", "GETs sent to the proxy, retries included"),
    counter(&["retries"], "dproxy_node_retries", "GETs sent to the proxy because another one failed"),
    counter(&["hedges"], "dproxy_node_hedges", "GETs sent to the proxy because another one was slow"),
    gauge(&["owed_purges"], "dproxy_node_owed_purges", "Purges that the proxy gets before its next request"),
    counter(
        &["refused_purges"],
        "dproxy_node_refused_purges",
        "Purges that the proxy did not take from here",
    ),
    counter(&["errors"], "dproxy_node_errors", "GETs that failed at the proxy"),
    gauge(&["failures_in_a_row"], "dproxy_node_failures_in_a_row", "Failures since the proxy last answered"),
    counter(&["metrics", "hits"], "dproxy_node_cache_hits", "GETs that the proxy served from its cache"),
    counter(
        &["metrics", "stale_served"],
        "dproxy_node_cache_stale_served",
        "Those of them with a stale document",
    ),
    gauge(&["metrics", "entries"], "dproxy_node_cache_entries", "Entries that the proxy holds"),
    gauge(&["metrics", "max_entries"], "dproxy_node_cache_max_entries", "The most entries of the proxy"),
    bytes(&["metrics", "bytes"], "dproxy_node_cache", "Memory of the proxy's cache"),
    bytes(&["metrics", "max_bytes"], "dproxy_node_cache_max", "The most memory of the proxy's cache"),
    counter(&["metrics", "evictions"], "dproxy_node_cache_evictions", "Entries that the proxy evicted"),
    counter(
        &["metrics", "evictions_by", "entries"],
        "dproxy_node_cache_evictions_for_entries",
        "Entries that the proxy evicted because there were too many",
    ),
    counter(
        &["metrics", "evictions_by", "bytes"],
        "dproxy_node_cache_evictions_for_bytes",
        "Entries that the proxy evicted because they took too many bytes",
    ),
    counter(
        &["metrics", "origin_failures_by", "unfit"],
        "dproxy_node_origin_failures_unfit",
        "Requests of the proxy to the origin whose answer was no document",
    ),
    counter(
        &["metrics", "misses"],
        "dproxy_node_cache_misses",
        "GETs for which the proxy had to ask the origin",
    ),
    counter(
        &["metrics", "origin_fetches"],
        "dproxy_node_origin_fetches",
        "Requests of the proxy to the origin",
    ),
    state(
        &["metrics", "push", "state"],
        "lapsed",
        "dproxy_node_push_lapsed",
        "1 while the proxy does not hear of changes from the origin that told it of them",
    ),
    gauge(&["metrics", "origin_failing"], "dproxy_node_origin_failing", "1 while the origin fails the proxy"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_its_own_and_follows_the_conventions() {
        let mut names = HashSet::new();
        for family in ONE.iter().chain(NODE) {
            assert!(names.insert(family.name), "{}", family.name);
            assert!(!family.help.is_empty() && !family.help.ends_with('.'), "{}", family.name);
            assert!(
                family.name.starts_with("dproxy_") && !family.name.ends_with("_total"),
                "{}",
                family.name
            );
        }
    }

    #[test]
    fn reads_numbers_and_flags() {
        let samples = serde_json::json!({ "a": { "b": 2.5 }, "flag": true, "text": "x" });
        assert_eq!(gauge(&["a", "b"], "", "").value(&samples), Some(2.5));
        assert_eq!(gauge(&["flag"], "", "").value(&samples), Some(1.0));
        assert_eq!(gauge(&["text"], "", "").value(&samples), None);
        assert_eq!(gauge(&["a", "c"], "", "").value(&samples), None);
        let word = Family { word: Some("x"), ..gauge(&["text"], "", "") };
        assert_eq!(word.value(&samples), Some(1.0));
    }
}
