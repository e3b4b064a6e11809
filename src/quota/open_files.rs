//! The files of a home that uploads have open, or that lose a name.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::ledger::{lock, signed};
use crate::limits;
use crate::sys::fs::{self, Status};

/// Device and inode.
pub(super) type FileId = (u64, u64);

/// The files of a home that are open.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    table: Mutex<Files>,
    /// Numbers what opens them.
    opens: AtomicU64,
    /// How often a file was closed for good.
    closes: AtomicU64,
}

#[derive(Debug, Default)]
struct Files {
    /// Those that uploads have open.
    open: HashMap<FileId, OpenFile>,
    /// Those closed for good last, the latest at the end.
    closed: VecDeque<FileId>,
}

#[derive(Debug)]
struct OpenFile {
    uploads: usize,
    /// The number of the last one that opened it.
    last: u64,
    octets: Arc<Octets>,
    /// Octets that were counted when it was opened.
    first: u64,
    /// It has no name any more. Some file systems (NFS) do not tell by its links.
    removed: bool,
}

/// Octets of an open file that are counted; all uploads that have it open change them.
#[derive(Debug)]
pub(super) struct Octets {
    counted: AtomicU64,
    /// As many more may have been taken from the quota already.
    growing: AtomicU64,
}

impl Octets {
    fn new(octets: u64) -> Self {
        Self {
            counted: AtomicU64::new(octets),
            growing: AtomicU64::new(0),
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// At least as many as the ledger counted at any moment before: what is being charged right now may count twice.
    fn at_least(&self) -> u64 {
        // In this order: what has left the one is in the other.
        let growing = self.growing.load(Ordering::Acquire);
        self.get().saturating_add(growing)
    }

    /// From so many octets the file is about to grow by as many of so many more as `take` returns. Tells how many it is
    /// charged for then;
    ///
    /// # Errors
    /// Another upload has charged for it meanwhile: what was taken is to be given back.
    pub(super) fn grow(
        &self,
        from: u64,
        by: u64,
        take: impl FnOnce() -> u64,
    ) -> Result<u64, Untaken> {
        // A scan that finds them taken finds them here, or below.
        self.growing.fetch_add(by, Ordering::Relaxed);
        let taken = take();
        let grown = from.saturating_add(taken);
        let changed =
            self.counted
                .compare_exchange(from, grown, Ordering::Relaxed, Ordering::Relaxed);
        self.growing.fetch_sub(by, Ordering::Release);
        changed.map(|_| grown).map_err(|_| Untaken(taken))
    }

    /// The file was cut to nothing: so many were counted.
    pub(super) fn empty(&self) -> u64 {
        self.counted.swap(0, Ordering::Relaxed)
    }
}

/// Octets that were taken from a quota for nothing.
#[derive(Debug)]
pub(super) struct Untaken(pub(super) u64);

/// An open file as it was at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Octets that were counted, or a few more.
    pub(super) octets: u64,
    /// Octets that were counted when it was opened.
    pub(super) first: u64,
}

/// A file that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) id: FileId,
    /// Octets of it that are counted.
    pub(super) octets: Arc<Octets>,
}

impl OpenFiles {
    /// Whether any file was ever opened.
    pub(super) fn has_opened(&self) -> bool {
        self.opens.load(Ordering::Relaxed) > 0
    }

    /// All that are open, and something that does not change by an end meanwhile and is looked at before them.
    pub(super) fn look<T>(&self, look: impl FnOnce() -> T) -> (T, HashMap<FileId, Seen>) {
        let files = lock(&self.table);
        let looked = look();
        let seen = |open: &OpenFile| Seen {
            octets: open.octets.at_least(),
            first: open.first,
        };
        let open = files.open.iter().map(|(id, open)| (*id, seen(open)));
        (looked, open.collect())
    }

