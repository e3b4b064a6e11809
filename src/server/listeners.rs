//! The listening sockets: bound here, passed by a supervisor (socket activation), or handed over by the process
//! that this one replaces.
//!
//! A socket that came from elsewhere is used as it is. Each core gets one of its own where there are enough; where
//! there are fewer, cores share one. Siblings (SO_REUSEPORT) are never opened beside a socket of a supervisor: what
//! waits in the queue of a sibling is reset when the server ends, while the supervisor's queue stays.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::proto::session::ChannelKind;
use crate::sys::{activation, socket};

/// Connections that may wait to be accepted on one listener (the kernel caps it at
/// net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Control connections that begin in the clear.
    Explicit,
    /// Control connections that begin with TLS.
    Implicit,
    /// `/metrics` and `/healthz`.
    Metrics,
}

impl Role {
    /// Its name in socket units and between two processes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Implicit => "implicit",
            Self::Metrics => "metrics",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let roles = [Self::Explicit, Self::Implicit, Self::Metrics];
        roles.into_iter().find(|role| role.name() == name)
    }

    const fn kind(self) -> Option<ChannelKind> {
        match self {
            Self::Explicit => Some(ChannelKind::Explicit),
            Self::Implicit => Some(ChannelKind::Implicit),
            Self::Metrics => None,
        }
    }
}

/// Who opened a socket that this process did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// systemd or another supervisor, which keeps it open: where it listens is for that one to say.
    Supervisor,
    /// A process that this one replaces: it is used if it listens where this one is told to.
    Server,
}

impl Opener {
    /// Its name between two processes.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Server => "server",
        }
    }

    /// The opener of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Supervisor, Self::Server]
            .into_iter()
            .find(|opener| opener.name() == name)
    }
}

/// A listening socket that this process did not open, or that it offers to another.
#[derive(Debug)]
pub struct Passed {
    /// The socket.
    pub fd: OwnedFd,
    /// What it is for.
    pub role: Role,
    /// Where it listens.
    pub address: SocketAddr,
    /// Who opened it.
    pub opener: Opener,
}

impl Passed {
    fn of(&self, role: Role, address: SocketAddr) -> bool {
        self.role == role && self.address == address
    }

    fn again(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            ..*self
        })
    }
}

/// One core's part of a listener.
#[derive(Debug)]
pub(super) struct CoreListener {
    pub(super) fd: OwnedFd,
    pub(super) kind: ChannelKind,
    /// Other cores wait for connections on the same socket.
    pub(super) shared: bool,
}

/// Listeners for every core, opened while the process still had the right to.
#[derive(Debug)]
pub struct Listeners {
    pub(super) cores: Vec<Vec<CoreListener>>,
    /// All of them once, and the one for metrics: for the process that will replace this one.
    pub(super) offers: Vec<Passed>,
    /// The explicit addresses, with the ports that the system chose for 0.
    pub explicit: Vec<SocketAddr>,
    /// The implicit ones.
    pub implicit: Vec<SocketAddr>,
}

impl Listeners {
    /// Takes from `passed` what fits, and binds what is missing once for each core (SO_REUSEPORT), so that the
    /// kernel spreads connections over the cores. Where a supervisor passed sockets of a role, those are all of that
    /// role. What is left in `passed` has no use here.
    ///
    /// # Errors
    /// The address that could not be bound, and why.
    pub fn gather(
        explicit: &[SocketAddr],
        implicit: &[SocketAddr],
        cores: usize,
        passed: &mut Vec<Passed>,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let mut listeners = Self {
            cores: (0..cores.max(1)).map(|_| Vec::new()).collect(),
            offers: Vec::new(),
            explicit: Vec::new(),
            implicit: Vec::new(),
        };
        listeners.explicit = listeners.open(Role::Explicit, explicit, passed)?;
        listeners.implicit = listeners.open(Role::Implicit, implicit, passed)?;
        Ok(listeners)
    }

    /// Takes the socket for metrics from `passed`, for this address if a server opened it.
    pub fn take_metrics(wanted: Option<SocketAddr>, passed: &mut Vec<Passed>) -> Option<Passed> {
        let fits = |passed: &Passed| match passed.opener {
            _ if passed.role != Role::Metrics => false,
            Opener::Supervisor => true,
            Opener::Server => wanted.is_some_and(|wanted| fits(wanted, passed.address)),
        };
        let place = passed.iter().position(fits);
        place.map(|place| passed.swap_remove(place))
    }

