//! Asking and changing the facts of one object: CWD, SIZE, MDTM, MFMT, CHMOD, MLST, ALLO.

use std::os::fd::OwnedFd;

use crate::limits;
use crate::proto::listing::{EntryKind, FactSet, LineWriter, Perm};
use crate::proto::{FileError, FileReply, FileTime, VirtualPath};
use crate::rt;
use crate::sys::fs::{self, Kind, Status};

use super::Root;
use super::access::require;
use super::error::file_error;
use super::gate::Place;
use super::lines::{entry_of, unique};
use super::mounts::{is_no_directory, is_virtual};
use super::resolve::Object;
use super::rules::Operation;

impl Root {
    pub(super) async fn check_directory(&self, path: &VirtualPath) -> Result<FileReply, FileError> {
        let mut place = self.gate(path, Operation::See)?;
        let carries = place.carries;
        match self.open_searched(&mut place).await {
            Ok(_) => Ok(FileReply::Done),
            Err(error) => match file_error(&error) {
                error if carries && is_no_directory(error) => Ok(FileReply::Done),
                error => Err(error),
            },
        }
    }

    /// SIZE: what a transfer would move (RFC 3659 §4).
    pub(super) async fn size(
        &self,
        path: &VirtualPath,
        ascii: bool,
    ) -> Result<FileReply, FileError> {
        let mut place = self.gate(path, Operation::Inspect)?;
        let status = self.regular(&mut place).await?;
        if !ascii {
            return Ok(FileReply::Size(status.size));
        }
        if status.size > limits::ASCII_SIZE_OCTETS_MAX {
            return Err(FileError::TooLargeForAscii);
        }
        self.ascii_size(&mut place).await.map(FileReply::Size)
    }

    /// Octets of a file and of the carriage returns that TYPE A adds. A file that grows while it
    /// is read is given up at the limit.
    async fn ascii_size(&self, place: &mut Place<'_>) -> Result<u64, FileError> {
        let opened = self.open_path(place, fs::OPEN_READ).await;
        let opened = opened.map_err(|error| file_error(&error))?;
        fs::make_blocking(&opened).map_err(|error| file_error(&error))?;
        let file = rt::File::new(opened);
        let mut buffer = rt::take_buffer();
        let (mut offset, mut added, mut after_return) = (0, 0, false);
        let counted = loop {
            if offset > limits::ASCII_SIZE_OCTETS_MAX {
                break Err(FileError::TooLargeForAscii);
            }
            let end = limits::TRANSFER_CHUNK_OCTETS.min(buffer.len());
            let span = rt::Span {
                buffer,
                start: 0,
                end,
            };
            let (read, back) = file.read_full(span, offset).await;
            buffer = back;
            match read {
                Ok(0) => break Ok(offset + added),
                Ok(count) => {
                    let octets = buffer.get(..count).unwrap_or_default();
                    added += bare_line_feeds(octets, &mut after_return);
                    offset += count as u64;
                }
                Err(error) => break Err(file_error(&error)),
            }
        };
        rt::give_buffer(buffer);
        counted
    }

    pub(super) async fn modify_time(&self, path: &VirtualPath) -> Result<FileReply, FileError> {
        let mut place = self.gate(path, Operation::Inspect)?;
        let status = self.regular(&mut place).await?;
        Ok(FileReply::Time(status.modified))
    }

    async fn regular(&self, place: &mut Place<'_>) -> Result<Status, FileError> {
        let (_, status) = self.hold(place).await?;
        match status.kind {
            Kind::File => Ok(status),
            Kind::Directory => Err(FileError::IsADirectory),
            _ => Err(FileError::NotRegular),
        }
    }

    pub(super) async fn set_modify_time(
        &self,
        path: &VirtualPath,
        time: FileTime,
    ) -> Result<FileReply, FileError> {
        let mut place = self.gate(path, Operation::Change)?;
        let (held, status) = self.hold_to_change(&mut place).await?;
        require_served(&status)?;
        let changed = rt::blocking(move || {
            fs::set_modified(&held, time)?;
            fs::status(&held)
        });
        let status = changed.await.map_err(|error| file_error(&error))?;
        Ok(FileReply::Time(status.modified))
    }

