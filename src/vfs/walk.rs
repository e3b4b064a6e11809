//! Listings, a chunk at a time: memory does not grow with the directory.

use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::limits;
use crate::proto::listing::{self, Entry, EntryKind, FactSet, LineWriter, Perm};
use crate::proto::{FileError, FileReply, FileTime, ListFormat, VirtualPath, glob};
use crate::rt;
use crate::sys::fs::{self, DirectoryEntry, DirectoryReader, Kind, Status};

use super::Root;
use super::access::{Access, require};
use super::error::file_error;
use super::resolve::{Object, dangles};

/// A listing being sent.
#[derive(Debug)]
pub struct Listing {
    first: Option<Vec<u8>>,
    walk: Option<Box<Walk>>,
    directory: bool,
}

impl Listing {
    /// The next chunk: whole lines that end in CRLF, about `LISTING_CHUNK_OCTETS`, and whether
    /// more may follow. Only the last chunk can be empty. The capacity of `out` may be used.
    ///
    /// # Errors
    /// The directory could not be read on.
    pub async fn next(&mut self, mut out: Vec<u8>) -> Result<(Vec<u8>, bool), FileError> {
        if let Some(first) = self.first.take() {
            return Ok((first, self.walk.is_some()));
        }
        out.clear();
        while let Some(mut walk) = self.walk.take() {
            let filled = rt::blocking(move || {
                let more = walk.fill(&mut out);
                (walk, out, more)
            });
            let (walk, back, more) = filled.await;
            out = back;
            if more.map_err(|error| file_error(&error))? {
                self.walk = Some(walk);
                if !out.is_empty() {
                    break;
                }
            }
        }
        Ok((out, self.walk.is_some()))
    }

    /// Whether a directory is listed, not one object or what a pattern matched.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.directory
    }

    fn of_line(line: Vec<u8>) -> Self {
        Self {
            first: Some(line),
            walk: None,
            directory: false,
        }
    }
}

impl Root {
    /// Opens a directory to list it, or lists one object. `shown` is the argument as given: the
    /// name of a single object, the prefix of NLST's names. The first chunk is made here, so that
    /// errors come early and a small directory is read in one piece of blocking work.
    ///
    /// # Errors
    /// Why there is nothing to list; `NotADirectory` for MLSD of a file.
    pub async fn open_listing(
        &self,
        path: &VirtualPath,
        format: ListFormat,
        shown: &[u8],
        hidden: bool,
    ) -> Result<Listing, FileError> {
        self.listing(path, format, shown, hidden, usize::MAX).await
    }

    /// STAT path: LIST lines for the control connection, not too many.
    pub(super) async fn stat_listing(
        &self,
        path: &VirtualPath,
        shown: &[u8],
        hidden: bool,
    ) -> Result<FileReply, FileError> {
        let rows_max = limits::STAT_ROWS_MAX;
        let opened = self.listing(path, ListFormat::Long, shown, hidden, rows_max);
        let mut listing = opened.await?;
        let mut lines = Vec::new();
        loop {
            let (chunk, more) = listing.next(Vec::new()).await?;
            lines.extend_from_slice(&chunk);
            if !more {
                break;
            }
        }
        Ok(FileReply::Listing {
            directory: listing.directory,
            lines,
        })
    }

    async fn listing(
        &self,
        path: &VirtualPath,
        format: ListFormat,
        shown: &[u8],
        hidden: bool,
        rows_max: usize,
    ) -> Result<Listing, FileError> {
        require(self.access.rights.list)?;
        let shape = Shape {
            format,
            prefix: directory_prefix(format, shown),
            pattern: None,
            hides: self.settings.hide_dot_files && !hidden,
            hidden,
        };
        match self.open_path(path, fs::OPEN_READ_DIRECTORY).await {
            Ok(directory) => self.walk(path, directory, shape, rows_max).await,
            Err(error) => {
                let error = file_error(&error);
                let machine = matches!(format, ListFormat::Machine(_));
                match error {
                    FileError::NotADirectory | FileError::NotFound if !machine => {}
                    _ => return Err(error),
                }
                match self.object_line(path, format, shown).await {
                    Err(FileError::NotFound) => self.matches(path, shape, shown, rows_max).await,
                    result => result,
                }
            }
        }
    }

