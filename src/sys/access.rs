//! Whether a file may be written that is only held (faccessat2(2)): opening and closing one to find out would tell the
//! programs that watch it of a file that is written.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::process::{getegid, geteuid, getgid, getuid};

/// Whether this process may give the file another content. May wait for a server of files.
///
/// # Errors
/// The kernel's refusal, as open(2) gives it; `Unsupported` where it cannot be asked.
pub fn may_write(fd: impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd();
    let raw = fd.as_raw_fd();
    // SAFETY: the descriptor is open, the empty path a static string; nothing is written to memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            raw,
            c"".as_ptr(),
            libc::W_OK,
            libc::AT_EACCESS | libc::AT_EMPTY_PATH,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        // Linux 5.8 has this call. Older container profiles forbid it with EPERM; a real EPERM comes back from the second way.
        if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
            return Err(error);
        }
        by_its_number(raw)?;
    }
    // Only to be appended to: neither cut nor replaced, though it may be written.
    let found = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    if found.stx_attributes.contains(StatxAttributes::APPEND) {
        return Err(rustix::io::Errno::PERM.into());
    }
    Ok(())
}

/// The old way, which asks for the real user and takes /proc.
fn by_its_number(raw: i32) -> io::Result<()> {
    if (getuid(), getgid()) != (geteuid(), getegid()) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let held = format!("/proc/self/fd/{raw}");
    match rustix::fs::accessat(CWD, held, Access::WRITE_OK, AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => Err(io::ErrorKind::Unsupported.into()),
        asked => Ok(asked?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn both_ways_say_what_opening_says() {
        if !geteuid().is_root() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(home.path(), all).unwrap();
        for (name, mode, owner) in [
            ("own", 0o600, 4321),
            ("closed", 0o444, 4321),
            ("open", 0o602, 1),
            ("other", 0o644, 1),
        ] {
            let path = home.path().join(name);
            std::fs::write(&path, "").unwrap();
            chown(&path, Some(owner), None).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let root = fs::hold_root(home.path()).unwrap();
        let asking = || {
            fs::become_user(4321);
            for name in [c"own", c"closed", c"open", c"other"] {
                let held = fs::hold_beneath(&root, name).unwrap();
                let path = home.path().join(name.to_str().unwrap());
                let opened = std::fs::OpenOptions::new().write(true).open(path);
                let expected = opened.map(drop).map_err(|error| error.raw_os_error());
                let asked = may_write(&held).map_err(|error| error.raw_os_error());
                assert_eq!(asked, expected, "{name:?}");
                // Its emulation, too.
                let old = by_its_number(held.as_raw_fd());
                assert_eq!(
                    old.map_err(|error| error.raw_os_error()),
                    expected,
                    "{name:?}"
                );
            }
        };
        std::thread::scope(|scope| scope.spawn(asking).join().unwrap());
    }
}
