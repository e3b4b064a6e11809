//! From virtual paths to descriptors.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use crate::limits;
use crate::proto::{FileError, VirtualPath};
use crate::rt;
use crate::rt::SharedFd;
use crate::sys::fs::{self, Kind, Status};

use super::Root;
use super::error::file_error;

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
    /// Opens below `directory`, which is the root or below it. `flags` are one of the constants of
    /// [`fs`].
    pub(super) async fn open_below(
        &self,
        directory: &SharedFd,
        path: &[u8],
        flags: i32,
    ) -> io::Result<OwnedFd> {
        let creates = flags & fs::OPEN_CREATE == fs::OPEN_CREATE;
        // openat2(2) insists on no mode where nothing can be made.
        let mode = if creates {
            0o666 & !self.settings.umask
        } else {
            0
        };
        let path = if path.is_empty() { b"." } else { path };
        let path = CString::new(path)?;
        for _ in 0..limits::OPEN_TRIES_MAX {
            let resolve = fs::RESOLVE_BENEATH;
            match rt::open(directory, path.clone(), flags, mode, resolve).await {
                // A link with `..` was resolved while somebody renamed directories.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
        Err(rustix::io::Errno::BUSY.into())
    }

    /// Opens below the root.
    pub(super) async fn open_path(&self, path: &VirtualPath, flags: i32) -> io::Result<OwnedFd> {
        self.open_below(&self.directory, path.relative(), flags)
            .await
    }

    /// Takes hold of what a path leads to.
    pub(super) async fn hold(&self, path: &VirtualPath) -> Result<(OwnedFd, Status), FileError> {
        let opened = self.open_path(path, fs::HOLD).await;
        let held = opened.map_err(|error| file_error(&error))?;
        let status = fs::status(&held).map_err(|error| file_error(&error))?;
        Ok((held, status))
    }

    /// Opens the parent directory and names the last component; the root has neither.
    pub(super) async fn hold_parent(
        &self,
        path: &VirtualPath,
    ) -> Result<(OwnedFd, CString), FileError> {
        let (parent, name) = path.split_last().ok_or(FileError::Denied)?;
        let name = CString::new(name).map_err(|_| FileError::NameNotAllowed)?;
        let opened = self.open_path(&parent, fs::HOLD_DIRECTORY).await;
        Ok((opened.map_err(|error| file_error(&error))?, name))
    }

    /// Tells what a name stands for. A link that leaves the root is as if absent.
    pub(super) async fn object(&self, path: &VirtualPath) -> Result<Object, FileError> {
        let opened = self.open_path(path, fs::HOLD_LINK).await;
        let held = opened.map_err(|error| file_error(&error))?;
        let own = fs::status(&held).map_err(|error| file_error(&error))?;
        if own.kind != Kind::Link {
            return Ok(Object::Plain(own));
        }
        let target = match self.open_path(path, fs::HOLD).await {
            Ok(target) => Some(fs::status(&target).map_err(|error| file_error(&error))?),
            Err(error) if dangles(&error) => None,
            Err(_) => return Err(FileError::NotFound),
        };
        let text = fs::link_text(&held).map_err(|error| file_error(&error))?;
        Ok(Object::Link { own, text, target })
    }
}

/// Whether a link could not be followed because there is nothing at its end, inside the root.
pub(super) fn dangles(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
