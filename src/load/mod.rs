//! The load generator: FTP sessions against any server, counted and timed.
//!
//! Each core has a thread and a ring of its own, as the server has; its sessions are tasks. Sessions are
//! logged in before the clock starts.

mod options;
mod report;
mod session;
mod stats;
mod tls;
mod trouble;
mod wire;
mod workload;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::proto::client::Security;
use crate::rt;
use crate::sys::host;

pub use options::main;
pub use report::Report;
pub use stats::{Phase, Stats};
pub use trouble::Trouble;
pub use workload::Workload;

/// Submission entries of a core's ring.
const RING_ENTRIES: u32 = 1024;
/// How often the main thread looks.
const TICK: Duration = Duration::from_millis(20);
/// Failures after which a run without a single success is given up.
const HOPELESS_FAILURES: u64 = 20;

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Extent {
    /// So much time, after the warm-up.
    Time(Duration),
    /// So many operations in all.
    Operations(u64),
}

/// A run.
pub struct Plan {
    /// What sessions do.
    pub workload: Workload,
    /// The server.
    pub server: SocketAddr,
    /// Its name, for TLS.
    pub name: ServerName<'static>,
    /// Protection of control connections.
    pub security: Security,
    /// PROT P.
    pub protect_data: bool,
    /// USER.
    pub user: Vec<u8>,
    /// PASS.
    pub password: Vec<u8>,
    /// TLS of all sessions.
    pub tls: ClientConfig,
    /// Do connections resume what their session has got?
    pub resume: bool,
    /// Sessions at once.
    pub sessions: usize,
    /// How long.
    pub extent: Extent,
    /// Time before the clock starts.
    pub warm_up: Duration,
    /// CPUs, one thread each.
    pub cores: Vec<usize>,
    /// Operations a second in all, by schedule; else each session does one after the other.
    pub rate: Option<f64>,
    /// Longest wait for anything.
    pub patience: Duration,
    /// Show progress.
    pub live: bool,
}

/// What all cores share.
#[derive(Debug, Default)]
struct Common {
    /// Sessions that have logged in, or given up.
    ready: AtomicUsize,
    /// When sessions begin to work.
    start: OnceLock<Instant>,
    /// Operations that are still to be begun, where they are counted.
    left: AtomicU64,
    stop: AtomicBool,
    operations: AtomicU64,
    octets: AtomicU64,
    failures: AtomicU64,
    /// The latest refusal.
    refusal: Mutex<Option<String>>,
}

/// What the sessions of a core share.
#[derive(Clone)]
pub(super) struct Shared {
    plan: Arc<Plan>,
    common: Arc<Common>,
    stats: Rc<RefCell<Stats>>,
    /// Arrivals taken so far, where there is a schedule.
    arrivals: Rc<Cell<u64>>,
    /// Turns taken, for paths that are taken in turn.
    turns: Rc<Cell<usize>>,
}

impl Shared {
    /// The place in the measured time, in seconds; none outside of it.
    fn second(&self, now: Instant) -> Option<usize> {
        let start = *self.common.start.get()? + self.plan.warm_up;
        let since = now.checked_duration_since(start)?;
        match self.plan.extent {
            Extent::Time(time) if since >= time => None,
            _ => usize::try_from(since.as_secs()).ok(),
        }
    }

    fn record(&self, phase: Phase, began: Instant) {
        let now = rt::now();
        // What is done before the clock starts is told too: logging in is nowhere else.
        let logging_in = self.common.start.get().is_none();
        if logging_in || self.second(now).is_some() {
            let time = now.saturating_duration_since(began);
            self.stats.borrow_mut().record(phase, time);
        }
    }

    fn count_octets(&self, octets: u64) {
        self.common.octets.fetch_add(octets, Ordering::Relaxed);
        if let Some(second) = self.second(rt::now()) {
            self.stats.borrow_mut().count(second, 0, octets);
        }
    }

    fn count_operation(&self, began: Instant) {
        self.common.operations.fetch_add(1, Ordering::Relaxed);
        if let Some(second) = self.second(rt::now()) {
            self.stats.borrow_mut().count(second, 1, 0);
        }
        self.record(Phase::Operation, began);
    }

    fn fail(&self, trouble: Trouble) {
        self.common.failures.fetch_add(1, Ordering::Relaxed);
        // What the server said last explains a refusal only.
        let example = match trouble {
            Trouble::Reply(_) => self.common.refusal.lock().ok(),
            _ => None,
        };
        let example = example.and_then(|refusal| refusal.clone());
        self.stats
            .borrow_mut()
            .fail(trouble, || example.unwrap_or_default());
    }

    fn note_refusal(&self, code: u16, text: String) {
        if let Ok(mut refusal) = self.common.refusal.lock() {
            *refusal = Some(format!("{code} {text}"));
        }
    }

    fn note_suite(&self, suite: String) {
        self.stats.borrow_mut().suite.get_or_insert(suite);
    }

