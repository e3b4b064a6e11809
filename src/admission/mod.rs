//! Who may come in: how many connections and sessions there may be, in all, for each address, for each user; which networks;
//! and who failed to log in too often.
//!
//! The counts are shared by all cores. The total is an atomic; the counts by address and by user are behind a lock that is taken once
//! when a connection or a login begins and once when it ends. They are kept whether there is a limit or not, so that limits can
//! change at any time.

mod guard;
mod networks;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::proto::network::Network;

pub use guard::{Ban, BanPolicy, Failed, Guard};
pub use networks::AccessList;

/// The limits; 0 means none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Control connections of the whole server.
    pub connections_max: usize,
    /// Control connections from one address (IPv6: from one /64, which is one site's).
    pub connections_per_address_max: usize,
    /// Sessions of one user, unless the user has a limit of its own.
    pub sessions_per_user_max: usize,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its network is not allowed.
    Denied,
    /// Too many failed logins came from there.
    Banned,
    /// The server has as many as it may.
    ServerFull,
    /// Its address has as many as it may.
    AddressFull,
}

/// The counts, shared by all cores.
#[derive(Debug)]
pub struct Admission {
    connections_max: AtomicUsize,
    connections_per_address_max: AtomicUsize,
    sessions_per_user_max: AtomicUsize,
    connections: AtomicUsize,
    addresses: Mutex<HashMap<Network, usize>>,
    users: Mutex<HashMap<String, usize>>,
    /// Whether the list says anything: else its lock is left alone.
    listed: AtomicBool,
    access: Mutex<Arc<AccessList>>,
    guard: Guard,
}

/// A connection that was let in; leaving is dropping it.
#[derive(Debug)]
pub struct ConnectionPermit {
    admission: Arc<Admission>,
    client: Network,
}

/// A login that was let in; leaving is dropping it.
#[derive(Debug)]
pub struct UserPermit {
    admission: Arc<Admission>,
    user: String,
}

impl Admission {
    /// Nobody is in yet, and nobody has failed.
    #[must_use]
    pub fn new(limits: Limits, access: AccessList, bans: BanPolicy, now: Instant) -> Arc<Self> {
        let admission = Self {
            connections_max: AtomicUsize::new(0),
            connections_per_address_max: AtomicUsize::new(0),
            sessions_per_user_max: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            addresses: Mutex::default(),
            users: Mutex::default(),
            listed: AtomicBool::new(false),
            access: Mutex::default(),
            guard: Guard::new(bans, now),
        };
        admission.set_limits(limits);
        admission.set_access(access);
        Arc::new(admission)
    }

    /// Changes the limits. Nobody who is in has to leave, and all go on being counted.
    pub fn set_limits(&self, limits: Limits) {
        let set = |to: &AtomicUsize, limit| to.store(limit, Ordering::Relaxed);
        set(&self.connections_max, limits.connections_max);
        set(
            &self.connections_per_address_max,
            limits.connections_per_address_max,
        );
        set(&self.sessions_per_user_max, limits.sessions_per_user_max);
    }

    /// Changes who may connect from now on.
    pub fn set_access(&self, access: AccessList) {
        let listed = !access.is_empty();
        *lock(&self.access) = Arc::new(access);
        self.listed.store(listed, Ordering::Release);
    }

    /// Who failed to log in.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// Why not.
    pub fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Result<ConnectionPermit, Refused> {
        self.check(address, now)?;
        self.count(address)
    }

