//! Opening the files of transfers.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::limits;
use crate::proto::{FileError, VirtualPath};
use crate::quota::Charge;
use crate::rt;
use crate::sys::fs::{self, Kind, Status};

use super::Root;
use super::error::file_error;
use super::gate::Place;
use super::quota::{removing, turn};
use super::rules::Operation;
use super::staging::{Staged, Storing};

/// A file opened to be sent.
#[derive(Debug)]
pub struct Download {
    /// The file.
    pub file: rt::File,
    /// Its octets when it was opened.
    pub octets: u64,
}

/// How an upload treats what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadMode {
    /// STOR: the old content is given up.
    Replace,
    /// STOR or APPE after REST: written from here on, nothing is cut off.
    At(u64),
    /// APPE: written behind the old content.
    Append,
    /// STOU: a new file in the directory of the path.
    Unique {
        /// How its name begins; may be empty.
        prefix: Vec<u8>,
    },
}

/// A file opened to be received.
#[derive(Debug)]
pub struct Upload {
    /// The file. If the upload breaks off, it stays under its name so that REST can go on, unless it is [atomic](Self::is_atomic).
    pub file: rt::File,
    /// Where the first octet goes.
    pub offset: u64,
    /// The name that STOU chose.
    pub name: Option<Vec<u8>>,
    /// Whether the file was made for this upload.
    pub created: bool,
    /// What it is charged, where there is a quota.
    pub charge: Option<Rc<Charge>>,
    /// Whether what is there is to be given up once the data connection stands.
    pub(super) truncate: bool,
    /// Device and inode.
    pub(super) id: (u64, u64),
    /// To take back a file that never got its content.
    pub(super) root: Rc<Root>,
    pub(super) path: VirtualPath,
    pub(super) operation: Operation,
    /// What the file needs to get its name at the end, if it does not have it yet.
    pub(super) staged: Option<Rc<Staged>>,
}

impl Upload {
    /// Gives up the old content, if it is to be replaced. Called when the data connection stands:
    /// a client that never comes must not cost anybody a file.
    ///
    /// # Errors
    /// Why it could not be cut.
    pub async fn begin(&self) -> Result<(), FileError> {
        if !self.truncate {
            return Ok(());
        }
        truncate(&self.file).await?;
        if let Some(charge) = &self.charge {
            charge.emptied();
        }
        Ok(())
    }

    /// Whether nothing stays under the name unless the upload comes to its end.
    #[must_use]
    pub fn is_atomic(&self) -> bool {
        self.staged.is_some()
    }

    /// What gives the file its name once it is whole, if it does not have it yet.
    #[must_use]
    pub fn publication(&self) -> Option<Publication> {
        self.staged.clone().map(Publication)
    }

    /// What takes the file back again.
    #[must_use]
    pub fn undo(&self) -> Undo {
        Undo {
            file: self.file.clone(),
            id: self.id,
            root: Rc::clone(&self.root),
            path: self.path.clone(),
            operation: self.operation,
            created: self.created,
            staged: self.staged.clone(),
            charge: self.charge.clone(),
        }
    }
}

/// The last step of an upload that appears once it is whole.
#[derive(Debug)]
pub struct Publication(Rc<Staged>);

impl Publication {
    /// Gives the file its name, in place of what has it.
    ///
    /// # Errors
    /// Why it could not have it; nothing has changed then.
    pub async fn run(&self) -> Result<(), FileError> {
        self.0.publish().await
    }

    /// Brings the name to the disk.
    ///
    /// # Errors
    /// Why it may not be there. The file has it all the same.
    pub async fn sync(&self) -> Result<(), FileError> {
        self.0.sync().await
    }
}

/// Ends an upload, or takes its file back where it came to nothing.
#[derive(Debug)]
pub struct Undo {
    /// Held, so that its inode is no other's.
    file: rt::File,
    id: (u64, u64),
    root: Rc<Root>,
    path: VirtualPath,
    operation: Operation,
    created: bool,
    staged: Option<Rc<Staged>>,
    /// Ends after it: then the file counts as what it has become.
    charge: Option<Rc<Charge>>,
}

