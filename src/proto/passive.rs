//! The address that PASV names, by the client's network (RFC 959 §4.1.2). EPSV names none.

use std::net::{IpAddr, Ipv4Addr};

use super::network::{Network, Reach};

/// What PASV names to whom; `None` stands for the control connection's own address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PassiveAddresses {
    /// Long prefixes first.
    networks: Vec<(Network, Option<Ipv4Addr>)>,
    others: Option<Ipv4Addr>,
}

impl PassiveAddresses {
    /// An address for the clients of each network; `others` for those of none.
    #[must_use]
    pub fn new(
        networks: impl IntoIterator<Item = (Network, Option<Ipv4Addr>)>,
        others: Option<Ipv4Addr>,
    ) -> Self {
        let mut networks: Vec<_> = networks.into_iter().collect();
        networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix()));
        Self { networks, others }
    }

    /// The address for this client: that of the longest prefix.
    #[must_use]
    pub fn told(&self, client: IpAddr) -> Option<Ipv4Addr> {
        self.networks
            .iter()
            .find(|(network, _)| network.contains(client))
            .map_or(self.others, |(_, address)| *address)
    }
}

/// Whether a client with a public address is told one that it cannot reach: the mark of a server behind NAT
/// that does not know its outer address.
#[must_use]
pub fn is_out_of_reach(told: Ipv4Addr, client: IpAddr) -> bool {
    let IpAddr::V4(client) = client.to_canonical() else {
        return false;
    };
    Reach::of(client) == Reach::Everybody
        && matches!(
            Reach::of(told),
            Reach::Private | Reach::SameLink | Reach::SameHost | Reach::Nobody
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let outer = Some(Ipv4Addr::new(198, 51, 100, 1));
        let branch = Some(Ipv4Addr::new(10, 1, 0, 1));
        let rule = |network: &str, address| (network.parse().unwrap(), address);
        let addresses = PassiveAddresses::new(
            [
                rule("10.0.0.0/8", None),
                rule("10.1.2.0/24", None),
                rule("10.1.0.0/16", branch),
            ],
            outer,
        );
        let told = |client: &str| addresses.told(client.parse().unwrap());
        assert_eq!(told("10.9.9.9"), None);
        assert_eq!(told("10.1.9.9"), branch);
        assert_eq!(told("::ffff:10.1.9.9"), branch);
        assert_eq!(told("10.1.2.9"), None);
        assert_eq!(told("203.0.113.1"), outer);
        assert_eq!(PassiveAddresses::default().told([10, 0, 0, 1].into()), None);
    }

    #[test]
    fn only_public_clients_are_out_of_reach() {
        let private = Ipv4Addr::new(10, 0, 0, 5);
        let public = Ipv4Addr::new(8, 8, 4, 4);
        assert!(is_out_of_reach(private, "8.8.8.8".parse().unwrap()));
        assert!(is_out_of_reach(private, "::ffff:8.8.8.8".parse().unwrap()));
        assert!(!is_out_of_reach(public, "8.8.8.8".parse().unwrap()));
        assert!(!is_out_of_reach(private, "192.168.1.1".parse().unwrap()));
        assert!(!is_out_of_reach(private, "2001:4860::1".parse().unwrap()));
    }
}
