//! Files and directories: calls that name an object by a descriptor and one component, never by a
//! path of the whole system. All of them may wait for a disk; which run on a core and which on the
//! pool is decided by [`crate::vfs`].

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags, Timespec};
use rustix::io::Errno;

use crate::limits;

/// How names are resolved below a user's root: no step leaves it, neither by `..` nor by an
/// absolute link, and the links of /proc, which lead anywhere, are not followed.
pub const RESOLVE_BENEATH: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;

/// The same, and no step follows a symbolic link; only [`HOLD_LINK`] may end at one.
pub const RESOLVE_PLAIN: u64 = RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;

/// Opens to read. Non-blocking, so that a FIFO without a writer does not hold up the caller.
pub const OPEN_READ: i32 = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
/// Opens to write what exists.
pub const OPEN_WRITE: i32 = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
/// Opens to write, made when missing.
pub const OPEN_CREATE: i32 = OPEN_WRITE | libc::O_CREAT;
/// Opens to write what this very call makes.
pub const OPEN_CREATE_NEW: i32 = OPEN_CREATE | libc::O_EXCL;
/// Opens a directory to read its entries.
pub const OPEN_READ_DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK;
/// Takes hold of an object without opening it; links are followed.
pub const HOLD: i32 = libc::O_PATH;
/// Takes hold of an object or of the link itself.
pub const HOLD_LINK: i32 = libc::O_PATH | libc::O_NOFOLLOW;
/// Takes hold of a directory.
pub const HOLD_DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

const STATUS: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::UID)
    .union(StatxFlags::GID)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE);

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, FIFO or socket, by the letter that ls(1) shows.
    Other(u8),
    /// The file system does not tell in its directories: ask for the status.
    Unknown,
}

impl Kind {
    const fn of_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Link,
            libc::S_IFIFO => Self::Other(b'p'),
            libc::S_IFSOCK => Self::Other(b's'),
            libc::S_IFCHR => Self::Other(b'c'),
            libc::S_IFBLK => Self::Other(b'b'),
            _ => Self::Unknown,
        }
    }

    const fn of_directory_entry(octet: u8) -> Self {
        // The DT_ values are the file type bits of a mode, shifted.
        Self::of_mode((octet as u32) << 12)
    }
}

/// The facts of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-user-ID, set-group-ID and sticky: 0 to 0o7777.
    pub mode: u32,
    /// Octets.
    pub size: u64,
    /// Hard links.
    pub links: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Seconds since 1970 of the last change of its content.
    pub modified: i64,
    /// The file system.
    pub device: u64,
    /// The number within the file system.
    pub inode: u64,
}

/// The status of what `fd` refers to, which may only be held ([`HOLD`]).
///
/// # Errors
/// The kernel's error.
pub fn status(fd: impl AsFd) -> io::Result<Status> {
    status_with(fd, c"", AtFlags::EMPTY_PATH)
}

/// The status of one entry of a directory; of a link the link's own.
///
/// # Errors
/// The kernel's error.
pub fn status_at(directory: impl AsFd, name: &CStr) -> io::Result<Status> {
    status_with(
        directory,
        name,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
    )
}

fn status_with(fd: impl AsFd, name: &CStr, flags: AtFlags) -> io::Result<Status> {
    let found = rustix::fs::statx(fd, name, flags, STATUS)?;
    let mode = u32::from(found.stx_mode);
    Ok(Status {
        kind: Kind::of_mode(mode),
        mode: mode & 0o7777,
        size: found.stx_size,
        links: found.stx_nlink,
        user: found.stx_uid,
        group: found.stx_gid,
        modified: found.stx_mtime.tv_sec,
        device: (u64::from(found.stx_dev_major) << 32) | u64::from(found.stx_dev_minor),
        inode: found.stx_ino,
    })
}

/// Takes hold of a directory anywhere on the system: the start of a confined tree.
///
/// # Errors
/// The kernel's error; it must be a directory.
pub fn hold_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Takes hold of what `path` leads to below `directory`, links followed.
///
/// # Errors
/// The kernel's error; `CrossesDevices` when the path leaves the directory.
pub fn hold_beneath(directory: impl AsFd, path: &CStr) -> io::Result<OwnedFd> {
    hold_resolved(directory, path, OFlags::PATH, RESOLVE_BENEATH)
}

/// Takes hold of what `path` names below `directory`, of a link itself. No link is followed.
///
/// # Errors
/// The kernel's error; `ELOOP` when a link is on the way.
pub fn hold_plain(directory: impl AsFd, path: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    hold_resolved(directory, path, flags, RESOLVE_PLAIN)
}

