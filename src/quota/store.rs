//! What of the counts outlives the process: a small file for each home in the state directory, replaced as a whole.
//!
//! `quota-run` tells whether the counts can be trusted (`run_file`). `quota-lock` is held for each change of a file, so that
//! two processes (one that is taking over) add to one another's.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest;
use rustix::fs::{FlockOperation, flock};

use super::run_file::{Others, RunFile};
use crate::limits;

/// How the names of all files here begin.
pub const FILE_PREFIX: &str = "quota-";
const RUN_FILE: &str = "quota-run";
const LOCK_FILE: &str = "quota-lock";
pub(super) const FIRST_LINE: &str = "ringftpd-quota 1";
pub(super) const LAST_LINE: &str = "end";

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
    run: RunFile,
    /// Nothing is written any more.
    ended: AtomicBool,
}

impl Store {
    /// Begins to use the counts of a directory; `now` in seconds since 1970.
    ///
    /// # Errors
    /// A file there cannot be made, read or written.
    pub(super) fn open(directory: &Path, now: u64) -> io::Result<Self> {
        let _lock = lock(directory)?;
        let run = RunFile::open(&directory.join(RUN_FILE), now, || has_counts(directory))?;
        Ok(Self {
            directory: directory.to_path_buf(),
            run,
            ended: AtomicBool::new(false),
        })
    }

    /// Counts that were scanned before this moment may lack what a process did that was killed.
    pub(super) fn trusted_from(&self) -> u64 {
        self.run.trusted_from()
    }

    /// Whether another process uses the counts, or has since it was last looked.
    pub(super) fn has_others(&self) -> bool {
        self.run.has_others()
    }

    /// Looks what became of the others; `now` in seconds since 1970.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn look(&self, now: u64) -> io::Result<Others> {
        let _lock = lock(&self.directory)?;
        self.run.look(now)
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
        let _lock = lock(&self.directory)?;
        if self.ended.load(Ordering::Relaxed) {
            return Ok(own);
        }
        // Where that fails the next one tells.
        let _ = self.run.notice();
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
        let lock = lock(&self.directory);
        self.ended.store(true, Ordering::Relaxed);
        if let Err(error) = lock.and_then(|_lock| self.run.end()) {
            tracing::debug!(%error, "the end is not noted: homes will be counted again");
        }
    }

    fn path(&self, home: &Path) -> PathBuf {
        let digest = digest::digest(&digest::SHA256, home.as_os_str().as_bytes());
        let mut name = FILE_PREFIX.to_owned();
        for octet in digest.as_ref().iter().take(16) {
            let _ = write!(name, "{octet:02x}");
        }
        self.directory.join(name)
    }
}

/// Held while a file is changed, by threads and processes alike.
fn lock(directory: &Path) -> io::Result<File> {
    let lock = open_private(&directory.join(LOCK_FILE))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

/// Whether there may be counts.
fn has_counts(directory: &Path) -> bool {
    let is_count = |name: &OsStr| {
        name.as_bytes().starts_with(FILE_PREFIX.as_bytes()) && name != RUN_FILE && name != LOCK_FILE
    };
    std::fs::read_dir(directory).map_or(true, |mut entries| {
        entries.any(|entry| entry.map_or(true, |entry| is_count(&entry.file_name())))
    })
}

/// The lines between the first and the last: `key value` each.
pub(super) struct Fields<'a>(std::str::Lines<'a>);

impl<'a> Fields<'a> {
    /// `None` where the text is of another form, or cut off.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let inner = text.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?;
        let inner = inner.strip_suffix('\n')?.strip_suffix(LAST_LINE)?;
        Some(Self(inner.lines()))
    }

    pub(super) fn next(&mut self, key: &str) -> Option<&'a str> {
        self.0.next()?.strip_prefix(key)?.strip_prefix(' ')
    }

    /// One that may be missing, of those that are left.
    pub(super) fn find(&self, key: &str) -> Option<&'a str> {
        let mut left = self.0.clone();
        left.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
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

pub(super) fn open_private(path: &Path) -> io::Result<File> {
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
        let seventh = Store::open(directory.path(), 70).unwrap();
        assert_eq!(seventh.trusted_from(), 70);
        seventh.end();
        drop(seventh);
        // As a full disk may leave it.
        std::fs::write(&path, "").unwrap();
        let eighth = Store::open(directory.path(), 80).unwrap();
        assert_eq!(eighth.trusted_from(), 80);
        eighth.merge(home(), 100, None, 90).unwrap();
        eighth.end();
        drop(eighth);
        // Counts of which nobody knows how they were left.
        std::fs::remove_file(&path).unwrap();
        let last = Store::open(directory.path(), 100).unwrap();
        assert_eq!(last.trusted_from(), 100);
    }

    #[test]
    fn who_outlives_the_others_knows_how_they_ended() {
        let directory = tempfile::tempdir().unwrap();
        let open = |now| Store::open(directory.path(), now).unwrap();
        let (first, second) = (open(10), open(20));
        assert!(!first.has_others() && second.has_others());
        assert_eq!(second.look(30).unwrap(), Others::Live);
        first.end();
        drop(first);
        assert_eq!(second.look(30).unwrap(), Others::Ended);
        assert_eq!(second.look(30).unwrap(), Others::Ended);
        assert_eq!(second.trusted_from(), 0);
        let (third, fourth) = (open(40), open(50));
        // Killed.
        drop(second);
        assert_eq!(third.look(60).unwrap(), Others::Live);
        third.end();
        drop(third);
        assert_eq!(fourth.look(60).unwrap(), Others::Died);
        assert_eq!(fourth.trusted_from(), 60);
        assert_eq!(fourth.look(70).unwrap(), Others::Ended, "told once");
        // Also where nobody looks.
        let fifth = open(80);
        drop(fourth);
        fifth.end();
        drop(fifth);
        assert_eq!(open(90).trusted_from(), 90);
    }

    #[test]
    fn a_process_of_an_older_version_is_not_taken_for_one_that_was_killed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(RUN_FILE);
        let old = Store::open(directory.path(), 10).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("processes 1\n"), "{text}");
        std::fs::write(&path, text.replace("processes 1\n", "")).unwrap();
        let new = Store::open(directory.path(), 20).unwrap();
        drop(old);
        assert_eq!(new.look(30).unwrap(), Others::Ended);
        new.end();
        drop(new);
        let next = Store::open(directory.path(), 40).unwrap();
        assert_eq!(next.trusted_from(), 0);
    }
}
