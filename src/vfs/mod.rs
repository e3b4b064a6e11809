//! Files below a user's confined root.
//!
//! Every name is resolved by the kernel from the descriptor of the root and cannot leave it
//! (openat2(2), `RESOLVE_BENEATH`): a symbolic link that points outside is as if absent. Where the
//! object itself is meant, its parent is opened and the call names one component below that
//! descriptor. No path is put together from strings and opened.
//!
//! What the kernel answers from memory (opening, status) runs on the core, through the ring; what
//! changes or reads a directory runs on the pool.

mod access;
mod change;
mod directory_cache;
mod error;
mod lines;
mod metadata;
mod open;
mod resolve;
mod walk;

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::proto::zone::Zone;
use crate::proto::{FileError, FileReply, FileRequest};
use crate::rt::SharedFd;
use crate::sys::fs;

use access::Access;

pub use access::Rights;
pub use directory_cache::DirectoryCache;
pub use error::file_error;
pub use open::{Download, Upload, UploadMode};
pub use walk::Listing;

/// How files are shown and made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// LIST and NLST leave out names that begin with a dot, unless `-a` asks for them.
    pub hide_dot_files: bool,
    /// Permission bits that new files and directories do not get, 0 to 0o777. The umask of the
    /// process applies as well.
    pub umask: u32,
    /// The time zone of dates in LIST.
    pub list_zone: Zone,
    /// What directories held when they were last listed.
    pub directory_cache: Arc<DirectoryCache>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hide_dot_files: false,
            umask: 0o022,
            list_zone: Zone::default(),
            directory_cache: DirectoryCache::new(0),
        }
    }
}

/// The confined tree of one user.
#[derive(Debug)]
pub struct Root {
    directory: SharedFd,
    access: Access,
    settings: Rc<Settings>,
}

impl Root {
    /// Takes hold of a home directory. May wait for a disk.
    ///
    /// # Errors
    /// The kernel's error: there is no such directory, or it cannot be reached.
    pub fn open(home: &Path, rights: Rights, settings: Rc<Settings>) -> io::Result<Rc<Self>> {
        let directory = fs::hold_root(home)?;
        let access = Access {
            rights,
            credentials: fs::Credentials::current(),
            read_only: fs::is_read_only(&directory),
        };
        Ok(Rc::new(Self {
            directory: Rc::new(directory),
            access,
            settings,
        }))
    }

    /// What the account may do.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.access.rights
    }

    /// Does what needs no data connection.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn perform(&self, request: &FileRequest) -> Result<FileReply, FileError> {
        match request {
            FileRequest::CheckDirectory(path) => self.check_directory(path).await,
            FileRequest::MakeDirectory(path) => self.make_directory(path).await,
            FileRequest::RemoveDirectory(path) => self.remove_directory(path).await,
            FileRequest::DeleteFile(path) => self.delete_file(path).await,
            FileRequest::CheckRename(path) => self.check_rename(path).await,
            FileRequest::Rename { from, to } => self.rename(from, to).await,
            FileRequest::Size { path, ascii } => self.size(path, *ascii).await,
            FileRequest::ModifyTime(path) => self.modify_time(path).await,
            FileRequest::SetModifyTime(path, time) => self.set_modify_time(path, *time).await,
            FileRequest::ChangeMode(path, mode) => self.change_mode(path, *mode).await,
            FileRequest::Facts(path, facts) => self.facts(path, *facts).await,
            FileRequest::StatListing {
                path,
                shown,
                hidden,
            } => self.stat_listing(path, shown, *hidden).await,
            FileRequest::CheckSpace(octets) => self.check_space(*octets).await,
        }
    }
}

#[cfg(test)]
mod tests;
