//! Replacing a running server by a new process, without a refused or reset connection.
//!
//! Closing a SO_REUSEPORT listener resets what waits in its queue (unless net.ipv4.tcp_migrate_req is set), so a new
//! process does not bind siblings: it gets the listening sockets themselves, over a Unix socket in the state directory.
//!
//! | new process | running server |
//! |---|---|
//! | `take-over 1` | `listener ROLE OPENER` with a descriptor, for each; then `end` |
//! | `ready` when its cores run | stops accepting; `retired` |
//!
//! Until `ready` the running server serves as before, and goes on when the new process ends instead. In between both
//! may accept; each connection goes to one of them. `upgrade 1` asks the running server to start that new process
//! itself; the answer is `taken-over PID` or `failed WHY`. `busy`, `ending` and `refused` are answers too.

mod door;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tracing::warn;

use super::listeners::{Opener, Passed, Role};
use crate::limits;
use crate::sys::host::cause;
use crate::sys::identity::{self, Use};
use crate::sys::pass_fds::{self, Peer};
use crate::sys::{activation, successor};

pub(super) use door::{Door, Retirement};

/// The socket's name in the state directory.
pub const SOCKET_FILE: &str = "handover.sock";

/// Tells a process of an unprivileged account that root started the one before it, so that it guards its memory alike.
const PROTECT: &str = "RINGFTPD_PROTECT_MEMORY";

/// Guards this process's memory, if the process before it wants that. To be called before it holds secrets.
///
/// # Errors
/// The system's.
pub fn protect_as_told() -> io::Result<()> {
    match std::env::var_os(PROTECT) {
        Some(_) => identity::protect_memory(),
        None => Ok(()),
    }
}

const TAKE_OVER: &str = "take-over 1";
const UPGRADE: &str = "upgrade 1";
const END: &str = "end";
const READY: &str = "ready";
const RETIRED: &str = "retired";
const BUSY: &str = "busy";
const ENDING: &str = "ending";
const REFUSED: &str = "refused";
const TAKEN_OVER: &str = "taken-over ";
const FAILED: &str = "failed ";

/// Why there is no hand-over.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The socket cannot be used.
    #[error("{}: {}", path.display(), cause(error))]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Nobody listens there.
    #[error(
        "no server answers at {}: is it running, and with this --state-dir?",
        .0.display()
    )]
    Nobody(PathBuf),
    /// The process that listens there belongs to an account that has no business there.
    #[error(
        "process {process}, which answers at {}, belongs to user {user}: it is not trusted", path.display()
    )]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// The process.
        process: u32,
        /// Its user.
        user: u32,
    },
    /// The running server does not want to.
    #[error("{0}")]
    Refused(String),
}

/// Whom listeners are handed to, and taken from: this account, and root, which could have them anyway.
fn is_trusted(user: u32, accounts: &[u32]) -> bool {
    user == 0 || accounts.contains(&user)
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The program that this process runs, to be started anew.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    directory: PathBuf,
}

impl Program {
    /// Of this process; to be called before it changes its directory. The path is the one that it was started by, where
    /// there may be another file later.
    ///
    /// # Errors
    /// The system's.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let named = arguments.next().map(PathBuf::from);
        let path = match named.filter(|path| path.is_absolute()) {
            Some(path) => path,
            None => std::env::current_exe()?,
        };
        Ok(Self {
            path,
            arguments: arguments.collect(),
            directory: std::env::current_dir()?,
        })
    }

    fn start(&self) -> io::Result<successor::Started> {
        successor::start(&mut self.command())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        // `serve` comes first; behind it, so that `--` stays in front of what it should.
        command.args(self.arguments.iter().take(1));
        if !self.arguments.iter().any(|word| word == "--take-over") {
            command.arg("--take-over");
        }
        command.args(self.arguments.iter().skip(1));
        // An account that root has become may not reach it; paths that are not relative work all the same.
        if identity::check_directory(&self.directory, Use::Read).is_ok() {
            command.current_dir(&self.directory);
        }
        // It becomes the process that the supervisor watches.
        command.env_remove("WATCHDOG_PID");
        if identity::is_memory_protected() {
            command.env(PROTECT, "1");
        }
        command
    }
}

/// The running server, seen from the process that replaces it.
#[derive(Debug)]
pub struct Predecessor {
    socket: OwnedFd,
    /// Its process id.
    pub process: u32,
}

