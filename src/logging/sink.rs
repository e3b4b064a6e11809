//! Where lines end up: a file, standard error, or the journal.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::limits;

/// The socket of the journal's native protocol (systemd's journal export of fields, one entry a datagram).
pub(super) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
/// New files are for the server's account, and for a group of those who read logs.
const FILE_MODE: u32 = 0o640;

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    /// A file that is only ever appended to, so that `copytruncate` of logrotate works and two processes may write to it.
    File {
        /// Where it is opened again.
        path: PathBuf,
        /// It.
        file: File,
    },
    /// Standard error.
    Stderr,
    /// The journal, by its socket.
    Journal {
        /// Where it is connected to again.
        path: PathBuf,
        /// The connection.
        socket: UnixDatagram,
    },
}

impl Sink {
    /// Opens a file to append to, and makes it if it is not there.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File {
            path: path.to_owned(),
            file: open(path)?,
        })
    }

    /// Connects to the journal.
    pub(super) fn journal(path: &Path) -> io::Result<Self> {
        Ok(Self::Journal {
            path: path.to_owned(),
            socket: connect(path)?,
        })
    }

    /// Writes some of the lines, the first one from an octet on. Returns how many octets were taken.
    pub(super) fn write(&mut self, lines: &VecDeque<Vec<u8>>, from: usize) -> io::Result<usize> {
        let first = lines.front().and_then(|line| line.get(from..));
        let first = first.unwrap_or_default();
        let mut slices = Vec::with_capacity(lines.len().min(limits::LOG_LINES_PER_WRITE));
        let mut stream = |stream: &mut dyn Write| {
            let others = lines.iter().skip(1).map(Vec::as_slice);
            let all = std::iter::once(first).chain(others);
            slices.extend(all.take(limits::LOG_LINES_PER_WRITE).map(IoSlice::new));
            match stream.write_vectored(&slices) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            }
        };
        match self {
            Self::File { file, .. } => stream(file),
            Self::Stderr => stream(&mut io::stderr()),
            Self::Journal { path, socket } => socket.send(first).or_else(|_| {
                // It was started anew.
                *socket = connect(path)?;
                socket.send(first)
            }),
        }
    }

    /// Opens the file again by its name. Returns whether it is another one now.
    pub(super) fn reopen(&mut self) -> io::Result<bool> {
        match self {
            Self::File { path, file } => {
                let new = open(path)?;
                let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
                let other = identity(file)? != identity(&new)?;
                *file = new;
                Ok(other)
            }
            Self::Journal { path, socket } => {
                *socket = connect(path)?;
                Ok(false)
            }
            Self::Stderr => Ok(false),
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::File { path, .. } => path.display().to_string(),
            Self::Stderr => "standard error".to_owned(),
            Self::Journal { .. } => "the journal".to_owned(),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A FIFO without a reader is an error, not a wait. For files it means nothing.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

/// Whether standard error is connected to the journal (systemd.exec(5), `$JOURNAL_STREAM`).
pub(super) fn stderr_is_journal() -> bool {
    let Ok(variable) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let metadata = stderr.and_then(|file| file.metadata());
    metadata.is_ok_and(|metadata| variable == format!("{}:{}", metadata.dev(), metadata.ino()))
}
