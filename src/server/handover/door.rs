//! The side of the running server.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::super::listeners::{Passed, copies};
use super::{
    BUSY, END, ENDING, FAILED, Program, READY, REFUSED, RETIRED, SOCKET_FILE, TAKE_OVER,
    TAKEN_OVER, UPGRADE, is_trusted, own_user,
};
use crate::sys::host::cause;
use crate::sys::pass_fds::{self, Peer};
use crate::{limits, rt};

/// How often a process that was started is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// For a process of another account to say what it wants.
const STRANGER_TIME_MAX: Duration = Duration::from_secs(1);
/// For the last answers to leave when the server ends.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);

/// From the thread of a visitor to the main thread: stop accepting, that process serves now.
pub(in crate::server) struct Retirement {
    pub(in crate::server) process: u32,
    pub(in crate::server) done: std::sync::mpsc::Sender<()>,
}

/// Where a process that will replace this one asks.
pub(in crate::server) struct Door {
    path: PathBuf,
    /// Device and number of the socket's file: another process may have put its own there.
    file: (u64, u64),
    shared: Arc<Shared>,
}

struct Shared {
    /// None once the server ends.
    offers: Mutex<Vec<Passed>>,
    retirements: mpsc::UnboundedSender<Retirement>,
    program: Option<Program>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    visitors: usize,
    handing_over: bool,
    successor: Option<u32>,
}

