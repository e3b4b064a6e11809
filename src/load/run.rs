//! A run from beginning to end: threads, stages, signals, and the report.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::core::{self, Core, File, Shared, Stage};
use super::failure::{Exit, Fatal};
use super::prepare::{Prepared, prepare};
use super::progress::Progress;
use super::report::{Frame, Report};
use super::schedule::Schedule;
use super::settings::{Extent, Settings, Workload};
use super::statistics::{Live, Statistics};
use super::tls::ClientTls;
use crate::rt;
use crate::sys::host;

/// Octets of the block that uploads repeat.
const BLOCK_OCTETS: usize = 256 * 1024;
/// Files of `mixed` from this size on are large ones.
const LARGE_OCTETS: u64 = 1024 * 1024;
/// How often the main thread looks around while nothing tells it that something has happened.
const LOOK: Duration = Duration::from_millis(2);
/// The same once the run is long.
const LONG_LOOK: Duration = Duration::from_millis(20);

/// What came of a run.
pub struct Finished {
    /// The report; there is one of a server that could not be used, too.
    pub report: Report,
    /// What was measured, for the files with percentiles.
    pub statistics: Statistics,
    /// Why there was no run.
    pub fatal: Option<Fatal>,
}

/// Runs.
///
/// # Errors
/// This machine cannot.
pub fn run(settings: Settings) -> Result<Finished, Fatal> {
    host::probe_ring().map_err(|problem| Fatal::new(Exit::Unavailable, problem.to_string()))?;
    host::raise_descriptor_limit();
    let tls = match settings.security {
        super::settings::Security::None => None,
        _ => Some(
            ClientTls::new(
                &settings.host,
                settings.version,
                settings.suite,
                &settings.trust,
            )
            .map_err(|message| Fatal::new(Exit::Usage, message))?,
        ),
    };
    let shared = share(settings, tls);
    let (stages, stage) = watch::channel(Stage::Opening);
    let looking = Core::new(&Arc::new(shared), usize::MAX, 1, stage);
    let prepared = match prepare(&looking) {
        Ok(prepared) => prepared,
        Err((failure, fatal)) => {
            let mut statistics = Statistics::default();
            statistics.count_error(&failure);
            let report = Report::new(looking.settings(), &statistics, &Frame::default());
            return Ok(Finished {
                report,
                statistics,
                fatal: Some(fatal),
            });
        }
    };
    let Prepared { files, protection } = prepared;
    let mut shared = share(looking.shared.settings.clone(), looking.shared.tls.clone());
    shared.digests = files.iter().map(|_| OnceLock::new()).collect();
    let is_large = |file: &File| file.size.is_some_and(|size| size >= LARGE_OCTETS);
    shared.large = places(&files, is_large);
    shared.small = places(&files, |file| !is_large(file));
    shared.files = files;
    drop(looking);
    let shared = Arc::new(shared);
    let system = |error: io::Error| Fatal::new(Exit::System, error.to_string());
    let (statistics, mut frame) = conduct(&shared, &stages).map_err(system)?;
    frame.protection = protection;
    let report = Report::new(&shared.settings, &statistics, &frame);
    Ok(Finished {
        report,
        statistics,
        fatal: None,
    })
}

/// Where the files are that are so; all where none is.
fn places(files: &[File], are: impl Fn(&File) -> bool) -> Vec<usize> {
    let places = files.iter().enumerate().filter(|(_, file)| are(file));
    match places.map(|(place, _)| place).collect::<Vec<_>>() {
        places if places.is_empty() => (0..files.len()).collect(),
        places => places,
    }
}

fn share(settings: Settings, tls: Option<ClientTls>) -> Shared {
    Shared {
        tls,
        files: Vec::new(),
        large: Vec::new(),
        small: Vec::new(),
        digests: Vec::new(),
        block: block(),
        begun: AtomicU64::new(0),
        opened: AtomicUsize::new(0),
        working: AtomicUsize::new(settings.sessions),
        ended: OnceLock::new(),
        live: settings.cores.iter().map(|_| Live::default()).collect(),
        settings,
    }
}

/// Octets that no file system or network compresses.
fn block() -> Vec<u8> {
    // Marsaglia's xorshift.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut octets = Vec::with_capacity(BLOCK_OCTETS);
    while octets.len() < BLOCK_OCTETS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        octets.extend_from_slice(&state.to_le_bytes());
    }
    octets
}

type Thread = JoinHandle<io::Result<Statistics>>;

