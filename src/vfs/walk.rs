//! Listings, a chunk at a time: memory does not grow with the directory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::limits;
use crate::proto::listing::{self, LineWriter};
use crate::proto::{Charset, FileError, FileReply, ListFormat, VirtualPath, glob};
use crate::rt;
use crate::sys::fs::{self, DirectoryReader, Kind, Status};

use super::Root;
use super::directory_cache::{Filling, Found, Snapshot};
use super::error::file_error;
use super::gate::Place;
use super::lines::{Lines, Shape, directory_prefix, entry_of, now};
use super::mounts::{Mounted, is_no_directory};
use super::resolve::Object;
use super::rules::Operation;
use super::staging::Storing;

/// A listing being sent.
#[derive(Debug)]
pub struct Listing {
    first: Option<Vec<u8>>,
    walk: Option<Box<Walk>>,
    directory: bool,
    charset: Charset,
}

impl Listing {
    /// The next chunk: whole lines that end in CRLF, about `LISTING_CHUNK_OCTETS`, and whether
    /// more may follow. Only the last chunk can be empty. The capacity of `out` may be used.
    ///
    /// # Errors
    /// The directory could not be read on.
    pub async fn next(&mut self, out: Vec<u8>) -> Result<(Vec<u8>, bool), FileError> {
        let (lines, more) = self.next_lines(out).await?;
        if self.charset.is_plain(&lines) {
            return Ok((lines, more));
        }
        // Some hundred microseconds for a chunk, so it is done here on the core.
        let mut wire = rt::take_vector();
        // As much as the vector that is given back has, so that this one is taken back as well.
        wire.reserve(lines.capacity());
        self.charset.encode_into(&lines, &mut wire);
        rt::give_vector(lines);
        Ok((wire, more))
    }