    async fn walk(
        &self,
        path: &VirtualPath,
        directory: OwnedFd,
        shape: Shape,
        rows_max: usize,
    ) -> Result<Listing, FileError> {
        let root = self.directory.try_clone();
        let root = root.map_err(|error| file_error(&error))?;
        let own = fs::status(&directory).map_err(|error| file_error(&error))?;
        let mut path = path.relative().to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        let walk = Walk {
            reader: DirectoryReader::new(directory, limits::DIRECTORY_READ_OCTETS),
            lines: Lines {
                writer: LineWriter::new(now()),
                access: self.access.clone(),
                shape,
                own,
                root,
                path,
            },
            rows_left: rows_max,
        };
        let mut listing = Listing {
            first: None,
            walk: Some(Box::new(walk)),
            directory: true,
        };
        let (first, _) = listing.next(Vec::new()).await?;
        listing.first = Some(first);
        Ok(listing)
    }

    /// LIST and NLST of what is no directory.
    async fn object_line(
        &self,
        path: &VirtualPath,
        format: ListFormat,
        shown: &[u8],
    ) -> Result<Listing, FileError> {
        let object = self.object(path).await?;
        let (own, text, kind) = match &object {
            Object::Plain(status) => (status, c"", status.kind),
            Object::Link { own, text, target } => {
                let kind = target.as_ref().map_or(Kind::Link, |target| target.kind);
                (own, text.as_c_str(), kind)
            }
        };
        let name = match path.split_last() {
            Some((_, last)) if shown.is_empty() => last,
            _ => shown,
        };
        let mut line = Vec::with_capacity(96 + name.len());
        if format == ListFormat::Names {
            if matches!(kind, Kind::Other(_) | Kind::Unknown) {
                return Err(FileError::NotRegular);
            }
            listing::name_line(&mut line, b"", name);
        } else {
            LineWriter::new(now()).long(&mut line, &entry_of(name, own, text.to_bytes()));
        }
        Ok(Listing::of_line(line))
    }

    /// LIST and NLST of a pattern in the last component.
    async fn matches(
        &self,
        path: &VirtualPath,
        mut shape: Shape,
        shown: &[u8],
        rows_max: usize,
    ) -> Result<Listing, FileError> {
        let (parent, pattern) = path.split_last().ok_or(FileError::NotFound)?;
        if shown.is_empty() || !glob::is_pattern(pattern) {
            return Err(FileError::NotFound);
        }
        shape.prefix = match shown.strip_suffix(pattern) {
            Some(prefix) if prefix.is_empty() || prefix.ends_with(b"/") => prefix.to_vec(),
            // `dir/*/` or the like: the full path serves as well.
            _ if parent.is_root() => b"/".to_vec(),
            _ => [parent.as_bytes(), b"/"].concat(),
        };
        shape.pattern = Some(Box::from(pattern));
        let opened = self.open_path(&parent, fs::OPEN_READ_DIRECTORY).await;
        let directory = opened.map_err(|error| file_error(&error))?;
        let rows_max = rows_max.min(limits::GLOB_MATCHES_MAX);
        let mut listing = self.walk(&parent, directory, shape, rows_max).await?;
        listing.directory = false;
        if listing.first.as_ref().is_none_or(Vec::is_empty) {
            return Err(FileError::NotFound);
        }
        Ok(listing)
    }
}

/// Which entries are shown, and how.
#[derive(Debug)]
struct Shape {
    format: ListFormat,
    prefix: Vec<u8>,
    pattern: Option<Box<[u8]>>,
    /// Policy hides names that begin with a dot.
    hides: bool,
    /// They were asked for.
    hidden: bool,
}

