//! The events of a run in order: a digest that is equal for equal runs, and a log when a seed is replayed.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The events of a run.
pub(crate) struct Record {
    is_loud: bool,
    digest: Mutex<u64>,
}

impl Record {
    pub(crate) fn new(is_loud: bool) -> Self {
        Self { is_loud, digest: Mutex::new(0xcbf2_9ce4_8422_2325) }
    }

    /// An event that the seed alone decides.
    pub(crate) fn note(&self, at: Duration, event: impl Display) {
        let event = format!("{:>10.6} {event}", at.as_secs_f64());
        let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        let fnv = |digest: u64, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        *digest = event.bytes().chain([b'\n']).fold(*digest, fnv);
        self.say(|| event);
    }

    /// A note for readers that may differ between runs, such as a date.
    pub(crate) fn say<T: Display>(&self, what: impl FnOnce() -> T) {
        if self.is_loud {
            println!("{}", what());
        }
    }

    /// The whole log.
    pub(crate) fn digest(&self) -> u64 {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
