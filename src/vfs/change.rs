//! Changing directories: MKD, RMD, DELE, RNFR and RNTO.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use crate::proto::{FileError, FileReply, VirtualPath};
use crate::rt;
use crate::sys::fs::{self, Kind};

use super::Root;
use super::access::require;
use super::error::file_error;
use super::quota::{removing, turn};
use super::resolve::Object;
use super::rules::Operation;

impl Root {
    pub(super) async fn make_directory(&self, path: &VirtualPath) -> Result<FileReply, FileError> {
        let mut place = self.gate(path, Operation::MakeDirectory)?;
        let (parent, name) = self.hold_parent(&mut place).await?;
        let mode = 0o777 & !self.settings.umask;
        done(rt::blocking(move || fs::make_directory(&parent, &name, mode)).await)
    }

    pub(super) async fn remove_directory(
        &self,
        path: &VirtualPath,
    ) -> Result<FileReply, FileError> {
        let mut place = self.gate(path, Operation::Remove)?;
        let (parent, name) = self.hold_parent(&mut place).await?;
        done(rt::blocking(move || fs::remove_directory(&parent, &name)).await)
    }

    pub(super) async fn delete_file(&self, path: &VirtualPath) -> Result<FileReply, FileError> {
        let mut place = self.gate(path, Operation::Remove)?;
        let (parent, name) = self.hold_parent(&mut place).await?;
        // A link that leaves the root is as if absent here too.
        self.object(&mut place).await?;
        let quota = self.quota_at(&place).cloned();
        let turn = turn(quota.as_ref()).await;
        let removed = rt::blocking(move || {
            let _turn = turn;
            removing(quota.as_ref(), (&parent, &name), || {
                fs::remove_file(&parent, &name)
            })
        });
        done(removed.await)
    }

    pub(super) async fn check_rename(&self, path: &VirtualPath) -> Result<FileReply, FileError> {
        let mut place = self.gate(path, Operation::RenameFrom)?;
        self.object(&mut place).await?;
        Ok(FileReply::Done)
    }

    pub(super) async fn rename(
        &self,
        from: &VirtualPath,
        to: &VirtualPath,
    ) -> Result<FileReply, FileError> {
        let mut from = self.gate(from, Operation::RenameFrom)?;
        let mut to = self.gate(to, Operation::RenameTo)?;
        if from.volume != to.volume {
            return Err(FileError::OtherVolume);
        }
        let (from_parent, from_name) = self.hold_parent(&mut from).await?;
        let (to_parent, to_name) = self.hold_parent(&mut to).await?;
        // SECURITY: nothing is moved to where the account may do more with it.
        require(self.rights_at(&to).are_within(self.rights_at(&from)))?;
        let rights = to.rights;
        let is_directory = match self.object(&mut from).await? {
            Object::Plain(status) => status.kind == Kind::Directory,
            Object::Link { .. } => false,
        };
        let replaces = !is_directory && (rights.write || rights.delete);
        // A file that is replaced gives back what it held.
        let quota = self.quota_at(&to).cloned();
        let turn = turn(quota.as_ref().filter(|_| replaces)).await;
        let renamed = rt::blocking(move || {
            let _turn = turn;
            let from = (&from_parent, from_name.as_c_str());
            let to = (&to_parent, to_name.as_c_str());
            let rename = || rename_blocking(from, to, replaces);
            match &quota {
                Some(quota) if !replaces => quota.moving(rename),
                quota => removing(quota.as_ref(), to, rename),
            }
        });
        match renamed.await {
            // Here it means two volumes, not a way out of the root.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                Err(FileError::OtherVolume)
            }
            // The target has become a directory meanwhile.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(FileError::Exists),
            result => done(result),
        }
    }
}

/// Renames; an existing target is replaced only when it may be and is no directory. A file never
/// replaces a directory (the kernel sees to it), and a directory never replaces anything.
fn rename_blocking(
    from: (&OwnedFd, &CStr),
    to: (&OwnedFd, &CStr),
    replaces: bool,
) -> io::Result<()> {
    match fs::rename_to_free(from.0, from.1, to.0, to.1) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && replaces => {}
        // Some file systems cannot do it in one step.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
        result => return result,
    }
    match fs::status_at(to.0, to.1) {
        Ok(target) if !replaces || target.kind == Kind::Directory => {
            return Err(rustix::io::Errno::EXIST.into());
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(from.0, from.1, to.0, to.1)
}

fn done(result: io::Result<()>) -> Result<FileReply, FileError> {
    match result {
        Ok(()) => Ok(FileReply::Done),
        Err(error) => Err(file_error(&error)),
    }
}
