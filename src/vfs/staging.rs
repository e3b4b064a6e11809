//! Uploads that appear under their name once they are whole, and not before.
//!
//! The octets go to a file without a name (`O_TMPFILE`), or where the file system has no such files to one with a
//! [hidden name](is_hidden) in the same directory. At the end a rename gives it its name and replaces what has that: readers find
//! the old file or the new one, never none. An upload that breaks off leaves the old one as it was.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;

use crate::limits;
use crate::proto::{FileError, VirtualPath};
use crate::quota::{Mark, Quota};
use crate::rt;
use crate::rt::SharedFd;
use crate::sys::fs::{self, Kind, Status};
use crate::sys::unnamed;

use super::Root;
use super::access::require;
use super::error::file_error;
use super::gate::Place;
use super::open::{Upload, checked};
use super::quota::removing;
use super::rules::Operation;

/// How uploads are stored that begin at the first octet (STOR without REST, STOU).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Storing {
    /// Under their name from the beginning; what arrived stays there if they break off.
    #[default]
    InPlace,
    /// Under their name only once they are whole; nothing stays if they break off.
    Atomic,
}

/// How hidden names begin; 16 hexadecimal digits follow.
const HIDDEN_PREFIX: &[u8] = b".ringftpd-upload-";
const HIDDEN_DIGITS: usize = 16;

/// Whether a name is of the kind that unfinished uploads have for a while.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    name.strip_prefix(HIDDEN_PREFIX)
        .is_some_and(|rest| rest.len() == HIDDEN_DIGITS && rest.iter().all(u8::is_ascii_hexdigit))
}

/// Whether a path leads to such a name.
pub(super) fn names_hidden(path: &VirtualPath) -> bool {
    path.split_last().is_some_and(|(_, name)| is_hidden(name))
}

fn hidden_name(number: usize) -> io::Result<CString> {
    let digits = RandomState::new().hash_one(number);
    let name = [HIDDEN_PREFIX, format!("{digits:016x}").as_bytes()].concat();
    Ok(CString::new(name)?)
}

/// An upload whose file does not have its name yet.
#[derive(Debug)]
pub(super) struct Staged {
    file: rt::File,
    /// The directory, whatever it is called by the end.
    parent: SharedFd,
    name: CString,
    /// What it is called meanwhile, where it has to have a name.
    hidden: Option<CString>,
    /// Whether a file that has the name may be replaced.
    replaces: bool,
    /// What counts the file that is replaced.
    quota: Option<Quota>,
    published: Cell<bool>,
}

/// The same, to be worked on where it may wait for a disk.
struct Parts {
    file: OwnedFd,
    parent: OwnedFd,
    name: CString,
    hidden: Option<CString>,
    replaces: bool,
    quota: Option<Quota>,
}

impl Staged {
    fn parts(&self) -> io::Result<Parts> {
        Ok(Parts {
            file: self.file.as_fd().try_clone_to_owned()?,
            parent: self.parent.try_clone()?,
            name: self.name.clone(),
            hidden: self.hidden.clone(),
            replaces: self.replaces,
            quota: self.quota.clone(),
        })
    }

    /// Gives the file its name; with `sync` the disk has that too when this returns.
    ///
    /// # Errors
    /// Why it has none, such as `IsADirectory` where a directory has come to have that name.
    pub(super) async fn publish(&self, sync: bool) -> Result<(), FileError> {
        let parts = self.parts().map_err(|error| file_error(&error))?;
        let (parts, published) = rt::blocking(move || {
            let published = parts.publish();
            (parts, published)
        })
        .await;
        // No such file or directory: the directory is gone.
        published.map_err(|error| file_error(&error))?;
        self.published.set(true);
        if sync {
            let synced = rt::blocking(move || unnamed::sync_names(&parts.parent, &parts.file));
            synced.await.map_err(|error| {
                tracing::warn!(%error, "an upload has its name, which the disk may not have");
                file_error(&error)
            })?;
        }
        Ok(())
    }

    pub(super) fn is_published(&self) -> bool {
        self.published.get()
    }

