//! The flags that make `dproxy client` watch METRICS.

use std::time::Duration;

use clap::Args;

use super::{ClientArgs, units};
use crate::watch::Watch;

/// How to watch.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// With --metrics: ask again and again, and show what changes; q leaves. Without a terminal, a JSON object a line.
    #[arg(long, requires = "metrics", conflicts_with_all = ["get", "keys", "purge", "purge_soft", "changed", "follow", "explain", "drain", "undrain"],
        help_heading = "Watching")]
    pub watch: bool,
    /// The time between two looks.
    #[arg(long, env = "DPROXY_EVERY", default_value = "1s", value_parser = units::positive_duration, value_name = "TIME",
        help_heading = "Watching")]
    pub every: Duration,
    /// Look so often, then leave.
    #[arg(long, requires = "watch", value_parser = units::count, value_name = "N", help_heading = "Watching")]
    pub count: Option<usize>,
}

impl ClientArgs {
    /// What to watch, if that is what the client is to do.
    ///
    /// # Errors
    /// In a sentence, when a file of TLS is not what it should be.
    pub fn watched(&self) -> Result<Option<Watch>, String> {
        let WatchArgs { watch, every, count } = self.watch;
        if !watch {
            return Ok(None);
        }
        Ok(Some(Watch { peer: self.peer(), tls: self.tls.load()?, timeout: self.timeout, every, count }))
    }
}
