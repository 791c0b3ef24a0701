//! A bound on the lines of the log that strangers, or a shortage, can cause.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// The least time between two lines of the log about one thing.
const PAUSE: Duration = Duration::from_secs(1);

/// The time of the last line about one thing, for all threads of the process.
pub(super) struct LogPause(Mutex<Option<Instant>>);

impl LogPause {
    /// Before the first line.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether a second has passed since this was last true.
    pub(super) fn is_over(&self) -> bool {
        let (mut last, now) = (lock(&self.0), Instant::now());
        let is_over = last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        if is_over {
            *last = Some(now);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second() {
        let pause = LogPause::new();
        assert!(pause.is_over() && !pause.is_over());
        tokio::time::advance(PAUSE).await;
        assert!(pause.is_over() && !pause.is_over());
    }
}
