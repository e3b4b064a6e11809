//! Adds up the files below a home.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::links::Links;
use crate::limits;
use crate::sys::fs::{self, DirectoryReader, Kind, Status};

/// What is below a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// Apparent sizes of its regular files, added up; a file with several hard links counts once.
    pub(super) octets: u64,
    /// How many they are.
    pub(super) files: u64,
    /// Directories that could not be read, whose files are not counted.
    pub(super) unreadable: u64,
    /// One of those may be so by the doing of a client, who could hide files in it.
    pub(super) partial: bool,
    /// Names of files with several hard links that counted a share each, see [`Links`].
    pub(super) shares: u64,
}

/// Adds up what is below a home; symbolic links are not followed. One directory is open at a time, and one more is
/// held, however deep the tree is. `size` says what a file counts. `None` when it was told to stop.
///
/// # Errors
/// The home itself cannot be opened.
pub(super) fn scan(
    home: &Path,
    stop: &AtomicBool,
    size: impl Fn(&Status) -> u64,
) -> io::Result<Option<Found>> {
    let root = fs::hold_root(home)?;
    let mut found = Found::default();
    let mut links = Links::new(limits::QUOTA_SCAN_LINKED_FILES_MAX);
    // Octets of the path of the directory above, and the name. The last one found is the first to be read, so the
    // path of what is above it is still the beginning of `path`.
    let mut directories = vec![(0, c".".to_owned())];
    let mut path = Vec::new();
    while let Some((above, name)) = directories.pop() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        path.truncate(above);
        if above > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        let depth = path.len();
        let counted = open(&root, &path).and_then(|directory| {
            add_up(directory, &mut links, &size, |name| {
                directories.push((depth, name));
            })
        });
        match counted {
            Ok((octets, files)) => {
                found.octets = found.octets.saturating_add(octets);
                found.files += files;
            }
            Err(error) if above == 0 => return Err(error),
            // It was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                found.unreadable += 1;
                found.partial |=
                    error.kind() != io::ErrorKind::PermissionDenied || is_own(&root, &path);
            }
        }
    }
    found.shares = links.shares();
    Ok(Some(found))
}

fn open(root: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open_with(root, path, flags)
}

/// Opens what is below the root, in steps where the path is longer than the kernel takes.
fn open_with(root: &OwnedFd, mut path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    if path.len() > limits::QUOTA_SCAN_PATH_OCTETS_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut held = None;
    while let Some((step, rest)) = first_step(path) {
        let above = held.as_ref().unwrap_or(root);
        held = Some(openat2(above, step, hold, Mode::empty(), resolve)?);
        path = rest;
    }
    let above = held.as_ref().unwrap_or(root);
    Ok(openat2(above, path, flags, Mode::empty(), resolve)?)
}

/// Octets of a path that the kernel takes at once, less the longest name.
const STEP_OCTETS_MAX: usize = 4096 - 256;

/// Cuts off a path as much as the kernel takes; `None` where it takes all of it.
fn first_step(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let (begin, _) = path.split_at_checked(STEP_OCTETS_MAX)?;
    let cut = begin.iter().rposition(|octet| *octet == b'/')?;
    let (step, rest) = path.split_at_checked(cut)?;
    Some((step, rest.strip_prefix(b"/")?))
}

/// Whether what refuses to be read is this process's own, so that a client may have made it so. That is the directory
/// itself, or the first above it that lets nobody through.
fn is_own(root: &OwnedFd, path: &[u8]) -> bool {
    let mut path = path;
    loop {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open_with(root, path, flags).and_then(fs::status) {
            Ok(status) => return status.user == rustix::process::geteuid().as_raw(),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(_) => return true,
        }
        let Some(end) = path.iter().rposition(|octet| *octet == b'/') else {
            return true;
        };
        path = path.get(..end).unwrap_or_default();
    }
}