    async fn next_lines(&mut self, mut out: Vec<u8>) -> Result<(Vec<u8>, bool), FileError> {
        if let Some(first) = self.first.take() {
            rt::give_vector(out);
            return Ok((first, self.walk.is_some()));
        }
        out.clear();
        while let Some(mut walk) = self.walk.take() {
            let asks = walk.entries.ask();
            let filling = move || {
                let more = walk.fill(&mut out);
                (walk, out, more)
            };
            let (walk, back, more) = if asks {
                rt::blocking(filling).await
            } else {
                filling()
            };
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

    /// With names written in this character set.
    #[must_use]
    pub fn in_charset(self, charset: Charset) -> Self {
        Self { charset, ..self }
    }

    fn of_line(line: Vec<u8>) -> Self {
        Self {
            first: Some(line),
            walk: None,
            directory: false,
            charset: Charset::UTF_8,
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
        let mut place = self.gate(path, Operation::List)?;
        let shape = Shape {
            format,
            prefix: directory_prefix(format, shown),
            pattern: None,
            hides: self.settings.hide_dot_files && !hidden,
            hidden,
            hides_unfinished: self.settings.storing == Storing::Atomic,
        };
        let carries = place.carries;
        match self.open_path(&mut place, fs::OPEN_READ_DIRECTORY).await {
            Ok(directory) => {
                let walk = self.walk(path, &place, Some(directory), shape, rows_max);
                walk.await
            }
            Err(error) => {
                let error = file_error(&error);
                if carries && is_no_directory(error) {
                    return self.walk(path, &place, None, shape, rows_max).await;
                }
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

    /// Begins the listing of a directory, `None` for one that is on no disk. `named` is its path as the client gave
    /// it: what is mounted, and which rights hold, depends on that too.
    async fn walk(
        &self,
        named: &VirtualPath,
        place: &Place<'_>,
        directory: Option<OwnedFd>,
        shape: Shape,
        rows_max: usize,
    ) -> Result<Listing, FileError> {
        let root = self.directory_of(place).try_clone();
        let root = root.map_err(|error| file_error(&error))?;
        let own = match &directory {
            Some(directory) => fs::status(directory).map_err(|error| file_error(&error))?,
            None => self.virtual_status(named)?,
        };
        let mut path = place.relative().to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        let mut mounted = self.mounted_in(named).await?;
        mounted.retain(|mounted| shape.shows(&mounted.name));
        let walk = Walk {
            entries: match directory {
                Some(directory) => self.entries(directory, &own, &shape),
                None => Entries::None,
            },
            mounted,
            lines: Lines {
                writer: LineWriter::new(now()).in_zone(&self.settings.list_zone),
                access: self.access_at(place),
                shape,
                own,
                root,
                path,
                guard: self.guard_of(named, place),
            },
            rows_left: rows_max,
        };
        let mut listing = Listing {
            first: None,
            walk: Some(Box::new(walk)),
            directory: true,
            charset: Charset::UTF_8,
        };
        let (first, _) = listing.next_lines(Vec::new()).await?;
        listing.first = Some(first);
        Ok(listing)
    }

    /// Where the entries come from: the directory, or what it held a moment ago.
    fn entries(&self, directory: OwnedFd, own: &Status, shape: &Shape) -> Entries {
        let cache = &self.settings.directory_cache;
        let filling = match cache.find(&directory, own, shape.looks_at_all(), rt::now()) {
            Found::Snapshot(snapshot) => {
                return Entries::Kept {
                    directory,
                    snapshot,
                    next: 0,
                };
            }
            Found::Fill(filling) => Some(filling),
            Found::Nothing => None,
        };
        Entries::Read {
            reader: DirectoryReader::new(directory, limits::DIRECTORY_READ_OCTETS),
            filling,
        }
    }

    /// LIST and NLST of what is no directory.
    async fn object_line(
        &self,
        path: &VirtualPath,
        format: ListFormat,
        shown: &[u8],
    ) -> Result<Listing, FileError> {
        let mut place = self.gate(path, Operation::List)?;
        let object = self.object(&mut place).await?;
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
            LineWriter::new(now())
                .in_zone(&self.settings.list_zone)
                .long(&mut line, &entry_of(name, own, text.to_bytes()));
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
        let mut place = self.gate(&parent, Operation::List)?;
        let carries = place.carries;
        let opened = self.open_path(&mut place, fs::OPEN_READ_DIRECTORY).await;
        let directory = match opened.map_err(|error| file_error(&error)) {
            Ok(directory) => Some(directory),
            Err(error) if carries && is_no_directory(error) => None,
            Err(error) => return Err(error),
        };
        let rows_max = rows_max.min(limits::GLOB_MATCHES_MAX);
        let walk = self.walk(&parent, &place, directory, shape, rows_max);
        let mut listing = walk.await?;
        listing.directory = false;
        if listing.first.as_ref().is_none_or(Vec::is_empty) {
            return Err(FileError::NotFound);
        }
        Ok(listing)
    }
}

/// A directory being listed.
#[derive(Debug)]
struct Walk {
    entries: Entries,
    /// What comes after them.
    mounted: Vec<Mounted>,
    lines: Lines,
    rows_left: usize,
}

/// Where the entries of a directory come from.
#[derive(Debug)]
enum Entries {
    Read {
        reader: DirectoryReader,
        filling: Option<Filling>,
    },
    Kept {
        directory: OwnedFd,
        snapshot: Arc<Snapshot>,
        next: usize,
    },
    /// The directory is on no disk.
    None,
}

impl Entries {
    /// Whether the file system is asked, which may wait for a disk: then it is work for the pool.
    fn ask(&self) -> bool {
        match self {
            Self::Read { .. } => true,
            Self::Kept { snapshot, .. } => !snapshot.is_whole(),
            Self::None => false,
        }
    }
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
            match self.add_next(out)? {
                Some(true) => self.rows_left -= 1,
                Some(false) => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Adds the line of the next entry, and at last those of mounts; whether it has one, `None` at the end.
    fn add_next(&mut self, out: &mut Vec<u8>) -> io::Result<Option<bool>> {
        let added = self.add_entry(out)?;
        if added.is_some() {
            return Ok(added);
        }
        // What was read is not read again for the next mount.
        self.entries = Entries::None;
        let mounted = self.mounted.pop();
        Ok(mounted.map(|mounted| self.lines.add_mounted(out, &mounted)))
    }

    fn add_entry(&mut self, out: &mut Vec<u8>) -> io::Result<Option<bool>> {
        match &mut self.entries {
            Entries::None => Ok(None),
            Entries::Read { reader, filling } => {
                let Some((directory, entry)) = reader.next_entry()? else {
                    if let Some(filling) = filling.take() {
                        filling.finish();
                    }
                    return Ok(None);
                };
                let mut status = None;
                let shown = self.lines.add(out, directory, &entry, &mut status);
                if let Some(filled) = filling
                    && !filled.add(&entry, status)
                {
                    *filling = None;
                }
                Ok(Some(shown))
            }
            Entries::Kept {
                directory,
                snapshot,
                next,
            } => {
                let Some((entry, status)) = snapshot.entry(*next) else {
                    return Ok(None);
                };
                *next += 1;
                let mut status = status.copied();
                Ok(Some(self.lines.add(
                    out,
                    directory.as_fd(),
                    &entry,
                    &mut status,
                )))
            }
        }
    }
}
