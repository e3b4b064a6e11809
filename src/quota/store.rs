//! What of the counts outlives the process: a small file for each home in the state directory, replaced as a whole.
//!
//! `quota-run` tells whether the counts can be trusted. Each process holds a shared lock on it as long as it lives; who
//! finds it unlocked and not marked as clean, or of another boot, follows a process that was killed, and from then on
//! only counts that were scanned later are trusted. `quota-lock` is held for each change of a count, so that two
//! processes (one that is taking over) add to one another's.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest;
use rustix::fs::{FlockOperation, flock};

use crate::limits;

/// How the names of all files here begin.
pub const FILE_PREFIX: &str = "quota-";
const RUN_FILE: &str = "quota-run";
const LOCK_FILE: &str = "quota-lock";
const FIRST_LINE: &str = "ringftpd-quota 1";
const LAST_LINE: &str = "end";
const CLEAN: &str = "clean";
const RUNNING: &str = "running";

/// The count of a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// Octets of its files.
    pub(super) octets: u64,
    /// When a scan last found them exactly, in seconds since 1970; 0 for never.
    pub(super) scanned: u64,
}

/// What a file of the state directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Count(Count),
    Missing,
    /// It is no count of this home, or cannot be read.
    Damaged,
}

/// The counts in a state directory.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    run: File,
    boot: String,
    trusted_from: u64,
    /// Nothing is written any more.
    ended: AtomicBool,
}

impl Store {
    /// Begins to use the counts of a directory; `now` in seconds since 1970.
    ///
    /// # Errors
    /// A file there cannot be made, read or written.
    pub(super) fn open(directory: &Path, now: u64) -> io::Result<Self> {
        let run = open_private(&directory.join(RUN_FILE))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.map_or_else(|_| "-".to_owned(), |text| text.trim().to_owned());
        let mut store = Self {
            directory: directory.to_path_buf(),
            run,
            boot,
            trusted_from: now,
            ended: AtomicBool::new(false),
        };
        let alone = match flock(&store.run, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(rustix::io::Errno::AGAIN) => {
                flock(&store.run, FlockOperation::LockShared)?;
                false
            }
            Err(errno) => return Err(errno.into()),
        };
        let last = store.last_run()?;
        store.trusted_from = match &last {
            // Another process lives, and looks after its own counts.
            Some(last) if !alone => last.trusted_from,
            Some(last) if last.ended && last.boot == store.boot => last.trusted_from,
            // There has been none yet: nothing is distrusted.
            None if store.run.metadata()?.len() == 0 => 0,
            _ => now,
        };
        if alone {
            store.note_run(RUNNING)?;
            flock(&store.run, FlockOperation::LockShared)?;
        }
        Ok(store)
    }

    /// Counts that were scanned before this moment may lack what a process did that was killed.
    pub(super) fn trusted_from(&self) -> u64 {
        self.trusted_from
    }

    /// The count of a home.
    pub(super) fn read(&self, home: &Path) -> Stored {
        let mut text = String::new();
        let read = File::open(self.path(home)).and_then(|file| {
            file.take(limits::QUOTA_FILE_OCTETS_MAX)
                .read_to_string(&mut text)
        });
        match read {
            Ok(_) => parse(&text, home).map_or(Stored::Damaged, Stored::Count),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::Missing,
            Err(_) => Stored::Damaged,
        }
    }

    /// Adds to the count of a home what has changed here since it was `synced`, as the call before returned it; `None`: it
    /// is to be what it is here. Returns the count as it is now, with what other processes have added.
    ///
    /// # Errors
    /// It cannot be written; it is then as before.
    pub(super) fn merge(
        &self,
        home: &Path,
        own: i64,
        synced: Option<i64>,
        scanned: u64,
    ) -> io::Result<i64> {
        let _lock = self.lock()?;
        if self.ended.load(Ordering::Relaxed) {
            return Ok(own);
        }
        let octets = match (self.read(home), synced) {
            (Stored::Count(count), Some(synced)) => {
                signed(count.octets).saturating_add(own - synced)
            }
            _ => own,
        }
        .max(0);
        let count = Count {
            octets: octets.unsigned_abs(),
            scanned,
        };
        let path = self.path(home);
        let temporary = path.with_extension("new");
        let written = replace(&temporary, &path, &text(home, count));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written.map(|()| octets)
    }

    /// Marks the counts as complete, unless another process goes on with them. Nothing is written afterwards, as a thread
    /// might whose turn comes late.
    pub(super) fn end(&self) {
        let lock = self.lock();
        self.ended.store(true, Ordering::Relaxed);
        drop(lock);
        if flock(&self.run, FlockOperation::NonBlockingLockExclusive).is_ok()
            && let Err(error) = self.note_run(CLEAN)
        {
            tracing::debug!(%error, "the end is not noted: homes will be counted again");
        }
        // The next process need not wait for the end of this one.
        let _ = flock(&self.run, FlockOperation::Unlock);
    }