    pub(super) async fn change_mode(
        &self,
        path: &VirtualPath,
        mode: u32,
    ) -> Result<FileReply, FileError> {
        // SECURITY: the set-user-ID, set-group-ID and sticky bits are not a client's to give.
        require(mode & !0o777 == 0)?;
        let mut place = self.gate(path, Operation::Change)?;
        let (held, status) = self.hold_to_change(&mut place).await?;
        require_served(&status)?;
        // What is in a directory that cannot be read is not counted.
        let hides = status.kind == Kind::Directory && mode & 0o500 != 0o500;
        require(!hides || self.quota_at(&place).is_none())?;
        let changed = rt::blocking(move || fs::set_mode(&held, mode)).await;
        changed.map_err(|error| file_error(&error))?;
        Ok(FileReply::Done)
    }

    async fn hold_to_change(&self, place: &mut Place<'_>) -> Result<(OwnedFd, Status), FileError> {
        let carries = place.carries;
        match self.hold(place).await {
            // A directory that is on no disk cannot be changed.
            Err(error) if carries && is_no_directory(error) => Err(FileError::Denied),
            result => result,
        }
    }

    /// MLST (RFC 3659 §7): the facts of one object and its full virtual path.
    pub(super) async fn facts(
        &self,
        path: &VirtualPath,
        facts: FactSet,
    ) -> Result<FileReply, FileError> {
        let mut place = self.gate(path, Operation::Facts)?;
        let is_fixed = place.is_fixed();
        let object = self.object(&mut place).await?;
        // The facts are those of what a link leads to.
        require(Operation::Facts.permitted_by(place.rights))?;
        let (status, owner, text) = match &object {
            Object::Plain(status) => (status, status.user, c""),
            Object::Link {
                own,
                target: Some(target),
                ..
            } => (target, own.user, c""),
            Object::Link { own, text, .. } => (own, own.user, text.as_c_str()),
        };
        let mut entry = entry_of(path.as_bytes(), status, text.to_bytes());
        if matches!(entry.kind, EntryKind::Other(_)) {
            return Err(FileError::NotRegular);
        }
        if facts.contains(FactSet::PERM) {
            entry.perm = self.perm_of(&place, is_fixed, status, owner).await?;
        }
        entry.unique = unique(status);
        let mut line = Vec::with_capacity(128 + path.as_bytes().len());
        LineWriter::new(0).facts(&mut line, facts, &entry);
        line.push(b' ');
        line.extend_from_slice(path.as_bytes());
        Ok(FileReply::Line(line))
    }

    /// The `perm` fact of an object that is not listed in its directory.
    async fn perm_of(
        &self,
        place: &Place<'_>,
        is_fixed: bool,
        status: &Status,
        owner: u32,
    ) -> Result<Perm, FileError> {
        let mut access = self.access_at(place);
        // As in listings, what must stay where it is cannot be renamed.
        access.rights.rename &= self.gate(&place.path, Operation::RenameFrom).is_ok();
        if is_fixed {
            access.read_only |= is_virtual(status);
            return Ok(access.perm(status, owner, None));
        }
        let parent = place.path.parent();
        let mut parent = self.gate(&parent, Operation::See)?;
        let (_, parent) = self.hold(&mut parent).await?;
        Ok(access.perm(status, owner, Some(&parent)))
    }

    /// ALLO: of the volume that a path belongs to.
    pub(super) async fn check_space(
        &self,
        path: &VirtualPath,
        octets: u64,
    ) -> Result<FileReply, FileError> {
        let place = self.gate(path, Operation::See)?;
        self.require_quota(&place, octets).await?;
        let root = self.directory_of(&place).try_clone();
        let root = root.map_err(|error| file_error(&error))?;
        let free = rt::blocking(move || fs::free_octets(&root)).await;
        if octets > free.map_err(|error| file_error(&error))? {
            return Err(FileError::VolumeFull);
        }
        Ok(FileReply::Done)
    }
}

fn require_served(status: &Status) -> Result<(), FileError> {
    match status.kind {
        Kind::File | Kind::Directory => Ok(()),
        _ => Err(FileError::NotRegular),
    }
}

/// Line feeds that TYPE A sends as CR LF. `after_return` is carried from part to part.
fn bare_line_feeds(octets: &[u8], after_return: &mut bool) -> u64 {
    let mut count = 0;
    for octet in octets {
        count += u64::from(*octet == b'\n' && !*after_return);
        *after_return = *octet == b'\r';
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_feeds_are_counted_over_every_split() {
        let octets = b"a\nb\r\nc\rd\n\n\r\r\n";
        for split in 0..=octets.len() {
            let (head, tail) = octets.split_at(split);
            let mut after_return = false;
            let count =
                bare_line_feeds(head, &mut after_return) + bare_line_feeds(tail, &mut after_return);
            assert_eq!(count, 3, "split at {split}");
        }
    }
}