    /// Lets a connection of a trusted proxy in that speaks for nobody: its address is not judged, because nobody's
    /// failures but those of all clients together would shut it out, only counted.
    ///
    /// # Errors
    /// Why not.
    pub fn enter_trusted(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionPermit, Refused> {
        self.count(address)
    }

    fn check(&self, address: IpAddr, now: Instant) -> Result<(), Refused> {
        if self.listed.load(Ordering::Acquire) {
            let access = Arc::clone(&lock(&self.access));
            if !access.allows(address) {
                return Err(Refused::Denied);
            }
        }
        if self.guard.banned(address, now).is_some() {
            return Err(Refused::Banned);
        }
        Ok(())
    }

    fn count(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionPermit, Refused> {
        let limit = self.connections_max.load(Ordering::Relaxed);
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let client = Network::client(address);
        let per_address = self.connections_per_address_max.load(Ordering::Relaxed);
        let refused = if limit != 0 && before >= limit {
            Refused::ServerFull
        } else if enter(&self.addresses, &client, per_address) {
            return Ok(ConnectionPermit {
                admission: Arc::clone(self),
                client,
            });
        } else {
            Refused::AddressFull
        };
        self.connections.fetch_sub(1, Ordering::Relaxed);
        Err(refused)
    }

    /// Lets a user in, unless there are as many sessions of that name as there may be: `own_max` of that user, or those of
    /// everybody. 0 means any number.
    #[must_use]
    pub fn enter_user(self: &Arc<Self>, user: &str, own_max: Option<usize>) -> Option<UserPermit> {
        let user = user.to_owned();
        let limit = own_max.unwrap_or_else(|| self.sessions_per_user_max.load(Ordering::Relaxed));
        enter(&self.users, &user, limit).then(|| UserPermit {
            admission: Arc::clone(self),
            user,
        })
    }

    /// Control connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
        leave(&self.admission.addresses, &self.client);
    }
}

impl Drop for UserPermit {
    fn drop(&mut self) {
        leave(&self.admission.users, &self.user);
    }
}

fn enter<K: Hash + Eq + Clone>(counts: &Mutex<HashMap<K, usize>>, key: &K, limit: usize) -> bool {
    let mut counts = lock(counts);
    let count = counts.get(key).copied().unwrap_or(0);
    if limit != 0 && count >= limit {
        return false;
    }
    counts.insert(key.clone(), count + 1);
    true
}

fn leave<K: Hash + Eq>(counts: &Mutex<HashMap<K, usize>>, key: &K) {
    let mut counts = lock(counts);
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BANS: BanPolicy = BanPolicy {
        address_failures_max: 2,
        network_failures_max: 0,
        window: Duration::from_secs(60),
        time: Duration::from_secs(60),
    };

    #[expect(clippy::disallowed_methods, reason = "a test begins some time")]
    fn admission(limits: Limits) -> (Arc<Admission>, Instant) {
        let now = Instant::now();
        (
            Admission::new(limits, AccessList::default(), BANS, now),
            now,
        )
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_limit_is_kept_and_given_back() {
        let (admission, now) = admission(Limits {
            connections_max: 3,
            connections_per_address_max: 2,
            sessions_per_user_max: 1,
        });
        let enter = |who: &str| admission.enter(address(who), now);
        let first = enter("127.0.0.1").unwrap();
        let _second = enter("127.0.0.1").unwrap();
        assert_eq!(enter("127.0.0.1").unwrap_err(), Refused::AddressFull);
        assert_eq!(admission.connections(), 2);
        let _third = enter("127.0.0.2").unwrap();
        assert_eq!(enter("127.0.0.3").unwrap_err(), Refused::ServerFull);
        drop(first);
        let _again = enter("127.0.0.1").unwrap();

        let user = admission.enter_user("ann", None).unwrap();
        assert!(admission.enter_user("ann", None).is_none());
        assert!(admission.enter_user("bob", None).is_some());
        drop(user);
        assert!(admission.enter_user("ann", None).is_some());
    }

    #[test]
    fn a_user_may_have_a_limit_of_its_own() {
        let (admission, _) = admission(Limits {
            sessions_per_user_max: 1,
            ..Limits::default()
        });
        let two: Vec<_> = (0..3)
            .map(|_| admission.enter_user("ann", Some(2)))
            .collect();
        assert_eq!(two.iter().flatten().count(), 2);
        let any: Vec<_> = (0..9)
            .map(|_| admission.enter_user("bob", Some(0)))
            .collect();
        assert_eq!(any.iter().flatten().count(), 9);
    }

    #[test]
    fn an_ipv6_site_and_a_mapped_address_count_as_one() {
        let (admission, now) = admission(Limits {
            connections_per_address_max: 1,
            ..Limits::default()
        });
        let enter = |who: &str| admission.enter(address(who), now);
        let _first = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::2").is_err());
        assert!(enter("2001:db8:0:1::2").is_ok());
        let _mapped = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_err());
    }

    #[test]
    fn new_limits_count_those_who_came_before() {
        let (admission, now) = admission(Limits::default());
        let here = address("192.0.2.1");
        let permits: Vec<_> = (0..3)
            .map(|_| admission.enter(here, now).unwrap())
            .collect();
        let user = admission.enter_user("ann", None).unwrap();
        admission.set_limits(Limits {
            connections_max: 0,
            connections_per_address_max: 3,
            sessions_per_user_max: 1,
        });
        assert_eq!(
            admission.enter(here, now).unwrap_err(),
            Refused::AddressFull
        );
        assert!(admission.enter_user("ann", None).is_none());
        drop((permits, user));
        assert!(admission.enter(here, now).is_ok());
        assert!(admission.enter_user("ann", None).is_some());
        assert_eq!(admission.connections(), 0);
        assert!(lock(&admission.addresses).is_empty());
    }

    #[test]
    fn lists_and_bans_come_before_counts() {
        let (admission, now) = admission(Limits::default());
        let here = address("192.0.2.1");
        admission.set_access(AccessList::new(&[], &["192.0.2.0/24".parse().unwrap()]));
        assert_eq!(admission.enter(here, now).unwrap_err(), Refused::Denied);
        admission.set_access(AccessList::default());
        assert!(admission.enter(here, now).is_ok());
        admission.guard().failed(here, b"ann", now);
        admission.guard().failed(here, b"ann", now);
        assert_eq!(admission.enter(here, now).unwrap_err(), Refused::Banned);
        assert!(admission.enter(here, now + BANS.time).is_ok());
    }
}
