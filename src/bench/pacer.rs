//! The clock of an open loop: wakes connections when requests are due, and gives up requests that were not sent in time.
//!
//! A thread and not a task: the runtime's timers are exact to 1 ms, and a fast node answers hundreds of requests in that
//! time. A thread's sleep is exact to about 50 µs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::measurements::Failed;
use super::worker::Worker;

/// The shortest sleep: requests that are due closer together wake their connections together.
const STEP: Duration = Duration::from_micros(20);
/// The longest sleep: the end of the run is noticed within this time.
const LONGEST: Duration = Duration::from_millis(20);

/// After the end of the run, requests that were due before it are sent for this time: then the rate was too high.
const AFTER_END: Duration = Duration::from_millis(250);

/// Runs until it is dropped or the run is over.
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

#[expect(clippy::disallowed_methods, reason = "a thread of its own may block")]
fn run(worker: &Worker, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let next = {
            let mut state = worker.state();
            // Bounds the backlog: a request that no connection could send within the timeout counts as failed.
            let end = state.measurements.times.end.filter(|&end| now >= end + AFTER_END);
            if let Some(end) = end {
                let behind = state.schedule.behind(end);
                state.measurements.behind = state.measurements.behind.max(behind);
            }
            if let Some(before) = end.or_else(|| now.checked_sub(worker.config.timeout)) {
                let given_up = state.schedule.give_up(before);
                state.measurements.add_failures(Failed::NotSent, given_up);
            }
            if state.schedule.is_over(now) {
                return state.wake(u64::MAX);
            }
            let backlog = state.schedule.backlog(now);
            state.wake(backlog);
            state.schedule.next_wake(now)
        };
        let wait = next.saturating_duration_since(Instant::now());
        std::thread::sleep(wait.clamp(STEP, LONGEST));
    }
}
