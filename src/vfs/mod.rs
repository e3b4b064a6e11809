//! Files below a user's confined root.
//!
//! Every name is resolved by the kernel from the descriptor of the root and cannot leave it
//! (openat2(2), `RESOLVE_BENEATH`): a symbolic link that points outside is as if absent. Where the
//! object itself is meant, its parent is opened and the call names one component below that
//! descriptor. No path is put together from strings and opened.
//!
//! A tree is the home and what is mounted in it, each confined by itself. Every operation passes `gate` first, which
//! knows what the account may do at that path.
//!
//! What the kernel answers from memory (opening, status) runs on the core, through the ring; what
//! changes or reads a directory runs on the pool.

mod access;
mod change;
mod directory_cache;
mod error;
mod gate;
mod lines;
mod links;
mod metadata;
mod mounts;
mod open;
mod quota;
mod resolve;
mod rules;
mod staging;
mod unfinished;
mod walk;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::proto::zone::Zone;
use crate::proto::{FileError, FileReply, FileRequest, VirtualPath};
use crate::quota::{Quota, Quotas};
use crate::rt;
use crate::rt::SharedFd;
use crate::sys::{fs, unnamed};

use access::Access;
use rules::Rules;

pub use access::Rights;
pub use directory_cache::DirectoryCache;
pub use error::file_error;
pub use open::{Download, Publication, Upload, UploadMode};
pub use quota::over_quota;
pub use rules::Layout;
pub use staging::Storing;
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
    /// When uploads appear under their name.
    pub storing: Storing,
    /// Unfinished uploads get hidden names on every file system; tests see to it.
    #[cfg(test)]
    pub hidden_uploads: bool,
    /// What directories held when they were last listed.
    pub directory_cache: Arc<DirectoryCache>,
    /// How much the files of accounts may hold.
    pub quotas: Arc<Quotas>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hide_dot_files: false,
            umask: 0o022,
            list_zone: Zone::default(),
            storing: Storing::default(),
            #[cfg(test)]
            hidden_uploads: false,
            directory_cache: DirectoryCache::new(0),
            quotas: Quotas::new(None),
        }
    }
}

impl Settings {
    /// Whether unfinished uploads can do without a name.
    fn may_be_unnamed(&self) -> bool {
        #[cfg(test)]
        if self.hidden_uploads {
            return false;
        }
        unnamed::can_be_named()
    }
}

/// A directory that names are resolved below, and never leave.
#[derive(Debug, Clone)]
struct Volume {
    directory: SharedFd,
    read_only: bool,
}

/// The same as it is opened, on whatever thread.
#[derive(Debug)]
struct Held {
    directory: OwnedFd,
    read_only: bool,
}

impl Held {
    fn open(directory: &Path) -> io::Result<Self> {
        let directory = fs::hold_root(directory)?;
        Ok(Self {
            read_only: fs::is_read_only(&directory),
            directory,
        })
    }
}

impl From<Held> for Volume {
    fn from(held: Held) -> Self {
        Self {
            directory: Rc::new(held.directory),
            read_only: held.read_only,
        }
    }
}

/// A directory that a tree needs and that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", directory.display())]
pub struct MissingDirectory {
    /// Which.
    pub directory: PathBuf,
    /// Where it is mounted; `None` for the home.
    pub mounted_at: Option<VirtualPath>,
    /// The kernel's error.
    #[source]
    pub error: io::Error,
}

/// The confined tree of one user.
#[derive(Debug, Clone)]
pub struct Root {
    home: Volume,
    mounts: Box<[Volume]>,
    /// What the account may do where no rule says otherwise.
    access: Access,
    /// `None` for most accounts: then nothing depends on the path.
    rules: Option<Arc<Rules>>,
    settings: Rc<Settings>,
    /// What is charged for files below; of one session.
    quota: Option<Quota>,
    /// The shared one that this was made from for a quota's sake: as long as it lives, others find it.
    _base: Option<Rc<Self>>,
}

impl Root {
    /// Takes hold of a home directory. May wait for a disk.
    ///
    /// # Errors
    /// There is no such directory, or it cannot be reached.
    pub fn open(
        home: &Path,
        rights: Rights,
        settings: Rc<Settings>,
    ) -> Result<Rc<Self>, MissingDirectory> {
        Self::open_with(home, rights, Layout::default(), settings)
    }

    /// Takes hold of a home directory and of what is mounted in it. May wait for a disk.
    ///
    /// # Errors
    /// One of the directories is missing, or cannot be reached.
    pub fn open_with(
        home: &Path,
        rights: Rights,
        layout: Layout,
        settings: Rc<Settings>,
    ) -> Result<Rc<Self>, MissingDirectory> {
        let held = hold_all(home, &layout)?;
        Ok(Self::of(held, rights, layout, settings))
    }

    /// As [`open_with`](Self::open_with); what may wait for a server that does not answer is done on the pool.
    ///
    /// # Errors
    /// As there.
    pub async fn open_on_pool(
        home: &Path,
        rights: Rights,
        layout: Layout,
        settings: Rc<Settings>,
    ) -> Result<Rc<Self>, MissingDirectory> {
        if layout.mounts.is_empty() {
            return Self::open_with(home, rights, layout, settings);
        }
        let home = home.to_path_buf();
        let holding = move || hold_all(&home, &layout).map(|held| (held, layout));
        let (held, layout) = rt::blocking(holding).await?;
        Ok(Self::of(held, rights, layout, settings))
    }

    fn of(
        (home, mounts): (Held, Vec<Held>),
        rights: Rights,
        layout: Layout,
        settings: Rc<Settings>,
    ) -> Rc<Self> {
        let access = Access {
            rights,
            credentials: Arc::new(fs::Credentials::current()),
            read_only: home.read_only,
        };
        let rules = (!layout.is_plain()).then(|| Arc::new(Rules::new(rights, layout)));
        Rc::new(Self {
            home: home.into(),
            mounts: mounts.into_iter().map(Volume::from).collect(),
            access,
            rules,
            settings,
            quota: None,
            _base: None,
        })
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
            FileRequest::CheckSpace { path, octets } => self.check_space(path, *octets).await,
            FileRequest::Quota => Ok(self.quota_usage().await),
        }
    }
}

/// Opens the home and what is mounted in it.
fn hold_all(home: &Path, layout: &Layout) -> Result<(Held, Vec<Held>), MissingDirectory> {
    let open = |directory: &Path, mounted_at: Option<&VirtualPath>| {
        Held::open(directory).map_err(|error| MissingDirectory {
            directory: directory.to_path_buf(),
            mounted_at: mounted_at.cloned(),
            error,
        })
    };
    let home = open(home, None)?;
    let mounts = layout.mounts.iter();
    let mounts = mounts.map(|(at, directory)| open(directory, Some(at)));
    let mounts: Result<_, _> = mounts.collect();
    Ok((home, mounts?))
}

#[cfg(test)]
mod tests;
