//! What an account may do, and what the `perm` fact says about it.

use std::sync::Arc;

use crate::proto::FileError;
use crate::proto::listing::Perm;
use crate::sys::fs::{Credentials, Kind, Status};

/// The rights of an account below its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// RETR.
    pub read: bool,
    /// STOR and STOU, over existing files too.
    pub write: bool,
    /// APPE.
    pub append: bool,
    /// DELE and RMD.
    pub delete: bool,
    /// RNFR and RNTO. Replacing a file needs `write` or `delete` besides.
    pub rename: bool,
    /// LIST, NLST, MLSD, MLST, STAT.
    pub list: bool,
    /// MKD.
    pub make_directory: bool,
    /// MFMT, SITE UTIME, SITE CHMOD.
    pub change: bool,
}

impl Rights {
    /// Every right.
    pub const ALL: Self = Self {
        read: true,
        write: true,
        append: true,
        delete: true,
        rename: true,
        list: true,
        make_directory: true,
        change: true,
    };
    /// No right.
    pub const NONE: Self = Self {
        read: false,
        write: false,
        append: false,
        delete: false,
        rename: false,
        list: false,
        make_directory: false,
        change: false,
    };
    /// Downloads and listings.
    pub const READ_ONLY: Self = Self {
        read: true,
        list: true,
        ..Self::NONE
    };

    /// What both permit.
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            read: self.read && other.read,
            write: self.write && other.write,
            append: self.append && other.append,
            delete: self.delete && other.delete,
            rename: self.rename && other.rename,
            list: self.list && other.list,
            make_directory: self.make_directory && other.make_directory,
            change: self.change && other.change,
        }
    }

    /// Whether the other ones permit all that these do.
    pub(super) fn are_within(self, other: Self) -> bool {
        self.and(other) == self
    }

    /// Whether the account may learn about a file at all: uploaders look at what arrived.
    pub(super) const fn may_inspect(self) -> bool {
        self.read || self.list || self.write || self.append
    }
}

/// Refuses what a right is missing for.
pub(super) const fn require(right: bool) -> Result<(), FileError> {
    if right {
        Ok(())
    } else {
        Err(FileError::Denied)
    }
}

/// What decides over an access: the account, and the system's view of this process.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) rights: Rights,
    pub(super) credentials: Arc<Credentials>,
    pub(super) read_only: bool,
}

const READ: u32 = 4;
const WRITE: u32 = 2;
const SEARCH: u32 = 1;
const STICKY: u32 = 0o1000;

impl Access {
    /// The `perm` fact. `object` is what the name leads to, `owner` whom the name itself belongs
    /// to, `parent` the directory that holds the name; the root has none.
    pub(super) fn perm(&self, object: &Status, owner: u32, parent: Option<&Status>) -> Perm {
        let rights = self.rights;
        let writable = self.permits(object, WRITE);
        let perm = match object.kind {
            Kind::File => Perm::NONE
                .with_if(Perm::READ, rights.read && self.permits(object, READ))
                .with_if(Perm::APPEND, rights.append && writable)
                .with_if(Perm::WRITE, rights.write && writable),
            Kind::Directory => {
                let entered = self.permits(object, SEARCH);
                let changed = writable && entered;
                Perm::NONE
                    .with_if(Perm::ENTER, entered)
                    .with_if(Perm::LIST, rights.list && self.permits(object, READ))
                    .with_if(Perm::CREATE, rights.write && changed)
                    .with_if(Perm::MAKE_DIRECTORY, rights.make_directory && changed)
                    .with_if(Perm::PURGE, rights.delete && changed)
            }
            Kind::Link | Kind::Other(_) | Kind::Unknown => Perm::NONE,
        };
        let movable = parent.is_some_and(|parent| self.permits_removal(owner, parent));
        perm.with_if(Perm::RENAME, rights.rename && movable)
            .with_if(Perm::DELETE, rights.delete && movable)
    }

