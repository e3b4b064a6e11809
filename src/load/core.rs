//! One core of the generator: its ring, its sessions, what they share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::failure::{Failure, Kind};
use super::schedule::Schedule;
use super::settings::{Extent, Settings, Verify};
use super::statistics::{Live, Phase, Statistics};
use super::tls::ClientTls;
use super::workload;
use crate::rt::{self, Socket};
use crate::sys::host;

/// Sessions that a core opens at the same time; more would only wait in the server's backlog.
const OPENING_AT_ONCE: usize = 64;
/// A timer of milliseconds wakes so long before the time, the rest is waited for precisely.
const TIMER_SLACK: Duration = Duration::from_millis(2);
/// What is under way when the time is over may end by itself for so long.
const END_PATIENCE: Duration = Duration::from_millis(500);
/// Submission entries of the ring.
const RING_ENTRIES: u32 = 1024;

/// A file to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path on the server.
    pub path: String,
    /// Its size, where the server told it.
    pub size: Option<u64>,
}

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Sessions are being opened.
    Opening,
    /// Operations run.
    Running {
        /// They began.
        began: Instant,
        /// Measuring begins.
        measured: Instant,
        /// Measuring ends.
        until: Option<Instant>,
    },
    /// Nothing more is begun; what is under way is cut off.
    Over,
}

/// What the threads share.
pub struct Shared {
    /// What to do.
    pub settings: Settings,
    /// How TLS connections are made; `None` without TLS.
    pub tls: Option<ClientTls>,
    /// The files of `get`, `small` and `mixed`.
    pub files: Vec<File>,
    /// What uploads consist of, again and again.
    pub block: Vec<u8>,
    /// Operations begun, all cores together; the number of the next one.
    pub begun: AtomicU64,
    /// Sessions that are open or have failed to open.
    pub opened: AtomicUsize,
    /// Sessions that still have something to do.
    pub working: AtomicUsize,
    /// When the last one had nothing more to do, and the CPU time until then.
    pub ended: OnceLock<(Instant, Duration)>,
    /// Counters for the progress line, one for each core.
    pub live: Vec<Live>,
}

/// One core.
pub struct Core {
    /// What all cores share.
    pub shared: Arc<Shared>,
    /// What is measured.
    pub statistics: RefCell<Statistics>,
    /// Who may open a session now.
    pub opening: Semaphore,
    number: usize,
    stage: watch::Receiver<Stage>,
    over: Cell<bool>,
    schedule: Cell<Option<Schedule>>,
    /// Data connections under way, by session.
    reach: RefCell<Vec<Option<Socket>>>,
}

impl Core {
    /// A core; its number picks its live counters.
    #[must_use]
    pub fn new(
        shared: &Arc<Shared>,
        number: usize,
        sessions: usize,
        stage: watch::Receiver<Stage>,
    ) -> Rc<Self> {
        Rc::new(Self {
            shared: Arc::clone(shared),
            statistics: RefCell::default(),
            opening: Semaphore::new(OPENING_AT_ONCE),
            number,
            stage,
            over: Cell::new(false),
            schedule: Cell::new(None),
            reach: RefCell::new(vec![None; sessions]),
        })
    }

    /// What to do.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Whether nothing more is to be begun.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Waits until operations may run, or the run is over.
    pub async fn started(&self) {
        let mut stage = self.stage.clone();
        // The sender lives until all cores have ended.
        let _ = stage.wait_for(|stage| *stage != Stage::Opening).await;
    }

    /// Waits until the run is over.
    pub async fn over(&self) {
        let mut stage = self.stage.clone();
        let _ = stage.wait_for(|stage| *stage == Stage::Over).await;
    }

    /// Claims the next operation: when it should begin, which has come then. `None` when there is none.
    pub async fn next_turn(&self) -> Option<Instant> {
        if self.is_over() {
            return None;
        }
        let number = self.shared.begun.fetch_add(1, Ordering::Relaxed);
        if let Extent::Operations(count) = self.settings().extent
            && number >= count
        {
            return None;
        }
        let now = rt::now();
        let Some(schedule) = self.schedule.get() else {
            return Some(now);
        };
        let intended = schedule.arrival(number)?;
        self.wait_until(intended).await.then_some(intended)
    }

    /// Waits, to the microsecond; false when the run is over before.
    pub async fn wait_until(&self, then: Instant) -> bool {
        let rest = then.saturating_duration_since(rt::now());
        if rest > TIMER_SLACK {
            let long = then.checked_sub(TIMER_SLACK).unwrap_or(then);
            tokio::select! {
                () = rt::sleep_until(long) => {}
                () = self.over() => return false,
            }
        }
        let rest = then.saturating_duration_since(rt::now());
        if !rest.is_zero() {
            rt::pause(rest).await;
        }
        !self.is_over()
    }

