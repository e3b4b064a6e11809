//! Files without a name (`O_TMPFILE`, open(2)): nobody sees one before it is linked, and the kernel frees one that never
//! is, also after a crash.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::fs::{self, Status};

/// Opens to write a new file without a name in the directory that is opened.
pub const OPEN_UNNAMED: i32 = libc::O_TMPFILE | libc::O_WRONLY;

/// Whether an error of opening with [`OPEN_UNNAMED`] may mean that the file system, or the kernel, has no such files.
#[must_use]
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        // The last three are what those say that do not know the flag.
        Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::ISDIR | Errno::NOENT | Errno::INVAL)
    )
}

/// Whether such a file can be given a name here: before Linux 6.10 that takes /proc.
#[must_use]
pub fn can_be_named() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| Path::new("/proc/self/fd").exists())
}

/// Gives it a name.
///
/// # Errors
/// The kernel's error; `AlreadyExists` when the name is taken.
pub fn link(file: impl AsFd, parent: impl AsFd, name: &CStr) -> io::Result<()> {
    let held = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(rustix::fs::linkat(
        CWD,
        held,
        parent,
        name,
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

/// Gives what has a name in a directory one more.
///
/// # Errors
/// The kernel's error; `AlreadyExists` when the name is taken.
pub fn link_again(parent: impl AsFd, there: &CStr, name: &CStr) -> io::Result<()> {
    let parent = parent.as_fd();
    Ok(rustix::fs::linkat(
        parent,
        there,
        parent,
        name,
        AtFlags::empty(),
    )?)
}

/// Whether an error of [`link_again`] may mean that the file system has one name for each file.
#[must_use]
pub fn has_no_links(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK)
    )
}

/// Asks for errors of writes that were put off, as close(2) tells them on file systems of a network.
///
/// # Errors
/// The kernel's error: octets may be missing.
pub fn flush(file: impl AsFd) -> io::Result<()> {
    let copy = match file.as_fd().try_clone_to_owned() {
        Ok(copy) => copy.into_raw_fd(),
        // No descriptor is left: the long way, which tells them too.
        Err(_) => return Ok(rustix::fs::fsync(file)?),
    };
    // SAFETY: the number is that of a descriptor made just now, which nobody else has.
    if unsafe { libc::close(copy) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // It is closed all the same.
    if error.kind() == io::ErrorKind::Interrupted {
        return Ok(());
    }
    Err(error)
}

/// Brings the names in a directory to the disk, of which `file` has one.
///
/// # Errors
/// The kernel's error.
pub fn sync_names(parent: impl AsFd, file: impl AsFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, c".", flags, Mode::empty()) {
        Ok(directory) => Ok(rustix::fs::fsync(directory)?),
        // One may be written and not read; or no descriptor is left.
        Err(Errno::ACCESS | Errno::MFILE | Errno::NFILE) => Ok(rustix::fs::syncfs(file)?),
        Err(error) => Err(error.into()),
    }
}

/// Gives a file mode and owners of another, whose place it is to take. Owners are kept as far as the system permits; where
/// the group is not, the new one may do no more than others.
///
/// # Errors
/// The kernel's error: it has another mode.
pub fn adopt(file: impl AsFd, other: &Status) -> io::Result<()> {
    let file = file.as_fd();
    let own = fs::status(file)?;
    let mut mode = other.mode & 0o777;
    let (user, group) = (Uid::from_raw(other.user), Gid::from_raw(other.group));
    if (own.user, own.group) != (other.user, other.group)
        && rustix::fs::fchown(file, Some(user), Some(group)).is_err()
        && own.group != other.group
        && rustix::fs::fchown(file, None, Some(group)).is_err()
    {
        mode = (mode & 0o707) | ((mode & 0o007) << 3);
    }
    if own.mode & 0o777 != mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_file_gets_its_name_at_the_end() {
        let home = tempfile::tempdir().unwrap();
        let root = fs::hold_root(home.path()).unwrap();
        let flags = OFlags::from_bits_retain(OPEN_UNNAMED as u32) | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&root, c".", flags, Mode::from_raw_mode(0o600));
        let file: OwnedFd = match opened {
            Err(error) if is_unsupported(&error.into()) => {
                return eprintln!("skipped: this file system has no unnamed files");
            }
            opened => opened.unwrap(),
        };
        rustix::io::write(&file, b"whole").unwrap();
        flush(&file).unwrap();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        assert_eq!(fs::status(&file).unwrap().links, 0);
        link(&file, &root, c"f").unwrap();
        sync_names(&root, &file).unwrap();
        let size = fs::status_at(&root, c"f").unwrap().size;
        assert_eq!(size, 5);
        std::fs::write(home.path().join("g"), "").unwrap();
        let taken = link(&file, &root, c"g").unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        let mode = fs::status(&file).unwrap();
        let other = Status {
            mode: 0o4751,
            ..mode
        };
        adopt(&file, &other).unwrap();
        assert_eq!(fs::status(&file).unwrap().mode, 0o751);
    }

    #[test]
    fn who_may_not_keep_the_group_gives_the_new_one_no_more_than_others() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let made = std::fs::File::create(home.path().join("f")).unwrap();
        std::os::unix::fs::fchown(&made, Some(4321), None).unwrap();
        let old = Status {
            user: 1,
            group: 77,
            mode: 0o2674,
            ..fs::status(&made).unwrap()
        };
        let adopting = || {
            fs::become_user(4321);
            adopt(&made, &old)
        };
        std::thread::scope(|scope| scope.spawn(adopting).join().unwrap()).unwrap();
        let now = fs::status(&made).unwrap();
        assert_eq!((now.user, now.mode), (4321, 0o644));
        // Who may do all keeps both.
        adopt(&made, &old).unwrap();
        let now = fs::status(&made).unwrap();
        assert_eq!((now.user, now.group, now.mode), (1, 77, 0o674));
    }
}
