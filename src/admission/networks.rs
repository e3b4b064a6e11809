//! Who may connect, by network.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use crate::proto::network::Network;

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
            list.place(*network).0.insert(network.first());
        }
        for network in deny {
            list.place(*network).1.insert(network.first());
        }
        list
    }

    fn place(&mut self, network: Network) -> &mut (HashSet<IpAddr>, HashSet<IpAddr>) {
        let table = match network.first() {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        };
        table.entry(network.prefix()).or_default()
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
            let network = Network::of(address, *prefix, *prefix).first();
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
