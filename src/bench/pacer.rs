//! The clock of an open loop: wakes connections when requests are due, and gives up those that waited too long.
//!
//! A thread and not a task: timers of the runtime know milliseconds, within which a fast node answers hundreds of
//! requests; a thread sleeps to some 50 µs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::tally::Failure;
use super::worker::Worker;

/// Requests that are due closer together than this are handed out together.
const STEP: Duration = Duration::from_micros(20);
/// No sleep is longer: the end of the run is seen within this time.
const LONGEST: Duration = Duration::from_millis(20);

/// A clock that runs until it is dropped, or there is nothing more to ask.
pub(super) struct Pacer(Arc<AtomicBool>);

impl Drop for Pacer {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Pacer {
    pub(super) fn start(worker: Arc<Worker>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let pacer = Self(stop.clone());
        let thread = std::thread::Builder::new().name("pacer".to_owned());
        thread.spawn(move || run(&worker, &stop)).map(|_| pacer)
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread does nothing else than sleep")]
fn run(worker: &Worker, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let next = {
            let mut state = worker.state();
            // The backlog is bounded: what nobody had a place for in all its time is an error, and is not asked.
            if let Some(before) = now.checked_sub(worker.orders.timeout) {
                let given_up = state.feed.give_up(before);
                state.tally.failures(Failure::NotSent, given_up);
            }
            if state.feed.is_over(now) {
                return state.wake(u64::MAX);
            }
            let backlog = state.feed.backlog(now);
            state.wake(backlog);
            state.feed.next_wake(now)
        };
        let wait = next.saturating_duration_since(Instant::now());
        std::thread::sleep(wait.clamp(STEP, LONGEST));
    }
}
