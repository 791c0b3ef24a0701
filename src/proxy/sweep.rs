//! Removes entries that can no longer be served, so that their memory is freed before a request for them comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Proxy;

/// The shortest time between two bursts.
const PAUSE: Duration = Duration::from_millis(5);

/// The time of a round where only the source says how long documents live, and between two looks at rules by which none expires.
const ROUND: Duration = Duration::from_secs(60);

impl Proxy {
    /// Removes expired entries for ever, some slices of the cache at a time, off the serving threads.
    pub async fn sweep(self: Arc<Self>) {
        let mut slice = 0;
        loop {
            let freshness = self.freshness.load_full();
            let Some(round) = freshness.sweep_round().or(self.upstream.kind().says_times().then_some(ROUND))
            else {
                // No entry expires, until settings are read anew.
                sleep(ROUND).await;
                continue;
            };
            // The number of slices grows with the cache.
            let slices = self.cache.slices().max(1);
            let pause = (round / slices as u32).max(PAUSE);
            sleep(pause).await;
            let due = (pause.as_secs_f64() / round.as_secs_f64() * slices as f64).ceil() as usize;
            let (vouched, now, at) = (self.push.vouched(), self.now(), slice % slices);
            let swept = self.burst(at, due, move |entry| !freshness.is_useless(entry, vouched, now)).await;
            // A sweep that is cut short by a panic leaves the rest to the next round.
            slice = swept.as_ref().map_or(at + 1, |burst| burst.next);
            self.counters.expirations.add(swept.map_or(0, |burst| burst.removed) as u64);
        }
    }
}