    /// Offers the socket for metrics to the process that will replace this one.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn offer_metrics(
        &mut self,
        listener: &std::net::TcpListener,
        opener: Opener,
    ) -> io::Result<()> {
        let address = listener.local_addr()?;
        self.offers.push(Passed {
            fd: listener.try_clone()?.into(),
            role: Role::Metrics,
            address,
            opener,
        });
        Ok(())
    }

    fn open(
        &mut self,
        role: Role,
        wanted: &[SocketAddr],
        passed: &mut Vec<Passed>,
    ) -> Result<Vec<SocketAddr>, (SocketAddr, io::Error)> {
        let mut given: Vec<SocketAddr> = Vec::new();
        for socket in passed.iter() {
            let fits = socket.role == role && socket.opener == Opener::Supervisor;
            if fits && !given.contains(&socket.address) {
                given.push(socket.address);
            }
        }
        let by_supervisor = !given.is_empty();
        let wanted = if by_supervisor {
            given.as_slice()
        } else {
            wanted
        };
        let mut opened: Vec<SocketAddr> = Vec::new();
        for address in wanted {
            let there = passed.iter().map(|socket| (socket.role, socket.address));
            // A port that the system chose for the process before is as good as another.
            let found = there
                .filter(|(of, found)| *of == role && fits(*address, *found))
                .map(|(_, found)| found)
                .find(|found| !opened.contains(found));
            let bound = match found {
                Some(found) => {
                    let (sockets, rest) = std::mem::take(passed)
                        .into_iter()
                        .partition(|socket| socket.of(role, found));
                    *passed = rest;
                    self.place(sockets).map_err(|error| (found, error))?;
                    found
                }
                None => self
                    .bind(*address, role)
                    .map_err(|error| (*address, error))?,
            };
            opened.push(bound);
        }
        Ok(opened)
    }

    /// Gives the cores what was passed of one address; opens siblings for cores that have none where a server did so.
    fn place(&mut self, mut sockets: Vec<Passed>) -> io::Result<()> {
        let cores = self.cores.len();
        if let Some(first) = sockets
            .first()
            .filter(|first| first.opener == Opener::Server && activation::is_shared(&first.fd))
        {
            let (role, address, opener) = (first.role, first.address, first.opener);
            while sockets.len() < cores {
                // Another account opened the first: cores share then.
                let Ok(fd) = socket::listen(address, BACKLOG, true) else {
                    break;
                };
                sockets.push(Passed {
                    fd,
                    role,
                    address,
                    opener,
                });
            }
        }
        let many = sockets.len();
        let shared = many < cores;
        for (place, socket) in (0..many.max(cores)).zip(sockets.iter().cycle()) {
            let Some(kind) = socket.role.kind() else {
                continue;
            };
            let fd = socket.fd.try_clone()?;
            socket::tune_control(&fd);
            if let Some(core) = self.cores.get_mut(place % cores) {
                core.push(CoreListener { fd, kind, shared });
            }
        }
        self.offers.append(&mut sockets);
        Ok(())
    }

    fn bind(&mut self, address: SocketAddr, role: Role) -> io::Result<SocketAddr> {
        // Without SO_REUSEPORT first: another server on this address is an error to be told, not
        // somebody to share the clients with.
        if address.port() != 0 {
            drop(socket::listen(address, BACKLOG, false)?);
        }
        let mut bound = address;
        let mut sockets = Vec::new();
        for _ in 0..self.cores.len() {
            let fd = socket::listen(bound, BACKLOG, true)?;
            bound = socket::local_address(&fd)?;
            sockets.push(Passed {
                fd,
                role,
                address: bound,
                opener: Opener::Server,
            });
        }
        self.place(sockets)?;
        Ok(bound)
    }
}

/// Copies for another process, as many as there are descriptors for.
pub(super) fn copies(offers: &[Passed]) -> io::Result<Vec<Passed>> {
    offers.iter().map(Passed::again).collect()
}