impl Shape {
    fn shows(&self, name: &[u8]) -> bool {
        if matches!(name, b"." | b"..") || !listing::is_printable(name) {
            return false;
        }
        let dotted = name.starts_with(b".");
        match &self.pattern {
            _ if dotted && self.hides => false,
            None => true,
            // As in a shell, a star does not mean hidden files.
            Some(pattern) => {
                (!dotted || self.hidden || pattern.starts_with(b"."))
                    && glob::matches(pattern, name)
            }
        }
    }
}

/// A directory being read, on the pool.
#[derive(Debug)]
struct Walk {
    reader: DirectoryReader,
    lines: Lines,
    rows_left: usize,
}

impl Walk {
    /// Adds a chunk of lines; whether there may be more.
    fn fill(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        for _ in 0..limits::LISTING_ENTRIES_PER_JOB_MAX {
            if out.len() >= limits::LISTING_CHUNK_OCTETS {
                return Ok(true);
            }
            if self.rows_left == 0 {
                return Ok(false);
            }
            let Some((directory, entry)) = self.reader.next_entry()? else {
                return Ok(false);
            };
            if self.lines.add(out, directory, &entry) {
                self.rows_left -= 1;
            }
        }
        Ok(true)
    }
}

/// Makes lines from directory entries.
#[derive(Debug)]
struct Lines {
    writer: LineWriter,
    access: Access,
    shape: Shape,
    /// The status of the directory itself.
    own: Status,
    root: OwnedFd,
    /// The directory from the root, with a `/` behind it, or empty.
    path: Vec<u8>,
}

impl Lines {
    /// Adds the line of an entry, if it has one.
    fn add(
        &mut self,
        out: &mut Vec<u8>,
        directory: BorrowedFd<'_>,
        entry: &DirectoryEntry<'_>,
    ) -> bool {
        let name = entry.name.to_bytes();
        if !self.shape.shows(name) {
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
        let Ok(own) = fs::status_at(directory, entry.name) else {
            return false;
        };
        if own.kind == Kind::Link {
            self.add_link(out, directory, entry.name, &own)
        } else {
            self.add_line(out, name, &own, &own, b"")
        }
    }

    /// Names alone: the directory itself says enough about files and directories.
    fn needs_no_status(&self, kind: Kind) -> bool {
        let names_only = matches!(self.shape.format, ListFormat::Names)
            || self.shape.format == ListFormat::Machine(FactSet::NONE);
        names_only && matches!(kind, Kind::File | Kind::Directory)
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
        let target = match fs::hold_beneath(&self.root, path) {
            Ok(target) => fs::status(&target).ok(),
            Err(error) if dangles(&error) => None,
            // It leaves the root, or goes round in circles.
            Err(_) => return false,
        };
        match (self.shape.format, target) {
            (ListFormat::Long, _) | (ListFormat::Machine(_), None) => {
                let text = fs::link_text_at(directory, name).unwrap_or_default();
                self.add_line(out, name.to_bytes(), own, own, text.to_bytes())
            }
            (_, Some(target)) => self.add_line(out, name.to_bytes(), &target, own, b""),
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
        text: &[u8],
    ) -> bool {
        let served = !matches!(status.kind, Kind::Other(_) | Kind::Unknown);
        let mut entry = entry_of(name, status, text);
        match self.shape.format {
            ListFormat::Long => {
                entry.prefix = &self.shape.prefix;
                self.writer.long(out, &entry);
                return true;
            }
            ListFormat::Names if served => listing::name_line(out, &self.shape.prefix, name),
            ListFormat::Machine(facts) if served => {
                if facts.contains(FactSet::PERM) {
                    entry.perm = self.access.perm(status, own.user, Some(&self.own));
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

/// NLST's names can be given to RETR as they are (RFC 1123 §4.1.2.7): they begin with the
/// argument. With `.` they do so without it, and clients expect them bare.
fn directory_prefix(format: ListFormat, shown: &[u8]) -> Vec<u8> {
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

fn now() -> FileTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}
