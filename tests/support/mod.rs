//! Shared by all tests: nodes, clients, sessions, fake upstreams, temporary directories, and waiting for a state.

pub(crate) mod api;
pub(crate) mod ask;
pub(crate) mod authority;
pub(crate) mod browser;
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod command;
pub(crate) mod fake;
pub(crate) mod front;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod moody;
pub(crate) mod node;
pub(crate) mod over;
pub(crate) mod session;
pub(crate) mod temp;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use ask::{Address, ask, exchange, get, status_of};
pub(crate) use fake::Fake;
pub(crate) use node::{Node, Start};
pub(crate) use session::Session;
pub(crate) use temp::{Data, TempDir};

/// The deadline of every wait in a test: far above any delay of a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `state` is `Some`. Panics after [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = state() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        pause(Duration::from_millis(5));
    }
}

/// Polls until the condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// The step of a poll, the pace of a slow peer, the window of a measurement: never a wait for a state.
#[expect(clippy::disallowed_methods, reason = "the thread of a test or of a fake blocks no other")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The duration of the work, and its result.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let result = work();
    (begun.elapsed(), result)
}

/// A lock for tests that load the machine, so that no two of them run at once.
pub(crate) fn heavy() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the work once per item, all at the same time, and passes a panic on.
pub(crate) fn at_once<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread of the test panicked")).collect()
    })
}

/// Stops threads of a test, also when the test fails.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