fn conduct(shared: &Arc<Shared>, stages: &watch::Sender<Stage>) -> io::Result<(Statistics, Frame)> {
    let begun = rt::now();
    let mut threads: Vec<Thread> = Vec::new();
    for number in 0..shared.settings.cores.len() {
        let (shared, stage) = (Arc::clone(shared), stages.subscribe());
        let thread = thread::Builder::new().name(format!("load-{number}"));
        threads.push(thread.spawn(move || core::run(&shared, number, stage))?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let conducted = runtime.block_on(follow(shared, stages, &threads, begun));
    // Whatever has happened, nobody shall wait for the next stage.
    stages.send_replace(Stage::Over);
    let mut conducted = conducted?;
    let mut statistics = Statistics::default();
    for thread in threads {
        match thread.join() {
            Ok(result) => statistics.add(result?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    // With a number of operations the last one ends the time.
    if let (Extent::Operations(_), Some(last)) = (shared.settings.extent, statistics.last) {
        conducted.frame.measured = last.saturating_duration_since(conducted.measured);
    }
    if let Some(rate) = scheduled(&shared.settings) {
        let schedule = Schedule::new(conducted.began, rate, None);
        let due = shared.due(&schedule, conducted.ended);
        let due = match shared.settings.extent {
            Extent::Operations(count) => due.min(count),
            Extent::Time(_) => due,
        };
        statistics.missed = due.saturating_sub(shared.begun.load(Ordering::Relaxed));
    }
    Ok((statistics, conducted.frame))
}

/// The rate of the schedule, if there is one.
fn scheduled(settings: &Settings) -> Option<f64> {
    match settings.workload {
        Workload::Replay => Some(settings.speed),
        _ => settings.rate,
    }
}

struct Conducted {
    frame: Frame,
    began: Instant,
    measured: Instant,
    ended: Instant,
}

/// Takes the run through its stages.
async fn follow(
    shared: &Shared,
    stages: &watch::Sender<Stage>,
    threads: &[Thread],
    begun: Instant,
) -> io::Result<Conducted> {
    let mut conductor = Conductor {
        shared,
        threads,
        signals: [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ],
        progress: Progress::new(&shared.settings, begun),
        interrupted: false,
    };
    conductor.open().await;
    let began = rt::now();
    let opening = began.saturating_duration_since(begun);
    conductor.progress.opened(shared, opening);
    let measured = began + shared.settings.warm_up;
    let until = match shared.settings.extent {
        Extent::Time(time) => Some(measured + time),
        Extent::Operations(_) => None,
    };
    if !conductor.interrupted {
        stages.send_replace(Stage::Running {
            began,
            measured,
            until,
        });
    }
    let (ended, cpu) = conductor.measure(began, measured, until).await;
    conductor.progress.end();
    stages.send_replace(Stage::Over);
    let frame = Frame {
        measured: ended.saturating_duration_since(measured),
        opening,
        cpu,
        protection: None,
        interrupted: conductor.interrupted,
    };
    conductor.end().await?;
    Ok(Conducted {
        frame,
        began,
        measured,
        ended,
    })
}

/// What watches over a run.
struct Conductor<'a> {
    shared: &'a Shared,
    threads: &'a [Thread],
    signals: [Signal; 2],
    progress: Progress,
    interrupted: bool,
}

impl Conductor<'_> {
    /// Waits until then; a signal ends the wait and the run.
    async fn wait_until(&mut self, then: Instant) {
        let [interrupt, terminate] = &mut self.signals;
        tokio::select! {
            () = rt::sleep_until(then) => {}
            _ = interrupt.recv() => self.interrupted = true,
            _ = terminate.recv() => self.interrupted = true,
        }
    }

    fn all_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until all sessions are open, or have failed to.
    async fn open(&mut self) {
        let sessions = self.shared.settings.sessions;
        while self.shared.opened.load(Ordering::Relaxed) < sessions && !self.interrupted {
            self.wait_until(rt::now() + LOOK).await;
            self.progress.opening(self.shared);
            // A core without a ring opens nothing.
            if self.threads.iter().any(JoinHandle::is_finished) {
                break;
            }
        }
    }

    /// Waits for the end of the run; returns its time, and the CPU time since measuring began.
    async fn measure(
        &mut self,
        began: Instant,
        measured: Instant,
        until: Option<Instant>,
    ) -> (Instant, Duration) {
        let mut cpu = host::process_cpu_time();
        let mut warm = measured <= began;
        loop {
            if let Some((ended, at_end)) = self.shared.ended.get() {
                let ended = until.map_or(*ended, |until| until.min(*ended));
                return (ended, at_end.saturating_sub(cpu));
            }
            let now = rt::now();
            if !warm && now >= measured {
                (warm, cpu) = (true, host::process_cpu_time());
            }
            let over = until.is_some_and(|until| now >= until);
            if self.interrupted || over || self.all_finished() {
                let ended = until.map_or(now, |until| until.min(now));
                return (ended, host::process_cpu_time().saturating_sub(cpu));
            }
            let look = if until.is_none() { LOOK } else { LONG_LOOK };
            let next = [until, (!warm).then_some(measured)].into_iter().flatten();
            let next = next.min().map_or(now + look, |next| next.min(now + look));
            self.wait_until(next).await;
            self.progress.running(self.shared, began);
        }
    }

    /// Waits until every session has ended; a further signal does not.
    async fn end(&mut self) -> io::Result<()> {
        self.interrupted = false;
        while !self.all_finished() {
            self.wait_until(rt::now() + LOOK).await;
            if self.interrupted {
                return Err(io::Error::other("ended at once by a second signal"));
            }
        }
        Ok(())
    }
}
