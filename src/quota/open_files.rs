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
    octets: Arc<AtomicU64>,
    /// It has no name any more. Some file systems (NFS) do not tell by its links.
    removed: bool,
    /// It had no name when it was opened, and gets one at the end of its upload: a scan does not find it.
    unnamed: bool,
}

/// A file that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) id: FileId,
    /// Octets of it that are counted.
    pub(super) octets: Arc<AtomicU64>,
}

impl OpenFiles {
    /// Whether any file was ever opened.
    pub(super) fn has_opened(&self) -> bool {
        self.opens.load(Ordering::Relaxed) > 0
    }

    /// Looks at something that does not change by an end meanwhile; it is told whether no file is open, and the octets of
    /// those without a name.
    pub(super) fn look<T>(&self, look: impl FnOnce(bool, u64) -> T) -> T {
        let files = lock(&self.table);
        let unnamed = files.open.values().filter(|open| open.unnamed);
        let octets = unnamed.map(|open| open.octets.load(Ordering::Relaxed));
        look(files.open.is_empty(), octets.sum())
    }

    /// What a file counts: while an upload has it open, what is charged for it, of which a part may not be written yet.
    pub(super) fn counted_of(&self, status: &Status) -> u64 {
        let files = lock(&self.table);
        let open = files.open.get(&(status.device, status.inode));
        open.map_or(status.size, |open| open.octets.load(Ordering::Relaxed))
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
        let open = files.open.entry(id).or_insert_with(|| OpenFile {
            uploads: 0,
            last: 0,
            // Without a name it has been given back.
            octets: Arc::new(AtomicU64::new(if status.links == 0 {
                0
            } else {
                status.size
            })),
            removed: false,
            unnamed: status.links == 0,
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
        let charged = octets.load(Ordering::Relaxed);
        let octets = match status {
            Ok(status) if status.links > 0 && !removed => status.size,
            Err(_) if !removed => charged,
            _ => 0,
        };
        change(signed(octets) - signed(charged));
    }
}
