//! The count of one home, shared by all sessions of all cores that work there.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::open_files::{FileId, OpenFiles, Seen};
use super::real_path;
use super::scan::{self, Found};
use super::store::{Count, Store};
use crate::limits;
use crate::rt;
use crate::sys::fs::Status;

/// Scans at once behind one another, where the tree changes meanwhile.
const SCAN_TRIES: u32 = 3;
/// A scan that took longer is not repeated at once.
const SCAN_REPEATED_TIME_MAX: Duration = Duration::from_secs(1);

/// The count of a home.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Its path without links: what the count is kept under.
    pub(super) home: PathBuf,
    /// A path by which this process reaches it.
    reach: PathBuf,
    /// Octets in use. Below zero only as long as something was given back that had not been counted.
    used: AtomicI64,
    /// Files that uploads have open.
    files: OpenFiles,
    /// Changes under way by which a scan may miss files: renamed, one can get from where the scan is to come to where it
    /// has been.
    moving: AtomicUsize,
    /// Those that have ended, and whatever else has lowered the count.
    moves: AtomicU64,
    /// Held by who takes a name from a file, so that it is the one that was looked at.
    removals: Mutex<()>,
    /// How many more may come to that.
    turns: Arc<Semaphore>,
    /// Whether `used` is a count: of the state directory, or of a scan.
    counted: AtomicBool,
    scans: Mutex<Scans>,
    scanning: AtomicBool,
    scan_ended: Notify,
    /// Has changed, and waits to be written.
    changed: AtomicBool,
    /// `used` as it was last written.
    synced: Mutex<i64>,
}

#[derive(Debug, Default)]
struct Scans {
    /// When one last found the exact count, in seconds since 1970; 0 for never.
    exact: u64,
    /// When the last one was asked for.
    asked: Option<Instant>,
    /// The next one may begin then.
    next: Option<Instant>,
    /// One has corrected the count since it was last written.
    corrected: bool,
    /// How often the count was doubted, for other reasons than its age.
    doubts: u64,
    /// As many as there were when the last scan that told a count began.
    settled: u64,
}

impl Scans {
    fn is_doubted(&self) -> bool {
        self.doubts != self.settled
    }

    /// A scan has told a count; so often it had been doubted when that began.
    fn settle(&mut self, doubts: u64) {
        self.settled = doubts;
        if self.is_doubted() {
            self.exact = 0;
        }
    }
}

impl Ledger {
    /// The count of a home as the state directory has it, if it does.
    pub(super) fn new(home: PathBuf, reach: PathBuf, stored: Option<Count>) -> Arc<Self> {
        let octets = stored.map_or(0, |count| signed(count.octets));
        Arc::new(Self {
            home,
            reach,
            used: AtomicI64::new(octets),
            files: OpenFiles::default(),
            moving: AtomicUsize::new(0),
            moves: AtomicU64::new(0),
            removals: Mutex::default(),
            turns: Arc::new(Semaphore::new(limits::QUOTA_REMOVALS_MAX)),
            counted: AtomicBool::new(stored.is_some()),
            scans: Mutex::new(Scans {
                exact: stored.map_or(0, |count| count.scanned),
                ..Scans::default()
            }),
            scanning: AtomicBool::new(false),
            scan_ended: Notify::new(),
            changed: AtomicBool::new(false),
            synced: Mutex::new(octets),
        })
    }