impl Door {
    /// Opens the door in the state directory; in place of a living server only if this one has taken over from it.
    ///
    /// # Errors
    /// The system's; `AddrInUse` when another server has its door there.
    pub(in crate::server) fn open(
        state_directory: &Path,
        took_over: bool,
        offers: Vec<Passed>,
        program: Option<Program>,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Retirement>)> {
        let path = state_directory.join(SOCKET_FILE);
        if !took_over && pass_fds::connect(&path, limits::HAND_OVER_ANSWER_TIME).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let own = state_directory.join(format!("{SOCKET_FILE}.{}", std::process::id()));
        // Left by a process of this number that was killed.
        let _ = fs::remove_file(&own);
        let listener = pass_fds::listen(&own)?;
        let metadata = fs::symlink_metadata(&own)?;
        fs::rename(&own, &path)?;
        let (retirements, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            offers: Mutex::new(offers),
            retirements,
            program,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let visited = Arc::clone(&shared);
        thread::Builder::new()
            .name("hand-over".to_owned())
            .spawn(move || attend(&visited, &listener))?;
        let file = (metadata.dev(), metadata.ino());
        Ok((Self { path, file, shared }, receiver))
    }

    /// The listeners are not handed to anybody any more.
    pub(in crate::server) fn withdraw(&self) {
        lock(&self.shared.offers).clear();
    }

    /// As `ringftpd upgrade`, with the outcome in the log.
    pub(in crate::server) fn upgrade(&self) {
        let shared = Arc::clone(&self.shared);
        let visitor = thread::Builder::new().name("upgrade".to_owned());
        let started = visitor.spawn(move || match shared.upgrade() {
            Ok(process) => info!(process, "upgraded"),
            Err(why) => warn!("not upgraded, this process goes on: {why}"),
        });
        if let Err(error) = started {
            warn!(%error, "not upgraded: no thread");
        }
    }

    /// The server ends: last answers leave, and the socket goes if it is this process's still.
    pub(in crate::server) fn close(self) {
        self.withdraw();
        let state = lock(&self.shared.state);
        let busy = |state: &mut State| state.visitors > 0;
        let wait = self
            .shared
            .changed
            .wait_timeout_while(state, LEAVE_TIME_MAX, busy);
        drop(wait);
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until the process ends.
fn attend(shared: &Arc<Shared>, listener: &OwnedFd) {
    loop {
        let (socket, peer) = match pass_fds::accept(listener, limits::HAND_OVER_ANSWER_TIME) {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors; the pause is a wait for what seldom changes.
                warn!(%error, "nobody can take over now");
                let state = lock(&shared.state);
                drop(shared.changed.wait_timeout(state, Duration::from_secs(1)));
                continue;
            }
        };
        let mut state = lock(&shared.state);
        if state.visitors >= limits::HAND_OVER_VISITORS_MAX {
            continue;
        }
        state.visitors += 1;
        drop(state);
        let visited = Visit(Arc::clone(shared));
        // Without a thread, dropping the visit ends it.
        let _ = thread::Builder::new()
            .name("visitor".to_owned())
            .spawn(move || visited.0.answer(&socket, peer));
    }
}

/// Counted while it lives.
struct Visit(Arc<Shared>);

impl Drop for Visit {
    fn drop(&mut self) {
        lock(&self.0.state).visitors -= 1;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn answer(&self, socket: &OwnedFd, peer: Peer) {
        let trusted = is_trusted(peer.user, &[own_user()]);
        if !trusted {
            // SECURITY: the socket's mode keeps strangers away; this holds where that was changed.
            warn!(
                process = peer.process,
                user = peer.user,
                "hand-over refused: another account"
            );
            let _ = pass_fds::set_limit(socket, STRANGER_TIME_MAX);
        }
        // Taken in any case: a close with a message left would reset the connection, answer and all.
        let Ok((wish, _)) = pass_fds::receive(socket) else {
            return;
        };
        if !trusted {
            let _ = pass_fds::send(socket, REFUSED, None);
            return;
        }
        match wish.as_str() {
            TAKE_OVER => self.hand_over(socket, peer.process),
            UPGRADE => {
                let answer = match self.upgrade() {
                    Ok(process) => format!("{TAKEN_OVER}{process}"),
                    Err(why) => why,
                };
                let _ = pass_fds::send(socket, &answer, None);
            }
            _ => {
                let _ = pass_fds::send(socket, "unknown", None);
            }
        }
    }

    fn hand_over(&self, socket: &OwnedFd, process: u32) {
        let mut state = lock(&self.state);
        if state.handing_over || state.successor.is_some() {
            let _ = pass_fds::send(socket, BUSY, None);
            return;
        }
        state.handing_over = true;
        drop(state);
        let retired = self.hand_over_to(socket, process).unwrap_or_else(|error| {
            warn!(process, %error, "a process that wanted to take over did not get ready: this one goes on");
            false
        });
        let mut state = lock(&self.state);
        state.handing_over = false;
        state.successor = retired.then_some(process);
        drop(state);
        self.changed.notify_all();
        if retired {
            // It serves, whether it hears this or not.
            let _ = pass_fds::send(socket, RETIRED, None);
        }
    }

    /// Whether this process has retired.
    fn hand_over_to(&self, socket: &OwnedFd, process: u32) -> io::Result<bool> {
        let offers = copies(&lock(&self.offers))?;
        if offers.is_empty() {
            pass_fds::send(socket, ENDING, None)?;
            return Ok(false);
        }
        info!(process, "another process asks for the listeners");
        for offer in &offers {
            let text = format!("listener {} {}", offer.role.name(), offer.opener.name());
            pass_fds::send(socket, &text, Some(offer.fd.as_fd()))?;
        }
        drop(offers);
        pass_fds::send(socket, END, None)?;
        pass_fds::set_limit(socket, limits::HAND_OVER_TIME_MAX)?;
        match pass_fds::receive(socket)? {
            (text, None) if text == READY => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        let (done, wait) = std::sync::mpsc::channel();
        if self.retirements.send(Retirement { process, done }).is_ok() {
            // A main thread that is busy for so long will come to it.
            let _ = wait.recv_timeout(limits::HAND_OVER_ANSWER_TIME);
        }
        Ok(true)
    }

    /// Starts the program anew and waits until it has taken over; else the answer that tells why not.
    fn upgrade(&self) -> Result<u32, String> {
        let failed = |why: String| format!("{FAILED}{why}");
        let state = lock(&self.state);
        if state.handing_over || state.successor.is_some() {
            return Err(BUSY.to_owned());
        }
        drop(state);
        if lock(&self.offers).is_empty() {
            return Err(ENDING.to_owned());
        }
        let Some(program) = &self.program else {
            return Err(failed(
                "the running server does not know its program".to_owned(),
            ));
        };
        let started = program.start().map_err(|error| {
            failed(format!(
                "cannot start {}: {}",
                program.path.display(),
                cause(&error)
            ))
        })?;
        info!(program = %program.path.display(), "a new process was started");
        let deadline = rt::now() + limits::HAND_OVER_TIME_MAX;
        let mut state = lock(&self.state);
        loop {
            // What it did last counts, so this is looked at before the other.
            let alive = started.is_alive();
            if let Some(process) = state.successor {
                return Ok(process);
            }
            if !alive && !state.handing_over {
                let why = "the new process ended before it was ready: the server's log says why; the old one goes on";
                return Err(failed(why.to_owned()));
            }
            if rt::now() >= deadline && !state.handing_over {
                return Err(failed("the new process was not ready in time".to_owned()));
            }
            let waited = self.changed.wait_timeout(state, LOOK_INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
