//! The misses of a cache for a trace: a file of one key per line. Each key is a get, and an insert after a miss.
//!
//! The cache is the proxy's own code, so its misses are the proxy's, except that nothing expires. Pure but for reading the
//! trace; [`command`] is the shell around it.

pub mod command;

mod capacity;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use capacity::{BadCapacity, Capacity};
pub use trace::{Survey, TraceError, TraceKeys, survey};

use crate::proxy::cache::{Bounds, CacheType, Entry, Layout, Millis, build_as};
use crate::wire::Document;

/// Keys between two reports of progress.
const PROGRESS_EVERY: u64 = 8192;
/// Seed of the hash that maps keys to shards: every run gives the same result.
const SEED: u64 = 0;

/// The result of one replay.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Replay {
    /// The name of the trace.
    pub trace: String,
    /// `ttl`, `lru` or `s3fifo`.
    #[serde(serialize_with = "name")]
    pub cache_type: CacheType,
    /// In entries.
    pub capacity: usize,
    /// In how many parts the cache evicted: [`Layout::shards`].
    pub shards: usize,
    /// Number of keys in the trace.
    pub requests: u64,
    /// Requests whose key was not in the cache.
    pub misses: u64,
    /// `misses` over `requests`; 0 without requests.
    pub miss_ratio: f64,
}

fn name<S: serde::Serializer>(cache_type: &CacheType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cache_type.name())
}

/// Replays keys against a new cache of `capacity` entries, in `shards` shards, or as many as a proxy would choose.
///
/// `trace` is the name for the result. `progress` is called now and then with the number of requests so far. The only errors
/// are those of `keys`.
pub fn run<K: AsRef<str>, E>(
    trace: &str,
    keys: impl IntoIterator<Item = Result<K, E>>,
    cache_type: CacheType,
    capacity: usize,
    shards: Option<usize>,
    mut progress: impl FnMut(u64),
) -> Result<Replay, E> {
    let layout = Layout::of(Bounds { entries: capacity, bytes: usize::MAX }).with_seed(SEED);
    let layout = match shards {
        Some(shards) => layout.with_shards(shards),
        None => layout,
    };
    let cache = build_as(cache_type, &layout);
    let document = Document::parse(b"0", 1).ok();
    let (mut requests, mut misses) = (0, 0);
    for key in keys {
        let key = key?;
        let key = key.as_ref();
        requests += 1;
        if cache.get(key).is_none() {
            misses += 1;
            cache.insert(Arc::new(Entry::new(key, document.clone(), Millis(0), None, Duration::ZERO)));
        }
        if requests % PROGRESS_EVERY == 0 {
            progress(requests);
        }
    }
    progress(requests);
    let miss_ratio = if requests == 0 { 0.0 } else { misses as f64 / requests as f64 };
    let shards = layout.shards(cache_type);
    Ok(Replay { trace: trace.to_owned(), cache_type, capacity, shards, requests, misses, miss_ratio })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn reports_progress_and_result() {
        let keys = (0..20_000).map(|key| Ok::<_, Infallible>((key % 10).to_string()));
        let mut reported = Vec::new();
        let Ok(replay) = run("a", keys, CacheType::Lru, 100, Some(4), |done| reported.push(done));
        assert_eq!(reported, [8192, 16_384, 20_000]);
        let json = serde_json::to_string(&replay).expect("plain values");
        assert_eq!(
            json,
            r#"{"trace":"a","cache_type":"lru","capacity":100,"shards":4,"requests":20000,"misses":10,"miss_ratio":0.0005}"#
        );
    }
}