fn hold_resolved(
    directory: impl AsFd,
    path: &CStr,
    flags: OFlags,
    resolve: u64,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::from_bits_retain(resolve);
    for _ in 0..limits::OPEN_TRIES_MAX {
        match rustix::fs::openat2(&directory, path, flags, Mode::empty(), resolve) {
            // A link with `..` was resolved while somebody renamed directories.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::BUSY.into())
}

/// The text of the link that `fd` holds ([`HOLD_LINK`]).
///
/// # Errors
/// The kernel's error.
pub fn link_text(fd: impl AsFd) -> io::Result<CString> {
    link_text_at(fd, c"")
}

/// The text of a link in a directory.
///
/// # Errors
/// The kernel's error.
pub fn link_text_at(directory: impl AsFd, name: &CStr) -> io::Result<CString> {
    Ok(rustix::fs::readlinkat(directory, name, Vec::new())?)
}

/// Makes a directory.
///
/// # Errors
/// The kernel's error.
pub fn make_directory(parent: impl AsFd, name: &CStr, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(
        parent,
        name,
        Mode::from_raw_mode(mode),
    )?)
}

/// Removes an empty directory.
///
/// # Errors
/// The kernel's error.
pub fn remove_directory(parent: impl AsFd, name: &CStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Removes anything but a directory; of a link the link itself.
///
/// # Errors
/// The kernel's error.
pub fn remove_file(parent: impl AsFd, name: &CStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
}

/// Renames; what has the new name is replaced.
///
/// # Errors
/// The kernel's error.
pub fn rename(from: impl AsFd, from_name: &CStr, to: impl AsFd, to_name: &CStr) -> io::Result<()> {
    Ok(rustix::fs::renameat(from, from_name, to, to_name)?)
}

/// Renames unless the new name is taken.
///
/// # Errors
/// `AlreadyExists`; `InvalidInput` also where the file system cannot do it in one step.
pub fn rename_to_free(
    from: impl AsFd,
    from_name: &CStr,
    to: impl AsFd,
    to_name: &CStr,
) -> io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    Ok(rustix::fs::renameat_with(
        from, from_name, to, to_name, flags,
    )?)
}

/// Sets the permission bits of what `fd` holds ([`HOLD`]); it need not be readable.
///
/// # Errors
/// The kernel's error.
pub fn set_mode(fd: impl AsFd, mode: u32) -> io::Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, the empty path a static string; nothing is written to memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fchmodat2,
            raw,
            c"".as_ptr(),
            mode,
            libc::AT_EMPTY_PATH,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // Linux 6.6 has this call. Older kernels do not know it, older container profiles forbid it
    // with EPERM; a real EPERM comes back from the second way.
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
        return Err(error);
    }
    let held = format!("/proc/self/fd/{raw}");
    Ok(rustix::fs::chmod(held, Mode::from_raw_mode(mode))?)
}

/// Sets the time of modification of what `fd` holds ([`HOLD`]), in seconds since 1970; the time
/// of access stays.
///
/// # Errors
/// The kernel's error.
pub fn set_modified(fd: impl AsFd, seconds: i64) -> io::Result<()> {
    let times = rustix::fs::Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        },
    };
    Ok(rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)?)
}

/// Cuts a file to nothing.
///
/// # Errors
/// The kernel's error.
pub fn truncate(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(fd, 0)?)
}

/// Takes `O_NONBLOCK` off an opened file. With it, ring reads on some file systems end with
/// EAGAIN instead of waiting for the disk.
///
/// # Errors
/// The kernel's error.
pub fn make_blocking(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fcntl_setfl(fd, OFlags::empty())?)
}

/// Octets that an unprivileged user may still write to the volume of `fd`.
///
/// # Errors
/// The kernel's error.
pub fn free_octets(fd: impl AsFd) -> io::Result<u64> {
    let volume = rustix::fs::fstatvfs(fd)?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// Whether the volume of `fd` is mounted read-only.
#[must_use]
pub fn is_read_only(fd: impl AsFd) -> bool {
    rustix::fs::fstatvfs(fd).is_ok_and(|volume| {
        volume
            .f_flag
            .contains(rustix::fs::StatVfsMountFlags::RDONLY)
    })
}

/// As whom this process reaches files.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The effective user.
    pub user: u32,
    /// The effective group and the supplementary ones.
    pub groups: Box<[u32]>,
}

