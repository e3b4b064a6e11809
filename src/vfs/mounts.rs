//! Mount points, and the directories on the way to them, as their parents show them.
//!
//! What is on the way to a mount is a directory whatever the home holds under that name: the one on disk if it is
//! a directory, else one that exists for the account only, where nothing can be made.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use crate::proto::{FileError, VirtualPath};
use crate::rt;
use crate::sys::fs::{self, Kind, Status};

use super::Root;
use super::access::Access;
use super::error::file_error;
use super::gate::Place;
use super::rules::Operation;

/// No file system has this number, so the `unique` fact is of the path alone.
const NO_DEVICE: u64 = u64::MAX;

/// A mount point in a listing, or what is on the way to one.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) name: Box<[u8]>,
    pub(super) status: Status,
    pub(super) access: Access,
}

impl Root {
    /// The status of a directory on the way to a mount.
    pub(super) async fn carrier(&self, place: &mut Place<'_>) -> Result<Status, FileError> {
        let named = place.path.clone();
        match self.hold(place).await {
            Ok((_, status)) => Ok(status),
            Err(error) if is_no_directory(error) => self.virtual_status(&named),
            Err(error) => Err(error),
        }
    }

    /// The status of a directory that is on no disk.
    pub(super) fn virtual_status(&self, path: &VirtualPath) -> Result<Status, FileError> {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let home = fs::status(&self.home.directory).map_err(|error| file_error(&error))?;
        Ok(Status {
            kind: Kind::Directory,
            mode: 0o555,
            size: 0,
            links: 2,
            device: NO_DEVICE,
            inode: KEY.get_or_init(RandomState::new).hash_one(path),
            ..home
        })
    }

    /// The status of a mount point. On the pool: it may be of a server that does not answer.
    async fn mount_status(&self, place: &Place<'_>) -> Result<Status, FileError> {
        let directory = self.directory_of(place).try_clone();
        let directory = directory.map_err(|error| file_error(&error))?;
        let status = rt::blocking(move || fs::status(&directory)).await;
        status.map_err(|error| file_error(&error))
    }

    /// The mount points of a directory, and the names that lead to some.
    pub(super) async fn mounted_in(
        &self,
        directory: &VirtualPath,
    ) -> Result<Vec<Mounted>, FileError> {
        let Some(rules) = &self.rules else {
            return Ok(Vec::new());
        };
        let mut mounted = Vec::new();
        for name in rules.mounts_in(directory) {
            if rules.conceals(&name) {
                continue;
            }
            let Ok(path) = directory.join(&name) else {
                continue;
            };
            let Ok(mut place) = self.gate(&path, Operation::See) else {
                continue;
            };
            let mut access = self.access_at(&place);
            let status = if place.relative().is_empty() {
                self.mount_status(&place).await
            } else {
                self.carrier(&mut place).await
            };
            // One that fails must not take its parent's listing with it.
            let status = match status {
                Ok(status) => status,
                Err(_) => self.virtual_status(&path)?,
            };
            access.read_only |= is_virtual(&status);
            mounted.push(Mounted {
                name,
                status,
                access,
            });
        }
        Ok(mounted)
    }
}

/// Whether the status is that of a directory that is on no disk.
pub(super) fn is_virtual(status: &Status) -> bool {
    status.device == NO_DEVICE
}

/// Whether there is no directory of that name on disk.
pub(super) fn is_no_directory(error: FileError) -> bool {
    matches!(error, FileError::NotFound | FileError::NotADirectory)
}
