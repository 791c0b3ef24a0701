//! What the balancer counts over all nodes.

use crate::stats::{BusyCounter, Counter};

/// Numbers that only grow. Those of a single node are in [`super::node::NodeCounts`].
#[derive(Default)]
pub(super) struct Totals {
    /// GETs of clients.
    pub(super) requests: BusyCounter,
    /// Further attempts after a failed one.
    pub(super) retries: Counter,
    /// Further attempts beside a slow one.
    pub(super) hedges: Counter,
    /// Copies of requests that were sent to probing nodes.
    pub(super) trials: Counter,
    /// GETs that no node answered.
    pub(super) failures: Counter,
}
