//! What lies between the clients and this server: options about NAT and proxies, and whether they make sense.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::options::{LISTENING, Resume};
use super::{Failure, usage};
use crate::data::Proxies;
use crate::proto::network::{Network, Reach};
use crate::server::{PassivePlan, PassiveTarget};

/// What is done with control connections that come past the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProxyOthers {
    /// They are served as they are.
    Serve,
    /// They are turned away.
    Refuse,
}

/// Who may connect to a passive port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PassivePeer {
    /// The address of the control connection.
    Same,
    /// Any address, if the connection is protected and resumes the TLS session of the control connection.
    Resumed,
}

/// The options about NAT and proxies.
#[derive(Debug, Clone, Args)]
pub struct NetworkOptions {
    /// Address that PASV replies name, for a server behind NAT: an IPv4 address, a DNS name (looked up again every 5 minutes) or `own` [default: the connection's own].
    #[arg(long, value_name = "ADDR|NAME|own", value_parser = parse_target, help_heading = LISTENING)]
    pub passive_address: Option<PassiveTarget>,
    /// The same for clients of one network, as `10.0.0.0/8=own`; the longest prefix wins; repeatable.
    #[arg(long, value_name = "CIDR=ADDR|NAME|own", value_parser = parse_rule, help_heading = LISTENING)]
    pub passive_address_for: Vec<(Network, PassiveTarget)>,
    /// Passive data connections come from the address of their control connection (`same`), or from any that `resumed` its TLS session.
    #[arg(long, value_name = "same|resumed", default_value = "same", hide_possible_values = true, help_heading = LISTENING)]
    pub passive_peer: PassivePeer,
    /// Proxies whose connections must begin with a PROXY header (version 1 or 2), control and data; repeatable.
    #[arg(long, value_name = "CIDR", help_heading = LISTENING)]
    pub proxy_from: Vec<Network>,
    /// Control connections that come past those proxies: `serve` or `refuse`.
    #[arg(long, value_name = "serve|refuse", default_value = "serve", hide_possible_values = true, requires = "proxy_from", help_heading = LISTENING)]
    pub proxy_others: ProxyOthers,
}

impl NetworkOptions {
    /// Whom to believe; headers may take as long as a handshake.
    pub(super) fn proxies(&self, time_max: Duration) -> Proxies {
        Proxies {
            trusted: self.proxy_from.iter().copied().collect(),
            only: self.proxy_others == ProxyOthers::Refuse,
            time_max,
        }
    }

    /// Whether passive data connections may come from other addresses.
    ///
    /// # Errors
    /// They have to resume, and nobody can.
    pub(super) fn peers_elsewhere(&self, resume: Resume) -> Result<bool, Failure> {
        let elsewhere = self.passive_peer == PassivePeer::Resumed;
        if elsewhere && resume == Resume::Off {
            return Err(usage(
                "--passive-peer resumed needs TLS sessions that can be resumed: give --resume prefer or require",
            ));
        }
        Ok(elsewhere)
    }

    /// What PASV names.
    ///
    /// # Errors
    /// An address that no host can have, or a network named twice.
    pub(super) fn passive(&self) -> Result<PassivePlan, Failure> {
        let plan = PassivePlan {
            networks: self.passive_address_for.clone(),
            others: self.passive_address.clone().unwrap_or_default(),
        };
        for (at, (network, _)) in plan.networks.iter().enumerate() {
            let before = plan.networks.iter().take(at);
            if before.clone().any(|(other, _)| other == network) {
                return Err(usage(format!(
                    "--passive-address-for names {network} twice: keep one of them"
                )));
            }
        }
        for target in targets(&plan) {
            if let PassiveTarget::Address(address) = target
                && Reach::of(*address) == Reach::Nobody
            {
                return Err(usage(format!(
                    "--passive-address {address}: no host can have this address, so no client could connect; \
                     give the address that clients reach this server at"
                )));
            }
        }
        Ok(plan)
    }
}

fn targets(plan: &PassivePlan) -> impl Iterator<Item = &PassiveTarget> {
    let networks = plan.networks.iter().map(|(_, target)| target);
    networks.chain([&plan.others])
}