impl Predecessor {
    /// Asks the server that answers in the state directory for its listeners. `None` when there is none, or it ends.
    /// `account` is whose the server may be beside this account.
    ///
    /// # Errors
    /// [`HandOverError`].
    pub fn ask(
        state_directory: &Path,
        account: Option<u32>,
    ) -> Result<Option<(Self, Vec<Passed>)>, HandOverError> {
        let trusted: Vec<u32> = account.into_iter().chain([own_user()]).collect();
        let path = state_directory.join(SOCKET_FILE);
        let (socket, peer) = match connect(&path, &trusted) {
            Err(HandOverError::Nobody(_)) => return Ok(None),
            other => other?,
        };
        let failed = |error| HandOverError::Socket {
            path: path.clone(),
            error,
        };
        pass_fds::send(&socket, TAKE_OVER, None).map_err(failed)?;
        let mut passed = Vec::new();
        loop {
            let (text, fd) = pass_fds::receive(&socket).map_err(failed)?;
            match (text.as_str(), fd) {
                (END, None) => break,
                (ENDING, None) => return Ok(None),
                (text, Some(fd)) => passed.extend(understood(text, fd)),
                (text, None) => return Err(refusal(text)),
            }
        }
        let process = peer.process;
        Ok(Some((Self { socket, process }, passed)))
    }

    /// Tells it that this process serves, and waits until it accepts nothing more.
    ///
    /// # Errors
    /// The system's: it did not answer. The listeners are here all the same.
    pub(super) fn replace(self) -> io::Result<()> {
        pass_fds::send(&self.socket, READY, None)?;
        match pass_fds::receive(&self.socket)? {
            (text, None) if text == RETIRED => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A listener of which this version knows what it is for.
fn understood(text: &str, fd: OwnedFd) -> Option<Passed> {
    let mut words = text.split(' ');
    let passed = (words.next() == Some("listener"))
        .then(|| {
            Some(Passed {
                role: Role::named(words.next()?)?,
                opener: Opener::named(words.next()?)?,
                address: activation::listening_address(&fd).ok()?,
                fd,
            })
        })
        .flatten();
    if passed.is_none() {
        warn!(text, "a listener that was handed over has no use here");
    }
    passed
}

fn refusal(text: &str) -> HandOverError {
    HandOverError::Refused(match text {
        BUSY => "the running server is being replaced by another process already".to_owned(),
        ENDING => "the running server is ending".to_owned(),
        REFUSED => "the running server refuses: it hands over to its own account and to root only"
            .to_owned(),
        other => match other.strip_prefix(FAILED) {
            Some(why) => why.to_owned(),
            None => "the running server does not understand: stop it and start anew".to_owned(),
        },
    })
}

/// Whether a server answers in the state directory.
pub(super) fn is_served(state_directory: &Path) -> bool {
    pass_fds::connect(
        &state_directory.join(SOCKET_FILE),
        limits::HAND_OVER_ANSWER_TIME,
    )
    .is_ok()
}

fn connect(path: &Path, trusted: &[u32]) -> Result<(OwnedFd, Peer), HandOverError> {
    let (socket, peer) =
        pass_fds::connect(path, limits::HAND_OVER_ANSWER_TIME).map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    HandOverError::Nobody(path.to_owned())
                }
                _ => HandOverError::Socket {
                    path: path.to_owned(),
                    error,
                },
            }
        })?;
    if is_trusted(peer.user, trusted) {
        return Ok((socket, peer));
    }
    Err(HandOverError::Stranger {
        path: path.to_owned(),
        process: peer.process,
        user: peer.user,
    })
}

/// Asks the server that answers in the state directory to be replaced by a new process of its program, and waits for
/// the outcome: the old process and the new one.
///
/// # Errors
/// [`HandOverError`]: the old process goes on.
pub fn upgrade(state_directory: &Path) -> Result<(u32, u32), HandOverError> {
    let path = state_directory.join(SOCKET_FILE);
    // Whoever it is gets nothing but the wish.
    let owner = fs::symlink_metadata(&path).map_or(0, |metadata| metadata.uid());
    let (socket, peer) = connect(&path, &[own_user(), owner])?;
    let failed = |error| HandOverError::Socket {
        path: path.clone(),
        error,
    };
    pass_fds::send(&socket, UPGRADE, None).map_err(failed)?;
    let limit = limits::HAND_OVER_TIME_MAX + limits::HAND_OVER_ANSWER_TIME;
    pass_fds::set_limit(&socket, limit).map_err(failed)?;
    let (text, _) = pass_fds::receive(&socket).map_err(failed)?;
    let process = text.strip_prefix(TAKEN_OVER);
    match process.and_then(|process| process.parse().ok()) {
        Some(process) => Ok((peer.process, process)),
        None => Err(refusal(&text)),
    }
}

#[cfg(test)]
#[path = "handover/tests.rs"]
mod tests;
