//! What directories held when they were last listed.
//!
//! Reading a large directory is four fifths of the cost of listing it: a status for every entry. What
//! was read is kept for the next listing, as long as the kernel says that nothing has changed
//! (`sys::inotify`) and at most for [`limits::DIRECTORY_CACHED_MAX`], because a few changes are not
//! told: those by way of a hard link in another directory, and writes to memory-mapped files. Directories
//! and links are asked for their status every time, because theirs changes with what is elsewhere.
//!
//! Only a directory that is listed again within that time is kept, so that a client that walks a whole
//! tree costs nothing. The cache is shared by all cores: its lock is taken at the beginning and at the end
//! of a listing.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits;
use crate::sys::fs::{DirectoryEntry, Kind, Status};
use crate::sys::inotify::{self, Change, Watch, Watcher};

/// Which directory: device and inode.
type Key = (u64, u64);

/// The directories that were listed a moment ago.
#[derive(Debug)]
pub struct DirectoryCache {
    octets_max: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Made when it is first needed. Without one nothing is kept.
    watcher: Option<Watcher>,
    places: HashMap<Key, Place>,
    keys: HashMap<Watch, Key>,
    /// When directories that are not kept were last listed.
    listed: HashMap<Key, Instant>,
    /// Whether the file systems tell changes.
    devices: HashMap<u64, bool>,
    octets: usize,
    /// No snapshot is older; `None`: there is none.
    oldest: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    watch: Watch,
    began: Instant,
    /// `None` while it is read.
    snapshot: Option<Arc<Snapshot>>,
}

/// What the cache says to a listing.
#[derive(Debug)]
pub(super) enum Found {
    /// The directory need not be read.
    Snapshot(Arc<Snapshot>),
    /// What is read is worth keeping.
    Fill(Filling),
    /// Neither.
    Nothing,
}

impl DirectoryCache {
    /// An empty one that grows to about so many octets; 0: it stays empty.
    #[must_use]
    pub fn new(octets_max: usize) -> Arc<Self> {
        Arc::new(Self {
            octets_max,
            shelf: Mutex::default(),
        })
    }

    /// What is to be done for a listing of this open directory that begins now. `fills` when it takes the
    /// status of nearly every entry.
    pub(super) fn find(
        self: &Arc<Self>,
        directory: impl AsFd,
        own: &Status,
        fills: bool,
        now: Instant,
    ) -> Found {
        if self.octets_max == 0 {
            return Found::Nothing;
        }
        let key = (own.device, own.inode);
        let mut shelf = self.shelf();
        shelf.drop_changed();
        let was_kept = shelf.places.contains_key(&key);
        shelf.drop_old(now);
        if let Some(place) = shelf.places.get(&key) {
            let snapshot = place.snapshot.clone();
            return snapshot.map_or(Found::Nothing, Found::Snapshot);
        }
        if !fills || !(was_kept || shelf.is_listed_again(key, now)) {
            return Found::Nothing;
        }
        let Some(watch) = shelf.watch(&directory, own.device) else {
            return Found::Nothing;
        };
        if shelf.places.len() >= limits::DIRECTORIES_CACHED_MAX {
            shelf.drop_oldest();
        }
        let place = Place {
            watch,
            began: now,
            snapshot: None,
        };
        shelf.places.insert(key, place);
        shelf.keys.insert(watch, key);
        Found::Fill(Filling {
            cache: Arc::clone(self),
            key,
            watch,
            snapshot: Snapshot::default(),
        })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_young(began: Instant, now: Instant) -> bool {
    now.saturating_duration_since(began) < limits::DIRECTORY_CACHED_MAX
}

impl Shelf {
    /// Drops what the kernel says has changed.
    fn drop_changed(&mut self) {
        let Some(watcher) = self.watcher.take() else {
            return;
        };
        watcher.changes(|change| match change {
            Change::In(watch) => {
                if let Some(key) = self.keys.remove(&watch) {
                    self.remove(key);
                }
            }
            Change::Anywhere => {
                for (watch, _) in self.keys.drain() {
                    watcher.forget(watch);
                }
                self.places.clear();
                self.octets = 0;
            }
        });
        self.watcher = Some(watcher);
    }

    fn drop_place(&mut self, key: Key) {
        if let Some(watch) = self.remove(key) {
            self.keys.remove(&watch);
            if let Some(watcher) = &self.watcher {
                watcher.forget(watch);
            }
        }
    }

    fn remove(&mut self, key: Key) -> Option<Watch> {
        let place = self.places.remove(&key)?;
        if let Some(snapshot) = place.snapshot {
            self.octets -= snapshot.octets();
        }
        Some(place.watch)
    }

    fn is_listed_again(&mut self, key: Key, now: Instant) -> bool {
        if self.listed.len() >= limits::DIRECTORIES_CACHED_MAX {
            self.listed.retain(|_, listed| is_young(*listed, now));
        }
        if self.listed.len() >= limits::DIRECTORIES_CACHED_MAX {
            self.listed.clear();
        }
        match self.listed.insert(key, now) {
            Some(before) if is_young(before, now) => {
                self.listed.remove(&key);
                true
            }
            _ => false,
        }
    }

    fn watch(&mut self, directory: impl AsFd, device: u64) -> Option<Watch> {
        let tells = self.devices.entry(device);
        if !*tells.or_insert_with(|| inotify::tells_changes(&directory)) {
            return None;
        }
        if self.watcher.is_none() {
            self.watcher = Watcher::new().ok();
        }
        self.watcher.as_ref()?.watch(directory).ok()
    }

    /// Drops what is too old.
    fn drop_old(&mut self, now: Instant) {
        if self.oldest.is_none_or(|oldest| is_young(oldest, now)) {
            return;
        }
        let filled = self
            .places
            .iter()
            .filter(|(_, place)| place.snapshot.is_some());
        let old = filled.filter(|(_, place)| !is_young(place.began, now));
        for key in old.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.drop_place(key);
        }
        let filled = self
            .places
            .values()
            .filter(|place| place.snapshot.is_some());
        self.oldest = filled.map(|place| place.began).min();
    }

    /// Drops the oldest that is not being read; whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let filled = self
            .places
            .iter()
            .filter(|(_, place)| place.snapshot.is_some());
        let oldest = filled.min_by_key(|(_, place)| place.began);
        let oldest = oldest.map(|(key, _)| *key);
        oldest.inspect(|key| self.drop_place(*key)).is_some()
    }
}

