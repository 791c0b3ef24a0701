//! Removes entries that can no longer be served, so that their memory is freed before a request for them comes.

use std::sync::Arc;

use tokio::time::sleep;

use super::Proxy;
use crate::pool;

impl Proxy {
    /// Removes expired entries for ever, one slice of the cache at a time, off the serving threads. Returns at once where no
    /// entry expires.
    pub async fn sweep(self: Arc<Self>) {
        let Some(round) = self.freshness.sweep_round() else { return };
        let mut slice = 0;
        loop {
            // The number of slices grows with the cache.
            let slices = self.cache.slices().max(1);
            sleep(round / slices as u32).await;
            let (proxy, at) = (self.clone(), slice % slices);
            // A sweep that is cut short by a panic leaves the rest to the next round.
            let _ = pool::run(move || proxy.sweep_slice(at)).await;
            slice = (at + 1) % slices;
        }
    }

    fn sweep_slice(&self, slice: usize) {
        let now = self.now();
        let expired = self.cache.retain(slice, &mut |entry| !self.freshness.is_gone(entry, now));
        self.counters.expirations.add(expired as u64);
    }
}
