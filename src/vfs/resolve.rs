//! From virtual paths to descriptors.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::limits;
use crate::proto::FileError;
use crate::rt;
use crate::rt::SharedFd;
use crate::sys::fs::{self, Kind, Status};
use crate::sys::unnamed;

use super::Root;
use super::error::file_error;
use super::gate::Place;

/// What a name stands for, a link and what it leads to told apart.
pub(super) enum Object {
    /// Anything but a link.
    Plain(Status),
    /// A link that stays inside the root.
    Link {
        /// Of the link itself.
        own: Status,
        /// Its text.
        text: CString,
        /// What it leads to; nothing when it dangles.
        target: Option<Status>,
    },
}

impl Root {
    /// Opens below `directory`, which is a volume's or below it. `flags` are one of the constants of
    /// [`fs`].
    pub(super) async fn open_below(
        &self,
        directory: &SharedFd,
        path: &[u8],
        flags: i32,
    ) -> io::Result<OwnedFd> {
        let creates = [fs::OPEN_CREATE, unnamed::OPEN_UNNAMED]
            .iter()
            .any(|made| flags & made == *made);
        // openat2(2) insists on no mode where nothing can be made.
        let mode = if creates { 0o666 } else { 0 };
        self.open_as(directory, path, flags, mode).await
    }

    /// Makes a file below `directory` that has at most this mode.
    pub(super) async fn make_below(
        &self,
        directory: &SharedFd,
        path: &[u8],
        mode: u32,
    ) -> io::Result<OwnedFd> {
        self.open_as(directory, path, fs::OPEN_CREATE_NEW, mode)
            .await
    }

    async fn open_as(
        &self,
        directory: &SharedFd,
        path: &[u8],
        flags: i32,
        mode: u32,
    ) -> io::Result<OwnedFd> {
        let resolve = self.resolves();
        let mode = mode & !self.settings.umask;
        let path = if path.is_empty() { b"." } else { path };
        let path = CString::new(path)?;
        for _ in 0..limits::OPEN_TRIES_MAX {
            match rt::open(directory, path.clone(), flags, mode, resolve).await {
                // A link with `..` was resolved while somebody renamed directories.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
        Err(Errno::BUSY.into())
    }

    /// Opens what a path leads to.
    pub(super) async fn open_path(&self, place: &mut Place<'_>, flags: i32) -> io::Result<OwnedFd> {
        let opened = self.open_below(self.directory_of(place), place.relative(), flags);
        match opened.await {
            Err(error) if self.has_met_a_link(&error) => {}
            result => return result,
        }
        let follows = !matches!(flags, fs::HOLD_LINK | fs::OPEN_CREATE_NEW);
        self.settle(place, follows).await?;
        let opened = self.open_below(self.directory_of(place), place.relative(), flags);
        opened.await.map_err(stale)
    }

    /// Takes hold of a directory that may be searched, which holding it alone would not tell.
    pub(super) async fn open_searched(&self, place: &mut Place<'_>) -> io::Result<OwnedFd> {
        let searched = |place: &Place<'_>| match place.relative() {
            b"" => b".".to_vec(),
            relative => [relative, b"/."].concat(),
        };
        let path = searched(place);
        let opened = self.open_below(self.directory_of(place), &path, fs::HOLD_DIRECTORY);
        match opened.await {
            Err(error) if self.has_met_a_link(&error) => {}
            result => return result,
        }
        self.settle(place, true).await?;
        let path = searched(place);
        let opened = self.open_below(self.directory_of(place), &path, fs::HOLD_DIRECTORY);
        opened.await.map_err(stale)
    }

    /// Whether this is the kernel's way to say that it follows no links for this account.
    fn has_met_a_link(&self, error: &io::Error) -> bool {
        Errno::from_io_error(error) == Some(Errno::LOOP) && self.guard().is_some()
    }

    /// Takes hold of what a path leads to.
    pub(super) async fn hold(&self, place: &mut Place<'_>) -> Result<(OwnedFd, Status), FileError> {
        let flags = if place.carries {
            fs::HOLD_DIRECTORY
        } else {
            fs::HOLD
        };
        let opened = self.open_path(place, flags).await;
        let held = opened.map_err(|error| file_error(&error))?;
        let status = fs::status(&held).map_err(|error| file_error(&error))?;
        Ok((held, status))
    }

    /// Opens the parent directory and names the last component; a volume's own directory has neither.
    pub(super) async fn hold_parent(
        &self,
        place: &mut Place<'_>,
    ) -> Result<(OwnedFd, CString), FileError> {
        let failed = |error: io::Error| file_error(&error);
        let (parent, _) = split_last(place.relative()).ok_or(FileError::Denied)?;
        let opened = self.open_below(self.directory_of(place), parent, fs::HOLD_DIRECTORY);
        let held = match opened.await {
            Err(error) if self.has_met_a_link(&error) => {
                self.settle(place, false).await.map_err(failed)?;
                let (parent, _) = split_last(place.relative()).ok_or(FileError::Denied)?;
                let opened = self.open_below(self.directory_of(place), parent, fs::HOLD_DIRECTORY);
                opened.await.map_err(stale)
            }
            result => result,
        };
        let held = held.map_err(failed)?;
        let (_, name) = split_last(place.relative()).ok_or(FileError::Denied)?;
        let name = CString::new(name).map_err(|_| FileError::NameNotAllowed)?;
        Ok((held, name))
    }

    /// Tells what a name stands for. A link that leaves the volume is as if absent.
    pub(super) async fn object(&self, place: &mut Place<'_>) -> Result<Object, FileError> {
        if place.carries {
            return Ok(Object::Plain(self.carrier(place).await?));
        }
        let opened = self.open_path(place, fs::HOLD_LINK).await;
        let held = opened.map_err(|error| file_error(&error))?;
        let own = fs::status(&held).map_err(|error| file_error(&error))?;
        if own.kind != Kind::Link {
            return Ok(Object::Plain(own));
        }
        let mut end = place.to_see();
        let target = match self.open_path(&mut end, fs::HOLD).await {
            Ok(target) => Some(fs::status(&target).map_err(|error| file_error(&error))?),
            Err(error) if dangles(&error) => None,
            Err(_) => return Err(FileError::NotFound),
        };
        place.rights = place.rights.and(end.rights);
        let text = fs::link_text(&held).map_err(|error| file_error(&error))?;
        Ok(Object::Link { own, text, target })
    }
}

/// The parent and the last name of a path below a volume.
fn split_last(relative: &[u8]) -> Option<(&[u8], &[u8])> {
    match relative.iter().rposition(|octet| *octet == b'/') {
        Some(slash) => Some((relative.get(..slash)?, relative.get(slash + 1..)?)),
        None => (!relative.is_empty()).then_some((&[], relative)),
    }
}

/// Somebody has put a link where none was a moment ago.
fn stale(error: io::Error) -> io::Error {
    if Errno::from_io_error(&error) == Some(Errno::LOOP) {
        Errno::AGAIN.into()
    } else {
        error
    }
}

/// Whether a link could not be followed because there is nothing at its end, inside the root.
pub(super) fn dangles(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
