//! Work that would hold up a thread that serves: done on the runtime's pool instead.
//!
//! In a simulation there is no pool: threads of their own would bring the order and the time of the real machine into it.
//! There such work takes simulated time and is done at some moment within it, both as the seed has it.

use tokio::task::JoinHandle;

/// Has work done that may block. It is done even if nobody waits for it any more.
#[cfg(not(sim))]
pub fn run<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    tokio::task::spawn_blocking(work)
}

/// Has work done that takes up to some milliseconds.
#[cfg(sim)]
pub fn run<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    let some_time = || tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(..3)));
    tokio::spawn(async move {
        some_time().await;
        let result = work();
        some_time().await;
        result
    })
}