impl Credentials {
    /// Those of this process now.
    #[must_use]
    pub fn current() -> Self {
        let further = rustix::process::getgroups().unwrap_or_default();
        let groups = std::iter::once(rustix::process::getegid()).chain(further);
        Self {
            user: rustix::process::geteuid().as_raw(),
            groups: groups.map(rustix::process::Gid::as_raw).collect(),
        }
    }
}

/// Makes the calling thread reach files as another user; tests of permissions run as root need it.
#[cfg(test)]
pub(crate) fn become_user(user: u32) {
    // SAFETY: changes the credentials of this thread and nothing in memory.
    unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) };
}

/// Reads a directory in its own order, a buffer at a time.
#[derive(Debug)]
pub struct DirectoryReader {
    directory: OwnedFd,
    buffer: Box<[u8]>,
    position: usize,
    filled: usize,
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryEntry<'a> {
    /// The name, with its NUL for the calls that follow.
    pub name: &'a CStr,
    /// What it is, as far as the directory says.
    pub kind: Kind,
}

/// Octets before the name in `struct linux_dirent64`: inode, offset, record length, type.
const ENTRY_HEADER_OCTETS: usize = 19;
/// Where the record length is.
const ENTRY_LENGTH_AT: usize = 16;

impl DirectoryReader {
    /// Reads `directory`, opened with [`OPEN_READ_DIRECTORY`], from where it stands.
    #[must_use]
    pub fn new(directory: OwnedFd, buffer_octets: usize) -> Self {
        Self {
            directory,
            buffer: vec![0; buffer_octets].into_boxed_slice(),
            position: 0,
            filled: 0,
        }
    }

    /// The directory and its next entry, `.` and `..` included; `None` at the end.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn next_entry(&mut self) -> io::Result<Option<(BorrowedFd<'_>, DirectoryEntry<'_>)>> {
        if self.position >= self.filled {
            self.filled = self.fill()?;
            self.position = 0;
            if self.filled == 0 {
                return Ok(None);
            }
        }
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let rest = self.buffer.get(self.position..self.filled);
        let rest = rest.ok_or_else(malformed)?;
        let length = rest
            .get(ENTRY_LENGTH_AT..)
            .and_then(|octets| octets.first_chunk::<2>())
            .map(|octets| usize::from(u16::from_ne_bytes(*octets)))
            .filter(|length| *length > ENTRY_HEADER_OCTETS)
            .ok_or_else(malformed)?;
        let entry = rest.get(..length).ok_or_else(malformed)?;
        let (header, name) = entry.split_at(ENTRY_HEADER_OCTETS);
        self.position += length;
        let entry = DirectoryEntry {
            name: CStr::from_bytes_until_nul(name).map_err(|_| malformed())?,
            kind: Kind::of_directory_entry(header.last().copied().unwrap_or(0)),
        };
        Ok(Some((self.directory.as_fd(), entry)))
    }

    fn fill(&mut self) -> io::Result<usize> {
        loop {
            let (pointer, length) = (self.buffer.as_mut_ptr(), self.buffer.len());
            // SAFETY: the kernel writes at most `length` octets to the buffer, which is ours and
            // initialised, so whatever it leaves there are valid octets.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_getdents64,
                    self.directory.as_raw_fd(),
                    pointer,
                    length,
                )
            };
            if let Ok(filled) = usize::try_from(result) {
                return Ok(filled);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // The directory was removed while it was read: there is nothing more in it.
                Some(libc::ENOENT) => return Ok(0),
                _ => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_read_whole_with_a_small_buffer() {
        let home = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::File::create(home.path().join(format!("file-{number:03}"))).unwrap();
        }
        std::fs::create_dir(home.path().join("sub")).unwrap();
        let held = rustix::fs::open(
            home.path(),
            OFlags::from_bits_retain(OPEN_READ_DIRECTORY as u32),
            Mode::empty(),
        );
        let mut reader = DirectoryReader::new(held.unwrap(), 300);
        let mut names = Vec::new();
        while let Some((_, entry)) = reader.next_entry().unwrap() {
            let directory = matches!(entry.name.to_bytes(), b"sub" | b"." | b"..");
            assert_eq!(entry.kind == Kind::Directory, directory);
            names.push(entry.name.to_bytes().to_vec());
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 103);
    }

    #[test]
    fn mode_is_set_on_an_unreadable_file_that_is_only_held() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("f"), "x").unwrap();
        let root = hold_root(home.path()).unwrap();
        let held = hold_beneath(&root, c"f").unwrap();
        set_mode(&held, 0).unwrap();
        assert_eq!(status(&held).unwrap().mode, 0);
        set_mode(&held, 0o640).unwrap();
        assert_eq!(status(&held).unwrap().mode, 0o640);
    }
}
