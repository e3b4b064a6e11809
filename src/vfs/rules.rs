//! What holds for one path of an account: its rights there, which mount it belongs to, and which names are
//! denied or hidden.
//!
//! [`Rules::admit`] is the one place where an operation on a path is allowed or refused; `gate` calls it for every
//! command.

use std::path::PathBuf;

use crate::proto::{FileError, VirtualPath, glob};

use super::access::{Rights, require};

/// What an account's files are made of beside its home. Each path stands once in a list.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Rights that hold at and below a path, instead of the account's.
    pub paths: Vec<(VirtualPath, Rights)>,
    /// Directories of the system that are seen at a path, which is not the root.
    pub mounts: Vec<(VirtualPath, PathBuf)>,
    /// Patterns of names that listings leave out.
    pub hidden: Vec<Box<[u8]>>,
    /// Patterns of names that are as if absent.
    pub denied: Vec<Box<[u8]>>,
}

impl Layout {
    /// Whether there is nothing but the home.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.paths.is_empty()
            && self.mounts.is_empty()
            && self.hidden.is_empty()
            && self.denied.is_empty()
    }
}

/// What is asked of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// CWD, ALLO, and looking at what is on the way: needs no right.
    See,
    /// SIZE, MDTM.
    Inspect,
    /// MLST.
    Facts,
    /// LIST, NLST, MLSD, STAT.
    List,
    /// RETR.
    Read,
    /// STOR, STOU; APPE after REST.
    Write,
    /// APPE.
    Append,
    /// MKD.
    MakeDirectory,
    /// DELE and RMD.
    Remove,
    /// RNFR, and RNTO for the old name.
    RenameFrom,
    /// RNTO for the new name.
    RenameTo,
    /// MFMT, SITE UTIME, SITE CHMOD.
    Change,
}

impl Operation {
    /// Every one, for tests.
    #[cfg(test)]
    pub(super) const ALL: [Self; 12] = [
        Self::See,
        Self::Inspect,
        Self::Facts,
        Self::List,
        Self::Read,
        Self::Write,
        Self::Append,
        Self::MakeDirectory,
        Self::Remove,
        Self::RenameFrom,
        Self::RenameTo,
        Self::Change,
    ];

    /// Whether these rights permit it.
    pub(super) const fn permitted_by(self, rights: Rights) -> bool {
        match self {
            Self::See => true,
            Self::Inspect => rights.may_inspect(),
            Self::Facts => rights.list || rights.read,
            Self::List => rights.list,
            Self::Read => rights.read,
            Self::Write => rights.write,
            Self::Append => rights.append,
            Self::MakeDirectory => rights.make_directory,
            Self::Remove => rights.delete,
            Self::RenameFrom | Self::RenameTo => rights.rename,
            Self::Change => rights.change,
        }
    }

    /// Whether it may give the path to something new: then a denied name is refused as a name (553).
    pub(super) const fn makes_a_name(self) -> bool {
        matches!(
            self,
            Self::Write | Self::Append | Self::MakeDirectory | Self::RenameTo
        )
    }

    /// What is said about the root, a mount point, or a directory on the way to one: they are directories, and
    /// stay where they are.
    pub(super) const fn on_fixed(self, is_root: bool) -> Result<(), FileError> {
        match self {
            Self::See | Self::Facts | Self::List | Self::Change => Ok(()),
            Self::Inspect | Self::Read | Self::Write | Self::Append => Err(FileError::IsADirectory),
            Self::MakeDirectory => Err(FileError::Exists),
            Self::RenameTo if !is_root => Err(FileError::Exists),
            Self::Remove | Self::RenameFrom | Self::RenameTo => Err(FileError::Denied),
        }
    }
}

/// What [`Rules::admit`] says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    /// What may be done there.
    pub(super) rights: Rights,
    /// 0 for the home, else the number of the mount, counted from 1.
    pub(super) volume: usize,
    /// Octets of the path that lead to that volume; 0 for the home.
    pub(super) prefix: usize,
    /// Whether mounts are below it.
    pub(super) carries: bool,
}

/// The rules of an account.
#[derive(Debug)]
pub(super) struct Rules {
    /// The account's rights where no path says otherwise.
    rights: Rights,
    paths: Vec<(VirtualPath, Rights)>,
    mounts: Vec<VirtualPath>,
    hidden: Vec<Box<[u8]>>,
    denied: Vec<Box<[u8]>>,
}

impl Rules {
    pub(super) fn new(rights: Rights, layout: Layout) -> Self {
        Self {
            rights,
            paths: layout.paths,
            mounts: layout.mounts.into_iter().map(|(at, _)| at).collect(),
            hidden: layout.hidden,
            denied: layout.denied,
        }
    }

