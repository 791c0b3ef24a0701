//! Where to listen: an address of this machine, or `localhost`, which has two.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::units;

/// An address to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host {
    /// 127.0.0.1, and ::1 where the machine has it.
    Localhost,
    /// One address.
    Address(IpAddr),
}

impl Host {
    /// Reads `localhost`, or an address with brackets or without.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "localhost" => Ok(Self::Localhost),
            text => units::address(text).map(Self::Address),
        }
    }

    /// The address that always is there.
    pub fn first(self) -> IpAddr {
        match self {
            Self::Localhost => Ipv4Addr::LOCALHOST.into(),
            Self::Address(address) => address,
        }
    }

    /// The other address, which a machine may lack.
    pub fn second(self) -> Option<IpAddr> {
        (self == Self::Localhost).then_some(Ipv6Addr::LOCALHOST.into())
    }
}
