//! SIGINT and SIGTERM: the first stops gently, the second at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::systemd;

/// The exit code after a second signal, as a shell reports a process that SIGINT ended.
const ENDED_AT_ONCE: i32 = 130;

/// Cancels `stop` at the first signal, and ends the process at the second. Runs until then.
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
