//! Uploads that appear under their name once they are whole, and not before.
//!
//! The octets go to a file without a name (`O_TMPFILE`), or where the file system has no such files to one with a
//! [hidden name](is_hidden) in the same directory. At the end a rename gives it its name and replaces what has that: readers find
//! the old file or the new one, never none. An upload that breaks off leaves the old one as it was.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use crate::limits;
use crate::proto::{FileError, VirtualPath};
use crate::quota::Mark;
use crate::rt;
use crate::rt::SharedFd;
use crate::sys::fs::{self, Kind, Status};
use crate::sys::{access, unnamed};

use super::Root;
use super::access::require;
use super::error::file_error;
use super::gate::Place;
use super::open::{Upload, checked};
use super::quota::turn;
use super::rules::Operation;
use super::unfinished::Unfinished;

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

pub(super) fn hidden_name(number: usize) -> io::Result<CString> {
    let digits = RandomState::new().hash_one(number);
    let name = [HIDDEN_PREFIX, format!("{digits:016x}").as_bytes()].concat();
    Ok(CString::new(name)?)
}

/// An upload whose file does not have its name yet.
#[derive(Debug)]
pub(super) struct Staged {
    unfinished: Arc<Unfinished>,
    published: Cell<bool>,
}

impl Staged {
    /// Works on the file where it may wait for a disk.
    async fn on_pool<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Unfinished) -> R + Send + 'static,
    ) -> R {
        let unfinished = Arc::clone(&self.unfinished);
        rt::blocking(move || work(&unfinished)).await
    }

    /// As [`on_pool`](Self::on_pool), what takes names away.
    async fn on_pool_in_turn<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Unfinished) -> R + Send + 'static,
    ) -> R {
        let turn = turn(self.unfinished.quota.as_ref()).await;
        self.on_pool(move |unfinished| {
            let _turn = turn;
            work(unfinished)
        })
        .await
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// Why it has none, such as `IsADirectory` where a directory has come to have that name.
    pub(super) async fn publish(&self) -> Result<(), FileError> {
        let published = self.on_pool_in_turn(Unfinished::publish).await;
        // No such file or directory: the directory is gone.
        published.map_err(|error| file_error(&error))?;
        self.published.set(true);
        Ok(())
    }

    /// Brings the name to the disk.
    ///
    /// # Errors
    /// It may not be there.
    pub(super) async fn sync(&self) -> Result<(), FileError> {
        self.on_pool(Unfinished::sync).await.map_err(|error| {
            tracing::warn!(%error, "an upload has its name, which the disk may not have");
            file_error(&error)
        })
    }

    pub(super) fn is_published(&self) -> bool {
        self.published.get()
    }

    /// The upload came to nothing: a file without a name goes by itself, a hidden one is removed.
    pub(super) async fn discard(&self) {
        if self.unfinished.hidden.is_some() && !self.published.get() {
            self.on_pool_in_turn(Unfinished::discard).await;
        }
    }
}