    /// What a file counts that an upload has open: what is charged for it, of which a part may not be written yet.
    pub(super) fn counted_of(&self, id: FileId) -> Option<u64> {
        let files = lock(&self.table);
        files.open.get(&id).map(|open| open.octets.at_least())
    }

    /// A file that is open has lost its last name. It is given back when nobody has it open any more: until then it takes
    /// room on the disk.
    pub(super) fn removed(&self, id: FileId) {
        if let Some(open) = lock(&self.table).open.get_mut(&id) {
            open.removed = true;
        }
    }

    /// How often a file was closed for good: to be read before the status of one that is to be opened.
    pub(super) fn closes(&self) -> u64 {
        self.closes.load(Ordering::SeqCst)
    }

    /// An upload, or what takes its name away, opens a file of this status: its octets that are counted already, shared by
    /// all who have it open. `None` when the status may be older than the end of an upload into it, which has counted what
    /// it wrote; `closes` is from before the status.
    pub(super) fn open(&self, status: &Status, closes: u64) -> Option<Opened> {
        let mut files = lock(&self.table);
        let id = (status.device, status.inode);
        if !files.open.contains_key(&id) {
            // Counted under the lock.
            let since = usize::try_from(self.closes() - closes).unwrap_or(usize::MAX);
            let mut last = files.closed.iter().rev().take(since);
            if since > files.closed.len() || last.any(|closed| *closed == id) {
                return None;
            }
        }
        Some(self.enter(&mut files, id, status))
    }

    /// The same where waiting for the file system is no harm. Blocks.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn open_blocking(&self, file: impl AsFd) -> io::Result<Opened> {
        let mut tries = 1..limits::OPEN_TRIES_MAX;
        loop {
            let closes = self.closes();
            // Not under the lock: a file system on the network writes out the file first.
            let status = fs::status(&file)?;
            if let Some(opened) = self.open(&status, closes) {
                return Ok(opened);
            }
            if tries.next().is_none() {
                let id = (status.device, status.inode);
                return Ok(self.enter(&mut lock(&self.table), id, &status));
            }
        }
    }

    fn enter(&self, files: &mut Files, id: FileId, status: &Status) -> Opened {
        // Without a name it has been given back.
        let first = if status.links == 0 { 0 } else { status.size };
        let open = files.open.entry(id).or_insert_with(|| OpenFile {
            uploads: 0,
            last: 0,
            octets: Arc::new(Octets::new(first)),
            first,
            removed: false,
        });
        open.uploads += 1;
        open.last = self.opens.fetch_add(1, Ordering::Relaxed);
        Opened {
            id,
            octets: Arc::clone(&open.octets),
        }
    }

    /// An upload ends. After the last one the file counts as what it is, whatever was charged for it. Blocks.
    /// `change` is told by how much that changes the count, while nobody else looks at the table.
    pub(super) fn close_blocking(&self, id: FileId, file: impl AsFd, change: impl FnOnce(i64)) {
        let last = {
            let mut files = lock(&self.table);
            let Some(open) = files.open.get_mut(&id) else {
                return;
            };
            open.uploads -= 1;
            if open.uploads > 0 {
                return;
            }
            open.last
        };
        // As above.
        let status = fs::status(file);
        let mut files = lock(&self.table);
        let Entry::Occupied(open) = files.open.entry(id) else {
            return;
        };
        // Another has come meanwhile, whose end this will be.
        if open.get().uploads > 0 || open.get().last != last {
            return;
        }
        let OpenFile {
            octets, removed, ..
        } = open.remove();
        if files.closed.len() >= limits::QUOTA_CLOSED_FILES {
            files.closed.pop_front();
        }
        files.closed.push_back(id);
        self.closes.fetch_add(1, Ordering::SeqCst);
        let charged = octets.get();
        let octets = match status {
            Ok(status) if status.links > 0 && !removed => status.size,
            Err(_) if !removed => charged,
            _ => 0,
        };
        change(signed(octets) - signed(charged));
    }
}
