//! The flags of an origin that tells of changes.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Listed, defaults, listed, units};
use crate::admin::{Admins, Network};

/// How an origin tells of changes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Changes")]
pub struct ChangesArgs {
    /// Whether proxies are told at once that a document has changed.
    #[arg(long, env = "DPROXY_CHANGES", default_value = "auto", value_name = "HOW")]
    pub changes: TellArg,
    /// How long a proxy may take it, without another word, that it knows of every change.
    #[arg(long, env = "DPROXY_LEASE", default_value = defaults::time(DEFAULT_LEASE), value_parser = lease, value_name = "TIME")]
    pub lease: Duration,
    /// Addresses and networks that may watch for changes [default: loopback and private networks].
    #[arg(long, env = "DPROXY_WATCH_FROM", value_delimiter = ',', num_args = 1..,
        value_parser = listed::item(str::parse::<Network>), value_name = "NETWORK")]
    pub watch_from: Vec<Listed<Network>>,
}

impl ChangesArgs {
    /// The addresses that may watch.
    pub fn watchers(&self) -> Admins {
        match listed::all(&self.watch_from) {
            networks if networks.is_empty() => Admins::private(),
            networks => Admins::new(networks),
        }
    }
}

/// Far longer than a round trip or a short pause of a proxy, and short enough to wait for.
const DEFAULT_LEASE: Duration = Duration::from_secs(2);

/// How an origin learns of changes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum TellArg {
    /// The files are watched, and CHANGED is heard
    Auto,
    /// CHANGED alone: every change of a document has to be reported with it
    Told,
    /// Nobody is told
    Off,
}

/// A lease that outlives a hiccup and ends while somebody waits for it.
fn lease(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_millis(200), Duration::from_secs(60));
    let lease = units::duration(text)?;
    match (least..=most).contains(&lease) {
        true => Ok(lease),
        false => Err("write a time from 200ms to 60s".to_owned()),
    }
}
