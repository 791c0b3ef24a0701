//! What a file says, read again when it may have changed: tokens and keys are replaced while a node runs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::lock::lock;
use crate::pool;

/// How old what was read may be, when a request is sent.
pub(super) const READ_EVERY: Duration = Duration::from_secs(1);

/// A value as it was read last.
pub(super) struct Reread<T> {
    read: Arc<dyn Fn() -> Result<T, String> + Send + Sync>,
    last: Mutex<(T, Instant)>,
    is_fixed: bool,
}

impl<T: Clone + Send + 'static> Reread<T> {
    /// Reads for the first time. `read` may block; it is not called again if the value `is_fixed`.
    ///
    /// # Errors
    /// Those of `read`, in a sentence.
    pub(super) fn open(
        is_fixed: bool,
        read: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let last = Mutex::new((read()?, Instant::now()));
        Ok(Self { read: Arc::new(read), last, is_fixed })
    }

    /// The value. What may have changed is read again; while that fails the last good value stays.
    pub(super) async fn value(&self) -> T {
        let (value, at) = lock(&self.last).clone();
        if self.is_fixed || at.elapsed() < READ_EVERY {
            return value;
        }
        // Others that come meanwhile take the last value.
        lock(&self.last).1 = Instant::now();
        let read = self.read.clone();
        match pool::run(move || read()).await {
            Ok(Ok(value)) => {
                lock(&self.last).0 = value.clone();
                value
            }
            Ok(Err(error)) => {
                warn!("{error}; what it held before is used on");
                value
            }
            Err(_panic) => value,
        }
    }
}