    /// The upload came to nothing: a file without a name goes by itself, a hidden one is removed.
    pub(super) async fn discard(&self) {
        if self.hidden.is_none() || self.published.get() {
            return;
        }
        if let Ok(parts) = self.parts() {
            rt::blocking(move || parts.discard()).await;
        }
    }
}

impl Parts {
    fn publish(&self) -> io::Result<()> {
        unnamed::flush(&self.file)?;
        match &self.quota {
            Some(quota) => quota.moving(|| self.give_name()),
            None => self.give_name(),
        }
    }

    fn give_name(&self) -> io::Result<()> {
        let hidden = match &self.hidden {
            Some(hidden) => hidden.clone(),
            None => self.hide()?,
        };
        let named = self.rename(&hidden);
        if named.is_err() && self.hidden.is_none() {
            let _ = fs::remove_file(&self.parent, &hidden);
        }
        named
    }

    fn rename(&self, hidden: &CStr) -> io::Result<()> {
        for _ in 0..limits::OPEN_TRIES_MAX {
            let there = match fs::status_at(&self.parent, &self.name) {
                Ok(there) => there,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match self.rename_to_free(hidden) {
                        // Somebody was faster.
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                        result => return result,
                    }
                }
                Err(error) => return Err(error),
            };
            return match there.kind {
                Kind::File if self.replaces => self.replace(hidden, &there),
                Kind::File => Err(Errno::EXIST.into()),
                Kind::Directory => Err(Errno::ISDIR.into()),
                _ => Err(Errno::NXIO.into()),
            };
        }
        Err(Errno::BUSY.into())
    }

    fn rename_to_free(&self, hidden: &CStr) -> io::Result<()> {
        match fs::rename_to_free(&self.parent, hidden, &self.parent, &self.name) {
            // Some file systems cannot do it in one step; it was free a moment ago.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                fs::rename(&self.parent, hidden, &self.parent, &self.name)
            }
            result => result,
        }
    }

    /// Takes the place of a file, which keeps its octets for those who have it open.
    fn replace(&self, hidden: &CStr, there: &Status) -> io::Result<()> {
        unnamed::adopt(&self.file, there)?;
        removing(self.quota.as_ref(), (&self.parent, &self.name), || {
            fs::rename(&self.parent, hidden, &self.parent, &self.name)
        })
    }

    /// Gives a file without a name a hidden one: only a rename replaces another, and programs that watch a directory wait
    /// for one (`IN_MOVED_TO`), since a file that is linked looks as if it were still to be written.
    fn hide(&self) -> io::Result<CString> {
        for number in 0..limits::UNIQUE_NAME_TRIES_MAX {
            let name = hidden_name(number)?;
            match unnamed::link(&self.file, &self.parent, &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result.map(|()| name),
            }
        }
        Err(Errno::EXIST.into())
    }

    fn discard(&self) {
        let Some(hidden) = &self.hidden else {
            return;
        };
        // Nobody but the system's own users can have put something else there.
        let (Ok(own), Ok(there)) = (fs::status(&self.file), fs::status_at(&self.parent, hidden))
        else {
            return;
        };
        if (own.device, own.inode) == (there.device, there.inode) {
            let removing_it = || fs::remove_file(&self.parent, hidden);
            let removed = removing(self.quota.as_ref(), (&self.parent, hidden), removing_it);
            if let Err(error) = removed {
                tracing::warn!(
                    name = %hidden.to_string_lossy(),
                    %error,
                    "the file of an upload that broke off was not removed: remove it"
                );
            }
        }
    }
}

impl Root {
    /// Opens a file that takes the place of `path` once it is whole. What is there must be a file that could be written
    /// in place; at the end of a link it is replaced where it is.
    pub(super) async fn stage(self: &Rc<Self>, path: &VirtualPath) -> Result<Upload, FileError> {
        let mut place = self.gate(path, Operation::Write)?;
        let mark = self.mark(&place);
        let old = match self.open_path(&mut place, fs::OPEN_WRITE).await {
            Ok(opened) => Some(checked(opened)?.1),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(file_error(&error)),
        };
        let (parent, mut name) = self.hold_parent(&mut place).await?;
        let mut parent = Rc::new(parent);
        let there = self.look(&parent, &name).await?;
        if there.is_some_and(|there| there.kind == Kind::Link) {
            let settled = self.settle(&mut place, true).await;
            settled.map_err(|error| file_error(&error))?;
            let (settled, last) = self.hold_parent(&mut place).await?;
            (parent, name) = (Rc::new(settled), last);
        }
        if let Some(old) = &old {
            let directory = fs::status(&parent).map_err(|error| file_error(&error))?;
            require(self.access_at(&place).may_replace(old.user, &directory))?;
        }
        self.require_quota(&place, 1).await?;
        let (staged, status) = self.stage_in(&place, parent, name, old.as_ref()).await?;
        self.staged_upload((staged, &status), mark, path.clone())
            .await
    }

