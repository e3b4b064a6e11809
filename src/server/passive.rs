//! The addresses that PASV names, where they are given as names: looked up on the pool for blocking work,
//! again and again, and handed to the cores when they change.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::Command;
use crate::limits;
use crate::proto::network::{Network, Reach};
use crate::proto::passive::PassiveAddresses;
use crate::rt;

/// What PASV names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PassiveTarget {
    /// The control connection's own address.
    #[default]
    Own,
    /// This address.
    Address(Ipv4Addr),
    /// The address that this DNS name has at the time.
    Name(String),
}

/// What PASV names to whom, as the operator gave it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PassivePlan {
    /// To clients of these networks; the longest prefix wins.
    pub networks: Vec<(Network, PassiveTarget)>,
    /// To others.
    pub others: PassiveTarget,
}

impl PassivePlan {
    fn names(&self) -> Vec<String> {
        let targets = self.networks.iter().map(|(_, target)| target);
        let names = targets
            .chain([&self.others])
            .filter_map(|target| match target {
                PassiveTarget::Name(name) => Some(name.clone()),
                PassiveTarget::Own | PassiveTarget::Address(_) => None,
            });
        names
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }
}

/// What a lookup found: the IPv4 addresses of a name, or why there are none.
type Answer = Result<Vec<Ipv4Addr>, String>;

/// The plan, with what is known of its names.
#[derive(Debug, Clone, Default)]
pub struct PassiveNames {
    plan: PassivePlan,
    known: BTreeMap<String, Ipv4Addr>,
    /// Why the last lookup of a name was of no use: told when it begins and when it changes.
    problems: BTreeMap<String, String>,
}

impl PassiveNames {
    /// A plan of whose names nothing is known: until then they stand for the connection's own address.
    #[must_use]
    pub fn new(plan: PassivePlan) -> Self {
        Self {
            plan,
            ..Self::default()
        }
    }