/// Whether a socket listens where it should; port 0 is any.
fn fits(wanted: SocketAddr, found: SocketAddr) -> bool {
    wanted == found || (wanted.port() == 0 && wanted.ip() == found.ip())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const ANY: &str = "127.0.0.1:0";

    fn addresses(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn passed(role: Role, opener: Opener) -> Passed {
        let listener = TcpListener::bind(ANY).unwrap();
        let address = listener.local_addr().unwrap();
        let fd = listener.into();
        Passed {
            fd,
            role,
            address,
            opener,
        }
    }

    fn shape(listeners: &Listeners) -> Vec<Vec<(ChannelKind, bool)>> {
        let core = |core: &Vec<CoreListener>| core.iter().map(|l| (l.kind, l.shared)).collect();
        listeners.cores.iter().map(core).collect()
    }

    #[test]
    fn what_a_supervisor_passed_replaces_the_addresses_of_its_role_and_is_shared() {
        let mut sockets = vec![passed(Role::Explicit, Opener::Supervisor)];
        let address = sockets[0].address;
        let any = addresses(&[ANY]);
        let listeners = Listeners::gather(&any, &any, 3, &mut sockets).unwrap();
        assert_eq!(listeners.explicit, [address]);
        assert!(sockets.is_empty());
        // Cores share the one socket, and have one each of those that were bound here.
        let core = vec![
            (ChannelKind::Explicit, true),
            (ChannelKind::Implicit, false),
        ];
        assert_eq!(shape(&listeners), vec![core; 3]);
        assert_eq!(listeners.offers.len(), 1 + 3);
    }

    #[test]
    fn each_core_has_a_socket_of_its_own_where_there_are_enough() {
        let mut sockets: Vec<Passed> = Vec::new();
        let first = Listeners::gather(&addresses(&[ANY]), &[], 3, &mut sockets).unwrap();
        let mut handed = copies(&first.offers).unwrap();
        // Fewer cores than before: none of the queues is forgotten.
        let second = Listeners::gather(&addresses(&[ANY]), &[], 2, &mut handed).unwrap();
        assert_eq!(second.explicit, first.explicit);
        let one = (ChannelKind::Explicit, false);
        assert_eq!(shape(&second), [vec![one, one], vec![one]]);
        // More: siblings are opened beside those that there are.
        let mut handed = copies(&second.offers).unwrap();
        let third = Listeners::gather(&first.explicit, &[], 5, &mut handed).unwrap();
        assert_eq!(shape(&third), vec![vec![one]; 5]);
        assert_eq!(third.offers.len(), 5);
        assert!(handed.is_empty());
    }

    #[test]
    fn a_socket_of_another_address_or_role_is_left() {
        let mut sockets = vec![
            passed(Role::Implicit, Opener::Server),
            passed(Role::Explicit, Opener::Server),
            passed(Role::Metrics, Opener::Server),
        ];
        let implicit = sockets[0].address;
        let other = addresses(&["127.0.0.2:0"]);
        let listeners = Listeners::gather(&other, &addresses(&[ANY]), 1, &mut sockets).unwrap();
        assert_eq!(listeners.explicit[0].ip(), other[0].ip());
        assert_eq!(listeners.implicit, [implicit]);
        assert_eq!(sockets.len(), 2);
        let metrics = Listeners::take_metrics(Some(other[0]), &mut sockets);
        assert!(metrics.is_none());
        let metrics = Listeners::take_metrics(Some(addresses(&[ANY])[0]), &mut sockets);
        assert_eq!(metrics.unwrap().role, Role::Metrics);
        assert_eq!(sockets.len(), 1);
    }

    #[test]
    fn an_address_in_use_is_told() {
        let taken = TcpListener::bind(ANY).unwrap().local_addr().unwrap();
        let _taken = TcpListener::bind(taken).unwrap();
        let (address, error) = Listeners::gather(&[taken], &[], 1, &mut Vec::new()).unwrap_err();
        assert_eq!((address, error.kind()), (taken, io::ErrorKind::AddrInUse));
    }

    #[test]
    fn names_go_both_ways() {
        for role in [Role::Explicit, Role::Implicit, Role::Metrics] {
            assert_eq!(Role::named(role.name()), Some(role));
        }
        for opener in [Opener::Supervisor, Opener::Server] {
            assert_eq!(Opener::named(opener.name()), Some(opener));
        }
        assert_eq!(Role::named("control"), None);
    }
}
