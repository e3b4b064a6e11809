//! One pinned thread and one ring for each core; signals, drain and reload on the main thread.

mod accept;
mod entrance;
mod handover;
mod http;
mod lifecycle;
mod listeners;
mod monitor;
mod notify;
mod passive;
mod signals;
mod status;
mod watchdog;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::admission::Admission;
use crate::auth::{Authenticator, FileRules};
use crate::bandwidth::Bandwidth;
use crate::logging::TransferLog;
use crate::metrics::{Books, Catalogue, Recorder};
use crate::proto::passive::PassiveAddresses;
use crate::proto::session;
use crate::rt;
use crate::sys::host;
use crate::{control, data, tls, vfs};

pub use handover::{HandOverError, Predecessor, Program, SOCKET_FILE, protect_as_told, upgrade};
pub use lifecycle::Lifecycle;
pub use listeners::{Listeners, Opener, Passed, Role};
pub use monitor::Outlets;
pub use notify::Notifier;
pub use passive::{PassiveNames, PassivePlan, PassiveTarget};
pub use signals::{hold_ends, hold_signals};

use accept::Acceptors;
use lifecycle::{Life, Phase};
use listeners::CoreListener;
use monitor::Monitor;
use signals::{Heard, Signals};
use watchdog::Pulse;

/// Submission entries of a core's ring; more in one turn are submitted in several calls.
const RING_ENTRIES: u32 = 1024;
/// After the grace period, the time for 426 and 421 to leave.
const FORCED_END_TIME_MAX: Duration = Duration::from_secs(5);
/// How often a draining core looks whether its last connection has ended.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);
/// The same for one that may have its connections for hours.
const RETIRED_INTERVAL: Duration = Duration::from_millis(100);

/// What the server is made of. Everything in it is shared by all cores; a reload replaces it as a whole.
#[derive(Clone)]
pub struct Settings {
    /// CPUs to use, one thread each.
    pub cores: Vec<usize>,
    /// How long a core looks for its next event before it sleeps, where that pays; zero: never.
    pub busy_poll: Duration,
    /// Running transfers may go on for so long after SIGTERM.
    pub grace: Duration,
    /// Sessions may go on for so long after another process has taken over.
    pub retire: Duration,
    /// What sessions may and must do.
    pub session: Arc<session::Settings>,
    /// What data connections may and must do.
    pub data: Arc<data::Settings>,
    /// How fast transfers may go.
    pub bandwidth: Arc<Bandwidth>,
    /// What files look like.
    pub files: vfs::Settings,
    /// Rules for the files of every account.
    pub file_rules: Arc<FileRules>,
    /// Wait for a TLS handshake on a control connection.
    pub handshake_time_max: Duration,
    /// Wait for the client's close_notify after CCC and REIN.
    pub close_time_max: Duration,
    /// Wait for the client to close after QUIT.
    pub drain_time_max: Duration,
    /// Who may be in.
    pub admission: Arc<Admission>,
    /// Accounts and passwords.
    pub authenticator: Arc<Authenticator>,
    /// Virtual hosts, in the order of their names' indices.
    pub hosts: Arc<[control::Host]>,
    /// Gets a line for each transfer.
    pub transfer_log: Option<Arc<TransferLog>>,
    /// What PASV names.
    pub passive: PassiveNames,
}

/// From the main thread to a core.
enum Command {
    /// Stop accepting, for another process does; end when the last session has.
    Retire,
    /// Accept connections: everything else has begun.
    Accept,
    /// Stop accepting; end when the last transfer has, or after the grace period.
    Drain,
    /// End now.
    Force,
    /// Other settings for new connections.
    Reload(Box<Reloaded>),
    /// What PASV names from now on.
    PassiveAddresses(Arc<PassiveAddresses>),
    /// Hand over what was recorded, and go on in these books.
    Report(Books, oneshot::Sender<Books>),
    /// Tell of sessions, or end some.
    Status(status::Question),
}

/// What a reload puts into force: for new connections, and the grace period. Cores, busy polling,
/// admission and accounts are those of the start.
pub type Reloaded = (Settings, tls::Settings);

