//! Going through the cache off the serving threads, for purges and sweeps: a short burst at a time, and a rest after it that
//! leaves most of a core to requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Proxy;
use super::cache::Entry;
use crate::pool;

/// No slice begins later in a burst than this: the next one waits until others had the processor.
const BURST: Duration = Duration::from_millis(1);
/// The shortest and the longest rest after a burst. In between it is as long as the burst.
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(2));

/// A burst that has ended.
pub(super) struct Burst {
    /// The slice after its last one.
    pub(super) next: usize,
    /// Entries that it removed.
    pub(super) removed: usize,
    took: Duration,
}

impl Burst {
    /// The pause before the next one.
    pub(super) fn rest(&self) -> Duration {
        self.took.clamp(REST.0, REST.1)
    }
}

impl Proxy {
    /// Removes the entries for which `keep` is false from at most `most` slices of the cache. `None` if `keep` panics.
    pub(super) async fn burst(
        self: &Arc<Self>,
        first: usize,
        most: usize,
        keep: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Option<Burst> {
        let proxy = self.clone();
        let go_through = move || {
            let (began, mut next, mut removed) = (Instant::now(), first, 0);
            let end = first.saturating_add(most).min(proxy.cache.slices());
            while next < end {
                removed += proxy.cache.retain(next, &mut |entry| keep(entry));
                next += 1;
                // In a simulation no time passes here, and others come in between.
                if began.elapsed() >= BURST || cfg!(sim) {
                    break;
                }
                // Whoever waits for a lock of the cache on this core gets it now.
                std::thread::yield_now();
            }
            Burst { next, removed, took: began.elapsed() }
        };
        pool::run(go_through).await.ok()
    }
}
