//! Networks in CIDR notation, and who may connect by them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// What a network may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// No address, or no such length.
    #[error("give a network as 192.0.2.0/24, 2001:db8::/32, or an address")]
    Form,
    /// `192.0.2.7/24`: one of the two is a mistake.
    #[error("the address has bits behind the prefix: for the network give {0}")]
    Host(Network),
}

/// A network: an address and how many of its first bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of this address with so long a prefix; an IPv4-mapped address counts as IPv4.
    #[must_use]
    pub fn of(address: IpAddr, prefix_v4: u8, prefix_v6: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let prefix = prefix_v4.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Self {
                    address: IpAddr::V4((address.to_bits() & mask).into()),
                    prefix,
                }
            }
            IpAddr::V6(address) => {
                let prefix = prefix_v6.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self {
                    address: IpAddr::V6((address.to_bits() & mask).into()),
                    prefix,
                }
            }
        }
    }

    /// What counts as one client: an IPv4 address, or an IPv6 /64, which is one site's.
    #[must_use]
    pub fn client(address: IpAddr) -> Self {
        Self::of(address, 32, 64)
    }

    /// What counts as one neighbourhood: an IPv4 /24, or an IPv6 /48.
    #[must_use]
    pub fn neighbourhood(address: IpAddr) -> Self {
        Self::of(address, 24, 48)
    }
}

impl fmt::Display for Network {
    /// A whole IPv4 address stands without its prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.prefix) {
            (IpAddr::V4(address), 32) => address.fmt(f),
            (IpAddr::V6(address), 128) => address.fmt(f),
            (address, prefix) => write!(f, "{address}/{prefix}"),
        }
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork::Form)?;
        let is_mapped = matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(text) if text.bytes().all(|octet| octet.is_ascii_digit()) => {
                text.parse().map_err(|_| BadNetwork::Form)?
            }
            Some(_) => return Err(BadNetwork::Form),
        };
        // Mapped addresses are IPv4, and written so.
        if prefix > bits || is_mapped {
            return Err(BadNetwork::Form);
        }
        let network = Self::of(address, prefix, prefix);
        match network.address == address {
            true => Ok(network),
            false => Err(BadNetwork::Host(network)),
        }
    }
}

/// Networks that are allowed and denied. The most specific one that an address is in decides; named in both lists, it
/// is denied. An address that is in none is denied if any network is allowed, else allowed.
#[derive(Debug, Clone, Default)]
pub struct AccessList {
    allow: Vec<Network>,
    v4: Table,
    v6: Table,
}

/// Prefixes by length, the longest last.
type Table = BTreeMap<u8, (HashSet<IpAddr>, HashSet<IpAddr>)>;

impl AccessList {
    /// These lists.
    #[must_use]
    pub fn new(allow: &[Network], deny: &[Network]) -> Self {
        let mut list = Self {
            allow: allow.to_vec(),
            ..Self::default()
        };
        for network in allow {
            list.place(*network).0.insert(network.address);
        }
        for network in deny {
            list.place(*network).1.insert(network.address);
        }
        list
    }

    fn place(&mut self, network: Network) -> &mut (HashSet<IpAddr>, HashSet<IpAddr>) {
        let table = match network.address {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        };
        table.entry(network.prefix).or_default()
    }

    /// Whether it says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// May this address connect? A look for each length of prefix that is named.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let table = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        for (prefix, (allowed, denied)) in table.iter().rev() {
            let network = Network::of(address, *prefix, *prefix).address;
            if denied.contains(&network) {
                return false;
            }
            if allowed.contains(&network) {
                return true;
            }
        }
        self.allow.is_empty()
    }
}

/// The bits of a network's address, IPv4 mapped.
pub(super) fn bits(network: Network) -> (u128, u8) {
    match network.address {
        IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 96 + network.prefix),
        IpAddr::V6(address) => (Ipv6Addr::to_bits(address), network.prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Vec<Network> {
        let words = text.split_whitespace();
        words.map(|word| word.parse().unwrap()).collect()
    }

    fn allows(list: &AccessList, address: &str) -> bool {
        list.allows(address.parse().unwrap())
    }

    #[test]
    fn networks_are_read_and_written() {
        for text in [
            "192.0.2.0/24",
            "0.0.0.0/0",
            "192.0.2.1",
            "2001:db8::/32",
            "::/0",
            "::1",
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!(
            "192.0.2.1/32".parse::<Network>().unwrap().to_string(),
            "192.0.2.1"
        );
        for text in [
            "",
            "/8",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2/24",
            "2001:db8::/129",
            "::ffff:192.0.2.0/120",
            "localhost",
            "192.0.2.0/24/1",
        ] {
            assert_eq!(text.parse::<Network>(), Err(BadNetwork::Form), "{text}");
        }
        let error = "192.0.2.7/24".parse::<Network>().unwrap_err();
        assert!(error.to_string().ends_with("give 192.0.2.0/24"), "{error}");
    }

    #[test]
    fn the_most_specific_network_decides() {
        let list = AccessList::new(
            &networks("10.0.0.0/8 10.1.2.3 2001:db8::/32"),
            &networks("10.1.0.0/16 2001:db8:bad::/48"),
        );
        for (address, allowed) in [
            ("10.0.0.1", true),
            ("10.1.0.1", false),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("::ffff:10.1.2.4", false),
            ("192.0.2.1", false),
            ("2001:db8::1", true),
            ("2001:db8:bad::1", false),
            ("2001:db9::1", false),
        ] {
            assert_eq!(allows(&list, address), allowed, "{address}");
        }
    }

    #[test]
    fn denied_networks_alone_leave_the_rest() {
        let list = AccessList::new(&[], &networks("192.0.2.0/24 ::/0"));
        assert!(!allows(&list, "192.0.2.9"));
        assert!(allows(&list, "192.0.3.9"));
        assert!(!allows(&list, "2001:db8::1"));
        assert!(AccessList::default().is_empty());
        assert!(allows(&AccessList::default(), "192.0.2.9"));
        let both = networks("192.0.2.0/24");
        assert!(!allows(&AccessList::new(&both, &both), "192.0.2.9"));
    }
}
