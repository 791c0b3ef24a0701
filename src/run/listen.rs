//! Listening for a role. An error names the flag that avoids it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};

use crate::args::ServerArgs;
use crate::net::transport::{Bound, bind};

/// `EMFILE`: it has this number on every Unix.
const TOO_MANY_FILES: i32 = 24;

/// An address to listen on, and the flags that set it.
pub(super) struct Listen {
    /// The address.
    pub(super) host: IpAddr,
    /// The port; 0 is any free one.
    pub(super) port: u16,
    /// The flag for another address.
    pub(super) host_flag: &'static str,
    /// The flag for another port.
    pub(super) port_flag: &'static str,
}

/// Binds one listener for each thread of a role.
pub(super) fn listen(role: &str, at: &Listen, args: &ServerArgs) -> Result<Vec<Bound>> {
    let Listen { host, port, host_flag, port_flag } = *at;
    let address = SocketAddr::new(host, port);
    match bind(address, args.threads(), args.reuse_port) {
        Ok(bound) => Ok(bound),
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

/// The address of listeners that are bound; the kernel chose the port if it was 0.
pub(super) fn address_of(bound: &[Bound]) -> Result<SocketAddr> {
    Ok(bound.first().context("nothing is bound")?.address()?)
}
