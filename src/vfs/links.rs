//! Resolves symbolic links by hand, inside one volume, so that the path at their end is known.
//!
//! Each step is opened by the kernel without following anything. What is found is only a path: whoever opens it
//! does so without following links, so that nobody can put a link there meanwhile.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::limits;
use crate::proto::VirtualPath;
use crate::sys::fs::{self, Kind, Status};

use super::Rights;
use super::rules::{Operation, Rules};

/// The path below `root` that `path` stands for, without links; the last name may be missing, and is only resolved
/// with `last`. May wait for a disk.
///
/// # Errors
/// The kernel's; `XDEV` when a link leaves the volume, `LOOP` when there are too many, or too much in them.
pub(super) fn resolve(root: impl AsFd, path: &[u8], last: bool) -> io::Result<Vec<u8>> {
    let mut resolved: Vec<u8> = Vec::with_capacity(path.len());
    let mut ahead = Vec::new();
    push(&mut ahead, path);
    let (mut links, mut components) = (0, 0);
    while let Some(name) = ahead.pop() {
        components += 1;
        if components > limits::LINK_COMPONENTS_MAX {
            return Err(Errno::LOOP.into());
        }
        if name == b".." {
            if resolved.is_empty() {
                return Err(Errno::XDEV.into());
            }
            let end = resolved.iter().rposition(|octet| *octet == b'/');
            resolved.truncate(end.unwrap_or(0));
            continue;
        }
        let parent = resolved.len();
        if !resolved.is_empty() {
            resolved.push(b'/');
        }
        resolved.extend_from_slice(&name);
        if ahead.is_empty() && !last {
            break;
        }
        let held = match fs::hold_plain(&root, &CString::new(resolved.clone())?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && ahead.is_empty() => break,
            result => result?,
        };
        if fs::status(&held)?.kind != Kind::Link {
            continue;
        }
        links += 1;
        if links > limits::LINKS_FOLLOWED_MAX {
            return Err(Errno::LOOP.into());
        }
        let text = fs::link_text(&held)?.into_bytes();
        if text.starts_with(b"/") {
            return Err(Errno::XDEV.into());
        }
        resolved.truncate(parent);
        push(&mut ahead, &text);
    }
    Ok(resolved)
}

/// Puts the components of a path before those that are still to come.
fn push(ahead: &mut Vec<Vec<u8>>, path: &[u8]) {
    let components = path.split(|octet| *octet == b'/').rev();
    let components = components.filter(|name| !matches!(*name, b"" | b"."));
    ahead.extend(components.map(<[u8]>::to_vec));
}

/// What the listing of a directory must know of the rules.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) rules: Arc<Rules>,
    /// The volume that the listed directory belongs to, and where it is.
    pub(super) volume: usize,
    pub(super) mount_point: VirtualPath,
    /// Names in it that are mount points or lead to some: what is on disk under such a name is not shown.
    pub(super) mounted: Vec<Box<[u8]>>,
    /// Names in it that have rights of their own.
    pub(super) exceptions: Vec<(Box<[u8]>, Rights)>,
}

impl Guard {
    /// Whether an entry of the directory is left out.
    pub(super) fn omits(&self, name: &[u8]) -> bool {
        self.mounted.iter().any(|mounted| **mounted == *name) || self.rules.conceals(name)
    }

    /// The rights of an entry that are not those of the directory.
    pub(super) fn rights_of(&self, name: &[u8]) -> Option<Rights> {
        let exception = self.exceptions.iter().find(|(named, _)| **named == *name);
        exception.map(|(_, rights)| *rights)
    }

    /// What is at the end of the link `path`, and what may be done there.
    ///
    /// # Errors
    /// As for [`resolve`]; `XDEV` and `LOOP` also for what the rules put out of reach.
    pub(super) fn follow(&self, root: &OwnedFd, path: &CStr) -> io::Result<(Status, Rights)> {
        if !self.rules.concerns_links() {
            let held = fs::hold_beneath(root, path)?;
            return Ok((fs::status(&held)?, Rights::ALL));
        }
        let end = resolve(root, path.to_bytes(), true)?;
        let there = self.mount_point.join(&end);
        let there = there.map_err(|_| io::Error::from(Errno::NAMETOOLONG))?;
        let admitted = self.rules.admit(&there, Operation::See);
        let admitted = admitted.map_err(|_| io::Error::from(Errno::LOOP))?;
        if admitted.volume != self.volume {
            return Err(Errno::XDEV.into());
        }
        let end = if end.is_empty() { b".".to_vec() } else { end };
        let held = fs::hold_plain(root, &CString::new(end)?)?;
        Ok((fs::status(&held)?, admitted.rights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_resolved_as_the_kernel_does() {
        let whole = tempfile::tempdir().unwrap();
        let home = whole.path().join("home");
        std::fs::create_dir_all(home.join("a/b/c")).unwrap();
        std::fs::write(home.join("a/f"), "").unwrap();
        for (text, name) in [
            ("a/b", "l"),
            ("../f", "a/b/up"),
            ("l/up", "twice"),
            ("./a//b/./c/", "dots"),
            ("a/new", "future"),
            ("loop", "loop"),
            ("../outside", "out"),
            ("/etc", "absolute"),
            ("a/b/../../..", "climb"),
            ("..", "a/parent"),
        ] {
            symlink(text, home.join(name)).unwrap();
        }
        let root = fs::hold_root(&home).unwrap();
        let resolved = |path: &str, last| {
            let path = resolve(&root, path.as_bytes(), last);
            path.map(|path| String::from_utf8(path).unwrap())
        };
        let table = [
            ("a/f", true, "a/f"),
            ("l", true, "a/b"),
            ("l", false, "l"),
            ("l/c", true, "a/b/c"),
            ("l/up", true, "a/f"),
            ("l/up", false, "a/b/up"),
            ("twice", true, "a/f"),
            ("dots", true, "a/b/c"),
            ("dots/x", true, "a/b/c/x"),
            ("future", true, "a/new"),
            ("a/parent", true, ""),
            ("a/parent/l/none", true, "a/b/none"),
        ];
        for (path, last, expected) in table {
            assert_eq!(resolved(path, last).unwrap(), expected, "{path}");
        }
        let errno = |path: &str| resolved(path, true).unwrap_err().raw_os_error();
        for (path, expected) in [
            ("loop", Errno::LOOP),
            ("out", Errno::XDEV),
            ("absolute", Errno::XDEV),
            ("climb", Errno::XDEV),
            ("none/x", Errno::NOENT),
            ("a/f/x", Errno::NOTDIR),
            ("future/x", Errno::NOENT),
        ] {
            assert_eq!(errno(path), Some(expected.raw_os_error()), "{path}");
        }
    }

    #[test]
    fn crafted_links_are_given_up() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("d")).unwrap();
        // Each goes down and up as often as its text can say.
        let text = "d/../".repeat(600);
        symlink(format!("{text}d"), home.path().join("l0")).unwrap();
        for number in 1..8 {
            let text = format!("{text}l{}", number - 1);
            symlink(text, home.path().join(format!("l{number}"))).unwrap();
        }
        let root = fs::hold_root(home.path()).unwrap();
        assert_eq!(resolve(&root, b"l0", true).unwrap(), b"d");
        let error = resolve(&root, b"l7", true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }
}
