//! Settings that change while a proxy runs: how long documents live.

use std::sync::Arc;

use tracing::warn;

use super::{Freshness, Proxy};

impl Proxy {
    /// Has documents live by other rules from their next fetch on. What is held beneath a prefix whose rule is another is stale
    /// at once: it is served while it is fetched anew, and if that fails.
    pub fn live_by(self: &Arc<Self>, freshness: Freshness) {
        let new = Arc::new(freshness);
        let old = self.freshness.swap(new.clone());
        for prefix in new.prefixes.differing(&old.prefixes) {
            if !self.soften(prefix) {
                warn!(
                    "documents beneath {prefix} live by their old rule until they are fetched anew: too many purges wait"
                );
            }
        }
    }
}
