//! What others hear of this process's life: the supervisor, the server that it replaces, the one that replaces it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::handover::{Door, Predecessor, Program, Retirement, is_served};
use super::listeners::Passed;
use super::notify::Notifier;
use super::watchdog::{Pulse, Watchdog, look_interval};
use crate::admission::Admission;
use crate::rt;

/// How often the supervisor hears how many connections there are, without a watchdog.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// How often it hears that the end takes longer.
const EXTEND_INTERVAL: Duration = Duration::from_secs(2);
/// How often it is looked whether every core has begun.
const BEGIN_INTERVAL: Duration = Duration::from_millis(2);

/// What a process was told about its life.
#[derive(Debug, Default)]
pub struct Lifecycle {
    /// The supervisor.
    pub notifier: Notifier,
    /// The server that this process replaces.
    pub predecessor: Option<Predecessor>,
    /// Where the process asks that will replace this one; `None`: none can.
    pub state_directory: Option<PathBuf>,
    /// What that process runs when this one starts it.
    pub program: Option<Program>,
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Another process accepts; the sessions here go on.
    Retired,
    /// Sessions end.
    Draining,
}

/// The life of a process whose cores have begun.
pub(super) struct Life {
    notifier: Notifier,
    door: Option<Door>,
    retirements: Option<mpsc::UnboundedReceiver<Retirement>>,
    pulses: Vec<Pulse>,
    watchdog: Watchdog,
    hung: Vec<usize>,
    admission: Arc<Admission>,
    next_look: Instant,
}

impl Life {
    /// Waits for the cores, replaces the server before, and is open to be replaced. Nothing was accepted yet, so that a
    /// start which fails costs nobody a connection.
    ///
    /// # Errors
    /// The server before has given up waiting, and goes on.
    pub(super) async fn begin<T>(
        lifecycle: Lifecycle,
        offers: Vec<Passed>,
        pulses: Vec<Pulse>,
        threads: &[JoinHandle<T>],
        admission: Arc<Admission>,
    ) -> io::Result<Self> {
        let mut life = Self {
            notifier: lifecycle.notifier,
            door: None,
            retirements: None,
            watchdog: Watchdog::new(pulses.len()),
            pulses,
            hung: Vec::new(),
            admission,
            next_look: rt::now(),
        };
        while !life.pulses.iter().all(Pulse::has_begun) {
            if threads.iter().any(JoinHandle::is_finished) {
                // A ring could not be set up. Whoever serves now goes on.
                return Ok(life);
            }
            rt::sleep(BEGIN_INTERVAL).await;
        }
        let took_over = lifecycle.predecessor.is_some();
        if let Some(predecessor) = lifecycle.predecessor {
            let process = predecessor.process;
            match predecessor.replace() {
                Ok(()) => info!(process, "this process has taken over"),
                Err(error)
                    if lifecycle
                        .state_directory
                        .as_deref()
                        .is_some_and(|directory| {
                            error.kind() != io::ErrorKind::WouldBlock && is_served(directory)
                        }) =>
                {
                    return Err(io::Error::other(format!(
                        "process {process} did not wait for this one, and serves on: try again"
                    )));
                }
                Err(error) => {
                    warn!(process, %error, "the process before did not say that it accepts nothing more")
                }
            }
        }
        if let Some(directory) = lifecycle.state_directory {
            match Door::open(&directory, took_over, offers, lifecycle.program) {
                Ok((door, retirements)) => {
                    info!(directory = %directory.display(), "a new process can take over from this one");
                    life.door = Some(door);
                    life.retirements = Some(retirements);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => warn!(
                    directory = %directory.display(),
                    "no process can take over from this one: another server uses this state directory; give each its own with --state-dir"
                ),
                Err(error) => warn!(
                    directory = %directory.display(), %error,
                    "no process can take over from this one: give it a --state-dir that it can write, with a short path"
                ),
            }
        }
        life.notifier.ready();
        Ok(life)
    }

    /// Waits until another process has taken over.
    pub(super) async fn retirement(&mut self) -> Retirement {
        let next = match &mut self.retirements {
            Some(retirements) => retirements.recv().await,
            None => None,
        };
        match next {
            Some(retirement) => retirement,
            None => std::future::pending().await,
        }
    }

    /// Another process serves; it is the service from now on.
    pub(super) fn retire(&mut self, retirement: &Retirement) {
        self.notifier.hand_over(retirement.process);
        if let Some(door) = &self.door {
            door.withdraw();
        }
        // It may have given up waiting.
        let _ = retirement.done.send(());
    }

    /// Starts the process that replaces this one.
    pub(super) fn upgrade(&self) {
        match &self.door {
            Some(door) => door.upgrade(),
            None => warn!("not upgraded: no process can take over from this one"),
        }
    }

    /// Files are read again, by `reload`.
    pub(super) fn reload<T>(&self, reload: impl FnOnce() -> T) -> T {
        self.notifier.reloading();
        let result = reload();
        self.notifier.ready();
        result
    }

    /// The server ends.
    pub(super) fn stopping(&mut self) {
        self.notifier.stopping();
        if let Some(door) = &self.door {
            door.withdraw();
        }
        self.next_look = rt::now();
    }

    /// How long to wait before the next look at most.
    pub(super) fn pause(&self) -> Duration {
        let most = self.interval(Phase::Serving);
        most.min(Duration::from_secs(1))
    }

    fn interval(&self, phase: Phase) -> Duration {
        let usual = match phase {
            Phase::Draining => EXTEND_INTERVAL,
            Phase::Serving | Phase::Retired => STATUS_INTERVAL,
        };
        let watchdog = self.notifier.watchdog_interval();
        watchdog.map_or(usual, |interval| look_interval(interval).min(usual))
    }

    /// When it is due, looks whether the cores work, and tells the supervisor. `ended` tells which cores have ended.
    pub(super) fn look(&mut self, phase: Phase, ended: impl Fn(usize) -> bool) {
        let now = rt::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + self.interval(phase);
        let hung = self.watchdog.look_at(&self.pulses, ended);
        if hung.is_empty() {
            self.notifier.alive();
        } else if hung != self.hung {
            error!(cores = ?hung, "cores do not answer");
        }
        self.hung = hung;
        let connections = self.admission.connections();
        if phase == Phase::Draining {
            self.notifier.extend();
            self.notifier
                .status(format!("Ending, {connections} connections left"));
        } else {
            self.notifier
                .status(format!("Serving {connections} connections"));
        }
    }

    /// The process ends.
    pub(super) fn end(self) {
        if let Some(door) = self.door {
            door.close();
        }
    }
}
