//! Adds up the files below a home.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::limits;
use crate::sys::fs::{self, DirectoryReader, Kind};

/// What is below a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// Apparent sizes of its regular files, added up; a file with several hard links counts once.
    pub(super) octets: u64,
    /// How many they are.
    pub(super) files: u64,
    /// Directories that could not be read, whose files are not counted.
    pub(super) unreadable: u64,
}

/// Adds up what is below a home; symbolic links are not followed. One directory is open at a time, however deep
/// the tree is. `None` when it was told to stop.
///
/// # Errors
/// The home itself cannot be opened.
pub(super) fn scan(home: &Path, stop: &AtomicBool) -> io::Result<Option<Found>> {
    let root = fs::hold_root(home)?;
    let mut found = Found::default();
    let mut linked = HashSet::new();
    // Paths below the root.
    let mut directories = vec![c".".to_owned()];
    while let Some(path) = directories.pop() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let counted = open(&root, &path)
            .and_then(|directory| add_up(directory, &path, &mut directories, &mut linked));
        match counted {
            Ok((octets, files)) => {
                found.octets = found.octets.saturating_add(octets);
                found.files += files;
            }
            Err(error) if path.as_c_str() == c"." => return Err(error),
            // It was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => found.unreadable += 1,
        }
    }
    Ok(Some(found))
}

fn open(root: &OwnedFd, path: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Octets and files of one directory; its subdirectories are put with the others.
fn add_up(
    directory: OwnedFd,
    path: &CStr,
    directories: &mut Vec<CString>,
    linked: &mut HashSet<(u64, u64)>,
) -> io::Result<(u64, u64)> {
    let (mut octets, mut files) = (0_u64, 0);
    let mut reader = DirectoryReader::new(directory, limits::DIRECTORY_READ_OCTETS);
    while let Some((directory, entry)) = reader.next_entry()? {
        if matches!(entry.name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut kind = entry.kind;
        if matches!(kind, Kind::File | Kind::Unknown) {
            // One that is gone meanwhile counts nothing.
            let Ok(status) = fs::status_at(directory, entry.name) else {
                continue;
            };
            kind = status.kind;
            if kind == Kind::File
                && (status.links < 2 || linked.insert((status.device, status.inode)))
            {
                octets = octets.saturating_add(status.size);
                files += 1;
            }
        }
        if kind == Kind::Directory {
            let below = [path.to_bytes(), b"/", entry.name.to_bytes()].concat();
            directories.extend(CString::new(below));
        }
    }
    Ok((octets, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(home: &Path) -> (u64, u64) {
        let found = scan(home, &AtomicBool::new(false)).unwrap().unwrap();
        assert_eq!(found.unreadable, 0);
        (found.octets, found.files)
    }

    #[test]
    fn every_file_counts_once_and_links_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), [0; 1000]).unwrap();
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        assert_eq!(octets(home.path()), (0, 0));
        std::fs::create_dir_all(path("a/b/c")).unwrap();
        std::fs::write(path("one"), [0; 10]).unwrap();
        std::fs::write(path("a/b/c/two"), [0; 200]).unwrap();
        std::fs::write(path("a/empty"), []).unwrap();
        assert_eq!(octets(home.path()), (210, 3));
        std::fs::hard_link(path("one"), path("a/again")).unwrap();
        std::os::unix::fs::symlink(outside.path(), path("out")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), path("link")).unwrap();
        std::os::unix::fs::symlink(".", path("a/loop")).unwrap();
        assert_eq!(octets(home.path()), (210, 3));
        // Apparent sizes: a hole counts as what it is read as.
        let sparse = std::fs::File::create(path("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        assert_eq!(octets(home.path()), ((1 << 40) + 210, 4));
    }

    #[test]
    fn a_deep_tree_needs_one_descriptor_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let mut deep = home.path().to_path_buf();
        for _ in 0..800 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("f"), [0; 7]).unwrap();
        assert_eq!(octets(home.path()), (7, 1));
    }

    #[test]
    fn a_home_that_is_gone_is_an_error_and_a_stop_is_heard() {
        let home = tempfile::tempdir().unwrap();
        let gone = home.path().join("gone");
        assert!(scan(&gone, &AtomicBool::new(false)).is_err());
        let stopped = scan(home.path(), &AtomicBool::new(true)).unwrap();
        assert_eq!(stopped, None);
    }
}
