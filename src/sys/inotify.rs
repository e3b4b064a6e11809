//! Being told by the kernel that something in a directory has changed (inotify(7)).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// What changes a line of a listing: an entry that comes, goes or is written, its rights or times, and
/// the directory itself. The end of writing is for memory-mapped files, whose writes tell nothing.
/// One event is enough, then the kernel forgets the directory.
const CHANGES: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONESHOT)
    .union(WatchFlags::ONLYDIR);
/// Octets of events read at a time.
const EVENTS_OCTETS: usize = 4096;

/// A directory that is watched. Numbers are not given again soon after they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Watch(i32);

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Something in this directory has changed; it is no longer watched.
    In(Watch),
    /// There were more changes than the kernel keeps: anything may have changed.
    Anywhere,
}

/// Watches directories.
#[derive(Debug)]
pub struct Watcher(OwnedFd);

impl Watcher {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// No descriptor is left, or `fs.inotify.max_user_instances` is reached.
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self(fd))
    }

    /// Watches an open directory until its first change. A directory that is watched already keeps its
    /// [`Watch`].
    ///
    /// # Errors
    /// `fs.inotify.max_user_watches` is reached, or there is no /proc.
    pub fn watch(&self, directory: impl AsFd) -> io::Result<Watch> {
        // inotify takes no descriptors.
        let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        Ok(Watch(inotify::add_watch(&self.0, path, CHANGES)?))
    }

    /// Watches it no longer.
    pub fn forget(&self, watch: Watch) {
        // An error says that a change came first.
        let _ = inotify::remove_watch(&self.0, watch.0);
    }

    /// Hands over what has happened since the last call. A change is told before the call that makes
    /// it returns.
    pub fn changes(&self, mut each: impl FnMut(Change)) {
        let mut buffer = [MaybeUninit::uninit(); EVENTS_OCTETS];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    each(Change::Anywhere);
                }
                Ok(event) => each(Change::In(Watch(event.wd()))),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // Whatever it is, nothing can be relied on any more.
                Err(_) => return each(Change::Anywhere),
            }
        }
    }
}

/// Whether every change of files in `directory` goes through this kernel and is told. It does not where
/// others write to the volume, on the network or below an overlay.
#[must_use]
pub fn tells_changes(directory: impl AsFd) -> bool {
    const EXT: u32 = 0xef53;
    const XFS: u32 = 0x5846_5342;
    const BTRFS: u32 = 0x9123_683e;
    const F2FS: u32 = 0xf2f5_2010;
    const BCACHEFS: u32 = 0xca45_1a4e;
    const ZFS: u32 = 0x2fc1_2fc1;
    const TMPFS: u32 = 0x0102_1994;
    rustix::fs::fstatfs(directory).is_ok_and(|volume| {
        let kind = u32::try_from(volume.f_type).unwrap_or(0);
        [EXT, XFS, BTRFS, F2FS, BCACHEFS, ZFS, TMPFS].contains(&kind)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn changes(watcher: &Watcher) -> Vec<Change> {
        let mut all = Vec::new();
        watcher.changes(|change| all.push(change));
        all
    }

    #[test]
    fn a_change_is_told_at_once_and_once() {
        let home = tempfile::tempdir().unwrap();
        let directory = File::open(home.path()).unwrap();
        let watcher = Watcher::new().unwrap();
        let file = home.path().join("f");
        std::fs::write(&file, "1").unwrap();
        let changing: [&dyn Fn(); 6] = [
            &|| std::fs::write(&file, "12").unwrap(),
            &|| std::fs::write(home.path().join("g"), "").unwrap(),
            &|| std::fs::rename(home.path().join("g"), home.path().join("h")).unwrap(),
            &|| std::fs::remove_file(home.path().join("h")).unwrap(),
            &|| {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(&file, mode).unwrap();
            },
            &|| {
                let time = std::time::SystemTime::UNIX_EPOCH;
                File::open(&file).unwrap().set_modified(time).unwrap();
            },
        ];
        for change in changing {
            let watch = watcher.watch(&directory).unwrap();
            assert_eq!(watcher.watch(&directory).unwrap(), watch);
            assert_eq!(changes(&watcher), []);
            change();
            // The second event is the end of the watch.
            assert_eq!(changes(&watcher), [Change::In(watch); 2]);
        }
        let watch = watcher.watch(&directory).unwrap();
        watcher.forget(watch);
        assert_eq!(changes(&watcher), [Change::In(watch)]);
        std::fs::write(&file, "123").unwrap();
        assert_eq!(changes(&watcher), []);
    }

    #[test]
    fn only_file_systems_of_this_machine_tell_changes() {
        let home = tempfile::tempdir().unwrap();
        let overlay = |path: &std::path::Path| {
            let volume = rustix::fs::statfs(path).unwrap();
            volume.f_type == 0x794c_7630
        };
        let directory = File::open(home.path()).unwrap();
        assert_ne!(tells_changes(directory), overlay(home.path()));
        assert!(!tells_changes(File::open("/proc").unwrap()));
    }
}
