//! Lines of listings from directory entries: which are shown, and what of them.

use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::proto::listing::{self, Entry, EntryKind, FactSet, LineWriter, Perm};
use crate::proto::{FileTime, ListFormat, glob};
use crate::sys::fs::{self, DirectoryEntry, Kind, Status};

use super::access::{Access, Rights};
use super::links::Guard;
use super::mounts::Mounted;
use super::resolve::dangles;
use super::rules::Operation;
use super::staging::is_hidden;

/// Which entries are shown, and how.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) format: ListFormat,
    pub(super) prefix: Vec<u8>,
    pub(super) pattern: Option<Box<[u8]>>,
    /// Policy hides names that begin with a dot.
    pub(super) hides: bool,
    /// They were asked for.
    pub(super) hidden: bool,
    /// Names of unfinished uploads are left out.
    pub(super) hides_unfinished: bool,
}

impl Shape {
    /// Whether it takes the status of nearly every entry.
    pub(super) fn looks_at_all(&self) -> bool {
        self.pattern.is_none() && !self.is_names_only()
    }

    fn is_names_only(&self) -> bool {
        matches!(self.format, ListFormat::Names)
            || self.format == ListFormat::Machine(FactSet::NONE)
    }

    pub(super) fn shows(&self, name: &[u8]) -> bool {
        if matches!(name, b"." | b"..") || !listing::is_printable(name) {
            return false;
        }
        let dotted = name.starts_with(b".");
        match &self.pattern {
            _ if dotted && self.hides => false,
            _ if dotted && self.hides_unfinished && is_hidden(name) => false,
            None => true,
            // As in a shell, a star does not mean hidden files.
            Some(pattern) => {
                (!dotted || self.hidden || pattern.starts_with(b"."))
                    && glob::matches(pattern, name)
            }
        }
    }
}

/// Makes lines from directory entries.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) writer: LineWriter,
    pub(super) access: Access,
    pub(super) shape: Shape,
    /// The status of the directory itself.
    pub(super) own: Status,
    pub(super) root: OwnedFd,
    /// The directory from its volume's, with a `/` behind it, or empty.
    pub(super) path: Vec<u8>,
    /// The account's rules, if it has some.
    pub(super) guard: Option<Box<Guard>>,
}

impl Lines {
    /// Adds the line of an entry, if it has one. Its status, if it is not known, is asked for where it is
    /// needed.
    pub(super) fn add(
        &mut self,
        out: &mut Vec<u8>,
        directory: BorrowedFd<'_>,
        entry: &DirectoryEntry<'_>,
        status: &mut Option<Status>,
    ) -> bool {
        let name = entry.name.to_bytes();
        if !self.shape.shows(name) {
            return false;
        }
        if let Some(guard) = &self.guard
            && guard.omits(name)
        {
            return false;
        }
        if self.needs_no_status(entry.kind) {
            match self.shape.format {
                ListFormat::Machine(facts) => {
                    let entry = entry_of(name, &self.own, b"");
                    self.writer.machine(out, facts, &entry);
                }
                _ => listing::name_line(out, &self.shape.prefix, name),
            }
            return true;
        }
        // What cannot be looked at any more was deleted meanwhile, or is behind a directory that
        // may be read but not searched.
        let asked = || fs::status_at(directory, entry.name).ok();
        let Some(own) = status.or_else(asked) else {
            return false;
        };
        *status = Some(own);
        if own.kind == Kind::Link {
            self.add_link(out, directory, entry.name, &own)
        } else {
            self.add_line(out, name, &own, &own, End::NONE)
        }
    }

    /// Adds the line of a mount, or of a directory on the way to one.
    pub(super) fn add_mounted(&mut self, out: &mut Vec<u8>, mounted: &Mounted) -> bool {
        let mut entry = entry_of(&mounted.name, &mounted.status, b"");
        match self.shape.format {
            ListFormat::Long => {
                entry.prefix = &self.shape.prefix;
                self.writer.long(out, &entry);
            }
            ListFormat::Names => listing::name_line(out, &self.shape.prefix, &mounted.name),
            ListFormat::Machine(facts) => {
                entry.perm = mounted.access.perm(&mounted.status, 0, None);
                entry.unique = unique(&mounted.status);
                self.writer.machine(out, facts, &entry);
            }
        }
        true
    }

    /// Names alone: the directory itself says enough about files and directories.
    fn needs_no_status(&self, kind: Kind) -> bool {
        self.shape.is_names_only() && matches!(kind, Kind::File | Kind::Directory)
    }

