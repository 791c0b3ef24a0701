//! The balancer's clock: whole milliseconds since it began, small enough for an atomic.

use tokio::time::Instant;

/// Milliseconds since the balancer began.
pub(super) type Millis = u64;

/// Where the milliseconds are counted from.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that shows 0 now.
    pub(super) fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// What it showed at a moment; 0 for moments before its start.
    pub(super) fn at(self, moment: Instant) -> Millis {
        moment.saturating_duration_since(self.began).as_millis() as Millis
    }

    pub(super) fn now(self) -> Millis {
        self.at(Instant::now())
    }
}
