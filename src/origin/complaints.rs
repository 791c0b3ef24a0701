//! What an origin says in its log about documents that it cannot serve: once for each, and again if it was sound in between.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tracing::{info, warn};

use crate::lock::lock;
use crate::wire::{Key, KeyBuf};

/// The number of keys that are remembered; documents that break beyond it are not named.
const KEYS: usize = 4096;

/// The faults that are in the log.
#[derive(Default)]
pub(super) struct Complaints {
    broken: Mutex<HashSet<KeyBuf>>,
    /// The length of `broken`, to be read without the lock: at most origins it is 0 at every read.
    count: AtomicUsize,
    is_away: AtomicBool,
}

impl Complaints {
    /// The document cannot be served.
    pub(super) fn broken(&self, key: Key<'_>, reason: &str) {
        let mut broken = lock(&self.broken);
        if broken.len() >= KEYS || !broken.insert(key.to_owned()) {
            return;
        }
        self.count.store(broken.len(), Ordering::Relaxed);
        warn!(%key, reason, "a document cannot be served");
        if broken.len() == KEYS {
            warn!("{KEYS} documents cannot be served; no other is named until one of them is sound");
        }
    }

    /// The document is sound, or gone.
    pub(super) fn sound(&self, key: Key<'_>) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut broken = lock(&self.broken);
            broken.remove(key.as_str());
            self.count.store(broken.len(), Ordering::Relaxed);
        }
    }

    /// The store cannot be read.
    pub(super) fn away(&self, reason: &str) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            warn!(reason, "no document can be served");
        }
    }

    /// The store can be read.
    pub(super) fn here(&self) {
        if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::Relaxed) {
            info!("documents can be served again");
        }
    }
}
