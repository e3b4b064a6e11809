//! What one session does.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::control::{Control, Outcome};
use super::core::{Core, Turn};
use super::data::{Sink, Work};
use super::failure::{Failure, Kind};
use super::mix::{Part, Sequence};
use super::put::Uploads;
use super::settings::{ListCommand, Verify, Workload};
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
    /// The next file, large file, small file.
    next: [usize; 3],
    parts: Sequence,
    pub(super) uploads: Uploads,
}

/// Runs a session from beginning to end.
pub async fn run(core: Rc<Core>, slot: usize, number: usize) {
    let mut session = Session {
        slot,
        cache: Arc::default(),
        control: None,
        next: [number; 3],
        parts: core.settings().mix.sequence(number),
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
        while let Some(turn) = self.core.next_turn().await {
            match self.operate(turn).await {
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
    async fn operate(&mut self, turn: Turn) -> Result<bool, Failure> {
        let intended = turn.intended;
        let core = Rc::clone(&self.core);
        let settings = core.settings();
        if settings.workload == Workload::Login {
            return self.log_in_and_out(intended).await;
        }
        if self.control.is_none() {
            self.open(true).await?;
        }
        match settings.workload {
            Workload::Get | Workload::Small => self.get_next(intended).await,
            Workload::Put => self.put_next(settings.size, intended).await,
            Workload::List => self.list(intended).await,
            Workload::Mixed => self.next_part(intended).await,
            Workload::Replay => self.repeat(turn).await,
            Workload::Noop | Workload::Login | Workload::Idle => self.say_noop(intended).await,
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
        let count = self.core.shared.files.len();
        let place = next(&mut self.next, 0).checked_rem(count).unwrap_or(0);
        self.get(place, intended).await
    }

    /// Downloads one of the files that are known, and checks it.
    async fn get(&mut self, place: usize, intended: Instant) -> Result<bool, Failure> {
        let core = Rc::clone(&self.core);
        let file = core.shared.files.get(place);
        let file = file.ok_or_else(|| Failure::harmless(Kind::System, "no file to download"))?;
        let mut sink = match core.settings().verify {
            Verify::Sha256 => Sink::hash(),
            Verify::Size | Verify::None => Sink::Count,
        };
        let outcome = self.receive(&file.path, &mut sink, intended).await?;
        if outcome.cut {
            return Ok(false);
        }
        core.verify(place, outcome.octets, sink.digest())
            .map_err(|failure| failure.of(&file.path))?;
        Ok(true)
    }

    async fn receive(
        &mut self,
        path: &str,
        sink: &mut Sink,
        intended: Instant,
    ) -> Result<Outcome, Failure> {
        let core = Rc::clone(&self.core);
        let slot = self.slot;
        let command = format!("RETR {path}");
        let mut work = Work::Receive(sink);
        let control = self.control()?;
        let transfer = control.transfer(&core, slot, command, &mut work, intended);
        transfer.await.map_err(|failure| failure.of(path))
    }

    /// The next operation of `mixed`.
    async fn next_part(&mut self, intended: Instant) -> Result<bool, Failure> {
        let core = Rc::clone(&self.core);
        let shared = &core.shared;
        let pick = |places: &[usize], number: usize| {
            let place = number.checked_rem(places.len()).unwrap_or(0);
            places.get(place).copied().unwrap_or(0)
        };
        let (phase, result) = match self.parts.next() {
            None | Some(Part::Get) => {
                let place = pick(&shared.large, next(&mut self.next, 1));
                (Phase::TransferGet, self.get(place, intended).await)
            }
            Some(Part::Small) => {
                let place = pick(&shared.small, next(&mut self.next, 2));
                (Phase::TransferSmall, self.get(place, intended).await)
            }
            Some(Part::List) => (Phase::TransferList, self.list(intended).await),
            Some(Part::Put) => {
                let size = core.settings().size;
                (Phase::TransferPut, self.put_next(size, intended).await)
            }
        };
        if let Ok(true) = result {
            core.note(phase, intended);
        }
        result
    }

    /// One transfer of a trace.
    async fn repeat(&mut self, turn: Turn) -> Result<bool, Failure> {
        let core = Rc::clone(&self.core);
        let settings = core.settings();
        let place = usize::try_from(turn.number).unwrap_or(usize::MAX);
        let entry = settings.trace.get(place);
        let entry = entry.ok_or_else(|| Failure::harmless(Kind::System, "the trace has ended"))?;
        let (phase, whole) = if entry.upload {
            let whole = self.put_next(entry.size, turn.intended).await?;
            (Phase::TransferPut, whole)
        } else {
            let prefix = settings.paths.first().map_or("", String::as_str);
            let path = format!("{}{}", prefix.trim_end_matches('/'), entry.path);
            let outcome = self.receive(&path, &mut Sink::Count, turn.intended).await?;
            (Phase::TransferGet, !outcome.cut)
        };
        if whole {
            core.note(phase, turn.intended);
        }
        Ok(whole)
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

/// Counts one of the counters on; returns what it was.
fn next(counters: &mut [usize; 3], which: usize) -> usize {
    let Some(counter) = counters.get_mut(which) else {
        return 0;
    };
    let number = *counter;
    *counter = number.wrapping_add(1);
    number
}

/// The command of a listing.
#[must_use]
pub fn listing(command: ListCommand, directory: &str) -> String {
    match directory {
        "" => command.verb().to_owned(),
        directory => format!("{} {directory}", command.verb()),
    }
}