impl Undo {
    /// Whether nothing of the upload may stay.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let staged = self.staged.as_ref();
        staged.is_some_and(|staged| !staged.is_published())
    }

    /// Removes the file if it was made for the upload, or in any case if `always`, or if it has no name yet. A failure
    /// leaves a file that the client can see and delete.
    pub async fn run(self, always: bool) {
        match &self.staged {
            Some(staged) => staged.discard().await,
            None if self.created || always => self.remove().await,
            None => return self.end().await,
        }
        if self.charge.is_some() {
            return self.end().await;
        }
        // With its last descriptor the kernel gives up its octets, which takes it a second for some gigabytes.
        drop(self.staged);
        if let Ok(fd) = self.file.into_fd() {
            rt::blocking(move || drop(fd)).await;
        }
    }

    /// The upload is over; nothing else holds it any more. Returns when the file counts as what it has become.
    pub async fn end(self) {
        drop((self.file, self.staged));
        // On the pool as well: it has the last descriptor.
        if let Some(charge) = self.charge {
            charge.close().await;
        }
    }

    async fn remove(&self) {
        // It has passed the gate for this before.
        let Ok(mut place) = self.root.gate(&self.path, self.operation) else {
            return;
        };
        let Ok((parent, name)) = self.root.hold_parent(&mut place).await else {
            return;
        };
        let (ours, quota) = (self.id, self.root.quota_at(&place).cloned());
        let turn = turn(quota.as_ref()).await;
        let removing = move || {
            let _turn = turn;
            let there = fs::status_at(&parent, &name)?;
            // Somebody may have put another file there meanwhile.
            if ours != (there.device, there.inode) {
                return Ok(());
            }
            removing(quota.as_ref(), (&parent, &name), || {
                fs::remove_file(&parent, &name)
            })
        };
        let _ = rt::blocking(removing).await;
    }
}

impl Root {
    /// Opens a file to send it.
    ///
    /// # Errors
    /// Why it cannot be read; directories, devices, FIFOs and sockets are refused.
    pub async fn open_download(&self, path: &VirtualPath) -> Result<Download, FileError> {
        let mut place = self.gate(path, Operation::Read)?;
        let opened = self.open_path(&mut place, fs::OPEN_READ).await;
        let (file, status) = checked(opened.map_err(|error| file_error(&error))?)?;
        Ok(Download {
            file,
            octets: status.size,
        })
    }

    /// Opens or makes a file to receive into it.
    ///
    /// # Errors
    /// Why it cannot be written; `BadRestart` when the offset lies behind its end.
    pub async fn open_upload(
        self: &Rc<Self>,
        path: &VirtualPath,
        how: UploadMode,
    ) -> Result<Upload, FileError> {
        let operation = match how {
            UploadMode::Append => Operation::Append,
            UploadMode::Unique { prefix } => return self.open_unique(path, &prefix).await,
            UploadMode::Replace if self.settings.storing == Storing::Atomic => {
                return self.stage(path).await;
            }
            UploadMode::Replace | UploadMode::At(_) => Operation::Write,
        };
        let mut place = self.gate(path, operation)?;
        let mark = self.mark(&place);
        let (opened, created) = match how {
            UploadMode::At(offset) if offset > 0 => self.open_existing(&mut place).await?,
            _ => self.open_or_create(&mut place).await?,
        };
        let (file, status) = checked(opened)?;
        let offset = match how {
            UploadMode::At(offset) if offset > status.size => return Err(FileError::BadRestart),
            UploadMode::At(offset) => offset,
            UploadMode::Append => status.size,
            UploadMode::Replace | UploadMode::Unique { .. } => 0,
        };
        Ok(Upload {
            charge: self.charge((&file, &status), mark, offset, created).await?,
            file,
            id: (status.device, status.inode),
            offset,
            name: None,
            created,
            truncate: how == UploadMode::Replace && status.size > 0,
            root: Rc::clone(self),
            path: path.clone(),
            operation,
            staged: None,
        })
    }

