//! What a cache would make of a trace: a file of one key a line, each asked for and taken in on a miss.
//!
//! It is the very cache of the proxy that runs here, so its answer is the proxy's, but for time: nothing expires. Pure but
//! for reading the trace; [`command`] is the shell around it.

pub mod command;

mod capacity;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use capacity::{BadCapacity, Capacity};
pub use trace::{Lines, Survey, Trace, TraceError, survey};

use crate::proxy::cache::{Bounds, CacheType, Entry, Layout, Millis, build_as};
use crate::wire::Document;

/// After so many keys the progress is told.
const TELL_EVERY: u64 = 8192;
/// Of the hash that finds the shards: a run finds the same each time.
const SEED: u64 = 0;

/// What one run found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    /// The file.
    pub trace: String,
    /// `ttl`, `lru` or `s3fifo`.
    #[serde(serialize_with = "name")]
    pub cache_type: CacheType,
    /// In entries.
    pub capacity: usize,
    /// Of how many shards the cache was.
    pub shards: usize,
    /// Keys asked for.
    pub requests: u64,
    /// Keys that were not held when they were asked for.
    pub misses: u64,
    /// Of requests.
    pub miss_ratio: f64,
}

fn name<S: serde::Serializer>(cache_type: &CacheType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cache_type.name())
}

/// Asks a new cache of `capacity` entries for each key, in `shards` shards or as many as a proxy would choose.
///
/// `trace` is what the outcome says of where the keys are from; `progress` hears now and then how many were asked for.
pub fn run<K: AsRef<str>, E>(
    trace: &str,
    keys: impl IntoIterator<Item = Result<K, E>>,
    cache_type: CacheType,
    capacity: usize,
    shards: Option<usize>,
    mut progress: impl FnMut(u64),
) -> Result<Outcome, E> {
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
        if requests % TELL_EVERY == 0 {
            progress(requests);
        }
    }
    progress(requests);
    let miss_ratio = if requests == 0 { 0.0 } else { misses as f64 / requests as f64 };
    let shards = layout.shards(cache_type);
    Ok(Outcome { trace: trace.to_owned(), cache_type, capacity, shards, requests, misses, miss_ratio })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn misses(keys: &[u32], cache_type: CacheType, capacity: usize) -> u64 {
        let keys = keys.iter().map(|key| Ok::<_, Infallible>(key.to_string()));
        let Ok(outcome) = run("test", keys, cache_type, capacity, None, |_| ());
        outcome.misses
    }

    #[test]
    fn types_differ_in_what_they_give_up() {
        let keys = [1, 2, 3, 1, 4, 1, 2];
        assert_eq!(misses(&keys, CacheType::Lru, 3), 5, "2 was not used for longest when 4 came");
        assert_eq!(misses(&keys, CacheType::Ttl, 3), 6, "1 came first, then 2");
        assert_eq!(misses(&keys, CacheType::Lru, 4), 4);
    }

    #[test]
    fn lru_misses_where_more_keys_than_fit_were_asked_for_since() {
        let mut random = fastrand::Rng::with_seed(6);
        let keys: Vec<u32> = (0..20_000).map(|_| (500.0 * random.f64().powi(2)) as u32).collect();
        let mut order: Vec<u32> = Vec::new();
        let mut expected = 0;
        for key in &keys {
            match order.iter().rev().position(|held| held == key) {
                Some(depth) => {
                    expected += u64::from(depth >= 100);
                    order.remove(order.len() - 1 - depth);
                }
                None => expected += 1,
            }
            order.push(*key);
        }
        assert_eq!(misses(&keys, CacheType::Lru, 100), expected);
    }

    #[test]
    fn s3fifo_beats_a_loop_that_lru_never_hits() {
        let keys: Vec<u32> = (0..50).flat_map(|_| 0..1000).collect();
        assert_eq!(misses(&keys, CacheType::Lru, 800), 50_000);
        assert!(misses(&keys, CacheType::S3fifo, 800) < 25_000);
    }

    #[test]
    fn tells_progress_and_outcome() {
        let keys = (0..20_000).map(|key| Ok::<_, Infallible>((key % 10).to_string()));
        let mut told = Vec::new();
        let Ok(outcome) = run("a", keys, CacheType::Lru, 100, Some(4), |done| told.push(done));
        assert_eq!(told, [8192, 16_384, 20_000]);
        let json = serde_json::to_string(&outcome).expect("plain values");
        assert_eq!(
            json,
            r#"{"trace":"a","cache_type":"lru","capacity":100,"shards":4,"requests":20000,"misses":10,"miss_ratio":0.0005}"#
        );
    }
}
