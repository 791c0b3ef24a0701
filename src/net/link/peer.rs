//! The `host:port` at which a peer listens.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// The address of a peer. Displayed as `host:port`, or `[host]:port` for an IPv6 address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Peer {
    /// A host name, or an IPv4 or IPv6 address without brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

/// The text is not `host:port`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("write it as host:port, such as 127.0.0.1:8001 or [::1]:8001")]
pub struct PeerError;

/// An IPv4 address that is written as one of IPv6 is the former: a node has one name.
fn unmapped(host: &str) -> String {
    match host.parse::<Ipv6Addr>().ok().and_then(|address| address.to_ipv4_mapped()) {
        Some(address) => address.to_string(),
        None => host.to_owned(),
    }
}

impl FromStr for Peer {
    type Err = PeerError;

    /// Reads `host:port` or `[::1]:port`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(PeerError)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host,
            None if host.contains(':') => return Err(PeerError),
            None => host,
        };
        let port = port.parse().ok().filter(|&port| port != 0).ok_or(PeerError)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        match !host.is_empty() && host.chars().all(allowed) {
            true => Ok(Self { host: unmapped(host), port }),
            false => Err(PeerError),
        }
    }
}
