//! The clock of ages: milliseconds that go on while the machine sleeps.
//!
//! tokio's clock, and so every wait, stands still while the machine is suspended; a document grows old meanwhile. The time
//! that the machine has slept is looked up now and then and added. Neither follows the wall clock, which may be set.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::cache::Millis;

/// The start of the clock, in milliseconds: a document that is as old as a reply can say was asked for after 0.
const START: u64 = u32::MAX as u64 * 1000;
/// How often the time that the machine has slept is looked up, in milliseconds: after a sleep, ages may lag for this long.
const LOOKS_EVERY: u64 = 100;

/// Tells how long the machine has slept, from any fixed moment on.
type Slept = Box<dyn Fn() -> Duration + Send + Sync>;

/// The clock of one proxy.
pub(super) struct Clock {
    began: Instant,
    slept: Slept,
    /// What `slept` said at the start, and how much more it has said since, in milliseconds.
    slept_before: u64,
    slept_since: AtomicU64,
    /// When to look next, in milliseconds since `began`.
    next_look: AtomicU64,
}

impl Clock {
    /// The clock of this machine.
    pub(super) fn new() -> Self {
        Self::with(Box::new(slept))
    }

    /// A clock on a machine that sleeps as `slept` says.
    pub(super) fn with(slept: Slept) -> Self {
        // The most that it says counts: see `slept` below.
        let slept_before = (0..3).map(|_| millis(slept())).max().unwrap_or_default();
        Self {
            began: Instant::now(),
            slept,
            slept_before,
            slept_since: AtomicU64::new(0),
            next_look: AtomicU64::new(LOOKS_EVERY),
        }
    }

    /// The time now.
    pub(super) fn now(&self) -> Millis {
        self.at(Instant::now())
    }

    /// The time at a moment of this waking period, mostly without a look at any clock.
    pub(super) fn at(&self, moment: Instant) -> Millis {
        let awake = millis(moment.saturating_duration_since(self.began));
        if awake >= self.next_look.load(Relaxed) {
            // Two threads that look at once agree.
            self.next_look.store(awake + LOOKS_EVERY, Relaxed);
            self.slept_since.fetch_max(millis((self.slept)()).saturating_sub(self.slept_before), Relaxed);
        }
        Millis(START + awake + self.slept_since.load(Relaxed))
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// How long this machine has slept since it was started: CLOCK_BOOTTIME goes on meanwhile, CLOCK_MONOTONIC does not. Never
/// too much: time that passes between the two readings makes it less.
#[cfg(all(target_os = "linux", not(sim)))]
fn slept() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    let clocks = (clock_gettime(ClockId::CLOCK_BOOTTIME), clock_gettime(ClockId::CLOCK_MONOTONIC));
    match clocks {
        (Ok(all), Ok(awake)) => Duration::from(all).saturating_sub(Duration::from(awake)),
        _ => Duration::ZERO,
    }
}

/// Elsewhere the clocks differ from system to system, and in a simulation no machine sleeps.
#[cfg(not(all(target_os = "linux", not(sim))))]
fn slept() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::cache::Entry;
    use super::super::{Proxy, ProxyConfig};
    use super::*;
    use crate::wire::{Document, Key};

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn goes_on_while_the_machine_sleeps() {
        let slept = Arc::new(AtomicU64::new(7_000));
        let source = slept.clone();
        let clock = Clock::with(Box::new(move || source.load(Relaxed) as u32 * MS));
        let start = clock.now();
        tokio::time::advance(99 * MS).await;
        assert_eq!(clock.now().since(start), 99 * MS);
        slept.fetch_add(3_600_000, Relaxed);
        tokio::time::advance(MS).await;
        assert_eq!(clock.now().since(start), 3_600_100 * MS, "an hour of sleep counts");
        slept.fetch_sub(5, Relaxed);
        tokio::time::advance(100 * MS).await;
        assert_eq!(clock.now().since(start), 3_600_200 * MS, "and never goes back");
    }

    #[tokio::test(start_paused = true)]
    async fn is_at_any_moment_what_it_was() {
        let clock = Clock::new();
        let earlier = Instant::now();
        tokio::time::advance(50 * MS).await;
        assert_eq!(clock.now().since(clock.at(earlier)), 50 * MS);
        assert!(clock.at(earlier).0 >= START, "what is a century old fits before it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_that_was_fresh_before_a_suspend_is_stale_after_it() {
        let config = ProxyConfig::new(8001, "127.0.0.1:9".parse().unwrap());
        let mut proxy = Proxy::new(config);
        let slept = Arc::new(AtomicU64::new(0));
        let source = slept.clone();
        Arc::get_mut(&mut proxy).unwrap().clock =
            Clock::with(Box::new(move || source.load(Relaxed) as u32 * MS));
        let document = Some(Document::parse(b"1", 9).unwrap());
        let life = Some(Duration::from_secs(30));
        let entry = Entry::new("a/1", document, proxy.now(), life, Duration::ZERO);
        proxy.cache.insert(entry);
        let state =
            || serde_json::to_value(proxy.explain(Key::parse("a/1").unwrap())).unwrap()["state"].take();

        tokio::time::advance(1000 * MS).await;
        assert_eq!(state(), "fresh");
        slept.store(60_000, Relaxed);
        tokio::time::advance(200 * MS).await;
        assert_eq!(state(), "stale", "it was asleep for a minute");
    }

    #[test]
    fn this_machine_tells_the_same_twice() {
        let (first, second) = (slept(), slept());
        assert!(first.abs_diff(second) < Duration::from_secs(5), "{first:?} and {second:?}");
    }
}
