//! What is asked for most: the hottest keys, and how well the cache does by the first segment of the path.
//!
//! Always on, so it must cost next to nothing: once there is much to count, only a sample is counted, each for many. On
//! sessions with 16 hits in flight that is half a hundredth of the processor's time, beside a build that counts nothing.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use serde::Serialize;

use super::sketch::Sketch;
use crate::stats::Counter;
use crate::wire::Key;

/// Keys and prefixes that are told.
const HOT_KEYS: usize = 20;
const PREFIXES: usize = 64;
/// Counters behind them: some more, so that those told are sure to be the heaviest.
const COUNTERS: usize = 256;
/// Up to so many requests every one is counted; from then on one of so many.
const COUNT_ALL: u64 = 8192;
const SAMPLE: u64 = 32;

/// The counts.
pub(super) struct Traffic {
    seen: Counter,
    heavy: Mutex<Heavies>,
}

struct Heavies {
    keys: Sketch,
    prefixes: Sketch,
}

/// A key of METRICS' `hot_keys`.
#[derive(Serialize)]
pub(super) struct HotKey {
    key: String,
    /// Its part of all requests lately, 0 to 1.
    share: f64,
}

/// One of METRICS' `prefixes`.
#[derive(Serialize)]
pub(super) struct Prefix {
    prefix: String,
    /// Its part of all requests lately, 0 to 1.
    share: f64,
    hit_rate: f64,
}

impl Traffic {
    pub(super) fn new() -> Self {
        let heavy = Heavies { keys: Sketch::new(COUNTERS), prefixes: Sketch::new(COUNTERS) };
        Self { seen: Counter::default(), heavy: Mutex::new(heavy) }
    }

    /// Counts a request.
    pub(super) fn saw(&self, key: Key<'_>, hit: bool) {
        let mut weight = 1;
        if self.seen.get() < COUNT_ALL {
            self.seen.add_one();
        } else if fastrand::u64(..).is_multiple_of(SAMPLE) {
            weight = SAMPLE;
        } else {
            return;
        }
        // Two threads that count at the same moment are no reason for either to wait: one sample less.
        let mut heavy = match self.heavy.try_lock() {
            Ok(heavy) => heavy,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        heavy.keys.add(key.as_str(), weight, hit);
        heavy.prefixes.add(key.resource(), weight, hit);
    }

    fn heavy(&self) -> MutexGuard<'_, Heavies> {
        self.heavy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hottest keys, the hottest first.
    pub(super) fn hot_keys(&self) -> Vec<HotKey> {
        let (heaviest, total) = self.heavy().keys.heaviest(HOT_KEYS);
        let share = |weight| crate::stats::ratio(weight, total);
        heaviest
            .iter()
            .map(|heavy| HotKey { key: heavy.name.to_string(), share: share(heavy.weight) })
            .collect()
    }

    /// The busiest first segments, the busiest first.
    pub(super) fn prefixes(&self) -> Vec<Prefix> {
        let (heaviest, total) = self.heavy().prefixes.heaviest(PREFIXES);
        let told = |heavy: &super::sketch::Heavy| Prefix {
            prefix: heavy.name.to_string(),
            share: crate::stats::ratio(heavy.weight, total),
            hit_rate: heavy.hit_rate(),
        };
        heaviest.iter().map(told).collect()
    }
}
