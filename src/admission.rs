//! How many connections and sessions there may be: in all, for each address, for each user.
//!
//! The counts are shared by all cores. The total is an atomic; the counts by address and by user
//! are behind a lock that is taken once when a connection or a login begins and once when it ends,
//! and not at all where no such limit is set.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The limits; 0 means none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Control connections of the whole server.
    pub connections_max: usize,
    /// Control connections from one address (IPv6: from one /64, which is one site's).
    pub connections_per_address_max: usize,
    /// Sessions of one user.
    pub sessions_per_user_max: usize,
}

/// The counts, shared by all cores.
#[derive(Debug, Default)]
pub struct Admission {
    connections_max: AtomicUsize,
    connections_per_address_max: AtomicUsize,
    sessions_per_user_max: AtomicUsize,
    connections: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    users: Mutex<HashMap<String, usize>>,
}

/// A connection that was let in; leaving is dropping it.
#[derive(Debug)]
pub struct ConnectionPermit {
    admission: Arc<Admission>,
    /// `None` when there was no limit by address.
    address: Option<IpAddr>,
}

/// A login that was let in; leaving is dropping it.
#[derive(Debug)]
pub struct UserPermit {
    admission: Arc<Admission>,
    /// `None` when there was no limit by user.
    user: Option<String>,
}

impl Admission {
    /// Nobody is in yet.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        let admission = Self::default();
        admission.set_limits(limits);
        Arc::new(admission)
    }

    /// Puts other limits into force; nobody who is in has to leave. Counts go on, but a limit by address or
    /// user where there was none counts only those who come from now on.
    pub fn set_limits(&self, limits: Limits) {
        let set = |value: &AtomicUsize, limit| value.store(limit, Ordering::Relaxed);
        set(&self.connections_max, limits.connections_max);
        set(
            &self.connections_per_address_max,
            limits.connections_per_address_max,
        );
        set(&self.sessions_per_user_max, limits.sessions_per_user_max);
    }

    /// Lets a connection in, unless the server or its address has as many as it may.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        let address = site(address);
        let limit = self.connections_max.load(Ordering::Relaxed);
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let per_address = self.connections_per_address_max.load(Ordering::Relaxed);
        if (limit == 0 || before < limit) && enter(&self.addresses, &address, per_address) {
            return Some(ConnectionPermit {
                admission: Arc::clone(self),
                address: (per_address != 0).then_some(address),
            });
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Lets a user in, unless there are as many sessions of that name as there may be.
    #[must_use]
    pub fn enter_user(self: &Arc<Self>, user: &str) -> Option<UserPermit> {
        let user = user.to_owned();
        let limit = self.sessions_per_user_max.load(Ordering::Relaxed);
        enter(&self.users, &user, limit).then(|| UserPermit {
            admission: Arc::clone(self),
            user: (limit != 0).then_some(user),
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
        if let Some(address) = &self.address {
            leave(&self.admission.addresses, address);
        }
    }
}

impl Drop for UserPermit {
    fn drop(&mut self) {
        if let Some(user) = &self.user {
            leave(&self.admission.users, user);
        }
    }
}

/// What counts as one address: an IPv4 address, also in its mapped form, or an IPv6 /64.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
    }
}

fn enter<K: Hash + Eq + Clone>(counts: &Mutex<HashMap<K, usize>>, key: &K, limit: usize) -> bool {
    if limit == 0 {
        return true;
    }
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(key.clone()).or_insert(0);
    if *count >= limit {
        return false;
    }
    *count += 1;
    true
}

fn leave<K: Hash + Eq>(counts: &Mutex<HashMap<K, usize>>, key: &K) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_kept_and_given_back() {
        let limits = Limits {
            connections_max: 3,
            connections_per_address_max: 2,
            sessions_per_user_max: 1,
        };
        let admission = Admission::new(limits);
        let here: IpAddr = [127, 0, 0, 1].into();
        let there: IpAddr = [127, 0, 0, 2].into();
        let first = admission.enter(here).expect("below every limit");
        let _second = admission.enter(here).expect("below every limit");
        assert!(admission.enter(here).is_none(), "third of one address");
        assert_eq!(admission.connections(), 2);
        let _third = admission.enter(there).expect("another address");
        assert!(
            admission.enter([127, 0, 0, 3].into()).is_none(),
            "fourth in all"
        );
        drop(first);
        let _again = admission.enter(here).expect("one has left");

        let user = admission.enter_user("ann").expect("first");
        assert!(admission.enter_user("ann").is_none());
        assert!(admission.enter_user("bob").is_some());
        drop(user);
        assert!(admission.enter_user("ann").is_some());
    }

    #[test]
    fn limits_change_without_losing_count() {
        let admission = Admission::new(Limits::default());
        let here: IpAddr = [127, 0, 0, 1].into();
        let uncounted = admission.enter(here).expect("no limit");
        let user_uncounted = admission.enter_user("ann").expect("no limit");
        admission.set_limits(Limits {
            connections_max: 3,
            connections_per_address_max: 1,
            sessions_per_user_max: 1,
        });
        let _first = admission.enter(here).expect("the first that counts");
        let _user = admission.enter_user("ann").expect("the first that counts");
        // What was not counted when it came takes nothing away when it goes.
        drop((uncounted, user_uncounted));
        assert!(admission.enter(here).is_none());
        assert!(admission.enter_user("ann").is_none());
        admission.set_limits(Limits::default());
        assert!(admission.enter(here).is_some());
        assert!(admission.enter_user("ann").is_some());
    }

    #[test]
    fn an_ipv6_site_and_a_mapped_address_count_as_one() {
        let limits = Limits {
            connections_per_address_max: 1,
            ..Limits::default()
        };
        let admission = Admission::new(limits);
        let _first = admission.enter("2001:db8::1".parse().expect("an address"));
        assert!(
            admission
                .enter("2001:db8::2".parse().expect("an address"))
                .is_none()
        );
        assert!(
            admission
                .enter("2001:db8:0:1::2".parse().expect("an address"))
                .is_some()
        );
        let _mapped = admission.enter("::ffff:192.0.2.1".parse().expect("an address"));
        assert!(
            admission
                .enter("192.0.2.1".parse().expect("an address"))
                .is_none()
        );
    }
}
