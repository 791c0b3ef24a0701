//! The flags of `dproxy client`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};

use super::{PeerArgs, units};
use crate::client::{ClientConfig, Requests};
use crate::net::link::Peer;

// What excludes a flag that needs another: clap forgives its lack where one of its group is there, which excludes it.
const ALL_BUT_CHANGED: [&str; 9] =
    ["get", "keys", "metrics", "purge", "purge_soft", "follow", "explain", "drain", "undrain"];
const ALL_BUT_DRAIN: [&str; 9] =
    ["get", "keys", "metrics", "purge", "purge_soft", "changed", "follow", "explain", "undrain"];

/// Flags of `dproxy client`: a node, and one request.
#[derive(Args, Clone, Debug)]
pub struct ClientArgs {
    /// The host to ask.
    #[arg(long, env = "DPROXY_HOST", default_value = "127.0.0.1", value_parser = units::host)]
    pub host: String,
    /// The port to ask.
    #[arg(long, env = "DPROXY_PORT", default_value = "9000", value_parser = units::port_there)]
    pub port: u16,
    /// The reply must come within this time.
    #[arg(long, env = "DPROXY_TIMEOUT", default_value = "10s", value_parser = units::positive_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// What to ask.
    #[command(flatten)]
    pub what: WhatArgs,
    /// TLS to the node.
    #[command(flatten)]
    pub tls: PeerArgs,
    /// With --changed: the proxies whose answer is waited for.
    #[arg(long, requires = "changed", conflicts_with_all = ALL_BUT_CHANGED, value_name = "FOR")]
    pub wait: Option<WaitArg>,
    /// With --drain: even the last node that gets requests.
    #[arg(long, requires = "drain", conflicts_with_all = ALL_BUT_DRAIN)]
    pub force: bool,
    /// How to watch METRICS.
    #[cfg(feature = "tools")]
    #[command(flatten)]
    pub watch: super::WatchArgs,
}

/// What to ask: exactly one of these.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What to ask, one of these")]
#[group(required = true, multiple = false)]
pub struct WhatArgs {
    /// Documents by their paths, <resource>/<key>; several are asked for over one session.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub get: Vec<String>,
    /// Documents whose paths stand in a file, one a line; - is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub keys: Option<PathBuf>,
    /// What the node counted.
    #[arg(long)]
    pub metrics: bool,
    /// Make a proxy, or all of a balancer, forget a document, or all beneath a prefix: <prefix>/*.
    #[arg(long, value_name = "PATH")]
    pub purge: Option<String>,
    /// The same, but what is held is served until it is fetched anew.
    #[arg(long, value_name = "PATH")]
    pub purge_soft: Option<String>,
    /// Say that documents have changed, by their paths or those of all beneath a prefix: to an origin, a proxy or a balancer.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub changed: Vec<String>,
    /// Print documents as they change at an origin, by their paths or those of all beneath a prefix, one a line.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub follow: Vec<String>,
    /// What the node knows of a document.
    #[arg(long, value_name = "PATH")]
    pub explain: Option<String>,
    /// Give a node of a balancer no new requests.
    #[arg(long, value_name = "HOST:PORT")]
    pub drain: Option<String>,
    /// Give it requests again.
    #[arg(long, value_name = "HOST:PORT")]
    pub undrain: Option<String>,
}

/// The proxies whose answer to a change is waited for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum WaitArg {
    /// All: until each has heard of the change, or its lease has ended and its times to live count
    All,
}

impl ClientArgs {
    /// The node to ask.
    pub fn peer(&self) -> Peer {
        Peer { host: self.host.clone(), port: self.port }
    }

    /// The node and the request.
    ///
    /// # Errors
    /// In a sentence, when a file of TLS is not what it should be.
    pub fn config(&self) -> Result<ClientConfig, String> {
        let peer = self.peer();
        Ok(ClientConfig {
            peer,
            tls: self.tls.load()?,
            requests: self.what.meant(self.wait == Some(WaitArg::All), self.force),
            timeout: self.timeout,
        })
    }
}

impl WhatArgs {
    fn meant(&self, wait_for_all: bool, force: bool) -> Requests {
        let wait = if wait_for_all { " wait=all" } else { "" };
        let force = if force { "force " } else { "" };
        let lines = [
            self.metrics.then(|| "METRICS".to_owned()),
            self.purge.as_ref().map(|path| format!("PURGE {path}")),
            self.purge_soft.as_ref().map(|path| format!("PURGE soft {path}")),
            (!self.changed.is_empty()).then(|| format!("CHANGED {}{wait}", self.changed.join(" "))),
            self.explain.as_ref().map(|path| format!("EXPLAIN {path}")),
            self.drain.as_ref().map(|node| format!("DRAIN {force}{node}")),
            self.undrain.as_ref().map(|node| format!("UNDRAIN {node}")),
        ];
        if !self.follow.is_empty() {
            return Requests::Follow(self.follow.clone());
        }
        match (lines.into_iter().flatten().next(), &self.keys, &self.get[..]) {
            (Some(line), _, _) => Requests::Line(line),
            (None, Some(file), _) => Requests::Keys(file.clone()),
            (None, None, [path]) => Requests::Line(format!("GET {path}")),
            (None, None, paths) => Requests::Documents(paths.to_vec()),
        }
    }
}
