//! How much the files of an account may hold: a bound on the apparent sizes of the regular files below its home.
//!
//! The count belongs to the home: accounts that share one, whatever their bounds, share its count. It is one atomic
//! that all cores change while octets are written, so that uploads together cannot pass the bound. It is kept in the
//! state directory (`store`) and made anew by a scan (`scan`) where it is missing, damaged, left by a process
//! that was killed, a day old, or about to refuse an upload.

mod charge;
mod hand_over;
mod keeper;
mod ledger;
mod links;
mod open_files;
mod pending;
mod run_file;
mod scan;
mod store;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::OwnedSemaphorePermit;

use crate::limits;
use crate::rt;
use crate::sys::fs;

use keeper::Keeper;
use ledger::{Ledger, lock};
use pending::Pending;

pub use charge::{Charge, Held, Mark};
pub use store::FILE_PREFIX;

/// The quotas of the server and the counts of its homes, shared by all cores.
#[derive(Debug)]
pub struct Quotas {
    /// Whether any account has a quota: where none has, a login costs nothing.
    in_use: AtomicBool,
    policy: Mutex<Policy>,
    ledgers: Mutex<Ledgers>,
    keeper: Keeper,
    /// Files that are held: their ends are waited for before the last counts are written.
    held: Arc<Pending>,
}

#[derive(Debug, Default)]
struct Policy {
    /// Of accounts that have none of their own; 0 for none.
    per_user: u64,
    /// Homes of accounts that have one.
    homes: HashSet<PathBuf>,
}

#[derive(Debug, Default)]
struct Ledgers {
    /// By the path without links.
    by_home: HashMap<PathBuf, Arc<Ledger>>,
    /// By the path as accounts have it.
    by_name: HashMap<PathBuf, Arc<Ledger>>,
}

impl Quotas {
    /// No quotas yet. Counts are kept in this directory; without one they are made anew by each process.
    #[must_use]
    pub fn new(state_directory: Option<&Path>) -> Arc<Self> {
        Arc::new(Self {
            in_use: AtomicBool::new(false),
            policy: Mutex::default(),
            ledgers: Mutex::default(),
            keeper: Keeper::new(state_directory),
            held: Arc::default(),
        })
    }

    /// From now on these hold for sessions that begin: `per_user` octets for accounts that have no quota of their own, and
    /// the accounts by home and own quota. 0 is no quota.
    pub fn set_policy<'a>(
        &self,
        per_user: u64,
        accounts: impl Iterator<Item = (&'a Path, Option<u64>)>,
    ) {
        let limited = accounts.filter(|(_, own)| own.unwrap_or(per_user) > 0);
        let homes: HashSet<_> = limited.map(|(home, _)| home.to_path_buf()).collect();
        // Accounts of PAM are known once they log in.
        let in_use = per_user > 0 || !homes.is_empty();
        self.in_use.store(in_use, Ordering::Relaxed);
        *lock(&self.policy) = Policy { per_user, homes };
        // A link may lead elsewhere now.
        lock(&self.ledgers).by_name.clear();
    }

    /// The quota of a session of an account with this home and own quota; `None` where nothing is to be counted.
    pub async fn enter(self: &Arc<Self>, home: &Path, own: Option<u64>) -> Option<Quota> {
        if !self.in_use.load(Ordering::Relaxed) {
            return None;
        }
        let limit = {
            let policy = lock(&self.policy);
            let limit = own.unwrap_or(policy.per_user);
            if limit == 0 && !policy.homes.contains(home) {
                return None;
            }
            limit
        };
        let known = lock(&self.ledgers).by_name.get(home).cloned();
        let ledger = match known {
            Some(ledger) => ledger,
            None => {
                let (quotas, home) = (Arc::clone(self), home.to_path_buf());
                rt::blocking(move || quotas.load(home)).await
            }
        };
        self.look_for_others();
        if ledger.is_due(self.keeper.trusted_from()) {
            self.keeper.scan(&ledger);
        }
        Some(Quota {
            quotas: Arc::clone(self),
            ledger,
            limit: (limit > 0).then_some(limit),
        })
    }

    /// Looks for the end of other processes that use the same counts, if there are any. Costs nothing where not.
    fn look_for_others(self: &Arc<Self>) {
        if self.keeper.begins_look() {
            hand_over::begin(self);
        }
    }

