//! The files and accounts of the simulated world.

use std::collections::BTreeMap;

use ringftpd::proto::{
    FileError, FileReply, FileRequest, FileTime, LoginVerdict, QuotaUsage, Transfer, TransferKind,
    TransferReady, VirtualPath,
};

pub(crate) const USER: &[u8] = b"anna";
pub(crate) const PASSWORD: &[u8] = b" se cret ";
/// An account with too many sessions.
pub(crate) const BUSY: &[u8] = b"busy";

/// Room on the volume in octets.
const ROOM: u64 = 1 << 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Directory,
    File { octets: u64, time: FileTime },
}

/// A file tree in which a file is its size.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    unique: u32,
}

pub(crate) fn check_login(user: &[u8], password: &[u8]) -> LoginVerdict {
    match user {
        BUSY => LoginVerdict::Unavailable,
        USER if password == PASSWORD => LoginVerdict::Granted,
        _ => LoginVerdict::Refused,
    }
}

impl Tree {
    /// A root with `d`, `d/f` and `f`.
    pub(crate) fn new() -> Self {
        let file = |octets| Node::File { octets, time: 0 };
        let nodes = [
            (&b"/"[..], Node::Directory),
            (b"/d", Node::Directory),
            (b"/d/f", file(70_000)),
            (b"/f", file(5)),
        ];
        Self {
            nodes: nodes.map(|(path, node)| (path.to_vec(), node)).into(),
            unique: 0,
        }
    }

    fn get(&self, path: &VirtualPath) -> Result<Node, FileError> {
        let node = self.nodes.get(path.as_bytes());
        node.copied().ok_or(FileError::NotFound)
    }

    fn file(&self, path: &VirtualPath) -> Result<(u64, FileTime), FileError> {
        match self.get(path)? {
            Node::Directory => Err(FileError::IsADirectory),
            Node::File { octets, time } => Ok((octets, time)),
        }
    }

    fn directory(&self, path: &VirtualPath) -> Result<(), FileError> {
        match self.get(path)? {
            Node::Directory => Ok(()),
            Node::File { .. } => Err(FileError::NotADirectory),
        }
    }

    /// What lies below a directory.
    fn below(&self, path: &VirtualPath) -> impl Iterator<Item = &Vec<u8>> {
        let mut prefix = path.as_bytes().to_vec();
        if !path.is_root() {
            prefix.push(b'/');
        }
        self.nodes
            .keys()
            .filter(move |name| name.len() > prefix.len() && name.starts_with(&prefix))
    }

    fn remove(&mut self, path: &VirtualPath) -> Result<FileReply, FileError> {
        if path.is_root() {
            return Err(FileError::Denied);
        }
        self.nodes.remove(path.as_bytes());
        Ok(FileReply::Done)
    }

    pub(crate) fn perform(&mut self, request: &FileRequest) -> Result<FileReply, FileError> {
        match request {
            FileRequest::CheckDirectory(path) => self.directory(path).map(|()| FileReply::Done),
            FileRequest::MakeDirectory(path) => {
                if self.get(path).is_ok() {
                    return Err(FileError::Exists);
                }
                self.directory(&path.parent())?;
                self.nodes.insert(path.as_bytes().to_vec(), Node::Directory);
                Ok(FileReply::Done)
            }
            FileRequest::RemoveDirectory(path) => {
                self.directory(path)?;
                if self.below(path).next().is_some() {
                    return Err(FileError::NotEmpty);
                }
                self.remove(path)
            }
            FileRequest::DeleteFile(path) => {
                self.file(path)?;
                self.remove(path)
            }
            FileRequest::CheckRename(path) => self.get(path).map(|_| FileReply::Done),
            FileRequest::Rename { from, to } => self.rename(from, to),
            FileRequest::Size { path, .. } => Ok(FileReply::Size(self.file(path)?.0)),
            FileRequest::ModifyTime(path) => Ok(FileReply::Time(self.file(path)?.1)),
            FileRequest::SetModifyTime(path, time) => {
                let (octets, _) = self.file(path)?;
                let node = Node::File {
                    octets,
                    time: *time,
                };
                self.nodes.insert(path.as_bytes().to_vec(), node);
                Ok(FileReply::Time(*time))
            }
            FileRequest::ChangeMode(path, _) => self.get(path).map(|_| FileReply::Done),
            FileRequest::Facts(path, _) => {
                self.get(path)?;
                Ok(FileReply::Line([b"type=x; ", path.as_bytes()].concat()))
            }
            FileRequest::StatListing { path, .. } => {
                let directory = self.get(path)? == Node::Directory;
                // A name that begins like a reply must not end one.
                let mut lines = b"213 -r--r--r-- x\r\n".to_vec();
                for name in self.below(path) {
                    lines.extend_from_slice(name);
                    lines.extend_from_slice(b"\r\n");
                }
                Ok(FileReply::Listing { directory, lines })
            }
            FileRequest::CheckSpace { octets, .. } if *octets > ROOM => Err(FileError::VolumeFull),
            FileRequest::CheckSpace { .. } => Ok(FileReply::Done),
            FileRequest::Quota => Ok(FileReply::Quota(QuotaUsage {
                used: 1,
                quota: Some(ROOM),
                counted: true,
            })),
        }
    }

    fn rename(&mut self, from: &VirtualPath, to: &VirtualPath) -> Result<FileReply, FileError> {
        let node = self.get(from)?;
        self.directory(&to.parent())?;
        let into_itself = to.as_bytes().starts_with(from.as_bytes());
        if into_itself || self.directory(to).is_ok() || self.below(from).next().is_some() {
            return Err(FileError::Denied);
        }
        self.nodes.insert(to.as_bytes().to_vec(), node);
        self.remove(from)
    }

    pub(crate) fn open(&mut self, transfer: &Transfer) -> Result<TransferReady, FileError> {
        let mut ready = TransferReady::default();
        match &transfer.kind {
            TransferKind::Retrieve => {
                let (octets, _) = self.file(&transfer.path)?;
                let rest = octets.checked_sub(transfer.offset);
                let rest = rest.ok_or(FileError::BadRestart)?;
                ready.octets = (!transfer.ascii).then_some(rest);
            }
            TransferKind::Store | TransferKind::Append => {
                self.directory(&transfer.path.parent())?;
                if self.directory(&transfer.path).is_ok() {
                    return Err(FileError::IsADirectory);
                }
            }
            TransferKind::StoreUnique(prefix) => {
                self.directory(&transfer.path)?;
                self.unique += 1;
                ready.unique_name = Some([prefix, self.unique.to_string().as_bytes()].concat());
            }
            TransferKind::List { .. } => {
                self.get(&transfer.path)?;
            }
        }
        Ok(ready)
    }

    /// Octets that a download moves.
    pub(crate) fn octets(&self, transfer: &Transfer) -> u64 {
        self.file(&transfer.path)
            .map_or(1000, |(octets, _)| octets.saturating_sub(transfer.offset))
    }

    /// An upload has come to its end.
    pub(crate) fn store(&mut self, transfer: &Transfer, moved: u64) {
        let before = self.file(&transfer.path).map_or(0, |(octets, _)| octets);
        let octets = match transfer.kind {
            TransferKind::Append if transfer.offset == 0 => before.saturating_add(moved),
            TransferKind::Store | TransferKind::Append if transfer.offset > 0 => {
                before.max(transfer.offset.saturating_add(moved))
            }
            TransferKind::Store | TransferKind::Append => moved,
            _ => return,
        };
        let node = Node::File { octets, time: 1 };
        self.nodes.insert(transfer.path.as_bytes().to_vec(), node);
    }
}
