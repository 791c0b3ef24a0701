//! What systemd wants to hear, and what it hands over. Elsewhere nothing here does anything.
//!
//! A unit with `Type=notify` is told READY, STOPPING and, with `WatchdogSec=`, that every serving thread is alive. A
//! unit with a socket hands its listener over: it outlives the process, so a restart refuses nobody.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Everything listens.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// The stop has begun.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd does not hear this node");
    }
}

/// The listener that was handed over, if one was.
pub(super) fn listener() -> io::Result<Option<TcpListener>> {
    listenfd::ListenFd::from_env().take_tcp_listener(0)
}

/// Watches over the serving threads for systemd.
pub(super) struct Watchdog {
    every: Duration,
    beats: Vec<Arc<AtomicBool>>,
}

impl Watchdog {
    /// One that is asked for, or none.
    pub(super) fn asked_for() -> Option<Self> {
        let within = sd_notify::watchdog_enabled()?;
        // Each thread beats twice as often as is looked, and that is twice as often as systemd wants to know.
        Some(Self { every: within / 4, beats: Vec::new() })
    }

    /// Runs on a serving thread until the stop: as long as it goes on, the thread is alive.
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

    /// Tells systemd as long as all threads have beaten since the last time. After the stop it tells on its own: the
    /// drain has its deadline.
    pub(super) async fn watch(self, stop: CancellationToken) {
        let mut tick = interval(self.every * 2);
        loop {
            tick.tick().await;
            let missed = self.beats.iter().filter(|beat| !beat.swap(false, Ordering::Relaxed)).count();
            if missed == 0 || stop.is_cancelled() {
                tell(NotifyState::Watchdog);
            } else {
                warn!(missed, "serving threads do not answer; systemd is not told that this node is alive");
            }
        }
    }
}