/// A directory that is being read. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub(super) struct Filling {
    cache: Arc<DirectoryCache>,
    key: Key,
    watch: Watch,
    snapshot: Snapshot,
}

impl Filling {
    /// Adds an entry, and its status if it was asked for; false when there are too many, so that the rest
    /// need not be added.
    pub(super) fn add(&mut self, entry: &DirectoryEntry<'_>, status: Option<Status>) -> bool {
        self.snapshot.add(entry, status);
        self.snapshot.octets() <= self.cache.octets_max
    }

    /// Keeps what was read, unless it changed meanwhile.
    pub(super) fn finish(mut self) {
        let mut snapshot = std::mem::take(&mut self.snapshot);
        snapshot.names.shrink_to_fit();
        snapshot.entries.shrink_to_fit();
        let octets = snapshot.octets();
        let mut shelf = self.cache.shelf();
        shelf.drop_changed();
        let room = self.cache.octets_max.checked_sub(octets);
        while room.is_some_and(|room| shelf.octets > room) && shelf.drop_oldest() {}
        if let Some(place) = shelf.places.get_mut(&self.key)
            && place.watch == self.watch
            && room.is_some()
        {
            place.snapshot = Some(Arc::new(snapshot));
            let began = place.began;
            shelf.octets += octets;
            shelf.oldest = Some(shelf.oldest.map_or(began, |oldest| oldest.min(began)));
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let mut shelf = self.cache.shelf();
        let place = shelf.places.get(&self.key);
        if place.is_some_and(|place| place.watch == self.watch && place.snapshot.is_none()) {
            shelf.drop_place(self.key);
        }
    }
}

/// What a directory held.
#[derive(Debug)]
pub(super) struct Snapshot {
    names: Vec<u8>,
    entries: Vec<Kept>,
    whole: bool,
}

#[derive(Debug)]
struct Kept {
    /// Where the name ends in `names`, behind its NUL.
    name_end: usize,
    kind: Kind,
    status: Option<Status>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            entries: Vec::new(),
            whole: true,
        }
    }
}

impl Snapshot {
    /// Whether the status of everything is in it, so that nothing has to be asked for.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    fn octets(&self) -> usize {
        self.names.capacity() + self.entries.capacity() * size_of::<Kept>()
    }

    fn add(&mut self, entry: &DirectoryEntry<'_>, status: Option<Status>) {
        self.names.extend_from_slice(entry.name.to_bytes_with_nul());
        // A file with a second name can change by that name, which is not told here.
        let lasts = |status: &Status| {
            !matches!(status.kind, Kind::Directory | Kind::Link) && status.links == 1
        };
        let status = status.filter(lasts);
        self.whole &= status.is_some() || matches!(entry.name.to_bytes(), b"." | b"..");
        self.entries.push(Kept {
            name_end: self.names.len(),
            kind: entry.kind,
            status,
        });
    }

    /// The entry at a place, in the directory's own order, and its status if that is known.
    pub(super) fn entry(&self, index: usize) -> Option<(DirectoryEntry<'_>, Option<&Status>)> {
        let kept = self.entries.get(index)?;
        let before = index
            .checked_sub(1)
            .and_then(|before| self.entries.get(before));
        let start = before.map_or(0, |before| before.name_end);
        let name = self.names.get(start..kept.name_end)?;
        let name = CStr::from_bytes_with_nul(name).ok()?;
        let entry = DirectoryEntry {
            name,
            kind: kept.kind,
        };
        Some((entry, kept.status.as_ref()))
    }
}

#[cfg(test)]
mod tests;
