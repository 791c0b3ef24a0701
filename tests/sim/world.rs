//! What is true outside of the cluster: the documents and their versions, what is broken since when, and what was seen.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dproxy::origin::store::{Store, StoreError};
use dproxy::wire::{Document, Key};

/// All documents are named by these numbers.
pub(crate) const KEYS: u64 = 12;
/// How long after a fault a balancer may need to use what works again.
const RECOVERY: Duration = Duration::from_secs(9);

/// The truth.
pub(crate) struct World {
    is_loud: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// When each version of a document became the current one.
    versions: HashMap<String, Vec<Duration>>,
    /// When something was last broken, by its name: a host, or a pair of hosts.
    broken: HashMap<String, Duration>,
    /// The least version that may be seen through a balancer, since a purge that it had answered.
    floors: HashMap<(usize, String), u64>,
    asked: u64,
    ok: u64,
}

/// The name of a link.
pub(crate) fn pair(a: &str, b: &str) -> String {
    format!("{a}-{b}")
}

/// The text of a version: a function of both, so that no mixture of two can pass.
pub(crate) fn text(key: &str, version: u64) -> String {
    let check = key.bytes().fold(version ^ 0x9e37_79b9, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
    let filler = "x".repeat((check % 700) as usize);
    format!(r#"{{"key":"{key}","version":{version},"check":{check},"filler":"{filler}"}}"#)
}

impl World {
    pub(crate) fn new(is_loud: bool) -> Self {
        Self { is_loud, inner: Mutex::default() }
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.is_loud {
            let at = if turmoil::in_simulation() { turmoil::sim_elapsed() } else { None };
            println!("{:>9.3} {}", at.unwrap_or_default().as_secs_f64(), what());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn version(&self, key: &str) -> u64 {
        self.lock().versions.get(key).map_or(0, |versions| versions.len() as u64)
    }

    pub(crate) fn change(&self, key: &str, now: Duration) {
        self.lock().versions.entry(key.to_owned()).or_default().push(now);
    }

    /// Says that these are broken now.
    pub(crate) fn note_broken(&self, names: &[String], now: Duration) {
        let mut inner = self.lock();
        for name in names {
            inner.broken.insert(name.clone(), now);
        }
    }

    /// Whether it was whole from well before `start` on.
    pub(crate) fn was_whole(&self, name: &str, start: Duration) -> bool {
        self.lock().broken.get(name).is_none_or(|at| *at + RECOVERY < start)
    }

    /// A purge was answered by a balancer: nothing older than this is seen through it from now on.
    pub(crate) fn purged(&self, balancer: usize, key: &str, version: u64) {
        let mut inner = self.lock();
        let floor = inner.floors.entry((balancer, key.to_owned())).or_default();
        *floor = version.max(*floor);
    }

    /// A balancer that is started anew knows of no purge.
    pub(crate) fn forget_purges(&self, balancer: usize) {
        self.lock().floors.retain(|(of, _), _| *of != balancer);
    }

    pub(crate) fn floor(&self, balancer: usize, key: &str) -> u64 {
        self.lock().floors.get(&(balancer, key.to_owned())).copied().unwrap_or_default()
    }

    /// When a version was replaced by the next one.
    pub(crate) fn replaced(&self, key: &str, version: u64) -> Option<Duration> {
        self.lock().versions.get(key).and_then(|versions| versions.get(version as usize)).copied()
    }

    pub(crate) fn note_answer(&self, is_ok: bool) {
        let mut inner = self.lock();
        inner.asked += 1;
        inner.ok += u64::from(is_ok);
    }

    /// The schedule must have proved something.
    pub(crate) fn check_totals(&self) {
        let inner = self.lock();
        self.say(|| format!("{} of {} answers were documents", inner.ok, inner.asked));
        assert!(inner.asked > 200, "clients asked {}", inner.asked);
        assert!(inner.ok * 2 > inner.asked, "{} of {} answers were documents", inner.ok, inner.asked);
    }
}

/// The origin's view of it.
pub(crate) struct Documents(pub(crate) std::sync::Arc<World>);

impl Store for Documents {
    fn read(&self, key: Key<'_>) -> Result<Document, StoreError> {
        let text = text(key.as_str(), self.0.version(key.as_str()));
        Document::parse(text.as_bytes(), 65_536).map_err(|error| StoreError::Unfit(error.to_string()))
    }
}