    pub(super) fn used(&self) -> u64 {
        u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether a scan or the state directory has told a count; until then only what was uploaded meanwhile counts.
    pub(super) fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Acquire)
    }

    /// Takes as many of so many octets as the quota has left. Returns how many, and never lets two uploads have the
    /// same ones.
    pub(super) fn take(&self, octets: u64, quota: u64) -> u64 {
        let (octets, quota) = (signed(octets), signed(quota));
        let fits = |used: i64| octets.min(quota.saturating_sub(used)).max(0);
        let before = self
            .used
            // Who sees it sees what was said before about the file it is taken for.
            .fetch_update(Ordering::Release, Ordering::Relaxed, |used| {
                Some(used.saturating_add(fits(used)))
            });
        let (Ok(before) | Err(before)) = before;
        fits(before).unsigned_abs()
    }

    /// Changes the count by so many octets.
    pub(super) fn add(&self, octets: i64) {
        let _lowers = (octets < 0).then(|| self.moving());
        self.used.fetch_add(octets, Ordering::SeqCst);
    }

    /// A change begins by which a scan may miss files; it ends with what is returned.
    pub(super) fn moving(&self) -> Moving<'_> {
        self.moving.fetch_add(1, Ordering::SeqCst);
        Moving(self)
    }

    /// Others that take names from files wait until what is returned goes.
    pub(super) fn removing(&self) -> MutexGuard<'_, ()> {
        lock(&self.removals)
    }

    /// Waits until few others take names from files, or come to that. Never `None`.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Files that uploads have open.
    pub(super) fn files(&self) -> &OpenFiles {
        &self.files
    }

    /// An upload ends. After the last one the file counts as what it is, whatever was charged for it. Blocks.
    pub(super) fn close_blocking(&self, id: FileId, file: impl AsFd) {
        self.files
            .close_blocking(id, file, |change| self.add(change));
    }

    /// Whether the count has changed and nobody has been told yet.
    pub(super) fn note_change(&self) -> bool {
        !self.changed.load(Ordering::Relaxed) && !self.changed.swap(true, Ordering::AcqRel)
    }

    /// Whether the count should be made anew: there is no exact one, it was left by a process that was killed, or it is old.
    pub(super) fn is_due(&self, trusted_from: u64) -> bool {
        let exact = lock(&self.scans).exact;
        // `None`: the clock was wrong then, or is now.
        let age = unix_now().checked_sub(exact);
        let is_old = age.is_none_or(|age| age >= limits::QUOTA_SCAN_INTERVAL.as_secs());
        // Within the same second nobody knows which was first.
        exact <= trusted_from || is_old
    }

    /// Whether a scan is to be started now. Scans take a twentieth of the time at most.
    pub(super) fn begin_scan(&self) -> bool {
        let now = rt::now();
        let mut scans = lock(&self.scans);
        let rested = scans.next.is_none_or(|next| next <= now);
        let begins = rested && !self.scanning.swap(true, Ordering::AcqRel);
        if begins {
            scans.asked = Some(now);
        }
        begins
    }

    /// What is counted may be wrong, since another process worked here as well: to be scanned soon. Not where this one has
    /// neither opened a file nor scanned, unless `in_any_case`. Tells whether it is.
    pub(super) fn doubt(&self, in_any_case: bool) -> bool {
        let mut scans = lock(&self.scans);
        let doubted = in_any_case || self.files.has_opened() || scans.asked.is_some();
        if doubted {
            scans.doubts += 1;
            scans.exact = 0;
        }
        doubted
    }

    /// Whether no scan has told a count since it was doubted.
    pub(super) fn is_doubted(&self) -> bool {
        lock(&self.scans).is_doubted()
    }

    /// Whether a scan is to come or under way.
    pub(super) fn is_scanning(&self) -> bool {
        self.scanning.load(Ordering::Acquire)
    }

    /// No scan is started after all.
    pub(super) fn give_up_scan(&self) {
        self.scanning.store(false, Ordering::Release);
        self.scan_ended.notify_waiters();
    }

    /// Waits for the end of the scan that is to come or under way, until it has taken a while at most: who comes later goes
    /// on at once.
    pub(super) async fn wait_for_scan(&self) {
        let ended = self.scan_ended.notified();
        let mut ended = std::pin::pin!(ended);
        ended.as_mut().enable();
        if !self.is_scanning() {
            return;
        }
        let asked = lock(&self.scans).asked;
        let waited = asked.map_or(Duration::ZERO, |asked| {
            rt::now().saturating_duration_since(asked)
        });
        let left = limits::QUOTA_SCAN_WAIT.saturating_sub(waited);
        if !left.is_zero() {
            rt::until(ended, left).await;
        }
    }

    /// Makes the count anew. Blocks.
    pub(super) fn scan(&self, stop: &AtomicBool) {
        let began = rt::now();
        for attempt in 1..=SCAN_TRIES {
            let doubts = lock(&self.scans).doubts;
            let before = self.snapshot();
            let met = Met::new(&self.files, &before);
            let found = match scan::scan(self.path(), stop, |status| met.meet(status)) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(
                        home = %self.home.display(),
                        %error,
                        "a home cannot be counted for its quota: let the server's account read it"
                    );
                    break;
                }
            };
            let took = rt::now().saturating_duration_since(began);
            let quiet = before.is_quiet() && self.snapshot() == before;
            if quiet || attempt == SCAN_TRIES || took > SCAN_REPEATED_TIME_MAX {
                self.correct(found, &met, took);
                lock(&self.scans).settle(doubts);
                break;
            }
        }
        let now = rt::now();
        let took = now.saturating_duration_since(began);
        lock(&self.scans).next = Some(now + limits::QUOTA_SCAN_PAUSE + took * 20);
        self.give_up_scan();
    }

    /// Where the home is: the path of an account may lead elsewhere now.
    fn path(&self) -> &Path {
        if real_path(&self.reach) == self.home {
            &self.reach
        } else {
            &self.home
        }
    }

    fn snapshot(&self) -> Snapshot {
        let (mut snapshot, open) = self.files.look(|| Snapshot {
            // In this order: what ends in between is seen by one of them, and so is what lowers `used`.
            moving: self.moving.load(Ordering::SeqCst),
            moves: self.moves.load(Ordering::SeqCst),
            // Before the files: what is charged in between counts twice rather than not at all.
            used: self.used.load(Ordering::SeqCst),
            open: HashMap::new(),
        });
        snapshot.open = open;
        snapshot
    }

    /// A scan has found so much, and has met these open files; of the others it is known what they count. What has come
    /// meanwhile is added, although the scan may have seen some of it, and what has gone is not taken off: a count that is
    /// too high has the home scanned again before it refuses anything, one that is too low would stay. For the same reason
    /// a scan that has not seen all there is only raises a count.
    fn correct(&self, mut found: Found, met: &Met<'_>, took: Duration) {
        let before = met.before;
        let octets = found.octets;
        let quiet = loop {
            let after = self.snapshot();
            let partial = found.partial || after.has_moved_since(before);
            found.octets = octets.saturating_add(met.missed(&after));
            let come = after.used.saturating_sub(before.used).max(0);
            let mut now = signed(found.octets).saturating_add(come);
            if partial && self.is_counted() {
                now = now.max(after.used);
            }
            // Nothing has come or gone since.
            let corrected =
                self.used
                    .compare_exchange(after.used, now, Ordering::SeqCst, Ordering::Relaxed);
            if corrected.is_ok() {
                break !partial && before.is_quiet() && after == *before;
            }
        };
        {
            let mut scans = lock(&self.scans);
            scans.exact = if quiet { unix_now() } else { 0 };
            scans.corrected = true;
        }
        self.counted.store(true, Ordering::Release);
        tracing::info!(
            home = %self.home.display(),
            octets = found.octets,
            files = found.files,
            seconds = took.as_secs_f64(),
            exact = quiet,
            "a home was counted for its quota"
        );
        if found.shares > 0 {
            tracing::warn!(
                home = %self.home.display(),
                names = found.shares,
                "too many files have hard links outside of this home to remember them all: the rest count a share for \
                 each of their names; keep such trees out of homes with a quota"
            );
        }
        if found.unreadable > 0 {
            tracing::warn!(
                home = %self.home.display(),
                directories = found.unreadable,
                "directories that cannot be read are not counted: let the server's account read them"
            );
        }
    }

    /// Writes the count to the state directory, and learns what other processes have added. Blocks.
    ///
    /// # Errors
    /// It was not written.
    pub(super) fn sync(&self, store: &Store) -> io::Result<()> {
        let mut synced = lock(&self.synced);
        self.changed.store(false, Ordering::Release);
        if !self.is_counted() {
            return Ok(());
        }
        let (exact, corrected) = {
            let mut scans = lock(&self.scans);
            (scans.exact, std::mem::take(&mut scans.corrected))
        };
        let own = self.used.load(Ordering::Relaxed);
        // A scan has seen what all processes did: if two of them scan, the count must not be corrected twice.
        let since = (!corrected).then_some(*synced);
        let merged = store.merge(&self.home, own, since, exact);
        if merged.is_err() && corrected {
            lock(&self.scans).corrected = true;
        }
        let total = merged?;
        self.add(total - own);
        *synced = total;
        Ok(())
    }

    /// Whether something is still to be written.
    pub(super) fn is_unwritten(&self) -> bool {
        self.is_counted() && *lock(&self.synced) != self.used.load(Ordering::Relaxed)
    }
}