/// Octets and files of one directory; `subdirectory` is told the names of those in it.
fn add_up(
    directory: OwnedFd,
    links: &mut Links,
    size: impl Fn(&Status) -> u64,
    mut subdirectory: impl FnMut(CString),
) -> io::Result<(u64, u64)> {
    let (mut octets, mut files) = (0_u64, 0);
    let mut reader = DirectoryReader::new(directory, limits::DIRECTORY_READ_OCTETS);
    while let Some((directory, entry)) = reader.next_entry()? {
        if matches!(entry.name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut kind = entry.kind;
        if matches!(kind, Kind::File | Kind::Unknown) {
            let status = match fs::status_at(directory, entry.name) {
                Ok(status) => status,
                // One that is gone meanwhile counts nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            kind = status.kind;
            if kind == Kind::File {
                let counts = links.see(&status);
                octets = octets.saturating_add(counts.of(size(&status)));
                files += u64::from(counts.is_first());
            }
        }
        if kind == Kind::Directory {
            subdirectory(entry.name.to_owned());
        }
    }
    Ok((octets, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(home: &Path) -> (u64, u64) {
        let found = scan(home, &AtomicBool::new(false), |status| status.size)
            .unwrap()
            .unwrap();
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
    fn snapshots_that_share_their_files_count_once_and_what_is_linked_outside_counts_whole() {
        let whole = tempfile::tempdir().unwrap();
        let home = whole.path().join("home");
        let directories = ["daily.0", "daily.1", "daily.2"].map(|name| home.join(name));
        for directory in &directories {
            std::fs::create_dir_all(directory).unwrap();
        }
        for name in 0..50 {
            let name = name.to_string();
            std::fs::write(directories[0].join(&name), [0; 10]).unwrap();
            for other in &directories[1..] {
                std::fs::hard_link(directories[0].join(&name), other.join(&name)).unwrap();
            }
        }
        std::fs::hard_link(directories[0].join("1"), whole.path().join("outside")).unwrap();
        assert_eq!(octets(&home), (500, 50));
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
    fn a_path_longer_than_the_kernel_takes_hides_nothing() {
        let home = tempfile::tempdir().unwrap();
        let chain = |first: &str| {
            let mut deep = home.path().join(first);
            for _ in 0..13 {
                deep.push("d".repeat(250));
            }
            std::fs::create_dir_all(&deep).unwrap();
            deep
        };
        let (upper, lower) = (chain("upper"), chain("lower"));
        std::fs::write(lower.join("f"), [0; 7]).unwrap();
        std::fs::write(home.path().join("g"), [0; 1]).unwrap();
        std::fs::rename(home.path().join("lower"), upper.join("lower")).unwrap();
        assert_eq!(octets(home.path()), (8, 2));
    }

    #[test]
    fn what_a_client_hides_makes_the_count_partial() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let inner = home.path().join("inner");
        std::fs::create_dir_all(inner.join("below")).unwrap();
        std::fs::write(inner.join("f"), [0; 7]).unwrap();
        let own = rustix::process::geteuid();
        let user = if own.is_root() { 4711 } else { own.as_raw() };
        for path in [
            home.path().to_path_buf(),
            inner.join("below"),
            inner.clone(),
        ] {
            std::os::unix::fs::chown(path, Some(user), None).unwrap();
        }
        let set_mode = |mode| {
            std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        // Permissions hold for the thread that gave up being root.
        let seen = |by: u32| {
            let path = home.path().to_path_buf();
            let counted = std::thread::spawn(move || {
                fs::become_user(by);
                scan(&path, &AtomicBool::new(false), |status| status.size)
                    .unwrap()
                    .unwrap()
            });
            counted.join().unwrap()
        };
        assert!(!seen(user).partial);
        for mode in [0, 0o444, 0o111] {
            set_mode(mode);
            let found = seen(user);
            assert!(found.partial && found.unreadable > 0, "{mode:o}: {found:?}");
        }
        if !own.is_root() {
            return set_mode(0o700);
        }
        // Of others, as lost+found.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for mode in [0o700, 0o744] {
            set_mode(mode);
            let found = seen(user + 1);
            assert!(
                !found.partial && found.unreadable > 0,
                "{mode:o}: {found:?}"
            );
        }
    }

    #[test]
    fn a_home_that_is_gone_is_an_error_and_a_stop_is_heard() {
        let home = tempfile::tempdir().unwrap();
        let gone = home.path().join("gone");
        assert!(scan(&gone, &AtomicBool::new(false), |status| status.size).is_err());
        let stopped = scan(home.path(), &AtomicBool::new(true), |status| status.size).unwrap();
        assert_eq!(stopped, None);
    }
}
