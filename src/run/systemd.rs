//! Notifications to systemd. Without systemd, all of it does nothing.
//!
//! A unit with `Type=notify` gets READY, STOPPING and, with `WatchdogSec=`, a report that every serving thread is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Reports that all nodes listen.
pub(super) fn ready() {
    notify(NotifyState::Ready);
}

/// Reports that files are read anew, and that the node serves as before: a unit with `Type=notify-reload` waits for both. A
/// file that is broken leaves the one before in force, and is in the log.
pub(super) fn reloaded() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify_all(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "systemd is not told of the reload"),
    }
    ready();
}

/// Reports that the stop has begun.
pub(super) fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    notify_all(&[state]);
}

fn notify_all(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd does not hear this node");
    }
}

/// Reports to systemd that all serving threads are alive.
pub(super) struct Watchdog {
    every: Duration,
    beats: Vec<Arc<AtomicBool>>,
}

impl Watchdog {
    /// A watchdog, if the unit has `WatchdogSec=`.
    pub(super) fn asked_for() -> Option<Self> {
        let within = sd_notify::watchdog_enabled()?;
        // systemd recommends two reports per interval; a thread beats twice per report.
        Some(Self { every: within / 4, beats: Vec::new() })
    }

    /// A task for a serving thread. It marks the thread as alive at each beat, and ends at the stop.
    pub(super) fn beat(&mut self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let beat = Arc::new(AtomicBool::new(true));
        self.beats.push(beat.clone());
        let every = self.every;
        async move {
            let mut tick = interval(every);
            let beating = async {
                loop {
                    tick.tick().await;
                    beat.store(true, Ordering::Relaxed);
                }
            };
            stop.run_until_cancelled_owned(beating).await;
        }
    }

    /// Reports as long as all threads have beaten since the last report. After the stop it reports regardless: the drain has
    /// a deadline of its own.
    pub(super) async fn watch(self, stop: CancellationToken) {
        let mut tick = interval(self.every * 2);
        loop {
            tick.tick().await;
            let missed = self.beats.iter().filter(|beat| !beat.swap(false, Ordering::Relaxed)).count();
            if missed == 0 || stop.is_cancelled() {
                notify(NotifyState::Watchdog);
            } else {
                warn!(missed, "serving threads do not answer; systemd is not told that this node is alive");
            }
        }
    }
}