    /// Allows or refuses an operation on a path. Links are not looked at: what they lead to is asked about by
    /// itself.
    pub(super) fn admit(
        &self,
        path: &VirtualPath,
        operation: Operation,
    ) -> Result<Admitted, FileError> {
        self.check_names(path, operation)?;
        let rights = self.rights_at(path);
        require(operation.permitted_by(rights))?;
        let mut admitted = Admitted {
            rights,
            volume: 0,
            prefix: 0,
            carries: false,
        };
        for (number, at) in self.mounts.iter().enumerate() {
            if path.is_within(at) {
                if at.as_bytes().len() > admitted.prefix {
                    admitted.volume = number + 1;
                    admitted.prefix = at.as_bytes().len();
                }
            } else if at.is_within(path) {
                admitted.carries = true;
            }
        }
        let is_mount = admitted.prefix == path.as_bytes().len();
        if admitted.carries || is_mount || path.is_root() {
            operation.on_fixed(path.is_root())?;
        }
        // Moved away, what is there would be ruled by other paths; so would what is moved there.
        let is_ruled = || self.paths.iter().any(|(ruled, _)| ruled.is_within(path));
        if matches!(operation, Operation::RenameFrom | Operation::RenameTo) && is_ruled() {
            return Err(FileError::Denied);
        }
        Ok(admitted)
    }

    fn check_names(&self, path: &VirtualPath, operation: Operation) -> Result<(), FileError> {
        if self.denied.is_empty() {
            return Ok(());
        }
        let mut names = path.relative().split(|octet| *octet == b'/').peekable();
        while let Some(name) = names.next() {
            if any_matches(&self.denied, name) {
                let is_last = names.peek().is_none();
                return Err(if is_last && operation.makes_a_name() {
                    FileError::NameNotAllowed
                } else {
                    FileError::NotFound
                });
            }
        }
        Ok(())
    }

    /// Those of the longest path that the rules name above it, or at it.
    pub(super) fn rights_at(&self, path: &VirtualPath) -> Rights {
        let ruling = self.paths.iter().filter(|(at, _)| path.is_within(at));
        let longest = ruling.max_by_key(|(at, _)| at.as_bytes().len());
        longest.map_or(self.rights, |(_, rights)| *rights)
    }

    /// Whether listings leave this name out.
    pub(super) fn conceals(&self, name: &[u8]) -> bool {
        any_matches(&self.hidden, name) || any_matches(&self.denied, name)
    }

    /// Whether a link could lead to where other rules hold than where it is.
    pub(super) fn concerns_links(&self) -> bool {
        !(self.paths.is_empty() && self.mounts.is_empty() && self.denied.is_empty())
    }

    /// Where a volume is mounted; the home at the root.
    pub(super) fn mount_point(&self, volume: usize) -> VirtualPath {
        let mount = volume
            .checked_sub(1)
            .and_then(|mount| self.mounts.get(mount));
        mount.cloned().unwrap_or_else(VirtualPath::root)
    }

    /// Names in a directory that are mount points or lead to some, each once.
    pub(super) fn mounts_in(&self, directory: &VirtualPath) -> Vec<Box<[u8]>> {
        next_names(self.mounts.iter(), directory)
    }

    /// Names in a directory for which the `perm` fact is not that of all others, and their rights.
    pub(super) fn exceptions_in(&self, directory: &VirtualPath) -> Vec<(Box<[u8]>, Rights)> {
        let names = next_names(self.paths.iter().map(|(at, _)| at), directory);
        let with_rights = names.into_iter().filter_map(|name| {
            let path = directory.join(&name).ok()?;
            let rights = Rights {
                rename: false,
                ..self.rights_at(&path)
            };
            Some((name, rights))
        });
        with_rights.collect()
    }
}

fn any_matches(patterns: &[Box<[u8]>], name: &[u8]) -> bool {
    patterns.iter().any(|pattern| glob::matches(pattern, name))
}

