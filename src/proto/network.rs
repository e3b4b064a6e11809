//! Ranges of addresses in CIDR notation (RFC 4632, RFC 4291 §2.3), and which of them PASV may sensibly name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses: those that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    first: IpAddr,
    /// How many bits are the same: 0 to 32, with IPv6 to 128.
    prefix: u8,
}

impl Network {
    /// How many bits its addresses have in common: 0 to 32, with IPv6 to 128.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The network of this address with so long a prefix; an IPv4-mapped address counts as IPv4. What is too long for
    /// the family stands for a whole address.
    #[must_use]
    pub fn of(address: IpAddr, prefix_v4: u8, prefix_v6: u8) -> Self {
        let address = address.to_canonical();
        let prefix = match address {
            IpAddr::V4(_) => prefix_v4.min(32),
            IpAddr::V6(_) => prefix_v6.min(128),
        };
        let first = masked(address, prefix).unwrap_or(address);
        Self { first, prefix }
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

    /// Its first address.
    #[must_use]
    pub const fn first(self) -> IpAddr {
        self.first
    }

    /// The bits of its first address and how many count, IPv4 mapped.
    #[must_use]
    pub fn bits(self) -> (u128, u8) {
        match self.first {
            IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 96 + self.prefix),
            IpAddr::V6(address) => (address.to_bits(), self.prefix),
        }
    }

    /// Whether the address belongs to it; an IPv4-mapped address counts as IPv4.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix).is_some_and(|masked| masked == self.first)
    }
}

/// The address with zeros behind the prefix; none when it has not so many bits.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix.into())?);
            let bits = address.to_bits() & mask.unwrap_or(0);
            Some(Ipv4Addr::from_bits(bits).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix.into())?);
            let bits = address.to_bits() & mask.unwrap_or(0);
            Some(Ipv6Addr::from_bits(bits).into())
        }
    }
}

impl fmt::Display for Network {
    /// A whole address stands without its prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.prefix) {
            (IpAddr::V4(address), 32) => address.fmt(f),
            (IpAddr::V6(address), 128) => address.fmt(f),
            (first, prefix) => write!(f, "{first}/{prefix}"),
        }
    }
}

/// Why a text is no range of addresses, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It has another form.
    #[error("give a network as 192.0.2.0/24 or 2001:db8::/32, or one address")]
    Syntax,
    /// Bits behind the prefix are set: it may be the prefix that is wrong.
    #[error("{given} is not the first address of its network: write {meant}, or another prefix")]
    HostBits {
        /// As given.
        given: String,
        /// The network that it lies in.
        meant: Network,
    },
}

impl FromStr for Network {
    type Err = NetworkError;

    /// `ADDRESS/PREFIX`, or an address alone, which is a range of one.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Syntax)?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|octet| octet.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= bits)
                .ok_or(NetworkError::Syntax)?,
            Some(_) => return Err(NetworkError::Syntax),
        };
        // ::ffff:192.0.2.0/120 is an IPv4 network in other words.
        let (address, prefix) = match (address.to_canonical(), prefix.checked_sub(96)) {
            (canonical, Some(rest)) if canonical.is_ipv4() && bits == 128 => (canonical, rest),
            _ => (address, prefix),
        };
        let first = masked(address, prefix).ok_or(NetworkError::Syntax)?;
        let network = Self { first, prefix };
        if first == address {
            return Ok(network);
        }
        Err(NetworkError::HostBits {
            given: text.to_owned(),
            meant: network,
        })
    }
}

/// A set of ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them holds every address of a family.
    #[must_use]
    pub fn hold_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix == 0)
    }

    /// Whether the address belongs to one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

/// What an IPv4 address is good for (RFC 6890).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// No host has it: 0.0.0.0/8, multicast, reserved, broadcast.
    Nobody,
    /// 127.0.0.0/8.
    SameHost,
    /// 169.254.0.0/16.
    SameLink,
    /// Private networks (RFC 1918) and those of carriers (RFC 6598).
    Private,
    /// For documents only (RFC 5737).
    Documentation,
    /// Everybody, as far as the address tells.
    Everybody,
}

impl Reach {
    /// Who can reach the address.
    #[must_use]
    pub const fn of(address: Ipv4Addr) -> Self {
        match address.octets() {
            [0 | 224..=255, ..] => Self::Nobody,
            [127, ..] => Self::SameHost,
            [169, 254, ..] => Self::SameLink,
            [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] => Self::Private,
            [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Self::Documentation,
            _ => Self::Everybody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn networks_hold_what_begins_with_their_bits() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.127"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7/32", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1", "::1", "::2"),
        ] {
            let network = network(range);
            assert!(network.contains(inside.parse().unwrap()), "{range}");
            assert!(!network.contains(outside.parse().unwrap()), "{range}");
        }
        let networks: Networks = ["10.0.0.0/8", "::1"].map(network).into_iter().collect();
        assert!(networks.contain("10.1.1.1".parse().unwrap()));
        assert!(networks.contain("::1".parse().unwrap()));
        assert!(!networks.contain("127.0.0.1".parse().unwrap()));
        assert!(!networks.hold_everybody());
        let all: Networks = ["10.0.0.0/8", "::/0"].map(network).into_iter().collect();
        assert!(all.hold_everybody());
        assert!(!Networks::default().contain("10.1.1.1".parse().unwrap()));
    }

    #[test]
    fn networks_are_written_as_they_are_read() {
        for text in [
            "192.0.2.0/24",
            "0.0.0.0/0",
            "192.0.2.1",
            "2001:db8::/32",
            "::/0",
            "::1",
        ] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("192.0.2.1/32").to_string(), "192.0.2.1");
        let client = |text: &str| Network::client(text.parse().unwrap()).to_string();
        assert_eq!(client("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(client("2001:db8::1:2:3:4"), "2001:db8::/64");
        let near = Network::neighbourhood("192.0.2.7".parse().unwrap());
        assert_eq!(near.to_string(), "192.0.2.0/24");
        assert_eq!(near.bits(), network("192.0.2.0/24").bits());
        assert_eq!(near.bits().1, 120);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
            "::/129",
            "host/8",
            " 10.0.0.0/8",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Syntax), "{text}");
        }
        let problem = "10.1.2.3/8".parse::<Network>().unwrap_err().to_string();
        assert!(
            problem.contains("10.1.2.3/8") && problem.contains("write 10.0.0.0/8"),
            "{problem}"
        );
    }

    #[test]
    fn addresses_reach_as_far_as_their_range() {
        for (address, reach) in [
            ("0.0.0.0", Reach::Nobody),
            ("224.0.0.1", Reach::Nobody),
            ("255.255.255.255", Reach::Nobody),
            ("127.8.9.1", Reach::SameHost),
            ("169.254.1.1", Reach::SameLink),
            ("172.31.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("203.0.113.7", Reach::Documentation),
            ("172.32.0.1", Reach::Everybody),
            ("192.0.3.1", Reach::Everybody),
        ] {
            assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
        }
    }
}