    /// Looks all names up for the first time, for a few seconds at most: what is not known by then
    /// follows later. It blocks, so it is for the start.
    pub fn look_up_first(&mut self) {
        let names = self.plan.names();
        if names.is_empty() {
            return;
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        // Where there is no thread to be had there is no answer either, and it is asked again later.
        let _ = std::thread::Builder::new().spawn(move || {
            for name in names {
                let answer = look_up(&name);
                // Perhaps nobody waits any more.
                let _ = sender.send((name, answer));
            }
        });
        let started = rt::now();
        let mut answers = Vec::new();
        while let Some(rest) = limits::PASSIVE_NAME_FIRST_TIME
            .checked_sub(rt::now().saturating_duration_since(started))
            && let Ok(answer) = receiver.recv_timeout(rest)
        {
            answers.push(answer);
        }
        for name in self.plan.names() {
            if !answers.iter().any(|(answered, _)| *answered == name) {
                answers.push((name, Err("no answer in time".to_owned())));
            }
        }
        self.learn(answers);
    }

    /// The addresses as far as they are known.
    #[must_use]
    pub fn addresses(&self) -> PassiveAddresses {
        let address = |target: &PassiveTarget| match target {
            PassiveTarget::Own => None,
            PassiveTarget::Address(address) => Some(*address),
            PassiveTarget::Name(name) => self.known.get(name).copied(),
        };
        let networks = self.plan.networks.iter();
        PassiveAddresses::new(
            networks.map(|(network, target)| (*network, address(target))),
            address(&self.plan.others),
        )
    }

    /// Takes answers; tells whether an address is another now. The last good one stays where there is no
    /// better.
    fn learn(&mut self, answers: Vec<(String, Answer)>) -> bool {
        let mut changed = false;
        for (name, answer) in answers {
            let known = self.known.get(&name).copied();
            let usable = answer.and_then(|found| usable(found, known));
            let address = match usable {
                Ok(address) => address,
                Err(problem) => {
                    self.complain(name, problem, known);
                    continue;
                }
            };
            let mended = self.problems.remove(&name).is_some();
            if mended || Some(address) != known {
                info!(name, %address, "PASV names the address of this name");
            }
            if Some(address) != known {
                self.known.insert(name, address);
                changed = true;
            }
        }
        changed
    }

    fn complain(&mut self, name: String, problem: String, known: Option<Ipv4Addr>) {
        if self.problems.get(&name) == Some(&problem) {
            return;
        }
        match known {
            Some(address) => warn!(
                name, problem, %address,
                "the name in --passive-address was not resolved: its last address stays in use"
            ),
            None => warn!(
                name,
                problem,
                "the name in --passive-address was not resolved: PASV names the connection's own address \
                 until it is; check the name with `getent ahostsv4 NAME`, and /etc/resolv.conf"
            ),
        }
        self.problems.insert(name, problem);
    }

    fn all_known(&self) -> bool {
        self.plan
            .names()
            .iter()
            .all(|name| self.known.contains_key(name))
    }
}

/// The address to take of those found: the one in use, as long as it is among them, because many servers of
/// names turn the order with each answer.
fn usable(found: Vec<Ipv4Addr>, known: Option<Ipv4Addr>) -> Result<Ipv4Addr, String> {
    let mut good = found
        .iter()
        .filter(|address| Reach::of(**address) != Reach::Nobody);
    match known
        .filter(|known| found.contains(known))
        .or_else(|| good.next().copied())
    {
        Some(address) => Ok(address),
        None if found.is_empty() => Err("it has no IPv4 address".to_owned()),
        None => Err(format!("no host can have the address {found:?}")),
    }
}

/// Blocks as long as the system's resolver does.
fn look_up(name: &str) -> Answer {
    let found = (name, 0)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    let addresses = found.filter_map(|address| match address.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    Ok(addresses.collect())
}

/// Keeps the names up to date. What is sent is the plan from then on.
pub(super) fn start(
    names: PassiveNames,
    cores: Vec<mpsc::UnboundedSender<Command>>,
) -> watch::Sender<PassivePlan> {
    let (plans, plan) = watch::channel(names.plan.clone());
    tokio::spawn(keep(names, plan, cores));
    plans
}

/// After a reload: has the names looked up again, those of another plan if there is one.
pub(super) fn renew(plans: &watch::Sender<PassivePlan>, names: Option<&PassiveNames>) {
    plans.send_modify(|plan| {
        if let Some(names) = names {
            plan.clone_from(&names.plan);
        }
    });
}

/// Looks the names up now and then, at once when a plan comes, be it the same, and tells the cores what has changed.
async fn keep(
    mut names: PassiveNames,
    mut plans: watch::Receiver<PassivePlan>,
    cores: Vec<mpsc::UnboundedSender<Command>>,
) {
    let tell = |names: &PassiveNames| {
        let addresses = Arc::new(names.addresses());
        for core in &cores {
            // A core that has ended needs none.
            let _ = core.send(Command::PassiveAddresses(Arc::clone(&addresses)));
        }
    };
    loop {
        let wait = match names.all_known() {
            true => limits::PASSIVE_NAME_INTERVAL,
            false => limits::PASSIVE_NAME_RETRY_INTERVAL,
        };
        match tokio::time::timeout(wait, plans.changed()).await {
            Ok(Ok(())) => {
                let plan = plans.borrow_and_update().clone();
                if plan != names.plan {
                    names.plan = plan;
                    tell(&names);
                }
            }
            // The server ends.
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        let asked = names.plan.names();
        if asked.is_empty() {
            continue;
        }
        let answers = rt::blocking(move || {
            let answers = asked.into_iter().map(|name| {
                let answer = look_up(&name);
                (name, answer)
            });
            answers.collect()
        });
        if names.learn(answers.await) {
            tell(&names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(others: &str) -> PassiveNames {
        PassiveNames::new(PassivePlan {
            networks: vec![("10.0.0.0/8".parse().unwrap(), PassiveTarget::Own)],
            others: PassiveTarget::Name(others.to_owned()),
        })
    }

    fn answer(names: &mut PassiveNames, answer: Result<&[&str], &str>) -> bool {
        let answer = answer.map(|found| found.iter().map(|one| one.parse().unwrap()).collect());
        names.learn(vec![(
            "ftp.example.net".to_owned(),
            answer.map_err(str::to_owned),
        )])
    }

    fn told(names: &PassiveNames, client: [u8; 4]) -> Option<String> {
        let told = names.addresses().told(client.into());
        told.map(|address| address.to_string())
    }

    const OUTSIDE: [u8; 4] = [203, 0, 113, 9];

    #[test]
    fn the_last_good_address_stays() {
        let mut names = names("ftp.example.net");
        assert_eq!(told(&names, OUTSIDE), None);
        assert!(!names.all_known());
        assert!(!answer(&mut names, Err("no such name")));
        assert_eq!(told(&names, OUTSIDE), None);
        assert!(answer(&mut names, Ok(&["192.0.2.1", "192.0.2.2"])));
        assert!(names.all_known());
        assert_eq!(told(&names, OUTSIDE).as_deref(), Some("192.0.2.1"));
        assert_eq!(told(&names, [10, 1, 1, 1]), None);
        for bad in [
            Err("timed out"),
            Ok(&[][..]),
            Ok(&["0.0.0.0", "224.0.0.1"][..]),
        ] {
            assert!(!answer(&mut names, bad));
            assert_eq!(told(&names, OUTSIDE).as_deref(), Some("192.0.2.1"));
        }
        // The order turns: no change.
        assert!(!answer(&mut names, Ok(&["192.0.2.2", "192.0.2.1"])));
        assert!(answer(&mut names, Ok(&["255.255.255.255", "192.0.2.2"])));
        assert_eq!(told(&names, OUTSIDE).as_deref(), Some("192.0.2.2"));
    }

    #[test]
    fn the_system_resolves_names() {
        let mut names = names("localhost");
        names.look_up_first();
        assert_eq!(told(&names, OUTSIDE).as_deref(), Some("127.0.0.1"));
    }
}