/// The components behind `directory` of the paths below it.
fn next_names<'a>(
    paths: impl Iterator<Item = &'a VirtualPath>,
    directory: &VirtualPath,
) -> Vec<Box<[u8]>> {
    let mut names: Vec<Box<[u8]>> = paths
        .filter(|path| path.is_within(directory))
        .filter_map(|path| path.components().nth(directory.components().count()))
        .map(Box::from)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> VirtualPath {
        VirtualPath::root().join(text.as_bytes()).unwrap()
    }

    fn rules(paths: &[(&str, Rights)], mounts: &[&str], denied: &[&str]) -> Rules {
        let layout = Layout {
            paths: paths.iter().map(|(at, r)| (path(at), *r)).collect(),
            mounts: mounts
                .iter()
                .map(|at| (path(at), PathBuf::from("/")))
                .collect(),
            hidden: vec![Box::from(&b"*.tmp"[..])],
            denied: denied.iter().map(|p| Box::from(p.as_bytes())).collect(),
        };
        Rules::new(Rights::ALL, layout)
    }

    #[test]
    fn the_longest_path_rules_and_whole_components_count() {
        let write = Rights {
            write: true,
            ..Rights::NONE
        };
        let rules = rules(
            &[
                ("/a", Rights::READ_ONLY),
                ("/a/b", write),
                ("/a/b/c/d", Rights::ALL),
            ],
            &[],
            &[],
        );
        let table = [
            ("/", Rights::ALL),
            ("/a", Rights::READ_ONLY),
            ("/ab", Rights::ALL),
            ("/a/x/y", Rights::READ_ONLY),
            ("/a/b", write),
            ("/a/bc", Rights::READ_ONLY),
            ("/a/b/c", write),
            ("/a/b/c/d/e", Rights::ALL),
            ("/x/a/b", Rights::ALL),
        ];
        for (at, expected) in table {
            assert_eq!(rules.rights_at(&path(at)), expected, "{at}");
        }
        assert_eq!(
            rules.exceptions_in(&path("/a")),
            [(Box::from(&b"b"[..]), write)]
        );
        assert_eq!(rules.exceptions_in(&path("/a/b")).len(), 1);
        assert_eq!(rules.exceptions_in(&path("/x")), []);
    }

    #[test]
    fn each_operation_needs_its_right() {
        for operation in Operation::ALL {
            let refused = rules(&[("/a", Rights::NONE)], &[], &[]);
            let at = path("/a/f");
            let expected = if operation == Operation::See {
                Ok(Rights::NONE)
            } else {
                Err(FileError::Denied)
            };
            let result = refused.admit(&at, operation);
            assert_eq!(result.map(|a| a.rights), expected, "{operation:?}");
            let allowed = rules(&[("/a", Rights::ALL)], &[], &[]);
            assert!(allowed.admit(&at, operation).is_ok(), "{operation:?}");
        }
    }

    #[test]
    fn denied_names_are_absent_for_every_operation() {
        let rules = rules(&[], &[], &[".ht*"]);
        for operation in Operation::ALL {
            let new = [
                Operation::Write,
                Operation::Append,
                Operation::MakeDirectory,
                Operation::RenameTo,
            ];
            let expected = if new.contains(&operation) {
                FileError::NameNotAllowed
            } else {
                FileError::NotFound
            };
            let refused = |at: &str| rules.admit(&path(at), operation).unwrap_err();
            assert_eq!(refused("/d/.htaccess"), expected, "{operation:?}");
            assert_eq!(refused("/.htdir/f"), FileError::NotFound, "{operation:?}");
            assert!(rules.admit(&path("/d/x.ht"), operation).is_ok());
        }
        assert!(rules.conceals(b".htpasswd") && rules.conceals(b"a.tmp"));
        assert!(!rules.conceals(b"a.txt"));
    }

    #[test]
    fn mounts_are_found_and_stay_where_they_are() {
        let rules = rules(&[("/r/q", Rights::ALL)], &["/m", "/m/deep/er", "/v/w"], &[]);
        let admitted = |at: &str| rules.admit(&path(at), Operation::See).unwrap();
        let table = [
            ("/", 0, 0, true),
            ("/x", 0, 0, false),
            ("/mm", 0, 0, false),
            ("/m", 1, 2, true),
            ("/m/f", 1, 2, false),
            ("/m/deep", 1, 2, true),
            ("/m/deep/er", 2, 10, false),
            ("/m/deep/er/f", 2, 10, false),
            ("/v", 0, 0, true),
            ("/v/w", 3, 4, false),
        ];
        for (at, volume, prefix, carries) in table {
            let found = admitted(at);
            assert_eq!(
                (found.volume, found.prefix, found.carries),
                (volume, prefix, carries),
                "{at}"
            );
        }
        for fixed in ["/m", "/m/deep", "/m/deep/er", "/v", "/v/w"] {
            for operation in Operation::ALL {
                let result = rules.admit(&path(fixed), operation).map(drop);
                assert_eq!(result, operation.on_fixed(false), "{fixed} {operation:?}");
            }
        }
        for moved in ["/r", "/r/q"] {
            for operation in [Operation::RenameFrom, Operation::RenameTo] {
                let result = rules.admit(&path(moved), operation);
                assert_eq!(result, Err(FileError::Denied));
            }
            assert!(rules.admit(&path(moved), Operation::Remove).is_ok());
        }
        assert!(rules.admit(&path("/r/q/f"), Operation::RenameFrom).is_ok());
        let names = |at: &str| rules.mounts_in(&path(at));
        assert_eq!(names("/"), [Box::from(&b"m"[..]), Box::from(&b"v"[..])]);
        assert_eq!(names("/m"), [Box::from(&b"deep"[..])]);
        assert!(names("/m/deep/er").is_empty() && names("/x").is_empty());
    }
}
