//! Keys without a file, and since when: a file that is replaced by delete and write is gone for a moment, and a reader
//! waits for it, but not at each request for a key that does not exist.

use std::hash::BuildHasher;
use std::sync::Mutex;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

use crate::lock::lock;
use crate::wire::Key;

/// The number of keys that are remembered. A key that another one with the same place displaces costs one more wait.
const PLACES: usize = 4096;
/// A key that was asked for while it had no file counts as known for this time.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A hash per place, and when its key was first found without a file.
pub(super) struct Absent {
    places: Mutex<Vec<Option<(u64, Instant)>>>,
    hasher: RandomState,
}

impl Absent {
    pub(super) fn new() -> Self {
        Self { places: Mutex::new(vec![None; PLACES]), hasher: RandomState::default() }
    }

    /// Since when the key is known to have no file; `now` when it was not known.
    pub(super) fn since(&self, key: Key<'_>, now: Instant) -> Instant {
        let hash = self.hasher.hash_one(key.as_str());
        let mut places = lock(&self.places);
        match &mut places[hash as usize % PLACES] {
            Some((known, since)) if *known == hash && now.duration_since(*since) < REMEMBERED => *since,
            place => {
                *place = Some((hash, now));
                now
            }
        }
    }

    /// The key has a file.
    pub(super) fn forget(&self, key: Key<'_>) {
        let hash = self.hasher.hash_one(key.as_str());
        lock(&self.places)[hash as usize % PLACES].take_if(|(known, _)| *known == hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once_a_minute_and_after_it_had_a_file() {
        let (absent, began) = (Absent::new(), Instant::now());
        let key = Key::parse("article/1").unwrap();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(absent.since(key, at(0)), at(0));
        assert_eq!(absent.since(key, at(59)), at(0));
        assert_eq!(absent.since(key, at(60)), at(60));
        absent.forget(key);
        assert_eq!(absent.since(key, at(61)), at(61));
    }
}