    /// Is there nothing more to begin?
    fn is_over(&self) -> bool {
        if self.common.stop.load(Ordering::Relaxed) {
            return true;
        }
        match (self.plan.extent, self.common.start.get()) {
            (Extent::Time(time), Some(start)) => rt::now() >= *start + self.plan.warm_up + time,
            (Extent::Operations(_), _) => self.common.left.load(Ordering::Relaxed) == 0,
            (Extent::Time(_), None) => false,
        }
    }

    /// Takes one of the operations that are counted.
    fn take_one(&self) -> bool {
        if !matches!(self.plan.extent, Extent::Operations(_)) {
            return true;
        }
        let left = &self.common.left;
        let take = |left: u64| left.checked_sub(1);
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// A number that each session gets once.
    fn turn(&self) -> usize {
        self.turns.replace(self.turns.get() + 1)
    }

    /// Waits for the time that the next operation is intended for. Without a rate that is now.
    async fn arrival(&self) -> Instant {
        let (Some(rate), Some(start)) = (self.plan.rate, self.common.start.get()) else {
            return rt::now();
        };
        let number = self.arrivals.replace(self.arrivals.get() + 1);
        let rate = rate / self.plan.cores.len().max(1) as f64;
        let then = *start + Duration::from_secs_f64(number as f64 / rate.max(f64::MIN_POSITIVE));
        if then > rt::now() {
            rt::sleep_until(then).await;
        }
        then
    }
}

/// Runs a plan to its end.
///
/// # Errors
/// A thread or a ring could not be set up.
pub fn run(plan: Plan) -> io::Result<Report> {
    let plan = Arc::new(plan);
    let common = Arc::new(Common::default());
    if let Extent::Operations(count) = plan.extent {
        common.left.store(count, Ordering::Relaxed);
    }
    let cpu_before = host::process_cpu_time();
    let opening = rt::now();
    let mut threads = Vec::new();
    for (place, cpu) in plan.cores.iter().copied().enumerate() {
        let (plan, common) = (Arc::clone(&plan), Arc::clone(&common));
        let count = plan.sessions / plan.cores.len()
            + usize::from(place < plan.sessions % plan.cores.len());
        threads.push(thread::Builder::new().name(format!("load-{cpu}")).spawn(
            move || -> io::Result<Stats> {
                // Without it the scheduler places the thread.
                let _ = host::pin_thread(cpu);
                rt::run(RING_ENTRIES, serve(plan, common, count))
            },
        )?);
    }
    let opened = watch(&plan, &common, &threads, opening);
    let mut stats = Stats::default();
    for thread in threads {
        match thread.join() {
            Ok(core) => stats.add(core?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    let ended = rt::now();
    let start = common.start.get().copied().unwrap_or(opening) + plan.warm_up;
    let mut seconds = ended.saturating_duration_since(start);
    if let Extent::Time(time) = plan.extent {
        seconds = seconds.min(time);
    }
    let cpu = host::process_cpu_time().saturating_sub(cpu_before);
    Ok(Report::new(&plan, stats, seconds, opened, cpu))
}

/// Starts the clock once all sessions are there, shows progress, and gives up a hopeless run.
/// Returns how long it took until all sessions were there.
fn watch<T>(
    plan: &Plan,
    common: &Common,
    threads: &[thread::JoinHandle<T>],
    opening: Instant,
) -> Duration {
    let mut opened = Duration::ZERO;
    let mut shown = opening;
    let mut before = (0, 0);
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        let now = rt::now();
        if common.start.get().is_none() && common.ready.load(Ordering::Acquire) >= plan.sessions {
            opened = now.saturating_duration_since(opening);
            let _ = common.start.set(now);
        }
        let operations = common.operations.load(Ordering::Relaxed);
        let failures = common.failures.load(Ordering::Relaxed);
        if failures >= HOPELESS_FAILURES && operations == 0 {
            common.stop.store(true, Ordering::Relaxed);
            let _ = common.start.set(now);
        }
        let since = now.saturating_duration_since(shown);
        if plan.live && since >= Duration::from_secs(1) {
            let octets = common.octets.load(Ordering::Relaxed);
            let rate = |now: u64, before: u64| (now - before) as f64 / since.as_secs_f64();
            eprintln!(
                "{:>5.0} s  {:>10.0} operations/s  {:>9.1} MB/s  {failures} failures",
                now.saturating_duration_since(opening).as_secs_f64(),
                rate(operations, before.0),
                rate(octets, before.1) / 1e6,
            );
            (shown, before) = (now, (operations, octets));
        }
        wait();
    }
    opened
}

#[expect(
    clippy::disallowed_methods,
    reason = "the main thread has no ring to hold up"
)]
fn wait() {
    thread::sleep(TICK);
}

/// The sessions of a core.
async fn serve(plan: Arc<Plan>, common: Arc<Common>, sessions: usize) -> Stats {
    let shared = Shared {
        plan,
        common,
        stats: Rc::default(),
        arrivals: Rc::default(),
        turns: Rc::default(),
    };
    let tasks: Vec<_> = (0..sessions)
        .map(|_| rt::spawn(workload::session(shared.clone())))
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    shared.stats.take()
}
