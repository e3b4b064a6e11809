//! Names of virtual hosts, and which host a name means (HOST of RFC 7151, SNI of RFC 6066). Pure.
//!
//! A name is a DNS name, or one whose first label is `*`, which stands for exactly one label, as in certificates
//! (RFC 6125 §6.4.3). An exact name is preferred to a wildcard. Names are compared without regard to case and to a
//! trailing dot; internationalised names are their A-labels (`xn--…`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Octets of the longest DNS name without its trailing dot, and of its longest label (RFC 1035 §2.3.4).
const NAME_OCTETS_MAX: usize = 253;
const LABEL_OCTETS_MAX: usize = 63;

/// A virtual host, as everybody refers to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    /// Its place among those of one configuration.
    pub index: usize,
    /// Its first name, for logs. Hosts of different configurations with one name are one host.
    pub name: Box<str>,
}

/// Why a name cannot be a virtual host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It is an address.
    #[error("an IP address is no name: clients that name one mean the server itself")]
    Address,
    /// It is no DNS name.
    #[error(
        "give a DNS name of letters, digits, hyphens and dots, as ftp.example.com or *.example.com; others as A-labels (xn--…)"
    )]
    Syntax,
    /// The wildcard is not the whole first label, or nothing follows it.
    #[error("`*` can only be the whole first label: *.example.com")]
    Wildcard,
    /// Two hosts have it.
    #[error("another host has this name")]
    Taken,
}

/// The names of all virtual hosts of a configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    exact: HashMap<Box<str>, Arc<Host>>,
    /// What follows `*.`.
    wildcards: HashMap<Box<str>, Arc<Host>>,
    hosts: Vec<Arc<Host>>,
}

impl Table {
    /// Adds a host whose first name this is, and which has the next index.
    ///
    /// # Errors
    /// [`BadName`]; the host is not added then.
    pub fn add_host(&mut self, name: &str) -> Result<(), BadName> {
        let canonical = check_name(name)?;
        let host = Arc::new(Host {
            index: self.hosts.len(),
            name: canonical.as_str().into(),
        });
        self.insert(&canonical, &host)?;
        self.hosts.push(host);
        Ok(())
    }

    /// Gives the host that was added last a further name.
    ///
    /// # Errors
    /// [`BadName`]. Without a host there is none to give it to, which is no error.
    pub fn add_name(&mut self, name: &str) -> Result<(), BadName> {
        let canonical = check_name(name)?;
        match self.hosts.last().cloned() {
            Some(host) => self.insert(&canonical, &host),
            None => Ok(()),
        }
    }

    fn insert(&mut self, canonical: &str, host: &Arc<Host>) -> Result<(), BadName> {
        let (names, key) = match canonical.strip_prefix("*.") {
            Some(domain) => (&mut self.wildcards, domain),
            None => (&mut self.exact, canonical),
        };
        if names.contains_key(key) {
            return Err(BadName::Taken);
        }
        names.insert(key.into(), Arc::clone(host));
        Ok(())
    }

    /// Whether there is no host.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The hosts in the order in which they were added.
    #[must_use]
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// Every name of the host of this index, sorted; wildcards as `*.example.com`.
    #[must_use]
    pub fn names(&self, index: usize) -> Vec<String> {
        let of_host = |host: &Host| host.index == index;
        let exact = self.exact.iter().filter(|(_, host)| of_host(host));
        let wildcards = self.wildcards.iter().filter(|(_, host)| of_host(host));
        let mut names: Vec<String> = exact
            .map(|(name, _)| name.to_string())
            .chain(wildcards.map(|(domain, _)| format!("*.{domain}")))
            .collect();
        names.sort();
        names
    }

    /// The host that a client means by this name; `None` for one that is nobody's.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Host>> {
        if self.is_empty() {
            return None;
        }
        let canonical = canonical(name);
        self.exact.get(canonical.as_str()).or_else(|| {
            let (_, domain) = canonical.split_once('.')?;
            self.wildcards.get(domain)
        })
    }
}

/// What the argument of HOST means (RFC 7151 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A DNS name.
    Domain(String),
    /// An address: IPv4 in dotted form, IPv6 in brackets.
    Address(IpAddr),
}

