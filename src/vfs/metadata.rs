//! Asking and changing the facts of one object: CWD, SIZE, MDTM, MFMT, CHMOD, MLST, ALLO.

use crate::limits;
use crate::proto::listing::{EntryKind, FactSet, LineWriter};
use crate::proto::{FileError, FileReply, FileTime, VirtualPath};
use crate::rt;
use crate::sys::fs::{self, Kind, Status};

use super::Root;
use super::access::require;
use super::error::file_error;
use super::lines::{entry_of, unique};
use super::resolve::Object;

impl Root {
    pub(super) async fn check_directory(&self, path: &VirtualPath) -> Result<FileReply, FileError> {
        // The dot makes the kernel search the directory, which holding it alone would not.
        let mut searched = path.relative().to_vec();
        searched.extend_from_slice(if path.is_root() { b"." } else { b"/." });
        let opened = self.open_below(&self.directory, &searched, fs::HOLD_DIRECTORY);
        opened.await.map_err(|error| file_error(&error))?;
        Ok(FileReply::Done)
    }

    /// SIZE: what a transfer would move (RFC 3659 §4).
    pub(super) async fn size(
        &self,
        path: &VirtualPath,
        ascii: bool,
    ) -> Result<FileReply, FileError> {
        require(self.access.rights.may_inspect())?;
        let status = self.regular(path).await?;
        if !ascii {
            return Ok(FileReply::Size(status.size));
        }
        if status.size > limits::ASCII_SIZE_OCTETS_MAX {
            return Err(FileError::TooLargeForAscii);
        }
        self.ascii_size(path).await.map(FileReply::Size)
    }

    /// Octets of a file and of the carriage returns that TYPE A adds. A file that grows while it
    /// is read is given up at the limit.
    async fn ascii_size(&self, path: &VirtualPath) -> Result<u64, FileError> {
        let opened = self.open_path(path, fs::OPEN_READ).await;
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
        require(self.access.rights.may_inspect())?;
        let status = self.regular(path).await?;
        Ok(FileReply::Time(status.modified))
    }

    async fn regular(&self, path: &VirtualPath) -> Result<Status, FileError> {
        let (_, status) = self.hold(path).await?;
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
        require(self.access.rights.change)?;
        let (held, status) = self.hold(path).await?;
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
        require(self.access.rights.change && mode & !0o777 == 0)?;
        let (held, status) = self.hold(path).await?;
        require_served(&status)?;
        let changed = rt::blocking(move || fs::set_mode(&held, mode)).await;
        changed.map_err(|error| file_error(&error))?;
        Ok(FileReply::Done)
    }

    /// MLST (RFC 3659 §7): the facts of one object and its full virtual path.
    pub(super) async fn facts(
        &self,
        path: &VirtualPath,
        facts: FactSet,
    ) -> Result<FileReply, FileError> {
        require(self.access.rights.list || self.access.rights.read)?;
        let object = self.object(path).await?;
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
            let parent = if path.is_root() {
                None
            } else {
                Some(self.hold(&path.parent()).await?.1)
            };
            entry.perm = self.access.perm(status, owner, parent.as_ref());
        }
        entry.unique = unique(status);
        let mut line = Vec::with_capacity(128 + path.as_bytes().len());
        LineWriter::new(0).facts(&mut line, facts, &entry);
        line.push(b' ');
        line.extend_from_slice(path.as_bytes());
        Ok(FileReply::Line(line))
    }

    pub(super) async fn check_space(&self, octets: u64) -> Result<FileReply, FileError> {
        self.require_quota(octets).await?;
        let root = self.directory.try_clone();
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
