//! Failed logins: the delay that grows with them, and bans of addresses and of their neighbourhoods.
//!
//! Memory is bounded: a table of fixed size in sets of eight places, where the oldest that is not banned makes room. Which
//! set an address falls into is secret, so nobody can push others out on purpose but by filling the whole table.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits;
use crate::proto::network::Network;

/// Places of one set.
const WAYS: usize = 8;
const SETS: usize = limits::LOGIN_FAILURES_REMEMBERED_MAX / WAYS;
const _: () = assert!(SETS.is_power_of_two());

/// When somebody is shut out, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanPolicy {
    /// Failed logins of one address (IPv6: a /64) within the window; 0 for never.
    pub address_failures_max: u32,
    /// The same of an IPv4 /24 or an IPv6 /48.
    pub network_failures_max: u32,
    /// Failures count together when they are not further apart from the first.
    pub window: Duration,
    /// How long a ban lasts.
    pub time: Duration,
}

/// A ban that has just begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// Who is banned.
    pub network: Network,
    /// It is a whole neighbourhood.
    pub neighbourhood: bool,
    /// For how many failures.
    pub failures: u32,
    /// For how long.
    pub time: Duration,
}

/// What a failed login leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// The usual delay is to be taken so many times.
    pub delay_ratio: u32,
    /// Bans of the address and of its neighbourhood.
    pub bans: [Option<Ban>; 2],
}

/// Who failed to log in, shared by all cores. The lock is taken by failed logins, by successful ones while failures are
/// remembered, and by connections while anybody is banned.
#[derive(Debug)]
pub struct Guard {
    base: Instant,
    chance: RandomState,
    /// When the last ban ends, the last failure is forgotten, in nanoseconds since `base`.
    bans_until: AtomicU64,
    failures_until: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    policy: BanPolicy,
    /// Empty until somebody fails.
    places: Vec<Option<Record>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    bits: u128,
    /// 0: everybody there.
    user: u64,
    prefix: u8,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    key: Key,
    failures: u32,
    since: u64,
    last: u64,
    banned_until: u64,
}

impl Guard {
    pub(super) fn new(policy: BanPolicy, now: Instant) -> Self {
        Self {
            base: now,
            chance: RandomState::new(),
            bans_until: AtomicU64::new(0),
            failures_until: AtomicU64::new(0),
            state: Mutex::new(State {
                policy,
                places: Vec::new(),
            }),
        }
    }

    /// Changes what is banned from now on. Bans that run and failures that are remembered stay.
    pub fn set_policy(&self, policy: BanPolicy) {
        self.lock().policy = policy;
    }

    /// A login failed.
    pub fn failed(&self, address: IpAddr, user: &[u8], now: Instant) -> Failed {
        let now = self.nanoseconds(now);
        let (client, neighbourhood) = (Network::client(address), Network::neighbourhood(address));
        let mut state = self.lock();
        let policy = state.policy;
        if state.places.is_empty() {
            state.places.resize(SETS * WAYS, None);
        }
        let until = now.saturating_add(nanoseconds(policy.window));
        self.failures_until.fetch_max(until, Ordering::Relaxed);
        self.count(&mut state, self.key(client, Some(user)), now);
        let mut ban = |network, neighbourhood, failures_max: u32| {
            let record = self.count(&mut state, self.key(network, None), now)?;
            let failures = record.failures;
            let reached = failures_max > 0 && failures >= failures_max;
            let ban = reached.then(|| {
                record.failures = 0;
                record.since = now;
                record.banned_until = now.saturating_add(nanoseconds(policy.time));
                self.bans_until
                    .fetch_max(record.banned_until, Ordering::Relaxed);
                Ban {
                    network,
                    neighbourhood,
                    failures,
                    time: policy.time,
                }
            });
            Some((failures, ban))
        };
        let address = ban(client, false, policy.address_failures_max);
        let network = ban(neighbourhood, true, policy.network_failures_max);
        let failures = address.map_or(1, |(failures, _)| failures);
        let doublings = failures.saturating_sub(limits::LOGIN_FAILURES_UNDELAYED);
        let ratio = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        Failed {
            delay_ratio: ratio.min(limits::LOGIN_DELAY_RATIO_MAX),
            bans: [address.and_then(|one| one.1), network.and_then(|one| one.1)],
        }
    }

