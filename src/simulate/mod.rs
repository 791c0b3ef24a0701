//! The misses of a cache for a trace: a list of keys, or an access log. Each request is a get, and an insert after a miss.
//!
//! The cache is the proxy's own code, so its misses are the proxy's; of several proxies the balancer's own code chooses one for
//! each request. Without `--ttl` nothing expires; with it an entry past its time is a miss, without jitter and without stale
//! replies. Pure but for reading the trace; [`command`] is the shell around it.
//!
//! ```text
//! lines ─▶ formats ─▶ trace: requests that count ─▶ simulation, one a size and type, all in one pass
//!                            sizes, fleet: which proxy ─┘
//! ```

pub mod command;

mod capacity;
mod enough;
mod error;
mod fleet;
mod formats;
mod lines;
mod plan;
#[cfg(test)]
mod scratch;
mod simulation;
mod sizes;
mod trace;

pub use capacity::{BadCapacity, Capacity};
pub use enough::Enough;
pub use error::TraceError;
pub use fleet::Fleet;
pub use formats::{LeftOut, Reason, Request, Size, TraceFormat};
pub use plan::Plan;
pub use simulation::{Log, OfFleet, Replay, Simulation};
pub use trace::{Needs, Survey, Trace, survey};

use crate::proxy::cache::{Bounds, CacheType, Millis};

/// Requests between two reports of progress.
const PROGRESS_EVERY: u64 = 8192;

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
    let bounds = Bounds { entries: capacity, ..simulation::UNBOUNDED };
    let mut simulation = Simulation::new(cache_type, bounds, shards, None, 1);
    let mut requests = 0;
    for key in keys {
        simulation.request(0, key?.as_ref(), Millis(0), 1);
        requests += 1;
        if requests % PROGRESS_EVERY == 0 {
            progress(requests);
        }
    }
    progress(requests);
    Ok(simulation.replay(trace, None, None))
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
