//! How fast transfers may go: those of a session, of a user, and all together, each direction by itself.
//!
//! A transfer asks for a piece of a few milliseconds' octets at a time, of every rate that holds for it, and waits
//! for its turn. The rates of users and of the server are shared by all cores without a lock; the table of users
//! is locked once when a session begins and, where its user has a rate, once when it ends.

mod bucket;

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bucket::Bucket;

/// What a transfer asks for at a time where its rates were lifted while it ran.
const PIECE_UNLIMITED: u64 = 1 << 20;

/// Which way octets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the client: files and listings.
    Download,
    /// From the client.
    Upload,
}

/// A rate for each direction, in octets a second; 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// To the client.
    pub download: u64,
    /// From the client.
    pub upload: u64,
}

/// The rates of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Of each session.
    pub per_session: Rates,
    /// Of all sessions of a user, unless the user has rates of its own.
    pub per_user: Rates,
    /// Of everybody together.
    pub total: Rates,
}

/// Rates that a user has instead of [`Limits::per_user`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserRates {
    /// To the client; 0 for none.
    pub download: Option<u64>,
    /// From the client; 0 for none.
    pub upload: Option<u64>,
}

/// Something for each direction.
#[derive(Debug, Default)]
struct Pair<T> {
    download: T,
    upload: T,
}

impl<T> Pair<T> {
    fn get(&self, direction: Direction) -> &T {
        match direction {
            Direction::Download => &self.download,
            Direction::Upload => &self.upload,
        }
    }
}

impl Pair<Bucket> {
    fn set(&self, rates: Rates) {
        self.download.set_rate(rates.download);
        self.upload.set_rate(rates.upload);
    }
}

/// The rates and their accounts, shared by all cores.
#[derive(Debug)]
pub struct Bandwidth {
    /// Times are counted from here.
    base: Instant,
    per_session: Pair<AtomicU64>,
    total: Pair<Bucket>,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    rates: Rates,
    /// Users who are in, each with the number of its sessions.
    present: HashMap<String, (Arc<User>, usize)>,
}

/// A user's rates, shared by its sessions.
#[derive(Debug, Default)]
struct User {
    own: Mutex<UserRates>,
    buckets: Pair<Bucket>,
}

impl User {
    fn set(&self, own: UserRates, others: Rates) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
        self.buckets.set(Rates {
            download: own.download.unwrap_or(others.download),
            upload: own.upload.unwrap_or(others.upload),
        });
    }
}

