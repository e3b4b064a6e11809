//! Who this process is: accounts of the system, and becoming one for good.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// An account of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name, or its number when it has no name.
    pub name: String,
    /// Its user id.
    pub user: u32,
    /// Its primary group.
    pub group: u32,
}

impl Identity {
    /// Whether this is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.user == 0
    }
}

/// Octets for the strings of one entry of the account database.
const ENTRY_OCTETS_MAX: usize = 64 * 1024;

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The account of this name, if there is one.
///
/// # Errors
/// The system's, when the account database cannot be read.
pub fn find_by_name(name: &str) -> io::Result<Option<Identity>> {
    look_up_name(name, identity_of)
}

/// The account of this name and its home directory, if there is one. Its own name may be another: directories know
/// aliases, and some ignore case.
///
/// # Errors
/// The system's, when the account database cannot be read.
pub fn find_home(name: &str) -> io::Result<Option<(Identity, PathBuf)>> {
    look_up_name(name, |entry| {
        // SAFETY: as in `identity_of`.
        let home = unsafe { CStr::from_ptr(entry.pw_dir) };
        (
            identity_of(entry),
            OsStr::from_bytes(home.to_bytes()).into(),
        )
    })
}

fn look_up_name<T>(name: &str, take: impl FnOnce(&libc::passwd) -> T) -> io::Result<Option<T>> {
    let name = CString::new(name)?;
    find(take, |entry, strings, result| {
        // SAFETY: the name is NUL-terminated; entry, strings and result are valid for writes for
        // the whole call, and the length given is that of strings.
        unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                strings.as_mut_ptr(),
                strings.len(),
                result,
            )
        }
    })
}

/// The account with this user id, if it has a name.
///
/// # Errors
/// The system's, when the account database cannot be read.
pub fn find_by_id(user: u32) -> io::Result<Option<Identity>> {
    find(identity_of, |entry, strings, result| {
        // SAFETY: entry, strings and result are valid for writes for the whole call, and the
        // length given is that of strings.
        unsafe {
            libc::getpwuid_r(
                user,
                entry.as_mut_ptr(),
                strings.as_mut_ptr(),
                strings.len(),
                result,
            )
        }
    })
}

/// Looks an entry up, and takes from it what is wanted.
fn find<T>(
    take: impl FnOnce(&libc::passwd) -> T,
    look_up: impl Fn(
        &mut MaybeUninit<libc::passwd>,
        &mut [libc::c_char],
        &mut *mut libc::passwd,
    ) -> libc::c_int,
) -> io::Result<Option<T>> {
    let mut entry = MaybeUninit::<libc::passwd>::zeroed();
    let mut strings = vec![0; ENTRY_OCTETS_MAX];
    let mut result = ptr::null_mut();
    match look_up(&mut entry, &mut strings, &mut result) {
        0 => {}
        // Some databases report an absent entry so (getpwnam(3)).
        libc::ENOENT | libc::ESRCH => return Ok(None),
        errno => return Err(io::Error::from_raw_os_error(errno)),
    }
    if result.is_null() {
        return Ok(None);
    }
    // SAFETY: a result that is not null says that the entry was filled in; all-zero octets were
    // a valid value before.
    let entry = unsafe { entry.assume_init() };
    Ok(Some(take(&entry)))
}

fn identity_of(entry: &libc::passwd) -> Identity {
    // SAFETY: the strings of a filled entry are NUL-terminated, and live as long as `find` works on it.
    let name = unsafe { CStr::from_ptr(entry.pw_name) };
    Identity {
        name: name.to_string_lossy().into_owned(),
        user: entry.pw_uid,
        group: entry.pw_gid,
    }
}

