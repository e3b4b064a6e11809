//! `quota-run`: whether the counts of a state directory can be trusted, and how many processes use them.
//!
//! Each process holds a shared lock on it as long as it lives. Who finds it unlocked and not marked as clean, or of another
//! boot, follows a process that was killed, and from then on only counts that were scanned later are trusted. All here is
//! done under the lock of the store; each change of a lock gives it up for a moment (flock(2)).

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::store::{FIRST_LINE, Fields, LAST_LINE, open_private};
use crate::limits;

const CLEAN: &str = "clean";
const RUNNING: &str = "running";
/// Where the kernel does not tell the boot.
const UNKNOWN_BOOT: &str = "-";

/// The file, and what it said at first.
#[derive(Debug)]
pub(super) struct RunFile {
    file: File,
    boot: String,
    trusted_from: AtomicU64,
    /// How many had ever begun, this one included, when it began or last knew that it is alone.
    last: AtomicU64,
    /// Another process uses the counts, or has since then.
    others: AtomicBool,
}

/// What became of the other processes that used the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// One is there.
    Live,
    /// They have written their counts, as far as is known.
    Ended,
    /// One was killed.
    Died,
}

impl RunFile {
    /// Begins to use the counts; `now` in seconds since 1970, `has_counts` whether there are any.
    ///
    /// # Errors
    /// It cannot be made, read or written.
    pub(super) fn open(
        path: &Path,
        now: u64,
        has_counts: impl FnOnce() -> bool,
    ) -> io::Result<Self> {
        let created = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let (file, is_new) = match created {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (open_private(path)?, false),
            created => (created?, true),
        };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.map_or_else(|_| UNKNOWN_BOOT.to_owned(), |text| text.trim().to_owned());
        let mut run = Self {
            file,
            boot,
            trusted_from: AtomicU64::new(now),
            last: AtomicU64::new(0),
            others: AtomicBool::new(false),
        };
        let joined = !run.is_alone()?;
        run.others = AtomicBool::new(joined);
        let last = run.read()?;
        let trusted_from = match &last {
            // Another process lives, and looks after its own counts.
            Some(last) if joined => last.trusted_from,
            Some(last) if last.ended && last.boot == run.boot && run.boot != UNKNOWN_BOOT => {
                last.trusted_from
            }
            // There has been none yet: nothing is distrusted.
            None if is_new && !has_counts() => 0,
            _ => now,
        };
        run.trusted_from = AtomicU64::new(trusted_from);
        let begun = last.as_ref().and_then(|last| last.begun);
        let begun = begun.unwrap_or(0).saturating_add(1);
        run.last = AtomicU64::new(begun);
        let processes = if joined {
            // Of an older version it does not tell.
            last.and_then(|last| last.processes)
                .map(|before| before.saturating_add(1))
        } else {
            Some(1)
        };
        run.write(RUNNING, processes, begun)?;
        flock(&run.file, FlockOperation::LockShared)?;
        Ok(run)
    }

    /// Counts that were scanned before this moment may lack what a process did that was killed.
    pub(super) fn trusted_from(&self) -> u64 {
        self.trusted_from.load(Ordering::Relaxed)
    }

    /// Whether another process uses the counts, or has since it was last looked.
    pub(super) fn has_others(&self) -> bool {
        self.others.load(Ordering::Relaxed)
    }

    /// Looks whether another process has begun to use the counts: also one that this has taken over from may, late.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn notice(&self) -> io::Result<()> {
        let begun = self.read()?.and_then(|run| run.begun);
        // Of an older version it does not tell how many, which is another.
        if begun != Some(self.last.load(Ordering::Relaxed)) {
            self.others.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Looks what became of the others. Where one was killed, only counts scanned from `now` on are trusted.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn look(&self, now: u64) -> io::Result<Others> {
        if !self.is_alone()? {
            return Ok(Others::Live);
        }
        let run = self.read();
        let begun = run.as_ref().ok().and_then(|run| run.as_ref()?.begun);
        let begun = begun.unwrap_or_else(|| self.last.load(Ordering::Relaxed));
        let processes = run.map(|run| run.map_or(Some(2), |run| run.processes));
        let others = match processes {
            Ok(None | Some(..=1)) => Others::Ended,
            Ok(Some(_)) | Err(_) => Others::Died,
        };
        if others == Others::Died {
            self.trusted_from.store(now, Ordering::Relaxed);
        }
        // Again, should one have ended while there was no lock.
        let written = self.write(RUNNING, Some(1), begun);
        self.last.store(begun, Ordering::Relaxed);
        self.others.store(false, Ordering::Relaxed);
        flock(&self.file, FlockOperation::LockShared)?;
        written.map(|()| others)
    }

    /// Marks the counts as complete, unless another process goes on with them or has left them incomplete.
    ///
    /// # Errors
    /// That is not noted.
    pub(super) fn end(&self) -> io::Result<()> {
        let is_alone = self.is_alone()?;
        let run = self.read()?;
        let begun = run.as_ref().and_then(|run| run.begun);
        let begun = begun.unwrap_or_else(|| self.last.load(Ordering::Relaxed));
        let processes = run.and_then(|run| run.processes);
        let left = processes.map(|processes| processes.saturating_sub(1));
        if !is_alone {
            self.write(RUNNING, left, begun)?;
        } else if matches!(left, None | Some(0)) {
            self.write(CLEAN, left, begun)?;
        }
        // The next process need not wait for the end of this one.
        Ok(flock(&self.file, FlockOperation::Unlock)?)
    }

    /// Whether no other process uses the counts. Then this one has the lock for itself, else it shares it.
    fn is_alone(&self) -> io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN) => {
                flock(&self.file, FlockOperation::LockShared)?;
                Ok(false)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn read(&self) -> io::Result<Option<Run>> {
        let mut text = String::new();
        let mut file = &self.file;
        file.rewind()?;
        let read = file
            .take(limits::QUOTA_FILE_OCTETS_MAX)
            .read_to_string(&mut text);
        Ok(read.ok().and_then(|_| Run::parse(&text)))
    }

    /// Over what is there: cut off first, it would be empty where the disk is full.
    fn write(&self, state: &str, processes: Option<u32>, begun: u64) -> io::Result<()> {
        let trusted_from = self.trusted_from();
        let processes =
            processes.map_or_else(String::new, |processes| format!("processes {processes}\n"));
        let text = format!(
            "{FIRST_LINE}\nboot {}\ntrusted-from {trusted_from}\nstate {state}\n{processes}begun {begun}\n{LAST_LINE}\n",
            self.boot
        );
        let mut file = &self.file;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    }
}

/// What the file says.
struct Run {
    boot: String,
    trusted_from: u64,
    ended: bool,
    /// How many have begun and not ended. Older versions do not tell.
    processes: Option<u32>,
    /// How many have ever begun. Older versions do not tell.
    begun: Option<u64>,
}

impl Run {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = Fields::of(text)?;
        Some(Self {
            boot: fields.next("boot")?.to_owned(),
            trusted_from: fields.next("trusted-from")?.parse().ok()?,
            ended: fields.next("state")? == CLEAN,
            processes: fields.find("processes").and_then(|text| text.parse().ok()),
            begun: fields.find("begun").and_then(|text| text.parse().ok()),
        })
    }
}