impl Bandwidth {
    /// These rates, from now on.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Arc<Self> {
        let bandwidth = Self {
            base: now,
            per_session: Pair::default(),
            total: Pair::default(),
            users: Mutex::default(),
        };
        bandwidth.set_limits(limits);
        Arc::new(bandwidth)
    }

    /// Changes the rates. A transfer that runs goes on at the new ones if it had any that were not 0; all others begin
    /// with them. The kernel goes on sending a running download at twice its old rate at most. A user who came in while users had no rate gets one with the next login.
    pub fn set_limits(&self, limits: Limits) {
        let Limits {
            per_session,
            per_user,
            total,
        } = limits;
        let set = |to: &AtomicU64, rate| to.store(rate, Ordering::Relaxed);
        set(&self.per_session.download, per_session.download);
        set(&self.per_session.upload, per_session.upload);
        self.total.set(total);
        let mut users = self.lock();
        users.rates = per_user;
        for (user, _) in users.present.values() {
            let own = *user.own.lock().unwrap_or_else(PoisonError::into_inner);
            user.set(own, per_user);
        }
    }

    /// The rates of a session of this user.
    #[must_use]
    pub fn session(self: &Arc<Self>, user: &str, own: UserRates) -> Rc<Session> {
        let mut users = self.lock();
        let rates = users.rates;
        let limited = own != UserRates::default()
            || rates != Rates::default()
            || users.present.contains_key(user);
        let shared = limited.then(|| {
            let (shared, sessions) = users.present.entry(user.to_owned()).or_default();
            *sessions += 1;
            // The latest login knows the latest users file.
            shared.set(own, rates);
            (user.to_owned(), Arc::clone(shared))
        });
        drop(users);
        Rc::new(Session {
            bandwidth: Arc::clone(self),
            user: shared,
            buckets: Pair::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.base);
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The rates of one session: its own, its user's, everybody's.
#[derive(Debug)]
pub struct Session {
    bandwidth: Arc<Bandwidth>,
    user: Option<(String, Arc<User>)>,
    buckets: Pair<Bucket>,
}

impl Session {
    /// The budget of a transfer that begins; `None` where nothing limits it.
    #[must_use]
    pub fn transfer(self: &Rc<Self>, direction: Direction) -> Option<Budget> {
        self.refresh(direction);
        if self.all(direction).all(|bucket| bucket.rate() == 0) {
            return None;
        }
        self.all(direction).for_each(Bucket::join);
        Some(Budget {
            session: Rc::clone(self),
            direction,
            left: Cell::new(0),
        })
    }

    /// The session's own rate is the same for all.
    fn refresh(&self, direction: Direction) {
        let rate = self.bandwidth.per_session.get(direction);
        let own = self.buckets.get(direction);
        own.set_rate(rate.load(Ordering::Relaxed));
    }

    fn all(&self, direction: Direction) -> impl Iterator<Item = &Bucket> {
        let user = self.user.as_ref();
        let user = user.map(|(_, user)| user.buckets.get(direction));
        [
            self.buckets.get(direction),
            self.bandwidth.total.get(direction),
        ]
        .into_iter()
        .chain(user)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some((user, _)) = &self.user else {
            return;
        };
        let mut users = self.bandwidth.lock();
        if let Some((_, sessions)) = users.present.get_mut(user) {
            *sessions -= 1;
            if *sessions == 0 {
                users.present.remove(user);
            }
        }
    }
}

/// What a running transfer may move. Dropping it gives back what did not move.
#[derive(Debug)]
pub struct Budget {
    session: Rc<Session>,
    direction: Direction,
    left: Cell<u64>,
}

impl Budget {
    /// Octets that may move now.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    /// So many have moved.
    pub fn spend(&self, octets: u64) {
        self.left.set(self.left.get().saturating_sub(octets));
    }

    /// Asks for the next piece. It may move from the returned moment on, which may have passed.
    #[must_use]
    pub fn ask(&self, now: Instant) -> Instant {
        self.session.refresh(self.direction);
        let piece = self.buckets().filter_map(Bucket::piece).min();
        let piece = piece.unwrap_or(PIECE_UNLIMITED);
        self.left.set(self.left.get().saturating_add(piece));
        let bandwidth = &self.session.bandwidth;
        let time = bandwidth.nanoseconds(now);
        let begins = self.buckets().map(|bucket| bucket.give(piece, time)).max();
        let begins = Duration::from_nanos(begins.unwrap_or(time));
        bandwidth.base.checked_add(begins).unwrap_or(now)
    }

    /// The lowest of the rates that hold; `None` where all were lifted.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        let rates = self.buckets().map(Bucket::rate);
        rates.filter(|rate| *rate > 0).min()
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.session.all(self.direction)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        for bucket in self.buckets() {
            bucket.take_back(self.left.get());
            bucket.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn download(rate: u64) -> Rates {
        Rates {
            download: rate,
            upload: 0,
        }
    }

    fn limits(per_session: u64, per_user: u64, total: u64) -> Limits {
        Limits {
            per_session: download(per_session),
            per_user: download(per_user),
            total: download(total),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test begins some time")]
    fn start() -> Instant {
        Instant::now()
    }

    /// Octets that each budget moves in ten seconds.
    fn moved(budgets: &[&Budget], start: Instant) -> Vec<u64> {
        let end = start + 10 * SECOND;
        let mut asks = vec![start; budgets.len()];
        let mut moved = vec![0; budgets.len()];
        loop {
            let (place, now) = asks
                .iter()
                .copied()
                .enumerate()
                .min_by_key(|one| one.1)
                .unwrap();
            if now >= end {
                return moved;
            }
            let begins = budgets[place].ask(now).max(now);
            let piece = budgets[place].left();
            budgets[place].spend(piece);
            asks[place] = begins;
            if begins < end {
                moved[place] += piece;
            }
        }
    }

    fn assert_near(moved: &[u64], expected: &[u64]) {
        let near =
            |(moved, expected): (&u64, &u64)| moved.abs_diff(*expected) * 100 <= expected * 3;
        assert!(
            moved.iter().zip(expected).all(near),
            "{moved:?} instead of {expected:?}"
        );
    }

    #[test]
    fn nothing_is_asked_of_a_server_without_limits() {
        let bandwidth = Bandwidth::new(Limits::default(), start());
        let session = bandwidth.session("ann", UserRates::default());
        assert!(session.transfer(Direction::Download).is_none());
        assert!(bandwidth.lock().present.is_empty());
    }

    #[test]
    fn directions_have_rates_of_their_own() {
        let bandwidth = Bandwidth::new(limits(1_000_000, 0, 0), start());
        let session = bandwidth.session("ann", UserRates::default());
        assert!(session.transfer(Direction::Upload).is_none());
        let budget = session.transfer(Direction::Download).unwrap();
        assert_eq!(budget.rate(), Some(1_000_000));
        assert_near(&moved(&[&budget], start()), &[10_000_000]);
    }

    #[test]
    fn sessions_of_a_user_share_evenly_and_others_have_theirs() {
        let start = start();
        let bandwidth = Bandwidth::new(limits(0, 1_000_000, 0), start);
        let [one, two, other] =
            ["ann", "ann", "bob"].map(|user| bandwidth.session(user, UserRates::default()));
        let budgets = [one, two, other].map(|one| one.transfer(Direction::Download).unwrap());
        let moved = moved(&budgets.each_ref(), start);
        assert_near(&moved, &[5_000_000, 5_000_000, 10_000_000]);
    }

    #[test]
    fn the_lowest_rate_holds_and_the_rest_goes_to_the_others() {
        let start = start();
        let bandwidth = Bandwidth::new(limits(0, 1_000_000, 10_000_000), start);
        let fast = UserRates {
            download: Some(0),
            upload: None,
        };
        let slow = bandwidth.session("slow", UserRates::default());
        let fast = bandwidth.session("fast", fast);
        let budgets = [slow, fast].map(|one| one.transfer(Direction::Download).unwrap());
        let moved = moved(&budgets.each_ref(), start);
        assert_near(&moved, &[10_000_000, 90_000_000]);
    }

    #[test]
    fn a_session_that_begins_transfer_after_transfer_gains_nothing() {
        let start = start();
        let bandwidth = Bandwidth::new(limits(1_000_000, 0, 0), start);
        let session = bandwidth.session("ann", UserRates::default());
        let (mut now, mut files) = (start, 0);
        while now < start + 10 * SECOND {
            let budget = session.transfer(Direction::Download).unwrap();
            now = budget.ask(now).max(now);
            budget.spend(1000);
            files += 1000;
        }
        assert_near(&[files], &[10_000_000]);
    }

    #[test]
    fn new_limits_reach_sessions_that_are_in() {
        let start = start();
        let bandwidth = Bandwidth::new(limits(0, 1_000_000, 0), start);
        let own = UserRates {
            download: Some(3_000_000),
            upload: None,
        };
        let ann = bandwidth.session("ann", UserRates::default());
        let bob = bandwidth.session("bob", own);
        let budgets = [&ann, &bob].map(|one| one.transfer(Direction::Download).unwrap());
        bandwidth.set_limits(limits(500_000, 2_000_000, 0));
        assert_eq!(
            ann.transfer(Direction::Download).unwrap().rate(),
            Some(500_000)
        );
        bandwidth.set_limits(limits(0, 2_000_000, 0));
        let rates = budgets.each_ref().map(|budget| budget.rate());
        assert_eq!(rates[1], Some(3_000_000));
        assert_near(
            &moved(&budgets.each_ref(), start),
            &[20_000_000, 30_000_000],
        );
        drop((ann, bob, budgets));
        assert!(bandwidth.lock().present.is_empty());
    }
}