/// The count at a moment.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    used: i64,
    /// Files that uploads have open.
    open: HashMap<FileId, Seen>,
    moving: usize,
    moves: u64,
}

impl Snapshot {
    fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a scan in between may have missed files.
    fn has_moved_since(&self, before: &Self) -> bool {
        before.moving > 0 || self.moving > 0 || self.moves != before.moves
    }
}

/// The open files that a scan meets. Those that it does not have no name yet or any more, but count until they are closed.
struct Met<'a> {
    files: &'a OpenFiles,
    before: &'a Snapshot,
    met: RefCell<HashSet<FileId>>,
}

impl<'a> Met<'a> {
    fn new(files: &'a OpenFiles, before: &'a Snapshot) -> Self {
        Self {
            files,
            before,
            met: RefCell::default(),
        }
    }

    /// The scan meets a file, which counts so many octets.
    fn meet(&self, status: &Status) -> u64 {
        let id = (status.device, status.inode);
        let open = self.files.counted_of(id);
        let before = self.before.open.get(&id);
        if open.is_some() || before.is_some() {
            self.met.borrow_mut().insert(id);
        }
        // Closed meanwhile, perhaps after its status was read.
        let closed = before.map_or(0, |before| before.octets);
        open.unwrap_or_else(|| closed.max(status.size))
    }

