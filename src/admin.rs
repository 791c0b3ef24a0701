//! The addresses that may use the verbs that change things: PURGE, CHANGED, DRAIN, UNDRAIN.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// The text of the reply FORBIDDEN to other addresses.
pub const FORBIDDEN: &str = "this address may not use this verb; see --admin-from";

/// The networks of administrators; loopback by default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admins(Vec<Network>);

/// A network in CIDR notation (RFC 4632): an address and the number of its leading bits that count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text that names no network.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NetworkError {
    /// Neither an address nor a network.
    #[error("{0:?} is neither an address nor a network such as 10.0.0.0/8")]
    Shape(String),
    /// An address with bits beside the prefix: one machine, or a whole network?
    #[error("{0:?} has bits behind its prefix; the network is {1}, and the address alone has no prefix")]
    Beside(String, Network),
}

impl Admins {
    /// The addresses of these networks, and no others.
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether this address is an administrator's. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address.to_canonical()))
    }
}

impl Admins {
    /// Loopback, and the networks that are not routed: RFC 1918, RFC 4193 and link-local addresses.
    pub fn private() -> Self {
        let v4 = [([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16), ([169, 254, 0, 0], 16)];
        let v6 = [(0xfc00, 7), (0xfe80, 10)];
        let v4 = v4.map(|(address, bits)| Network { address: IpAddr::from(address), bits });
        let v6 =
            v6.map(|(first, bits)| Network { address: IpAddr::from([first, 0, 0, 0, 0, 0, 0, 0]), bits });
        Self(Self::default().0.into_iter().chain(v4).chain(v6).collect())
    }
}

impl Default for Admins {
    /// 127.0.0.0/8 and ::1.
    fn default() -> Self {
        let v4 = Network { address: IpAddr::from([127, 0, 0, 0]), bits: 8 };
        let v6 = Network { address: IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), bits: 128 };
        Self(vec![v4, v6])
    }
}

impl fmt::Display for Admins {
    /// A comma list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.is_ipv4() && self.bits == 32 || self.bits == 128 {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

impl Network {
    fn has(&self, address: IpAddr) -> bool {
        self.first(address) == self.address
    }

    /// The first address of the network of as many bits that has this address.
    fn first(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits.min(32))).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NetworkError::Shape(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        // An IPv4 address that is written as one of IPv6 is the former: ::ffff:10.0.0.0/104 is 10.0.0.0/8.
        let mapped = if address.to_canonical() == address { 0 } else { 96 };
        let (address, bits) = match (mapped..=all).contains(&bits) {
            true => (address.to_canonical(), bits - mapped),
            false => return Err(wrong()),
        };
        let network = Self { address, bits };
        let first = Self { address: network.first(address), bits };
        if first == network { Ok(network) } else { Err(NetworkError::Beside(text.to_owned(), first)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_networks() {
        let admins = Admins::default();
        assert_eq!(admins.to_string(), "127.0.0.0/8,::1");
        for (address, may) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("128.0.0.1", false),
            ("10.0.0.1", false),
            ("::2", false),
        ] {
            assert_eq!(admins.has(address.parse().unwrap()), may, "{address}");
        }
        let anyone = Admins::new(vec!["0.0.0.0/0".parse().unwrap()]);
        assert!(anyone.has("8.8.8.8".parse().unwrap()) && !anyone.has("::1".parse().unwrap()));
        assert_eq!("::ffff:10.0.0.0/104".parse::<Network>(), "10.0.0.0/8".parse());
        let beside = "10.9.9.9/0".parse::<Network>().unwrap_err().to_string();
        assert!(beside.contains("0.0.0.0/0"), "{beside}");
        for wrong in [
            "10.0.0.1/8",
            "fe80::1/64",
            "::ffff:10.0.0.0/8",
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/",
            "::/129",
            "10.0.0",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