impl Root {
    /// Opens a file that takes the place of `path` once it is whole. What is there must be a file that could be written
    /// in place; at the end of a link it is replaced where it is.
    pub(super) async fn stage(self: &Rc<Self>, path: &VirtualPath) -> Result<Upload, FileError> {
        let mut place = self.gate(path, Operation::Write)?;
        let mark = self.mark(&place);
        let old = match self.open_path(&mut place, fs::HOLD).await {
            Ok(held) => Some(self.require_writable(&place, held).await?),
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
        let target = (parent, name);
        let staged = self.stage_in(&place, target, old.as_ref(), true).await?;
        self.staged_upload(staged, mark, path.clone()).await
    }

    /// Refuses what opening to write would refuse. Not by opening: its close would tell who watches the directory
    /// (`IN_CLOSE_WRITE`) that the old file has just come.
    async fn require_writable(
        &self,
        place: &Place<'_>,
        held: OwnedFd,
    ) -> Result<Status, FileError> {
        let status = fs::status(&held).map_err(|error| file_error(&error))?;
        match status.kind {
            Kind::File => {}
            Kind::Directory => return Err(FileError::IsADirectory),
            _ => return Err(FileError::NotRegular),
        }
        match rt::blocking(move || access::may_write(&held)).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                require(self.access_at(place).may_write(&status))?;
            }
            Err(error) => return Err(file_error(&error)),
        }
        Ok(status)
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
        let staged = self.stage_in(place, (parent, name), None, false).await?;
        let path = place.path.as_ref().clone();
        self.staged_upload(staged, mark, path).await.map(Some)
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
        (parent, name): (SharedFd, CString),
        old: Option<&Status>,
        replaces: bool,
    ) -> Result<(Staged, rt::File, Status), FileError> {
        let (opened, hidden) = self.make_unfinished(&parent, old.is_some()).await?;
        let is_hidden = hidden.is_some();
        // Nobody else has it any more.
        let parent = Rc::try_unwrap(parent).or_else(|parent| parent.try_clone());
        let parent = parent.map_err(|error| file_error(&error))?;
        let (file, opened) = match opened.try_clone() {
            Ok(duplicate) => (duplicate, Ok(opened)),
            Err(error) => (opened, Err(file_error(&error))),
        };
        let staged = Staged {
            unfinished: Arc::new(Unfinished {
                file,
                parent,
                name,
                hidden,
                replaces,
                quota: self.quota_at(place).cloned(),
            }),
            published: Cell::new(false),
        };
        let mut made = opened.and_then(checked);
        // What has a name already is in reach of others: as the old one from the beginning.
        if let (Ok(_), true, Some(old)) = (&made, is_hidden, old) {
            let old = *old;
            let adopted = staged.on_pool(move |unfinished| unfinished.adopt(&old));
            if let Err(error) = adopted.await {
                made = Err(file_error(&error));
            }
        }
        match made {
            Ok((file, status)) => Ok((staged, file, status)),
            Err(error) => {
                staged.discard().await;
                Err(error)
            }
        }
    }

    /// Makes a file that nobody sees; if it has to have a hidden name and is `private`, one that nobody else may open.
    async fn make_unfinished(
        &self,
        parent: &SharedFd,
        private: bool,
    ) -> Result<(OwnedFd, Option<CString>), FileError> {
        if self.settings.may_be_unnamed() {
            match self.open_below(parent, b"", unnamed::OPEN_UNNAMED).await {
                Err(error) if unnamed::is_unsupported(&error) => {}
                opened => return Ok((opened.map_err(|error| file_error(&error))?, None)),
            }
        }
        let mode = if private { 0o600 } else { 0o666 };
        for number in 0..limits::UNIQUE_NAME_TRIES_MAX {
            let name = hidden_name(number).map_err(|error| file_error(&error))?;
            match self.make_below(parent, name.to_bytes(), mode).await {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => return Ok((opened.map_err(|error| file_error(&error))?, Some(name))),
            }
        }
        Err(FileError::Exists)
    }

    async fn staged_upload(
        self: &Rc<Self>,
        (staged, file, status): (Staged, rt::File, Status),
        mark: Option<Mark>,
        path: VirtualPath,
    ) -> Result<Upload, FileError> {
        match self.charge((&file, &status), mark, 0, true).await {
            Ok(charge) => Ok(Upload {
                file,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{Rights, Settings};

    #[test]
    fn a_hidden_file_that_replaces_another_is_nobody_elses_from_the_beginning() {
        let home = tempfile::tempdir().unwrap();
        rt::run(32, async {
            let settings = Rc::new(Settings {
                hidden_uploads: true,
                ..Settings::default()
            });
            let root = Root::open(home.path(), Rights::ALL, settings).unwrap();
            for (private, mode) in [(true, 0o600), (false, 0o644)] {
                let made = root.make_unfinished(&root.home.directory, private).await;
                let (file, hidden) = made.unwrap();
                assert!(is_hidden(hidden.unwrap().to_bytes()));
                assert_eq!(fs::status(&file).unwrap().mode, mode);
            }
        })
        .unwrap();
    }
}