/// Serves until SIGTERM or SIGINT, or until another process has taken over and the last session has ended; SIGHUP
/// calls `reload` for new settings, SIGUSR1 writes counts and percentiles to the log, as the end does, SIGUSR2
/// starts the process that takes over.
///
/// # Errors
/// A ring, a thread or a signal handler could not be set up.
pub fn run(
    settings: &Settings,
    tls: &tls::Settings,
    listeners: Listeners,
    outlets: Outlets,
    lifecycle: Lifecycle,
    mut reload: impl FnMut() -> Option<Reloaded>,
) -> io::Result<()> {
    let catalogue = Arc::new(Catalogue::new(&data::names()));
    let mut commands = Vec::new();
    let mut threads = Vec::new();
    let mut pulses = Vec::new();
    for (cpu, listeners) in settings.cores.iter().copied().zip(listeners.cores) {
        let (sender, receiver) = mpsc::unbounded_channel();
        commands.push(sender);
        let pulse = Pulse::default();
        pulses.push(pulse.clone());
        let (settings, tls) = (settings.clone(), tls.clone());
        let catalogue = Arc::clone(&catalogue);
        let name = format!("core-{cpu}");
        threads.push(thread::Builder::new().name(name).spawn(move || {
            if let Err(error) = host::pin_thread(cpu) {
                warn!(cpu, %error, "thread not pinned: the scheduler places it");
            }
            let recorder = Recorder::new(&catalogue);
            let own = (receiver, Rc::clone(&recorder), pulse);
            let core = serve_core(settings, tls, listeners, own);
            rt::run(RING_ENTRIES, core)?;
            Ok(recorder.exchange(Books::new(&catalogue), 0))
        })?);
    }
    let watching = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (log, interval) = outlets.interval_log.unzip();
    let monitor = Arc::new(Monitor::new(&catalogue, &settings.cores, &commands, log));
    let life = watching.block_on(async {
        // From here on no signal ends the process by itself.
        let mut signals = Signals::new()?;
        let metrics = monitor::start(&monitor, outlets.listener, interval)?;
        let _status = status::start(lifecycle.state_directory.as_deref(), &monitor, &commands);
        let admission = Arc::clone(&settings.admission);
        let mut life =
            Life::begin(lifecycle, listeners.offers, pulses, &threads, admission).await?;
        if !threads.iter().any(thread::JoinHandle::is_finished) {
            for core in &commands {
                let _ = core.send(Command::Accept);
            }
        }
        let retire = || {
            monitor.drain();
            if let Some(metrics) = &metrics {
                metrics.abort();
            }
        };
        let plans = passive::start(settings.passive.clone(), commands.clone());
        let reload = || {
            let reloaded = reload();
            passive::renew(
                &plans,
                reloaded.as_ref().map(|(settings, _)| &settings.passive),
            );
            reloaded
        };
        let watched = (&mut signals, &mut life);
        watch_signals(&commands, &threads, &monitor, watched, retire, reload).await?;
        Ok::<_, io::Error>(life)
    })?;
    drop(commands);
    let (last, result) = join(threads);
    watching.block_on(monitor.finish(last));
    life.end();
    result
}

/// Waits for the cores: their last books, and the first error.
fn join(
    threads: Vec<thread::JoinHandle<io::Result<Books>>>,
) -> (Vec<Option<Books>>, io::Result<()>) {
    let mut result = Ok(());
    let mut last = Vec::new();
    for thread in threads {
        let ended = thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a core's thread panicked")));
        match ended {
            Ok(books) => last.push(Some(books)),
            Err(error) => {
                last.push(None);
                result = result.and(Err(error));
            }
        }
    }
    (last, result)
}

/// Returns once every core has ended.
async fn watch_signals<T>(
    commands: &[mpsc::UnboundedSender<Command>],
    threads: &[thread::JoinHandle<T>],
    monitor: &Monitor,
    (signals, life): (&mut Signals, &mut Life),
    retire: impl Fn(),
    mut reload: impl FnMut() -> Option<Reloaded>,
) -> io::Result<()> {
    let tell = |command: fn() -> Command| {
        for core in commands {
            // A core that has ended needs no command.
            let _ = core.send(command());
        }
    };
    let ended = |core: usize| {
        threads
            .get(core)
            .is_none_or(thread::JoinHandle::is_finished)
    };
    let mut phase = Phase::Serving;
    loop {
        let patience = match phase {
            Phase::Serving => life.pause(),
            Phase::Retired => RETIRED_INTERVAL,
            Phase::Draining => DRAIN_INTERVAL,
        };
        let heard = signals.hear(life, patience).await;
        life.look(phase, ended);
        match heard {
            Heard::End if phase == Phase::Draining => {
                info!("second signal: ending transfers now");
                tell(|| Command::Force);
            }
            Heard::End => {
                info!("stopping: no new connections, running transfers may finish");
                monitor.drain();
                life.stopping();
                phase = Phase::Draining;
                tell(|| Command::Drain);
            }
            Heard::HangUp => {
                if let Some(reloaded) = life.reload(&mut reload) {
                    for core in commands {
                        let _ = core.send(Command::Reload(Box::new(reloaded.clone())));
                    }
                }
            }
            Heard::Report => monitor.log().await,
            Heard::Upgrade => life.upgrade(),
            Heard::Retirement(retirement) => {
                if phase == Phase::Serving {
                    info!(
                        process = retirement.process,
                        "another process has taken over: sessions here go on until they end"
                    );
                    phase = Phase::Retired;
                    tell(|| Command::Retire);
                    retire();
                }
                life.retire(&retirement);
            }
            Heard::Silence => {
                if phase == Phase::Serving && (0..threads.len()).any(ended) {
                    error!("a core has ended by itself: stopping");
                    monitor.drain();
                    life.stopping();
                    phase = Phase::Draining;
                    tell(|| Command::Force);
                } else if phase != Phase::Serving && (0..threads.len()).all(ended) {
                    return Ok(());
                }
            }
        }
    }
}