    fn load(self: &Arc<Self>, name: PathBuf) -> Arc<Ledger> {
        let home = real_path(&name);
        {
            let mut ledgers = lock(&self.ledgers);
            if let Some(ledger) = ledgers.by_home.get(&home).cloned() {
                ledgers.by_name.insert(name, Arc::clone(&ledger));
                return ledger;
            }
        }
        let stored = self.keeper.read(&home);
        let mut ledgers = lock(&self.ledgers);
        let ledger = ledgers
            .by_home
            .entry(home.clone())
            .or_insert_with(|| Ledger::new(home, name.clone(), stored));
        let ledger = Arc::clone(ledger);
        ledgers.by_name.insert(name, Arc::clone(&ledger));
        ledger
    }

    /// Writes all counts, for the end of the process. Blocks, for a while at most.
    pub fn finish(&self) {
        let is_over = self.held.wait(limits::QUOTA_END_WAIT);
        if !is_over {
            tracing::warn!(
                "a file system does not tell what became of uploads: homes with a quota will be counted again"
            );
        }
        let ledgers: Vec<_> = lock(&self.ledgers).by_home.values().cloned().collect();
        self.keeper.finish(&ledgers, is_over);
    }
}

/// The path of a directory without links, also where this process may not search the directories above it.
fn real_path(home: &Path) -> PathBuf {
    use std::os::fd::AsRawFd;
    let held = fs::hold_root(home)
        .and_then(|held| std::fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd())));
    held.or_else(|_| std::path::absolute(home))
        .unwrap_or_else(|_| home.to_path_buf())
}

/// What a session may store, and the count of its home.
#[derive(Debug, Clone)]
pub struct Quota {
    quotas: Arc<Quotas>,
    ledger: Arc<Ledger>,
    /// `None` for an account without one, whose files count for others with the same home.
    limit: Option<u64>,
}

/// A turn at what takes names from files.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// How much of a quota is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Octets in use below the home.
    pub used: u64,
    /// The quota, if there is one.
    pub quota: Option<u64>,
    /// Whether all that is there has been counted; else only what came meanwhile.
    pub counted: bool,
}

impl Quota {
    /// How much is used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            used: self.ledger.used(),
            quota: self.limit,
            counted: self.ledger.is_counted(),
        }
    }

    /// Octets that may still be stored.
    #[must_use]
    pub fn left(&self) -> u64 {
        let limit = self.limit.unwrap_or(u64::MAX);
        limit.saturating_sub(self.ledger.used())
    }

    /// The quota in octets, the largest number where there is none.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX)
    }

    /// Waits for the first count of the home, for a while at most: then what is known holds.
    pub async fn settle(&self) {
        if !self.ledger.is_counted() {
            self.ledger.wait_for_scan().await;
        }
    }

    /// Octets that may still be stored; where they are fewer than wanted the home is counted again, since files may
    /// have gone by other ways than this server. More than the quota there never is.
    pub async fn left_of(&self, wanted: u64) -> u64 {
        self.settle().await;
        if self.left() < wanted && wanted <= self.limit() {
            self.quotas.keeper.scan(&self.ledger);
            self.ledger.wait_for_scan().await;
        }
        self.left()
    }

    /// Does what renames or removes below the home. A scan that runs meanwhile may miss files, and is told.
    pub fn moving<T>(&self, work: impl FnOnce() -> T) -> T {
        let _moving = self.ledger.moving();
        work()
    }

    /// The same for what takes a name from a file: one at a time, so that nobody else gives the name to another file between
    /// looking at it and removing it. The file is let go when others may go on: of a large one that takes seconds. Blocks.
    pub fn removing<T>(&self, work: impl FnOnce() -> (T, Option<Held>)) -> T {
        let (done, held) = {
            let _alone = self.ledger.removing();
            self.moving(work)
        };
        drop(held);
        done
    }

    /// Waits for a turn at [`Quota::removing`], to be kept until that returns: so that those who wait for one another, or
    /// for a file system that frees large files, do not take all threads of blocking work from other homes. Never `None`.
    pub async fn turn(&self) -> Option<Turn> {
        self.ledger
            .turn()
            .await
            .map(|permit| Turn { _permit: permit })
    }

    fn changed(&self) {
        if self.ledger.note_change() {
            self.quotas.keeper.write(&self.ledger);
            self.quotas.look_for_others();
        }
    }
}

#[cfg(test)]
mod tests;
