//! What one session does.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::control::Control;
use super::core::Core;
use super::data::{Sink, Work};
use super::failure::{Failure, Kind};
use super::put::Uploads;
use super::settings::{ListCommand, Workload};
use super::statistics::Phase;
use super::tls::SessionCache;
use crate::rt;

/// After a failure the session waits so long, so that a server in trouble is not flooded.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A session and the state of its work.
pub struct Session {
    pub(super) core: Rc<Core>,
    /// Its place among those of its core.
    pub(super) slot: usize,
    cache: Arc<SessionCache>,
    pub(super) control: Option<Control>,
    /// The next file.
    next: usize,
    pub(super) uploads: Uploads,
}

/// Runs a session from beginning to end.
pub async fn run(core: Rc<Core>, slot: usize, number: usize) {
    let mut session = Session {
        slot,
        cache: Arc::default(),
        control: None,
        next: number,
        uploads: Uploads::new(&core, number),
        core,
    };
    let workload = session.core.settings().workload;
    if workload != Workload::Login {
        session.open_first().await;
    }
    session.core.shared.opened.fetch_add(1, Ordering::Relaxed);
    session.core.started().await;
    match workload {
        Workload::Idle => session.idle().await,
        _ => session.work().await,
    }
    session.core.done();
    session.leave().await;
}

impl Session {
    async fn open_first(&mut self) {
        let core = Rc::clone(&self.core);
        let _permit = core.opening.acquire().await;
        if let Err(failure) = self.open(false).await {
            core.count_error(&failure);
        }
    }

    async fn open(&mut self, timed: bool) -> Result<(), Failure> {
        self.control = Some(Control::open(&self.core, &self.cache, timed).await?);
        Ok(())
    }

    /// One operation after the other until the run is over.
    async fn work(&mut self) {
        while let Some(intended) = self.core.next_turn().await {
            match self.operate(intended).await {
                Ok(true) => self.core.count_operation(),
                // Cut off by the end of the run.
                Ok(false) => {}
                Err(_) if self.core.is_over() => self.control = None,
                Err(failure) => {
                    self.core.count_error(&failure);
                    if !failure.usable {
                        self.control = None;
                    }
                    rt::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }

    /// One operation; false when the end of the run has cut it off.
    async fn operate(&mut self, intended: Instant) -> Result<bool, Failure> {
        let workload = self.core.settings().workload;
        if workload == Workload::Login {
            return self.log_in_and_out(intended).await;
        }
        if self.control.is_none() {
            self.open(true).await?;
        }
        match workload {
            Workload::Get | Workload::Small => self.get_next(intended).await,
            Workload::Put => self.put_next(intended).await,
            Workload::List => self.list(intended).await,
            _ => self.say_noop(intended).await,
        }
    }

    /// The connection that [`Self::operate`] has made sure of.
    pub(super) fn control(&mut self) -> Result<&mut Control, Failure> {
        self.control
            .as_mut()
            .ok_or_else(|| Failure::new(Kind::Closed, "the session is not open"))
    }

    async fn log_in_and_out(&mut self, intended: Instant) -> Result<bool, Failure> {
        if !self.core.settings().resume_logins {
            self.cache = Arc::default();
        }
        self.open(true).await?;
        if let Some(control) = self.control.take() {
            control.quit().await?;
        }
        self.core.note(Phase::Session, intended);
        Ok(true)
    }

    async fn say_noop(&mut self, intended: Instant) -> Result<bool, Failure> {
        let reply = self.control()?.command("NOOP").await?;
        if !reply.is_positive() {
            return Err(Failure::reply(&reply));
        }
        self.core.note(Phase::Command, intended);
        Ok(true)
    }

    async fn get_next(&mut self, intended: Instant) -> Result<bool, Failure> {
        let core = Rc::clone(&self.core);
        let files = &core.shared.files;
        let place = self.next.checked_rem(files.len()).unwrap_or(0);
        self.next += 1;
        let file = files
            .get(place)
            .ok_or_else(|| Failure::harmless(Kind::System, "no file to download"))?;
        let mut sink = Sink::Count;
        let command = format!("RETR {}", file.path);
        let slot = self.slot;
        let outcome = self
            .control()?
            .transfer(
                &core,
                slot,
                command,
                &mut Work::Receive(&mut sink),
                intended,
            )
            .await
            .map_err(|failure| failure.of(&file.path))?;
        if outcome.cut {
            return Ok(false);
        }
        core.verify(file, outcome.octets)
            .map_err(|failure| failure.of(&file.path))?;
        Ok(true)
    }

    async fn list(&mut self, intended: Instant) -> Result<bool, Failure> {
        let core = Rc::clone(&self.core);
        let directory = core.settings().paths.first().map_or("", String::as_str);
        let command = listing(core.settings().command, directory);
        let mut sink = Sink::Count;
        let slot = self.slot;
        let outcome = self
            .control()?
            .transfer(
                &core,
                slot,
                command,
                &mut Work::Receive(&mut sink),
                intended,
            )
            .await
            .map_err(|failure| failure.of(directory))?;
        Ok(!outcome.cut)
    }

    /// Stays until the time to hold has passed, or the server ends the connection.
    async fn idle(&mut self) {
        let core = Rc::clone(&self.core);
        let Some(control) = &mut self.control else {
            return;
        };
        let ended = tokio::select! {
            ended = control.rest() => ended,
            () = core.over() => {
                // The time of measuring has just ended, and this session was there all the time.
                core.statistics.borrow_mut().operations += 1;
                return;
            }
        };
        let what = "the server has ended an idle session";
        let failure = ended.err();
        core.count_error(&failure.unwrap_or_else(|| Failure::new(Kind::Closed, what)));
        self.control = None;
    }

    async fn leave(&mut self) {
        self.delete_uploads().await;
        if let Some(control) = self.control.take() {
            // The run is over; a server that does not say goodbye is no error of what was measured.
            let _ = control.quit().await;
        }
    }
}

/// The command of a listing.
#[must_use]
pub fn listing(command: ListCommand, directory: &str) -> String {
    match directory {
        "" => command.verb().to_owned(),
        directory => format!("{} {directory}", command.verb()),
    }
}