    fn add_link(
        &mut self,
        out: &mut Vec<u8>,
        directory: BorrowedFd<'_>,
        name: &CStr,
        own: &Status,
    ) -> bool {
        // From the root, not from here: `..` in a link may go up as far as the root.
        let path = [self.path.as_slice(), name.to_bytes_with_nul()].concat();
        let Ok(path) = CStr::from_bytes_with_nul(&path) else {
            return false;
        };
        let followed = match &self.guard {
            Some(guard) => guard.follow(&self.root, path).map(Some),
            None => fs::hold_beneath(&self.root, path).map(|target| {
                let status = fs::status(&target).ok();
                status.map(|status| (status, Rights::ALL))
            }),
        };
        let target = match followed {
            Ok(target) => target,
            Err(error) if dangles(&error) => None,
            // It leaves the root, goes round in circles, or leads to what the account must not see.
            Err(_) => return false,
        };
        match (self.shape.format, target) {
            // As MLST of it: its facts are not for this account.
            (ListFormat::Machine(_), Some((_, rights)))
                if !Operation::Facts.permitted_by(rights) =>
            {
                false
            }
            (ListFormat::Long, _) | (ListFormat::Machine(_), None) => {
                let text = fs::link_text_at(directory, name).unwrap_or_default();
                let link = End {
                    text: text.to_bytes(),
                    ..End::NONE
                };
                self.add_line(out, name.to_bytes(), own, own, link)
            }
            (_, Some((target, rights))) => {
                let link = End {
                    rights,
                    ..End::NONE
                };
                self.add_line(out, name.to_bytes(), &target, own, link)
            }
            // Nothing that RETR or CWD could reach.
            (ListFormat::Names, None) => false,
        }
    }

    /// `status` is what is shown, `own` that of the name itself.
    fn add_line(
        &mut self,
        out: &mut Vec<u8>,
        name: &[u8],
        status: &Status,
        own: &Status,
        link: End<'_>,
    ) -> bool {
        let served = !matches!(status.kind, Kind::Other(_) | Kind::Unknown);
        let mut entry = entry_of(name, status, link.text);
        match self.shape.format {
            ListFormat::Long => {
                entry.prefix = &self.shape.prefix;
                self.writer.long(out, &entry);
                return true;
            }
            ListFormat::Names if served => listing::name_line(out, &self.shape.prefix, name),
            ListFormat::Machine(facts) if served => {
                if facts.contains(FactSet::PERM) {
                    let own_rights = self.guard.as_ref().and_then(|guard| guard.rights_of(name));
                    entry.perm = match own_rights.unwrap_or(self.access.rights).and(link.rights) {
                        rights if rights == self.access.rights => {
                            self.access.perm(status, own.user, Some(&self.own))
                        }
                        rights => {
                            let access = Access {
                                rights,
                                ..self.access.clone()
                            };
                            access.perm(status, own.user, Some(&self.own))
                        }
                    };
                }
                if facts.contains(FactSet::UNIQUE) {
                    entry.unique = unique(status);
                }
                self.writer.machine(out, facts, &entry);
            }
            ListFormat::Names | ListFormat::Machine(_) => {}
        }
        served
    }
}

/// What a link adds to its line.
struct End<'a> {
    text: &'a [u8],
    /// What may be done at its end.
    rights: Rights,
}

impl End<'_> {
    /// No link.
    const NONE: Self = Self {
        text: b"",
        rights: Rights::ALL,
    };
}

/// NLST's names can be given to RETR as they are (RFC 1123 §4.1.2.7): they begin with the
/// argument. With `.` they do so without it, and clients expect them bare.
pub(super) fn directory_prefix(format: ListFormat, shown: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    if format == ListFormat::Names && !matches!(shown, b"" | b"." | b"./") {
        prefix.extend_from_slice(shown);
        if !shown.ends_with(b"/") {
            prefix.push(b'/');
        }
    }
    prefix
}

/// The entry of an object, without `perm` and `unique`. `text` is that of a link.
pub(super) fn entry_of<'a>(name: &'a [u8], status: &Status, text: &'a [u8]) -> Entry<'a> {
    Entry {
        prefix: b"",
        name,
        kind: match status.kind {
            Kind::File => EntryKind::File,
            Kind::Directory => EntryKind::Directory,
            Kind::Link => EntryKind::Link(text),
            Kind::Other(letter) => EntryKind::Other(letter),
            Kind::Unknown => EntryKind::Other(b'?'),
        },
        size: status.size,
        modified: status.modified,
        mode: status.mode,
        links: status.links,
        perm: Perm::NONE,
        unique: 0,
    }
}

/// The `unique` fact. A keyed hash, because the numbers themselves would tell a stranger about
/// the file system; the key is of this process (RFC 3659 §7.5.2, §11).
pub(super) fn unique(status: &Status) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let key = KEY.get_or_init(RandomState::new);
    key.hash_one((status.device, status.inode))
}

pub(super) fn now() -> FileTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}
