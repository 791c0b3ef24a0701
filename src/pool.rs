//! Work that blocks runs on the runtime's pool, not on a thread that serves connections.
//!
//! In a simulation there is no pool, because threads would bring in the order and the clock of the real machine. There the
//! work takes a random time of simulated milliseconds and runs at a random moment within it, both drawn from the seed.

use tokio::task::JoinHandle;

/// Runs work that may block. It runs to its end even when the handle is dropped.
#[cfg(not(sim))]
pub(crate) fn run<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    tokio::task::spawn_blocking(work)
}

/// Runs work within a few simulated milliseconds.
#[cfg(sim)]
pub(crate) fn run<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    let some_time = || tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(..3)));
    tokio::spawn(async move {
        some_time().await;
        let result = work();
        some_time().await;
        result
    })
}
