//! Removes entries that can no longer be served, so that their memory is freed before a request for them comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Proxy;

/// The shortest time between two bursts.
const PAUSE: Duration = Duration::from_millis(5);

/// The time of a round where only the source says how long documents live.
const ROUND: Duration = Duration::from_secs(60);

impl Proxy {
    /// Removes expired entries for ever, some slices of the cache at a time, off the serving threads. Returns at once where no
    /// entry expires.
    pub async fn sweep(self: Arc<Self>) {
        let said = self.upstream.kind().says_times().then_some(ROUND);
        let Some(round) = self.freshness.sweep_round().or(said) else { return };
        let mut slice = 0;
        loop {
            // The number of slices grows with the cache.
            let slices = self.cache.slices().max(1);
            let pause = (round / slices as u32).max(PAUSE);
            sleep(pause).await;
            let due = (pause.as_secs_f64() / round.as_secs_f64() * slices as f64).ceil() as usize;
            let (proxy, vouched, now, at) = (self.clone(), self.push.vouched(), self.now(), slice % slices);
            let swept =
                self.burst(at, due, move |entry| !proxy.freshness.is_useless(entry, vouched, now)).await;
            // A sweep that is cut short by a panic leaves the rest to the next round.
            slice = swept.as_ref().map_or(at + 1, |burst| burst.next);
            self.counters.expirations.add(swept.map_or(0, |burst| burst.removed) as u64);
        }
    }
}
