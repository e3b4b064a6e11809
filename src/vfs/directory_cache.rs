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
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::rt;
    use crate::sys::fs::{self, DirectoryReader};

    struct Fixture {
        home: tempfile::TempDir,
        cache: Arc<DirectoryCache>,
        now: Instant,
    }

    impl Fixture {
        fn new(octets_max: usize) -> Self {
            Self {
                home: tempfile::tempdir().unwrap(),
                cache: DirectoryCache::new(octets_max),
                now: rt::now(),
            }
        }

        fn write(&self, name: &str, content: &str) {
            std::fs::write(self.home.path().join(name), content).unwrap();
        }

        fn find(&self, path: &Path) -> Found {
            let directory = File::open(path).unwrap();
            let own = fs::status(&directory).unwrap();
            self.cache.find(&directory, &own, true, self.now)
        }

        /// Lists the home; whether it was known.
        fn list(&self) -> bool {
            self.list_other(self.home.path())
        }

        fn list_other(&self, path: &Path) -> bool {
            match self.find(path) {
                Found::Snapshot(_) => true,
                Found::Nothing => false,
                Found::Fill(filling) => {
                    read(filling, path).finish();
                    false
                }
            }
        }

        fn watches(&self) -> usize {
            let shelf = self.cache.shelf();
            assert_eq!(shelf.keys.len(), shelf.places.len());
            shelf.keys.len()
        }
    }

    fn read(mut filling: Filling, path: &Path) -> Filling {
        let directory = File::open(path).unwrap();
        let mut reader = DirectoryReader::new(directory.into(), 4096);
        while let Some((directory, entry)) = reader.next_entry().unwrap() {
            let status = fs::status_at(directory, entry.name).ok();
            filling.add(&entry, status);
        }
        filling
    }

    #[test]
    fn directory_listed_again_is_known_until_it_changes_or_grows_old() {
        let mut fixture = Fixture::new(1 << 20);
        fixture.write("f", "1");
        assert!(!fixture.list(), "listed once: not kept");
        assert_eq!(fixture.watches(), 0);
        assert!(!fixture.list());
        assert!(fixture.list());
        let Found::Snapshot(snapshot) = fixture.find(fixture.home.path()) else {
            panic!("no snapshot");
        };
        assert!(snapshot.is_whole());
        let entries = (0..).map_while(|index| snapshot.entry(index));
        let mut names: Vec<_> = entries
            .map(|(entry, status)| (entry.name, status.map(|status| status.size)))
            .collect();
        names.sort();
        assert_eq!(names, [(c".", None), (c"..", None), (c"f", Some(1))]);
        fixture.write("f", "12");
        assert!(!fixture.list());
        assert!(!fixture.list());
        assert!(fixture.list());
        fixture.now += limits::DIRECTORY_CACHED_MAX;
        assert!(!fixture.list(), "read again, and kept at once");
        assert!(fixture.list());
        fixture.now += limits::DIRECTORY_CACHED_MAX + Duration::from_millis(1);
        assert!(!fixture.list_other(Path::new("/")));
        assert_eq!(fixture.watches(), 0, "what is too old goes");
    }

    #[test]
    fn what_changes_while_it_is_read_is_not_kept() {
        let fixture = Fixture::new(1 << 20);
        fixture.write("f", "1");
        assert!(!fixture.list());
        let Found::Fill(filling) = fixture.find(fixture.home.path()) else {
            panic!("not worth keeping");
        };
        assert!(!fixture.list(), "one listing fills it");
        let filling = read(filling, fixture.home.path());
        fixture.write("f", "12");
        filling.finish();
        assert_eq!(fixture.watches(), 0);
        assert!(!fixture.list());
        let Found::Fill(filling) = fixture.find(fixture.home.path()) else {
            panic!("not worth keeping");
        };
        drop(filling);
        assert_eq!(fixture.watches(), 0, "given up");
    }

    #[test]
    fn status_that_changes_elsewhere_is_not_kept() {
        let fixture = Fixture::new(1 << 20);
        fixture.write("twice", "1");
        let home = fixture.home.path();
        std::fs::create_dir(home.join("sub")).unwrap();
        std::fs::hard_link(home.join("twice"), home.join("sub/other")).unwrap();
        std::os::unix::fs::symlink("twice", home.join("link")).unwrap();
        assert!(!fixture.list() && !fixture.list());
        let Found::Snapshot(snapshot) = fixture.find(home) else {
            panic!("no snapshot");
        };
        assert!(!snapshot.is_whole());
        let known = (0..).map_while(|index| snapshot.entry(index)?.1);
        assert_eq!(known.count(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let entries = 100;
        let one = {
            let fixture = Fixture::new(usize::MAX);
            (0..entries).for_each(|number| fixture.write(&format!("{number:03}"), ""));
            assert!(!fixture.list() && !fixture.list() && fixture.list());
            fixture.cache.shelf().octets
        };
        let mut fixture = Fixture::new(one * 5 / 2);
        let mut directories = Vec::new();
        for name in ["a", "b", "c", "huge"] {
            let directory = fixture.home.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            let count = if name == "huge" { entries * 4 } else { entries };
            for number in 0..count {
                std::fs::write(directory.join(format!("{number:03}")), "").unwrap();
            }
            directories.push(directory);
        }
        for directory in &directories {
            fixture.now += Duration::from_millis(1);
            assert!(!fixture.list_other(directory) && !fixture.list_other(directory));
            assert!(fixture.cache.shelf().octets <= one * 5 / 2);
        }
        let known: Vec<_> = directories.iter().map(|d| fixture.list_other(d)).collect();
        assert_eq!(known, [false, true, true, false]);
        assert_eq!(fixture.watches(), 2);
        let none = Fixture::new(0);
        assert!(!none.list() && !none.list() && !none.list());
    }
}