    /// As [`stage`](Self::stage), for a name that nothing may have: `None` if something has it.
    pub(super) async fn stage_new(
        self: &Rc<Self>,
        place: &Place<'_>,
        mark: Option<Mark>,
        parent: SharedFd,
        name: CString,
    ) -> Result<Option<Upload>, FileError> {
        if self.look(&parent, &name).await?.is_some() {
            return Ok(None);
        }
        let (mut staged, status) = self.stage_in(place, parent, name, None).await?;
        staged.replaces = false;
        let path = place.path.as_ref().clone();
        let upload = self.staged_upload((staged, &status), mark, path).await;
        upload.map(Some)
    }

    /// What a name in a directory stands for, a link for itself.
    async fn look(&self, parent: &SharedFd, name: &CStr) -> Result<Option<Status>, FileError> {
        match self
            .open_below(parent, name.to_bytes(), fs::HOLD_LINK)
            .await
        {
            Ok(held) => Ok(Some(fs::status(&held).map_err(|error| file_error(&error))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error(&error)),
        }
    }

    async fn stage_in(
        &self,
        place: &Place<'_>,
        parent: SharedFd,
        name: CString,
        old: Option<&Status>,
    ) -> Result<(Staged, Status), FileError> {
        let ((file, status), hidden) = self.make_unfinished(&parent).await?;
        let staged = Staged {
            file,
            parent,
            name,
            hidden,
            replaces: true,
            quota: self.quota_at(place).cloned(),
            published: Cell::new(false),
        };
        // A hidden file is in everybody's reach: no more than the old one may be.
        if let (Some(_), Some(old)) = (&staged.hidden, old) {
            let (parts, old) = (staged.parts(), *old);
            let adopted = rt::blocking(move || unnamed::adopt(&parts?.file, &old)).await;
            if let Err(error) = adopted {
                staged.discard().await;
                return Err(file_error(&error));
            }
        }
        Ok((staged, status))
    }

    /// Makes a file that nobody sees.
    async fn make_unfinished(
        &self,
        parent: &SharedFd,
    ) -> Result<((rt::File, Status), Option<CString>), FileError> {
        if self.settings.may_be_unnamed() {
            match self.open_below(parent, b"", unnamed::OPEN_UNNAMED).await {
                Err(error) if unnamed::is_unsupported(&error) => {}
                opened => {
                    let opened = opened.map_err(|error| file_error(&error))?;
                    return Ok((checked(opened)?, None));
                }
            }
        }
        for number in 0..limits::UNIQUE_NAME_TRIES_MAX {
            let name = hidden_name(number).map_err(|error| file_error(&error))?;
            match self
                .open_below(parent, name.to_bytes(), fs::OPEN_CREATE_NEW)
                .await
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    let opened = opened.map_err(|error| file_error(&error))?;
                    return Ok((checked(opened)?, Some(name)));
                }
            }
        }
        Err(FileError::Exists)
    }

    async fn staged_upload(
        self: &Rc<Self>,
        (staged, status): (Staged, &Status),
        mark: Option<Mark>,
        path: VirtualPath,
    ) -> Result<Upload, FileError> {
        match self.charge((&staged.file, status), mark, 0, true).await {
            Ok(charge) => Ok(Upload {
                file: staged.file.clone(),
                id: (status.device, status.inode),
                offset: 0,
                name: None,
                created: true,
                charge,
                truncate: false,
                root: Rc::clone(self),
                path,
                operation: Operation::Write,
                staged: Some(Rc::new(staged)),
            }),
            Err(error) => {
                staged.discard().await;
                Err(error)
            }
        }
    }
}
