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
    limits: Limits,
    connections: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    users: Mutex<HashMap<String, usize>>,
}

/// A connection that was let in; leaving is dropping it.
#[derive(Debug)]
pub struct ConnectionPermit {
    admission: Arc<Admission>,
    address: IpAddr,
}

/// A login that was let in; leaving is dropping it.
#[derive(Debug)]
pub struct UserPermit {
    admission: Arc<Admission>,
    user: String,
}

impl Admission {
    /// Nobody is in yet.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            ..Self::default()
        })
    }

    /// Lets a connection in, unless the server or its address has as many as it may.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        let address = site(address);
        let limit = self.limits.connections_max;
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let per_address = self.limits.connections_per_address_max;
        if (limit == 0 || before < limit) && enter(&self.addresses, &address, per_address) {
            return Some(ConnectionPermit {
                admission: Arc::clone(self),
                address,
            });
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Lets a user in, unless there are as many sessions of that name as there may be.
    #[must_use]
    pub fn enter_user(self: &Arc<Self>, user: &str) -> Option<UserPermit> {
        let user = user.to_owned();
        enter(&self.users, &user, self.limits.sessions_per_user_max).then(|| UserPermit {
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
        if self.admission.limits.connections_per_address_max != 0 {
            leave(&self.admission.addresses, &self.address);
        }
    }
}

impl Drop for UserPermit {
    fn drop(&mut self) {
        if self.admission.limits.sessions_per_user_max != 0 {
            leave(&self.admission.users, &self.user);
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