    /// Held while a count is changed, by threads and processes alike.
    fn lock(&self) -> io::Result<File> {
        let lock = open_private(&self.directory.join(LOCK_FILE))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    fn path(&self, home: &Path) -> PathBuf {
        let digest = digest::digest(&digest::SHA256, home.as_os_str().as_bytes());
        let mut name = FILE_PREFIX.to_owned();
        for octet in digest.as_ref().iter().take(16) {
            let _ = write!(name, "{octet:02x}");
        }
        self.directory.join(name)
    }

    fn last_run(&self) -> io::Result<Option<Run>> {
        let mut text = String::new();
        let mut file = &self.run;
        file.rewind()?;
        let read = file
            .take(limits::QUOTA_FILE_OCTETS_MAX)
            .read_to_string(&mut text);
        Ok(read.ok().and_then(|_| Run::parse(&text)))
    }

    fn note_run(&self, state: &str) -> io::Result<()> {
        let text = format!(
            "{FIRST_LINE}\nboot {}\ntrusted-from {}\nstate {state}\n{LAST_LINE}\n",
            self.boot, self.trusted_from
        );
        let mut file = &self.run;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    }
}

/// What `quota-run` says.
struct Run {
    boot: String,
    trusted_from: u64,
    ended: bool,
}

impl Run {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = Fields::of(text)?;
        Some(Self {
            boot: fields.next("boot")?.to_owned(),
            trusted_from: fields.next("trusted-from")?.parse().ok()?,
            ended: fields.next("state")? == CLEAN,
        })
    }
}

/// The lines between the first and the last: `key value` each.
struct Fields<'a>(std::str::Lines<'a>);

impl<'a> Fields<'a> {
    /// `None` where the text is of another form, or cut off.
    fn of(text: &'a str) -> Option<Self> {
        let inner = text.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?;
        let inner = inner.strip_suffix('\n')?.strip_suffix(LAST_LINE)?;
        Some(Self(inner.lines()))
    }

    fn next(&mut self, key: &str) -> Option<&'a str> {
        self.0.next()?.strip_prefix(key)?.strip_prefix(' ')
    }
}

fn text(home: &Path, count: Count) -> String {
    let Count { octets, scanned } = count;
    let home = home.as_os_str().as_bytes().escape_ascii();
    format!("{FIRST_LINE}\nhome {home}\noctets {octets}\nscanned {scanned}\n{LAST_LINE}\n")
}

fn parse(text: &str, home: &Path) -> Option<Count> {
    let mut fields = Fields::of(text)?;
    let ours = home.as_os_str().as_bytes().escape_ascii().to_string();
    if fields.next("home")? != ours {
        return None;
    }
    Some(Count {
        octets: fields
            .next("octets")?
            .parse()
            .ok()
            .filter(|octets| *octets <= i64::MAX.unsigned_abs())?,
        scanned: fields.next("scanned")?.parse().ok()?,
    })
}

fn signed(octets: u64) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn replace(temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> &'static Path {
        Path::new("/srv/a b\n\u{e4}")
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        let count = Count {
            octets: 123_456_789_012,
            scanned: 1_700_000_000,
        };
        let whole = text(home(), count);
        assert_eq!(parse(&whole, home()), Some(count));
        assert_eq!(parse(&whole, Path::new("/srv/other")), None);
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end], home()), None, "cut at {end}");
        }
        let large = whole.replace("123456789012", "9223372036854775808");
        assert_eq!(parse(&large, home()), None);
        for damage in ["", "\n", "octets 5", "\u{fffd}"] {
            assert_eq!(parse(damage, home()), None, "{damage:?}");
        }
    }

    #[test]
    fn two_processes_add_to_one_anothers_counts() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (
            Store::open(directory.path(), 10).unwrap(),
            Store::open(directory.path(), 20).unwrap(),
        );
        assert_eq!(one.read(home()), Stored::Missing);
        assert_eq!(one.merge(home(), 100, Some(0), 5).unwrap(), 100);
        // The other began with those 100.
        assert_eq!(two.merge(home(), 130, Some(100), 5).unwrap(), 130);
        assert_eq!(one.merge(home(), 90, Some(100), 5).unwrap(), 120);
        let count = Count {
            octets: 120,
            scanned: 5,
        };
        assert_eq!(two.read(home()), Stored::Count(count));
        assert_eq!(one.merge(home(), 200, None, 5).unwrap(), 200);
        assert_eq!(one.merge(home(), -500, Some(0), 5).unwrap(), 0);
        std::fs::write(one.path(home()), "nonsense").unwrap();
        assert_eq!(one.read(home()), Stored::Damaged);
        assert_eq!(two.merge(home(), 77, Some(70), 6).unwrap(), 77);
    }

    #[test]
    fn only_a_clean_end_leaves_counts_that_are_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let first = Store::open(directory.path(), 10).unwrap();
        assert_eq!(first.trusted_from(), 0);
        first.end();
        drop(first);
        let second = Store::open(directory.path(), 20).unwrap();
        assert_eq!(second.trusted_from(), 0);
        // Killed: its lock goes with it.
        drop(second);
        let third = Store::open(directory.path(), 30).unwrap();
        assert_eq!(third.trusted_from(), 30);
        // Another process beside it distrusts nothing more, and does not end it.
        let fourth = Store::open(directory.path(), 40).unwrap();
        assert_eq!(fourth.trusted_from(), 30);
        third.end();
        drop(third);
        fourth.end();
        drop(fourth);
        let fifth = Store::open(directory.path(), 50).unwrap();
        assert_eq!(fifth.trusted_from(), 30);
        fifth.end();
        drop(fifth);
        let path = directory.path().join(RUN_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("boot ", "boot x")).unwrap();
        let sixth = Store::open(directory.path(), 60).unwrap();
        assert_eq!(sixth.trusted_from(), 60, "after another boot");
        drop(sixth);
        std::fs::write(&path, "damaged").unwrap();
        let last = Store::open(directory.path(), 70).unwrap();
        assert_eq!(last.trusted_from(), 70);
    }
}