/// What is odd about passive addresses and proxies, each with the remedy. `listeners` are the addresses of the
/// control listeners.
pub(super) fn doubts(
    plan: &PassivePlan,
    proxies: &Proxies,
    listeners: &[SocketAddr],
) -> Vec<String> {
    let local = |reach| {
        let own = |listener: &SocketAddr| match listener.ip().to_canonical() {
            IpAddr::V4(own) => Reach::of(own) == reach,
            IpAddr::V6(own) => reach == Reach::SameHost && own.is_loopback(),
        };
        !listeners.is_empty() && listeners.iter().all(own)
    };
    let doubt = |address: Ipv4Addr| {
        let what = match Reach::of(address) {
            Reach::SameHost if !local(Reach::SameHost) => "reaches this host only",
            Reach::SameLink if !local(Reach::SameLink) => "reaches the same link only",
            Reach::Documentation => "is for documents and belongs to nobody (RFC 5737)",
            _ => return None,
        };
        Some(format!(
            "PASV names {address}, which {what}: give --passive-address the address that clients reach this server at"
        ))
    };
    let mut doubts: Vec<String> = targets(plan)
        .filter_map(|target| match target {
            PassiveTarget::Address(address) => doubt(*address),
            PassiveTarget::Own | PassiveTarget::Name(_) => None,
        })
        .collect();
    if proxies.trusted.hold_everybody() {
        doubts.push(
            "--proxy-from trusts every address, so any client can claim to be any other: name the proxies alone"
                .to_owned(),
        );
    }
    if !listeners.is_empty() && listeners.iter().all(only_ipv6) && *plan != PassivePlan::default() {
        doubts.push(
            "a passive address is set, but every listener is for IPv6 alone, where clients use EPSV, which names \
             none: leave it out, or listen on an IPv4 address too"
                .to_owned(),
        );
    }
    doubts
}

fn only_ipv6(listener: &SocketAddr) -> bool {
    matches!(listener.ip().to_canonical(), IpAddr::V6(own) if !own.is_unspecified())
}