    /// The mode bits, as the kernel applies them to this process. Access control lists beyond
    /// them, which are rare and cost a call for each object, are not asked for.
    fn permits(&self, status: &Status, wanted: u32) -> bool {
        if wanted == WRITE && self.read_only {
            return false;
        }
        if self.credentials.user == 0 {
            return wanted != SEARCH || status.kind == Kind::Directory;
        }
        let shift = if status.user == self.credentials.user {
            6
        } else if self.credentials.groups.contains(&status.group) {
            3
        } else {
            0
        };
        (status.mode >> shift) & wanted == wanted
    }

    /// Whether this process may write a file, as far as its mode tells.
    pub(super) fn may_write(&self, status: &Status) -> bool {
        self.permits(status, WRITE)
    }

    /// Whether the directory's sticky bit lets this process replace a file of `owner` in it.
    pub(super) fn may_replace(&self, owner: u32, directory: &Status) -> bool {
        let user = self.credentials.user;
        let sticky = directory.mode & STICKY != 0 && user != 0;
        !sticky || user == owner || user == directory.user
    }

    fn permits_removal(&self, owner: u32, parent: &Status) -> bool {
        self.permits(parent, WRITE)
            && self.permits(parent, SEARCH)
            && self.may_replace(owner, parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(kind: Kind, mode: u32, user: u32, group: u32) -> Status {
        Status {
            kind,
            mode,
            size: 0,
            links: 1,
            user,
            group,
            modified: 0,
            device: 1,
            inode: 2,
        }
    }

    fn letters(perm: Perm) -> String {
        let table = [
            (Perm::READ, 'r'),
            (Perm::APPEND, 'a'),
            (Perm::WRITE, 'w'),
            (Perm::ENTER, 'e'),
            (Perm::LIST, 'l'),
            (Perm::CREATE, 'c'),
            (Perm::MAKE_DIRECTORY, 'm'),
            (Perm::PURGE, 'p'),
            (Perm::RENAME, 'f'),
            (Perm::DELETE, 'd'),
        ];
        let shown = table.iter().filter(|(bit, _)| perm.contains(*bit));
        shown.map(|(_, letter)| letter).collect()
    }

    #[test]
    fn letters_come_from_account_and_mode() {
        let parent = status(Kind::Directory, 0o775, 7, 70);
        let sticky = status(Kind::Directory, 0o1777, 7, 70);
        let access = |rights, user, group, read_only| Access {
            rights,
            credentials: Arc::new(Credentials {
                user,
                groups: Box::new([group]),
            }),
            read_only,
        };
        let file = |mode| status(Kind::File, mode, 7, 70);
        let directory = |mode| status(Kind::Directory, mode, 7, 70);
        let table = [
            (access(Rights::ALL, 7, 1, false), file(0o644), "rawfd"),
            (access(Rights::ALL, 7, 1, false), file(0o444), "rfd"),
            (access(Rights::ALL, 8, 70, false), file(0o640), "rfd"),
            (access(Rights::ALL, 8, 1, false), file(0o640), ""),
            (access(Rights::ALL, 0, 0, false), file(0), "rawfd"),
            (access(Rights::ALL, 0, 0, true), file(0o777), "r"),
            (access(Rights::READ_ONLY, 7, 1, false), file(0o666), "r"),
            (
                access(Rights::ALL, 7, 1, false),
                directory(0o755),
                "elcmpfd",
            ),
            (access(Rights::ALL, 8, 1, false), directory(0o755), "el"),
            (access(Rights::READ_ONLY, 0, 0, false), directory(0), "el"),
        ];
        for (access, object, expected) in table {
            let perm = access.perm(&object, object.user, Some(&parent));
            assert_eq!(letters(perm), expected, "{access:?} {object:?}");
        }
        let stranger = access(Rights::ALL, 8, 1, false);
        assert_eq!(
            letters(stranger.perm(&file(0o666), 7, Some(&sticky))),
            "raw"
        );
        assert_eq!(
            letters(stranger.perm(&file(0o666), 8, Some(&sticky))),
            "rawfd"
        );
        let owner = access(Rights::ALL, 7, 1, false);
        assert_eq!(letters(owner.perm(&directory(0o755), 7, None)), "elcmp");
    }
}
