mod change;
mod confinement;
mod listing;
mod mounts;
mod rights;
mod rules;
mod staging;
mod transfer;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Rights, Root, Settings};
use crate::proto::{FileError, FileReply, FileRequest, VirtualPath};
use crate::rt;

/// A home directory with a neighbour that nobody may reach.
struct Home {
    _whole: tempfile::TempDir,
    home: PathBuf,
    outside: PathBuf,
}

impl Home {
    fn new() -> Self {
        let whole = tempfile::tempdir().unwrap();
        let (home, outside) = (whole.path().join("home"), whole.path().join("outside"));
        for directory in [&home, &outside] {
            std::fs::create_dir(directory).unwrap();
        }
        std::fs::write(outside.join("secret"), "secret").unwrap();
        Self {
            _whole: whole,
            home,
            outside,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn content(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn directory(&self, name: &str) {
        std::fs::create_dir(self.path(name)).unwrap();
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    fn fifo(&self, name: &str) {
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, self.path(name), kind, mode, 0).unwrap();
    }

    fn root(&self) -> Rc<Root> {
        self.root_with(Rights::ALL)
    }

    fn root_with(&self, rights: Rights) -> Rc<Root> {
        Root::open(&self.home, rights, Rc::new(Settings::default())).unwrap()
    }
}

/// Runs a test on a ring of its own.
fn on_ring(test: impl Future<Output = ()>) {
    rt::run(32, test).unwrap();
}

fn path(text: &str) -> VirtualPath {
    VirtualPath::root().join(text.as_bytes()).unwrap()
}

async fn perform(root: &Root, request: FileRequest) -> Result<FileReply, FileError> {
    root.perform(&request).await
}

async fn size(root: &Root, name: &str) -> Result<FileReply, FileError> {
    let path = path(name);
    perform(root, FileRequest::Size { path, ascii: false }).await
}

async fn rename(root: &Root, from: &str, to: &str) -> Result<FileReply, FileError> {
    let (from, to) = (path(from), path(to));
    perform(root, FileRequest::Rename { from, to }).await
}

const DONE: Result<FileReply, FileError> = Ok(FileReply::Done);
