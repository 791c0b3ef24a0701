//! SIGINT and SIGTERM: the first signal starts a graceful stop, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::systemd;

/// The exit code after the second signal: 128 + SIGINT, as shells report it.
const ENDED_AT_ONCE: i32 = 130;

/// Cancels `stop` at the first signal and ends the process at the second. Fails when signals cannot be handled.
pub(super) async fn watch(stop: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    };
    let signal = next().await;
    info!(signal, "stopping; what is under way is finished");
    systemd::stopping();
    stop.cancel();
    next().await;
    std::process::exit(ENDED_AT_ONCE);
}