    /// A login succeeded: earlier failures with the same name were mistakes.
    pub fn succeeded(&self, address: IpAddr, user: &[u8], now: Instant) {
        let now = self.nanoseconds(now);
        if now > self.failures_until.load(Ordering::Relaxed) {
            return;
        }
        let client = Network::client(address);
        let mut state = self.lock();
        let own = self.key(client, Some(user));
        let Some(failures) = self.find(&mut state, own).map(|record| {
            record.last = 0;
            std::mem::take(&mut record.failures)
        }) else {
            return;
        };
        for network in [client, Network::neighbourhood(address)] {
            if let Some(record) = self.find(&mut state, self.key(network, None)) {
                record.failures = record.failures.saturating_sub(failures);
            }
        }
    }

    /// How long this address or its neighbourhood is still banned.
    #[must_use]
    pub fn banned(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let now = self.nanoseconds(now);
        if now >= self.bans_until.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let networks = [Network::client(address), Network::neighbourhood(address)];
        let until = networks
            .into_iter()
            .filter_map(|network| {
                Some(self.find(&mut state, self.key(network, None))?.banned_until)
            })
            .max()?;
        (until > now).then(|| Duration::from_nanos(until - now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.base))
    }

    fn key(&self, network: Network, user: Option<&[u8]>) -> Key {
        let (bits, prefix) = network.bits();
        let user = user.map_or(0, |user| self.chance.hash_one(user) | 1);
        Key { bits, user, prefix }
    }