/// Makes this process the account's for good, with its groups. Of root's capabilities only
/// `CAP_NET_BIND_SERVICE` is kept, and only if asked for: active data connections come from ports
/// 20 and 989 (RFC 959 §3.2).
///
/// To be called as root before other threads are started: capabilities belong to threads, and new
/// ones inherit them.
///
/// # Errors
/// The system's; the process must end then, for it may be half-way.
pub fn become_identity(identity: &Identity, keep_bind_service: bool) -> io::Result<()> {
    if keep_bind_service {
        rustix::thread::set_keep_capabilities(true)?;
    }
    set_groups(identity)?;
    // SAFETY: setresgid takes numbers only.
    check(unsafe { libc::setresgid(identity.group, identity.group, identity.group) })?;
    // SAFETY: setresuid takes numbers only.
    check(unsafe { libc::setresuid(identity.user, identity.user, identity.user) })?;
    let kept = if keep_bind_service {
        CapabilitySet::NET_BIND_SERVICE
    } else {
        CapabilitySet::empty()
    };
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    if keep_bind_service && rustix::thread::set_capabilities(None, sets).is_err() {
        // A container may withhold the capability: active connections then come from any port.
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none)?;
    }
    if identity.user != 0 && rustix::process::geteuid().is_root() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    protect_memory()?;
    forbid_new_privileges()
}

/// SECURITY: memory holds keys and passwords; other processes of the account must not read it.
///
/// # Errors
/// The system's.
pub fn protect_memory() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether [`protect_memory`] holds. It ends when a program is executed.
#[must_use]
pub fn is_memory_protected() -> bool {
    dumpable_behavior().is_ok_and(|behavior| behavior == DumpableBehavior::NotDumpable)
}

/// Lets the program that this process is about to execute have `CAP_NET_BIND_SERVICE`, if this one has it: without an
/// ambient capability nothing of what [`become_identity`] kept would be left. Makes system calls only, so it may run
/// between fork and exec. Refused (by securebits, or a bounding set), the program starts without.
pub fn pass_bind_service() {
    let right = CapabilitySet::NET_BIND_SERVICE;
    let Ok(mut sets) = rustix::thread::capabilities(None) else {
        return;
    };
    if !sets.permitted.contains(right) {
        return;
    }
    sets.inheritable |= right;
    if rustix::thread::set_capabilities(None, sets).is_ok() {
        let _ = rustix::thread::configure_capability_in_ambient_set(right, true);
    }
}

/// No program that this process starts can gain privileges.
///
/// # Errors
/// The system's.
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

fn set_groups(identity: &Identity) -> io::Result<()> {
    let name = CString::new(identity.name.as_str())?;
    // SAFETY: the name is NUL-terminated and lives for the whole call.
    if unsafe { libc::initgroups(name.as_ptr(), identity.group) } == 0 {
        return Ok(());
    }
    let groups = [identity.group];
    // SAFETY: the pointer and the count describe the array, which is only read.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What a directory is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Reading and listing.
    Read,
    /// Making, replacing and removing entries.
    Write,
}

/// Whether this process, as what it is now, can use the directory so.
///
/// # Errors
/// The system's: EACCES, EROFS, ENOENT and so on.
pub fn check_directory(path: &Path, wanted: Use) -> io::Result<()> {
    let access = match wanted {
        Use::Read => Access::READ_OK | Access::EXEC_OK,
        Use::Write => Access::WRITE_OK | Access::EXEC_OK,
    };
    Ok(accessat(CWD, path, access, AtFlags::EACCESS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = find_by_name("root").unwrap().unwrap();
        assert!(root.is_root());
        assert_eq!(find_by_id(0).unwrap(), Some(root));
        assert_eq!(find_by_name("no such account").unwrap(), None);
        assert_eq!(find_by_id(3_999_999_999).unwrap(), None);
        assert!(find_by_name("nul\0").is_err());
        let (root, home) = find_home("root").unwrap().unwrap();
        assert!(root.is_root() && root.name == "root" && home.is_absolute());
        assert_eq!(find_home("no such account").unwrap(), None);
    }

    #[test]
    fn a_missing_directory_cannot_be_used() {
        let directory = tempfile::tempdir().unwrap();
        check_directory(directory.path(), Use::Write).unwrap();
        let missing = directory.path().join("missing");
        let error = check_directory(&missing, Use::Read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