impl Named {
    /// Parses the argument; `None` when it is neither, or has a port.
    #[must_use]
    pub fn parse(argument: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(argument).ok()?;
        if let Some(literal) = text.strip_prefix('[') {
            let address: Ipv6Addr = literal.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        is_domain(text.strip_suffix('.').unwrap_or(text)).then(|| Self::Domain(text.to_owned()))
    }
}

/// In small letters and without the trailing dot.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The canonical form of a configured name.
fn check_name(name: &str) -> Result<String, BadName> {
    let canonical = canonical(name);
    let literal = canonical.trim_matches(['[', ']']);
    if literal.parse::<IpAddr>().is_ok() {
        return Err(BadName::Address);
    }
    let domain = canonical.strip_prefix("*.").unwrap_or(&canonical);
    if domain.contains('*') {
        return Err(BadName::Wildcard);
    }
    if is_domain(domain) && canonical.len() <= NAME_OCTETS_MAX {
        Ok(canonical)
    } else {
        Err(BadName::Syntax)
    }
}

/// Labels of letters, digits and inner hyphens (RFC 7151 §3.1); underscores as many a local name has them.
fn is_domain(name: &str) -> bool {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    let is_label = |label: &str| {
        (1..=LABEL_OCTETS_MAX).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_OCTETS_MAX && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(hosts: &[&[&str]]) -> Table {
        let mut table = Table::default();
        for names in hosts {
            let (first, others) = names.split_first().unwrap();
            table.add_host(first).unwrap();
            for name in others {
                table.add_name(name).unwrap();
            }
        }
        table
    }

    #[test]
    fn exact_names_go_before_wildcards() {
        let table = table(&[
            &["FTP.example.com", "files.example.com."],
            &["*.example.com"],
            &["*.deep.example.com", "bare"],
        ]);
        for (name, expected) in [
            ("ftp.example.com", Some(0)),
            ("Ftp.Example.COM.", Some(0)),
            ("files.example.com", Some(0)),
            ("other.example.com", Some(1)),
            ("deep.example.com", Some(1)),
            ("a.deep.example.com", Some(2)),
            ("a.b.deep.example.com", None),
            ("example.com", None),
            ("BARE", Some(2)),
            ("com", None),
            ("", None),
        ] {
            let found = table.find(name).map(|host| host.index);
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(&*table.hosts()[0].name, "ftp.example.com");
        assert!(Table::default().find("x").is_none());
    }

    #[test]
    fn bad_names_are_told() {
        let label = "a".repeat(64);
        let long = ["abcdefgh."; 30].concat() + "com";
        for (name, problem) in [
            ("192.0.2.1", BadName::Address),
            ("[2001:db8::1]", BadName::Address),
            ("::1", BadName::Address),
            ("", BadName::Syntax),
            ("a..b", BadName::Syntax),
            ("-a.b", BadName::Syntax),
            ("a-.b", BadName::Syntax),
            ("ftp.example.com:21", BadName::Syntax),
            ("münchen.example", BadName::Syntax),
            ("a b", BadName::Syntax),
            (&label, BadName::Syntax),
            (&long, BadName::Syntax),
            ("*", BadName::Wildcard),
            ("a.*.com", BadName::Wildcard),
            ("*a.com", BadName::Wildcard),
            ("*.*.com", BadName::Wildcard),
            ("*.", BadName::Wildcard),
        ] {
            let mut table = Table::default();
            let told = table.add_host(name).unwrap_err();
            assert_eq!(told, problem, "{name}");
            assert!(table.is_empty());
        }
        let mut table = table(&[&["a.example", "*.b.example"]]);
        assert_eq!(table.add_host("A.EXAMPLE."), Err(BadName::Taken));
        assert_eq!(table.add_name("*.B.example"), Err(BadName::Taken));
        assert_eq!(table.hosts().len(), 1);
    }

    #[test]
    fn arguments_of_host() {
        let domain = |name: &str| Some(Named::Domain(name.to_owned()));
        let address = |text: &str| Some(Named::Address(text.parse().unwrap()));
        for (argument, expected) in [
            ("ftp.example.com", domain("ftp.example.com")),
            ("FTP.example.com.", domain("FTP.example.com.")),
            ("xn--mnchen-3ya.example", domain("xn--mnchen-3ya.example")),
            ("localhost", domain("localhost")),
            ("192.0.2.1", address("192.0.2.1")),
            ("[2001:db8::1]", address("2001:db8::1")),
            ("[::ffff:192.0.2.1]", address("192.0.2.1")),
            ("2001:db8::1", None),
            ("[192.0.2.1]", None),
            ("[::1", None),
            ("ftp.example.com:21", None),
            ("[::1]:21", None),
            ("a b", None),
            ("a..b", None),
            (".", None),
            ("*.example.com", None),
            ("münchen.example", None),
        ] {
            assert_eq!(Named::parse(argument.as_bytes()), expected, "{argument}");
        }
        assert_eq!(Named::parse(b"\xff"), None);
    }
}