/// A core's main task.
async fn serve_core(
    mut settings: Settings,
    tls: tls::Settings,
    listeners: Vec<CoreListener>,
    (mut commands, recorder, pulse): (mpsc::UnboundedReceiver<Command>, Rc<Recorder>, Pulse),
) {
    let core = control::Core::new(
        control_settings(&settings, tls),
        Arc::clone(&settings.authenticator),
        Arc::clone(&settings.admission),
        recorder,
    );
    *core.passive.borrow_mut() = Arc::new(settings.passive.addresses());
    rt::busy_poll(settings.busy_poll);
    rt::spawn(monitor::watch_delay(Rc::clone(&core), pulse));
    let mut acceptors = Acceptors::new(listeners);
    let end = serve_until_told(&core, &mut acceptors, &mut commands, &mut settings).await;
    acceptors.stop().await;
    acceptors.awaited().shut_down();
    let force = match end {
        End::Left => return,
        End::Drain => false,
        End::Force => true,
    };
    core.shut_down(force);
    if !force {
        tokio::select! {
            () = drained(&core, DRAIN_INTERVAL) => {}
            () = rt::sleep(settings.grace) => core.shut_down(true),
            _ = forced(&core, &mut commands) => core.shut_down(true),
        }
    }
    tokio::select! {
        () = drained(&core, DRAIN_INTERVAL) => {}
        // Nothing more to force, but the figures are told to the end.
        () = attend(&core, &mut commands) => {}
        () = rt::sleep(FORCED_END_TIME_MAX) => {
            warn!(connections = core.connections(), "connections cut off");
        }
    }
}

/// What connections of a core need of the settings.
fn control_settings(settings: &Settings, tls: tls::Settings) -> control::Settings {
    control::Settings {
        session: Arc::clone(&settings.session),
        data: Arc::clone(&settings.data),
        files: Rc::new(settings.files.clone()),
        file_rules: Arc::clone(&settings.file_rules),
        handshake_time_max: settings.handshake_time_max,
        close_time_max: settings.close_time_max,
        drain_time_max: settings.drain_time_max,
        tls,
        bandwidth: Arc::clone(&settings.bandwidth),
        transfer_log: settings.transfer_log.clone(),
        hosts: Arc::clone(&settings.hosts),
    }
}

/// How a core's service ends.
enum End {
    /// The last session has ended after another process had taken over.
    Left,
    /// Sessions end, transfers may finish.
    Drain,
    /// Everything ends.
    Force,
}

/// Serves, and after another process has taken over goes on with the sessions that there are, for the time that they
/// have.
async fn serve_until_told(
    core: &Rc<control::Core>,
    acceptors: &mut Acceptors,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    settings: &mut Settings,
) -> End {
    let mut retired = None;
    loop {
        let last = retired.unwrap_or_else(rt::now);
        let command = tokio::select! {
            command = commands.recv() => command,
            () = left(core, acceptors), if retired.is_some() => return End::Left,
            () = rt::sleep_until(last), if retired.is_some() => Some(Command::Drain),
        };
        match command {
            Some(Command::Accept) => acceptors.start(core),
            Some(Command::Reload(reloaded)) => {
                let tls;
                (*settings, tls) = *reloaded;
                core.reload(control_settings(settings, tls));
            }
            Some(Command::PassiveAddresses(addresses)) => *core.passive.borrow_mut() = addresses,
            Some(Command::Report(books, reply)) => report(core, books, reply),
            Some(Command::Status(question)) => question.answer(core),
            Some(Command::Retire) => {
                acceptors.stop().await;
                retired = Some(rt::now() + settings.retire);
            }
            Some(Command::Drain) => return End::Drain,
            Some(Command::Force) | None => return End::Force,
        }
    }
}

/// Answers reports, and never returns.
async fn attend(core: &control::Core, commands: &mut mpsc::UnboundedReceiver<Command>) {
    while forced(core, commands).await {}
    std::future::pending().await
}

/// Waits for the command to end now; false when there is nobody left to give it.
async fn forced(core: &control::Core, commands: &mut mpsc::UnboundedReceiver<Command>) -> bool {
    loop {
        match commands.recv().await {
            Some(Command::Force) => return true,
            Some(Command::Report(books, reply)) => report(core, books, reply),
            Some(Command::Status(question)) => question.answer(core),
            Some(
                Command::Accept
                | Command::Drain
                | Command::Reload(_)
                | Command::PassiveAddresses(_)
                | Command::Retire,
            ) => {}
            None => return false,
        }
    }
}

fn report(core: &control::Core, books: Books, reply: oneshot::Sender<Books>) {
    let filled = core.metrics.exchange(books, core.connections());
    // When nobody waits any more the main thread has ended: nobody will ask again.
    let _ = reply.send(filled);
}

/// Waits for the last session of a retired core, and for those that may still become one.
async fn left(core: &control::Core, acceptors: &Acceptors) {
    while acceptors.awaited().count() > 0 || core.connections() > 0 {
        rt::sleep(RETIRED_INTERVAL).await;
    }
}

async fn drained(core: &control::Core, interval: Duration) {
    while core.connections() > 0 {
        rt::sleep(interval).await;
    }
}