    fn set<'a>(&self, state: &'a mut State, key: Key) -> &'a mut [Option<Record>] {
        let hash = self.chance.hash_one((key.bits, key.user, key.prefix));
        let set = usize::try_from(hash % SETS as u64).unwrap_or(0);
        state
            .places
            .get_mut(set * WAYS..(set + 1) * WAYS)
            .unwrap_or_default()
    }

    fn find<'a>(&self, state: &'a mut State, key: Key) -> Option<&'a mut Record> {
        let set = self.set(state, key).iter_mut().flatten();
        set.into_iter().find(|record| record.key == key)
    }

    /// Counts a failure in the record of this key, which is made if there is none.
    fn count<'a>(&self, state: &'a mut State, key: Key, now: u64) -> Option<&'a mut Record> {
        let window = nanoseconds(state.policy.window);
        let set = self.set(state, key);
        let here = |place: &Option<Record>| place.is_some_and(|record| record.key == key);
        let place = match set.iter().position(here) {
            Some(place) => place,
            None => {
                let age = |place: &Option<Record>| {
                    place.map(|record| (record.banned_until > now, record.last))
                };
                let (place, _) = set.iter().enumerate().min_by_key(|(_, one)| age(one))?;
                place
            }
        };
        let place = set.get_mut(place)?;
        let fresh = Record {
            key,
            failures: 0,
            since: now,
            last: now,
            banned_until: 0,
        };
        if place.is_none_or(|record| record.key != key) {
            *place = Some(fresh);
        }
        let record = place.as_mut()?;
        if now.saturating_sub(record.since) > window {
            record.failures = 0;
            record.since = now;
        }
        record.failures = record.failures.saturating_add(1);
        record.last = now;
        Some(record)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const POLICY: BanPolicy = BanPolicy {
        address_failures_max: 5,
        network_failures_max: 12,
        window: Duration::from_secs(600),
        time: Duration::from_secs(60),
    };

    #[expect(clippy::disallowed_methods, reason = "a test begins some time")]
    fn guard() -> (Guard, Instant) {
        let now = Instant::now();
        (Guard::new(POLICY, now), now)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The bans that so many failures bring.
    fn fail(guard: &Guard, who: &str, times: u32, now: Instant) -> Vec<Ban> {
        let failures = (0..times).map(|_| guard.failed(address(who), b"ann", now));
        failures.flat_map(|failed| failed.bans).flatten().collect()
    }

    #[test]
    fn the_delay_grows_up_to_a_bound() {
        let (guard, now) = guard();
        guard.set_policy(BanPolicy {
            address_failures_max: 0,
            network_failures_max: 0,
            ..POLICY
        });
        let ratio = || guard.failed(address("192.0.2.1"), b"ann", now).delay_ratio;
        let ratios: Vec<u32> = (0..10).map(|_| ratio()).collect();
        assert_eq!(ratios, [1, 1, 1, 2, 4, 8, 16, 16, 16, 16]);
        (0..100).for_each(|_| {
            ratio();
        });
        assert_eq!(ratio(), 16);
        assert_eq!(guard.banned(address("192.0.2.1"), now), None);
    }

    #[test]
    fn an_address_is_banned_for_a_while() {
        let (guard, now) = guard();
        assert_eq!(fail(&guard, "192.0.2.1", 4, now), []);
        assert_eq!(guard.banned(address("192.0.2.1"), now), None);
        let bans = fail(&guard, "192.0.2.1", 1, now);
        assert_eq!(bans.len(), 1);
        assert_eq!(bans[0].network.to_string(), "192.0.2.1");
        assert_eq!((bans[0].failures, bans[0].time), (5, POLICY.time));
        assert_eq!(guard.banned(address("192.0.2.1"), now), Some(POLICY.time));
        let mapped = address("::ffff:192.0.2.1");
        assert_eq!(
            guard.banned(mapped, now + SECOND),
            Some(POLICY.time - SECOND)
        );
        assert_eq!(guard.banned(address("192.0.2.2"), now), None);
        assert_eq!(guard.banned(address("192.0.2.1"), now + POLICY.time), None);
    }

    #[test]
    fn an_ipv6_site_is_one_address() {
        let (guard, now) = guard();
        let bans: Vec<Ban> = (0..5)
            .flat_map(|host| fail(&guard, &format!("2001:db8::{host:x}"), 1, now))
            .collect();
        assert_eq!(bans.len(), 1);
        assert_eq!(bans[0].network.to_string(), "2001:db8::/64");
        assert!(guard.banned(address("2001:db8::ffff"), now).is_some());
        assert!(guard.banned(address("2001:db8:0:1::1"), now).is_none());
    }

    #[test]
    fn many_addresses_of_a_network_are_banned_together() {
        for (prefix, network) in [
            ("192.0.2.", "192.0.2.0/24"),
            ("2001:db8:7:", "2001:db8:7::/48"),
        ] {
            let (guard, now) = guard();
            let end = if prefix.contains(':') { "::1" } else { "" };
            let bans: Vec<Ban> = (1..=12)
                .flat_map(|host| fail(&guard, &format!("{prefix}{host}{end}"), 1, now))
                .collect();
            assert_eq!(bans.len(), 1, "{bans:?}");
            assert!(bans[0].neighbourhood);
            assert_eq!(bans[0].network.to_string(), network);
            assert!(
                guard
                    .banned(address(&format!("{prefix}99{end}")), now)
                    .is_some()
            );
        }
    }

    #[test]
    fn failures_are_forgotten_after_the_window() {
        let (guard, now) = guard();
        fail(&guard, "192.0.2.1", 4, now);
        let later = now + POLICY.window + SECOND;
        assert_eq!(fail(&guard, "192.0.2.1", 4, later), []);
        assert_eq!(fail(&guard, "192.0.2.1", 1, later).len(), 1);
    }

    #[test]
    fn a_success_clears_the_failures_of_that_user_only() {
        let (guard, now) = guard();
        let here = address("192.0.2.1");
        for user in [b"ann", b"bob"] {
            guard.failed(here, user, now);
            guard.failed(here, user, now);
        }
        // Nobody who has a password of his own clears the guesses at another's.
        guard.succeeded(here, b"eve", now);
        guard.succeeded(here, b"ann", now);
        assert_eq!(fail(&guard, "192.0.2.1", 2, now), []);
        assert_eq!(fail(&guard, "192.0.2.1", 1, now).len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_bans_outlive_a_flood() {
        let (guard, now) = guard();
        assert_eq!(guard.lock().places.len(), 0, "nothing before it is needed");
        fail(&guard, "192.0.2.1", 5, now);
        for number in 0..200_000_u32 {
            let stranger = IpAddr::from((0x0a00_0000 | number).to_be_bytes());
            guard.failed(stranger, b"x", now + SECOND);
        }
        assert_eq!(
            guard.lock().places.len(),
            limits::LOGIN_FAILURES_REMEMBERED_MAX
        );
        assert!(
            guard
                .banned(address("192.0.2.1"), now + 2 * SECOND)
                .is_some()
        );
    }

    #[test]
    fn a_new_policy_keeps_what_is_known() {
        let (guard, now) = guard();
        fail(&guard, "192.0.2.1", 5, now);
        fail(&guard, "198.51.100.1", 2, now);
        guard.set_policy(BanPolicy {
            address_failures_max: 3,
            ..POLICY
        });
        assert!(guard.banned(address("192.0.2.1"), now).is_some());
        assert_eq!(fail(&guard, "198.51.100.1", 1, now).len(), 1);
    }
}
