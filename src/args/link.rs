//! The flags of the links between nodes.

use std::time::Duration;

use clap::Args;

use super::{PeerArgs, defaults, units};
use crate::net::LinkLimits;

/// The heading of these flags in the help.
pub(super) const HEADING: &str = "Links to other nodes";

/// How a node asks its upstreams.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub struct LinkArgs {
    /// A connection must be made within this time; it ends earlier, after three quarters of the fetch or try deadline.
    #[arg(long, env = "DPROXY_CONNECT_DEADLINE", default_value = defaults::time(LinkLimits::default().connect_deadline), value_parser = units::positive_duration,
        value_name = "TIME")]
    pub connect_deadline: Duration,
    /// How often the names of other nodes are resolved. A connection to an address that a name has lost gets no further request.
    #[arg(long, hide = true, env = "DPROXY_RESOLVE_INTERVAL", default_value = defaults::time(LinkLimits::default().resolve_interval), value_parser = units::positive_duration,
        value_name = "TIME")]
    pub resolve_interval: Duration,
    /// TLS to them.
    #[command(flatten)]
    pub peer: PeerArgs,
}

impl LinkArgs {
    /// The limits of a link without TLS: one session per thread, and documents of at most `max_document` bytes.
    pub fn limits(&self, threads: usize, max_document: usize) -> LinkLimits {
        let limits = LinkLimits::default().with_max_document(max_document);
        let (connect_deadline, resolve_interval) = (self.connect_deadline, self.resolve_interval);
        LinkLimits { sessions: threads, connect_deadline, resolve_interval, ..limits }
    }
}
