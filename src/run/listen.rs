//! Listening for a role. An error names the flag that avoids it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};

use crate::args::{Host, ServerArgs};
use crate::net::link::Peer;
use crate::net::transport::{Bound, bind};

/// `EMFILE`: it has this number on every Unix.
const TOO_MANY_FILES: i32 = 24;

/// An address to listen on, and the flags that set it.
pub(super) struct Listen {
    /// The address.
    pub(super) host: Host,
    /// The port; 0 is any free one.
    pub(super) port: u16,
    /// The flag for another address.
    pub(super) host_flag: &'static str,
    /// The flag for another port.
    pub(super) port_flag: &'static str,
}

/// Ports that are tried until one is free on both addresses.
const TRIES: usize = 16;

/// Binds one listener for each thread of a role, on each of its addresses.
pub(super) fn listen(role: &str, at: &Listen, args: &ServerArgs) -> Result<Vec<Bound>> {
    let Listen { host, port, .. } = *at;
    for left in (0..TRIES).rev() {
        let mut bound = listen_on(role, host.first(), port, at, args)?;
        let Some(second) = host.second() else { return Ok(bound) };
        match bind(SocketAddr::new(second, address_of(&bound)?.port()), args.threads(), args.reuse_port) {
            Ok(more) => {
                bound.extend(more);
                return Ok(bound);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse && port == 0 && left > 0 => {}
            Err(error) if is_without(&error) => return Ok(bound),
            Err(error) => bail!("the {role} cannot listen on {second} as well, port {port}: {error}"),
        }
    }
    bail!("the {role} finds no port that is free on 127.0.0.1 and ::1")
}

/// Whether the machine has no such address: IPv6 is off.
fn is_without(error: &io::Error) -> bool {
    /// `EAFNOSUPPORT` on Linux.
    const NO_FAMILY: i32 = 97;
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_FAMILY)
}

fn listen_on(role: &str, host: IpAddr, port: u16, at: &Listen, args: &ServerArgs) -> Result<Vec<Bound>> {
    let Listen { host_flag, port_flag, .. } = *at;
    let address = SocketAddr::new(host, port);
    match bind(address, args.threads(), args.reuse_port) {
        Ok(bound) => Ok(bound),
        Err(error) if host == Ipv6Addr::UNSPECIFIED && is_without(&error) => {
            listen_on(role, Ipv4Addr::UNSPECIFIED.into(), port, at, args)
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!(
                "port {port} is in use on {host}; stop what listens there, or choose another with {port_flag}"
            )
        }
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::PermissionDenied => {
                    format!("; choose a port from 1024 on with {port_flag}, or allow it lower ones")
                }
                ErrorKind::AddrNotAvailable => {
                    format!("; no interface has this address: choose another with {host_flag}")
                }
                _ if error.raw_os_error() == Some(TOO_MANY_FILES) => {
                    "; allow more with ulimit -n, or take fewer --threads".to_owned()
                }
                _ => String::new(),
            };
            bail!("the {role} cannot listen on {address}: {error}{advice}")
        }
    }
}

/// Refuses a peer that is this node itself: its requests would wait for each other to their deadline.
pub(super) fn not_itself(listens: SocketAddr, peer: &Peer, flag: &str) -> Result<()> {
    let is_own = |ip: IpAddr| ip == listens.ip() || ip.is_loopback() && listens.ip().is_unspecified();
    let is_own_host = match peer.host.parse() {
        Ok(ip) => is_own(ip),
        Err(_) => {
            peer.host == "localhost"
                && [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].into_iter().any(is_own)
        }
    };
    if is_own_host && peer.port == listens.port() {
        bail!("{peer}, named by {flag}, is this node itself; name another, or listen on another --port");
    }
    Ok(())
}

/// The address of listeners that are bound; the kernel chose the port if it was 0.
pub(super) fn address_of(bound: &[Bound]) -> Result<SocketAddr> {
    Ok(bound.first().context("nothing is bound")?.address()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_not_its_own_upstream() {
        let is_itself = |listens: &str, host: &str, port: u16| {
            let peer = Peer { host: host.to_owned(), port };
            not_itself(listens.parse().expect("an address"), &peer, "--proxies").is_err()
        };
        for (listens, host) in [
            ("127.0.0.1:9000", "127.0.0.1"),
            ("127.0.0.1:9000", "localhost"),
            ("[::1]:9000", "localhost"),
            ("0.0.0.0:9000", "127.0.0.1"),
            ("10.0.0.7:9000", "10.0.0.7"),
        ] {
            assert!(is_itself(listens, host, 9000), "{listens} {host}");
            assert!(!is_itself(listens, host, 9001), "{listens} {host}");
        }
        for (listens, host) in
            [("127.0.0.1:9000", "127.0.0.2"), ("127.0.0.1:9000", "example"), ("10.0.0.7:9000", "localhost")]
        {
            assert!(!is_itself(listens, host, 9000), "{listens} {host}");
        }
    }
}