    /// A file that is missing has no octet to go on from.
    async fn open_existing(&self, place: &mut Place<'_>) -> Result<(OwnedFd, bool), FileError> {
        match self.open_path(place, fs::OPEN_WRITE).await {
            Ok(opened) => Ok((opened, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FileError::BadRestart),
            Err(error) => Err(file_error(&error)),
        }
    }

    /// Opens without cutting: only what turns out to be a regular file is cut, afterwards.
    async fn open_or_create(&self, place: &mut Place<'_>) -> Result<(OwnedFd, bool), FileError> {
        match self.open_path(place, fs::OPEN_WRITE).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(opened) => return Ok((opened, false)),
            Err(error) => return Err(file_error(&error)),
        }
        self.require_quota(place, 1).await?;
        match self.open_path(place, fs::OPEN_CREATE_NEW).await {
            // Somebody else made it just now, or it is a link whose target is still to be made.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(opened) => return Ok((opened, true)),
            Err(error) => return Err(file_error(&error)),
        }
        let opened = self.open_path(place, fs::OPEN_CREATE).await;
        Ok((opened.map_err(|error| file_error(&error))?, false))
    }

    async fn open_unique(
        self: &Rc<Self>,
        path: &VirtualPath,
        prefix: &[u8],
    ) -> Result<Upload, FileError> {
        if prefix.contains(&b'/') {
            return Err(FileError::NameNotAllowed);
        }
        let prefix = if prefix.is_empty() { b"upload" } else { prefix };
        let kept = prefix.len().min(limits::PATH_COMPONENT_OCTETS_MAX - 9);
        let (prefix, _) = prefix.split_at(kept);
        let chance = RandomState::new();
        for number in 0..limits::UNIQUE_NAME_TRIES_MAX {
            let mut name = prefix.to_vec();
            let suffix = chance.hash_one(number) & 0xffff_ffff;
            name.extend_from_slice(format!(".{suffix:08x}").as_bytes());
            let path = path.join(&name).map_err(|_| FileError::NameNotAllowed)?;
            let mut place = self.gate(&path, Operation::Write)?;
            self.require_quota(&place, 1).await?;
            let (directory, last) = self.hold_parent(&mut place).await?;
            let directory = Rc::new(directory);
            let mark = self.mark(&place);
            if self.settings.storing == Storing::Atomic {
                match self.stage_new(&place, mark, directory, last).await? {
                    Some(upload) => {
                        return Ok(Upload {
                            name: Some(name),
                            ..upload
                        });
                    }
                    None => continue,
                }
            }
            let opened = self.open_below(&directory, last.as_bytes(), fs::OPEN_CREATE_NEW);
            match opened.await {
                Ok(opened) => {
                    let (file, status) = checked(opened)?;
                    return Ok(Upload {
                        charge: self.charge((&file, &status), mark, 0, true).await?,
                        file,
                        id: (status.device, status.inode),
                        offset: 0,
                        name: Some(name),
                        created: true,
                        truncate: false,
                        root: Rc::clone(self),
                        path,
                        operation: Operation::Write,
                        staged: None,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(file_error(&error)),
            }
        }
        Err(FileError::Exists)
    }
}

/// Lets only regular files through.
pub(super) fn checked(opened: OwnedFd) -> Result<(rt::File, Status), FileError> {
    let status = fs::status(&opened).map_err(|error| file_error(&error))?;
    match status.kind {
        Kind::File => {}
        Kind::Directory => return Err(FileError::IsADirectory),
        _ => return Err(FileError::NotRegular),
    }
    fs::make_blocking(&opened).map_err(|error| file_error(&error))?;
    Ok((rt::File::new(opened), status))
}

/// On the pool: giving up the extents of a large file takes a while.
async fn truncate(file: &rt::File) -> Result<(), FileError> {
    use std::os::fd::AsFd;
    let file = file.as_fd().try_clone_to_owned();
    let file = file.map_err(|error| file_error(&error))?;
    let done = rt::blocking(move || fs::truncate(&file)).await;
    done.map_err(|error| file_error(&error))
}