    /// Notes a duration that ends now.
    pub fn note(&self, phase: Phase, since: Instant) {
        let now = rt::now();
        let duration = now.saturating_duration_since(since);
        self.statistics.borrow_mut().note(phase, duration, now);
    }

    /// Notes a duration that ends now, before measuring has begun, too.
    pub fn note_always(&self, phase: Phase, since: Instant) {
        let duration = rt::now().saturating_duration_since(since);
        self.statistics.borrow_mut().note_always(phase, duration);
    }

    /// Counts octets of a file that came or went now.
    pub fn count_octets(&self, octets: u64, now: Instant) {
        self.statistics.borrow_mut().count_octets(octets, now);
        if let Some(live) = self.live() {
            Live::add(&live.octets, octets);
        }
    }

    /// Counts an operation that was finished now.
    pub fn count_operation(&self) {
        self.statistics.borrow_mut().count_operation(rt::now());
        if let Some(live) = self.live() {
            Live::add(&live.operations, 1);
        }
    }

    /// Counts an error.
    pub fn count_error(&self, failure: &Failure) {
        self.statistics.borrow_mut().count_error(failure);
        if let Some(live) = self.live() {
            Live::add(&live.errors, 1);
        }
    }

    /// Compares what came of a file with what should have come.
    ///
    /// # Errors
    /// It is not the same.
    pub fn verify(&self, file: &File, octets: u64) -> Result<(), Failure> {
        let Some(size) = file.size.filter(|_| self.settings().verify != Verify::None) else {
            return Ok(());
        };
        let what = format!("{octets} octets instead of {size}");
        match octets.cmp(&size) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(Failure::harmless(Kind::Short, what)),
            std::cmp::Ordering::Greater => Err(Failure::harmless(Kind::Mismatch, what)),
        }
    }

    fn live(&self) -> Option<&Live> {
        self.shared.live.get(self.number)
    }

    /// Makes a data connection (or its listener) one that can be cut.
    pub fn hold(&self, slot: usize, socket: Option<Socket>) {
        if let Some(place) = self.reach.borrow_mut().get_mut(slot) {
            *place = socket;
        }
    }

    /// Ends every wait on the data connection of a session.
    pub fn cut(&self, slot: usize) {
        if let Some(Some(socket)) = self.reach.borrow().get(slot) {
            socket.shut_down();
        }
    }

    /// A session has nothing more to do.
    pub fn done(&self) {
        if self.shared.working.fetch_sub(1, Ordering::Relaxed) == 1 {
            let _ = self.shared.ended.set((rt::now(), host::process_cpu_time()));
        }
    }

    /// Follows the stages until the run is over.
    async fn follow(&self) {
        let mut stage = self.stage.clone();
        loop {
            let now = *stage.borrow_and_update();
            match now {
                Stage::Opening => {}
                Stage::Running {
                    began,
                    measured,
                    until,
                } => {
                    self.statistics.borrow_mut().measure(measured, until);
                    let rate = self.settings().rate;
                    self.schedule
                        .set(rate.map(|rate| Schedule::new(began, rate, until)));
                }
                Stage::Over => break,
            }
            if stage.changed().await.is_err() {
                break;
            }
        }
        self.over.set(true);
        rt::sleep(END_PATIENCE).await;
        let sockets = self.reach.borrow();
        for socket in sockets.iter().flatten() {
            socket.shut_down();
        }
    }
}

/// Runs the sessions of a core on a ring of this thread.
///
/// # Errors
/// The ring could not be set up.
pub fn run(
    shared: &Arc<Shared>,
    number: usize,
    stage: watch::Receiver<Stage>,
) -> std::io::Result<Statistics> {
    let settings = &shared.settings;
    if let Some(Some(cpu)) = settings.cores.get(number) {
        host::pin_thread(*cpu)?;
    }
    let cores = settings.cores.len().max(1);
    let sessions: Vec<usize> = (number..settings.sessions).step_by(cores).collect();
    let core = Core::new(shared, number, sessions.len(), stage);
    rt::run(RING_ENTRIES, async {
        let following = Rc::clone(&core);
        rt::spawn(async move { following.follow().await });
        let tasks: Vec<_> = sessions
            .into_iter()
            .enumerate()
            .map(|(slot, number)| rt::spawn(workload::run(Rc::clone(&core), slot, number)))
            .collect();
        for task in tasks {
            if let Err(error) = task.await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
        core.statistics.take()
    })
}
