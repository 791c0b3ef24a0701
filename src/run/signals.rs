//! Signals that end no node: SIGHUP, which has files read anew where a node has some, SIGUSR1 and SIGUSR2.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::systemd;
use crate::cores;

/// The place of SIGHUP among the signals.
const HANGUP: usize = 0;

/// Takes the signals over, before anything is built: by themselves they end the process. They stay taken over.
pub(super) fn outlive() -> io::Result<()> {
    let runtime = cores::runtime()?;
    let _within = runtime.enter();
    all().map(drop)
}

fn all() -> io::Result<[Signal; 3]> {
    let of = |kind| signal(kind);
    Ok([of(SignalKind::hangup())?, of(SignalKind::user_defined1())?, of(SignalKind::user_defined2())?])
}

/// Says once of each signal that it changes nothing, without an end. `rereads` is whether SIGHUP does.
pub(super) async fn explain(rereads: bool) {
    let Ok([mut hangup, mut first, mut second]) = all() else { return };
    let mut said = [false; 3];
    loop {
        let (index, text) = tokio::select! {
            _ = hangup.recv() => (HANGUP, "SIGHUP: this node has no file to read anew; restart it to change a setting"),
            _ = first.recv() => (1, "SIGUSR1 changes nothing"),
            _ = second.recv() => (2, "SIGUSR2 changes nothing"),
        };
        if index == HANGUP {
            systemd::reloaded();
        }
        if !(std::mem::replace(&mut said[index], true) || index == HANGUP && rereads) {
            info!("{text}");
        }
    }
}