    /// Octets of those that it has not met: what they counted at first. What was charged later has come meanwhile.
    fn missed(&self, after: &Snapshot) -> u64 {
        let met = self.met.borrow();
        let new = |id: &FileId| !self.before.open.contains_key(id);
        let new = after.open.iter().filter(|(id, _)| new(id));
        let opened = new.map(|(id, seen)| (id, seen.first));
        let before = self.before.open.iter().map(|(id, seen)| (id, seen.octets));
        let missed = before.chain(opened).filter(|(id, _)| !met.contains(id));
        missed.fold(0, |sum, (_, octets)| sum.saturating_add(octets))
    }
}

/// A change under way by which a scan may miss files.
#[derive(Debug)]
pub(super) struct Moving<'a>(&'a Ledger);

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.moves.fetch_add(1, Ordering::SeqCst);
        self.0.moving.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The time in seconds since 1970.
pub(super) fn unix_now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(1, |time| time.as_secs())
}

pub(super) fn signed(octets: u64) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_that_began_before_a_doubt_does_not_settle_it() {
        let mut scans = Scans {
            doubts: 2,
            exact: 7,
            ..Scans::default()
        };
        scans.settle(1);
        assert!(scans.is_doubted());
        assert_eq!(scans.exact, 0);
        scans.exact = 8;
        scans.settle(2);
        assert!(!scans.is_doubted());
        assert_eq!(scans.exact, 8);
    }
}
