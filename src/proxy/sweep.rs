//! Giving back the room of what nobody can be served any more, without being asked for it.

use std::sync::Arc;

use tokio::time::sleep;

use super::Proxy;

impl Proxy {
    /// Sweeps, one slice of the cache at a time, for ever. Does nothing where nothing expires.
    pub async fn sweep(self: Arc<Self>) {
        let Some(round) = self.freshness.sweep_round() else { return };
        let mut slice = 0;
        loop {
            // A cache that fills has more slices each time.
            let slices = self.cache.slices().max(1);
            sleep(round / slices as u32).await;
            self.sweep_slice(slice % slices);
            slice = (slice + 1) % slices;
        }
    }

    fn sweep_slice(&self, slice: usize) {
        let now = self.now();
        let expired = self.cache.retain(slice, &mut |entry| !self.freshness.is_gone(entry, now));
        self.counts.expirations.add(expired as u64);
    }
}