/// Parses an IPv4 address, a DNS name or `own`.
fn parse_target(text: &str) -> Result<PassiveTarget, String> {
    if text == "own" {
        return Ok(PassiveTarget::Own);
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => return Ok(PassiveTarget::Address(address)),
        Ok(IpAddr::V6(_)) => {
            return Err(
                "PASV can name IPv4 addresses only; clients on IPv6 use EPSV, which names none"
                    .into(),
            );
        }
        Err(_) => {}
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let octets = label.as_bytes();
        (1..=63).contains(&octets.len())
            && octets
                .iter()
                .all(|o| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_'))
            && !octets.starts_with(b"-")
            && !octets.ends_with(b"-")
    };
    // A number at the end is the fault of an address: no domain has it (RFC 3696 §2).
    let number = |label: &str| label.bytes().all(|octet| octet.is_ascii_digit());
    let mut labels = text.split('.');
    let sound = text.len() <= 253 && labels.clone().all(label);
    if sound && !labels.next_back().is_some_and(number) {
        return Ok(PassiveTarget::Name(text.to_ascii_lowercase()));
    }
    Err("give an IPv4 address as 198.51.100.7, a DNS name as ftp.example.net, or `own`".into())
}

/// Parses `CIDR=TARGET`.
fn parse_rule(text: &str) -> Result<(Network, PassiveTarget), String> {
    let Some((network, target)) = text.split_once('=') else {
        return Err(
            "give a network and an address as 10.0.0.0/8=own or 10.0.0.0/8=10.1.2.3".into(),
        );
    };
    let network = network
        .parse()
        .map_err(|error: crate::proto::network::NetworkError| error.to_string())?;
    Ok((network, parse_target(target)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        network: NetworkOptions,
    }

    fn options(words: &[&str]) -> Result<NetworkOptions, String> {
        let line = Line::try_parse_from([&["x"], words].concat());
        line.map(|line| line.network)
            .map_err(|error| error.to_string())
    }

    fn plan(words: &[&str]) -> PassivePlan {
        options(words).unwrap().passive().unwrap()
    }

    #[test]
    fn targets_are_addresses_names_or_own() {
        let name = |name: &str| PassiveTarget::Name(name.to_owned());
        for (text, target) in [
            ("own", PassiveTarget::Own),
            ("192.0.2.7", PassiveTarget::Address([192, 0, 2, 7].into())),
            ("FTP.example.net.", name("ftp.example.net")),
            ("localhost", name("localhost")),
            ("a-1.2b", name("a-1.2b")),
        ] {
            assert_eq!(parse_target(text), Ok(target), "{text}");
        }
        let long = "a.".repeat(127) + "b";
        for text in [
            "",
            ".",
            "1.2.3",
            "192.0.2.256",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a:21",
            "::1",
            "a/8",
            "own.1",
            &long,
            "\u{e9}t\u{e9}.fr",
        ] {
            assert!(parse_target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rules_are_checked_together() {
        let plan = plan(&[
            "--passive-address",
            "ftp.example.net",
            "--passive-address-for",
            "10.0.0.0/8=own",
            "--passive-address-for",
            "2001:db8::/32=192.0.2.1",
        ]);
        assert_eq!(
            plan.others,
            PassiveTarget::Name("ftp.example.net".to_owned())
        );
        assert_eq!(plan.networks.len(), 2);
        for (words, part) in [
            (&["--passive-address", "0.0.0.0"][..], "no host can have"),
            (
                &["--passive-address-for", "10.0.0.0/8=255.255.255.255"],
                "no host can have",
            ),
            (
                &[
                    "--passive-address-for",
                    "10.0.0.0/8=own",
                    "--passive-address-for",
                    "10.0.0.0/8=10.0.0.1",
                ],
                "10.0.0.0/8 twice",
            ),
        ] {
            let failure = options(words).unwrap().passive().unwrap_err();
            assert!(failure.message.contains(part), "{failure}");
        }
        for (words, part) in [
            (
                &["--passive-address-for", "10.0.0.0/8"][..],
                "10.0.0.0/8=own",
            ),
            (
                &["--passive-address-for", "10.0.0.1/8=own"],
                "write 10.0.0.0/8",
            ),
            (&["--passive-address", "::1"], "EPSV"),
            (&["--proxy-from", "10.0.0.0/33"], "192.0.2.0/24"),
            (&["--proxy-others", "refuse"], "--proxy-from"),
        ] {
            let problem = options(words).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn proxies_are_those_named() {
        let options = options(&["--proxy-from", "10.0.0.0/8", "--proxy-from", "::1"]).unwrap();
        let proxies = options.proxies(Duration::from_secs(1));
        assert!(proxies.trust("::ffff:10.1.1.1".parse().unwrap()));
        assert!(proxies.trust("::1".parse().unwrap()));
        assert!(!proxies.trust("127.0.0.1".parse().unwrap()));
        assert!(!proxies.only);
    }

    #[test]
    fn odd_addresses_are_doubted() {
        let everywhere = ["[::]:21".parse().unwrap()];
        let here = [
            "127.0.0.1:21".parse().unwrap(),
            "[::1]:990".parse().unwrap(),
        ];
        let six = ["[2001:db8::1]:21".parse().unwrap()];
        for (address, listeners, part) in [
            ("127.0.0.1", &everywhere[..], "this host only"),
            ("169.254.1.1", &everywhere, "same link"),
            ("192.0.2.1", &everywhere, "documents"),
            ("8.8.4.4", &six, "IPv6 alone"),
        ] {
            let doubts = doubts(
                &plan(&["--passive-address", address]),
                &Proxies::default(),
                listeners,
            );
            let [doubt] = &doubts[..] else {
                panic!("{address}: {doubts:?}");
            };
            assert!(doubt.contains(part) && doubt.contains(": "), "{doubt}");
        }
        let everybody = options(&["--proxy-from", "0.0.0.0/0"]).unwrap();
        let everybody = everybody.proxies(Duration::from_secs(1));
        let [doubt] = &doubts(&plan(&[]), &everybody, &everywhere)[..] else {
            panic!("one doubt");
        };
        assert!(doubt.contains("name the proxies"), "{doubt}");
        for (address, listeners) in [
            ("127.0.0.1", &here[..]),
            ("8.8.4.4", &everywhere),
            ("10.0.0.1", &everywhere),
            ("own", &six),
            ("localhost", &everywhere),
        ] {
            let doubts = doubts(
                &plan(&["--passive-address", address]),
                &Proxies::default(),
                listeners,
            );
            assert!(doubts.is_empty(), "{address}: {doubts:?}");
        }
    }
}
