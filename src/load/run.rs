//! A run from beginning to end: threads, stages, signals, and the report.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::core::{self, Core, Shared, Stage};
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

fn share(settings: Settings, tls: Option<ClientTls>) -> Shared {
    Shared {
        tls,
        files: Vec::new(),
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
    let mut statistics = Statistics::default();
    for thread in threads {
        match thread.join() {
            Ok(result) => statistics.add(result?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    let mut conducted = conducted?;
    // With a number of operations the last one ends the time.
    if let (Extent::Operations(_), Some(last)) = (shared.settings.extent, statistics.last) {
        conducted.frame.measured = last.saturating_duration_since(conducted.measured);
    }
    if let Some(rate) = shared.settings.rate {
        let began = conducted.began;
        let due = Schedule::new(began, rate, None).due(conducted.ended);
        let due = match shared.settings.extent {
            Extent::Operations(count) => due.min(count),
            Extent::Time(_) => due,
        };
        statistics.missed = due.saturating_sub(shared.begun.load(Ordering::Relaxed));
    }
    Ok((statistics, conducted.frame))
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
    let settings = &shared.settings;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut progress = Progress::new(settings, begun);
    let mut interrupted = false;
    let mut stop = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    while shared.opened.load(Ordering::Relaxed) < settings.sessions && !interrupted {
        tokio::select! {
            () = rt::sleep(LOOK) => {}
            () = stop() => interrupted = true,
        }
        progress.opening(shared);
        if threads.iter().any(JoinHandle::is_finished) {
            break;
        }
    }
    let began = rt::now();
    let opening = began.saturating_duration_since(begun);
    progress.opened(shared, opening);
    let measured = began + settings.warm_up;
    let until = match settings.extent {
        Extent::Time(time) => Some(measured + time),
        Extent::Operations(_) => None,
    };
    let running = Stage::Running {
        began,
        measured,
        until,
    };
    if !interrupted {
        stages.send_replace(running);
    }
    let mut cpu = host::process_cpu_time();
    let mut warm = settings.warm_up.is_zero();
    let (ended, cpu_ended) = loop {
        if let Some(ended) = shared.ended.get() {
            break *ended;
        }
        let now = rt::now();
        if !warm && now >= measured {
            (warm, cpu) = (true, host::process_cpu_time());
        }
        let finished = threads.iter().all(JoinHandle::is_finished);
        if interrupted || finished || until.is_some_and(|until| now >= until) {
            break (now, host::process_cpu_time());
        }
        let next = [until, (!warm).then_some(measured)].into_iter().flatten();
        let look = if until.is_none() { LOOK } else { LONG_LOOK };
        let next = next.min().map_or(now + look, |next| next.min(now + look));
        tokio::select! {
            () = rt::sleep_until(next) => {}
            () = stop() => interrupted = true,
        }
        progress.running(shared, began);
    };
    progress.end();
    let end = until.map_or(ended, |until| until.min(ended));
    let frame = Frame {
        measured: end.saturating_duration_since(measured),
        opening,
        cpu: cpu_ended.saturating_sub(cpu),
        protection: None,
        interrupted,
    };
    if settings.workload == Workload::Idle || until.is_some() || interrupted {
        stages.send_replace(Stage::Over);
    }
    Ok(Conducted {
        frame,
        began,
        measured,
        ended: end,
    })
}
