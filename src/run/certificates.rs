//! Certificates, keys and CAs are read anew when their files change, and at SIGHUP. Bad ones leave those before in force.
//!
//! Files are looked at by name: a ConfigMap, and what renews certificates, swaps links to directories.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tracing::{info, warn};

use super::process::Process;
use crate::args::{PeerArgs, TlsArgs};
use crate::net::tls::{PeerTls, ServerTls};
use crate::pool;

/// The time between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

impl Process {
    /// TLS of a listener, if it is to be spoken.
    pub(super) fn server_tls(&mut self, args: &TlsArgs) -> Result<Option<ServerTls>> {
        let tls = args.load().map_err(|why| anyhow!(why))?;
        if let Some(tls) = tls.clone() {
            self.follow(tls.files(), move || tls.reload());
        }
        Ok(tls)
    }

    /// TLS of links, if it is to be spoken.
    pub(super) fn peer_tls(&mut self, args: &PeerArgs) -> Result<Option<PeerTls>> {
        let tls = args.load().map_err(|why| anyhow!(why))?;
        if let Some(tls) = tls.clone() {
            self.follow(tls.files(), move || tls.reload());
        }
        Ok(tls)
    }

    fn follow(
        &mut self,
        files: Vec<PathBuf>,
        reload: impl Fn() -> Result<(), String> + Clone + Send + 'static,
    ) {
        self.rereads = true;
        self.in_background(follow(files, reload));
    }
}

/// What changes with a file: device, inode, length, and the time of its last write.
type Look = Option<(u64, u64, u64, i64, i64)>;

fn look(files: &[PathBuf]) -> Vec<Look> {
    let look = |file: &PathBuf| {
        fs::metadata(file).ok().map(|it| (it.dev(), it.ino(), it.len(), it.mtime(), it.mtime_nsec()))
    };
    files.iter().map(look).collect()
}

/// Has files read anew when they have changed, for ever.
async fn follow(files: Vec<PathBuf>, reload: impl Fn() -> Result<(), String> + Clone + Send + 'static) {
    let signal = signal(SignalKind::hangup());
    let Ok(mut hangup) = signal.inspect_err(|error| warn!(%error, "certificates are not read anew")) else {
        return;
    };
    let mut before = look(&files);
    loop {
        let is_asked_for = tokio::select! {
            () = sleep(LOOK) => false,
            _ = hangup.recv() => true,
        };
        let looked_at = files.clone();
        let Ok(now) = pool::run(move || look(&looked_at)).await else { return };
        if !is_asked_for && now == before {
            continue;
        }
        before = now;
        let reload = reload.clone();
        match pool::run(reload).await {
            Ok(Ok(())) => info!("the files of TLS were read anew"),
            Ok(Err(why)) => warn!("the certificates stay as they were: {why}"),
            Err(_) => return,
        }
    }
}
