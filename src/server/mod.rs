//! One pinned thread and one ring for each core; signals, drain and reload on the main thread.

mod accept;
mod http;
mod monitor;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::admission::Admission;
use crate::auth::Authenticator;
use crate::metrics::{Books, Catalogue, Recorder};
use crate::proto::session::{self, ChannelKind};
use crate::rt::{self, Socket};
use crate::sys::{host, socket};
use crate::{control, data, tls, vfs};

pub use monitor::Outlets;

use monitor::Monitor;

/// Connections that may wait to be accepted on one listener (the kernel caps it at
/// net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// Submission entries of a core's ring; more in one turn are submitted in several calls.
const RING_ENTRIES: u32 = 1024;
/// After the grace period, the time for 426 and 421 to leave.
const FORCED_END_TIME_MAX: Duration = Duration::from_secs(5);
/// How often a draining core looks whether its last connection has ended.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// What the server is made of. Everything in it is shared by all cores; a reload replaces it as a whole.
#[derive(Clone)]
pub struct Settings {
    /// CPUs to use, one thread each.
    pub cores: Vec<usize>,
    /// How long a core looks for its next event before it sleeps, where that pays; zero: never.
    pub busy_poll: Duration,
    /// Running transfers may go on for so long after SIGTERM.
    pub grace: Duration,
    /// What sessions may and must do.
    pub session: Arc<session::Settings>,
    /// What data connections may and must do.
    pub data: Arc<data::Settings>,
    /// What files look like.
    pub files: vfs::Settings,
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
}

/// Listeners for every core, bound while the process still had the right to.
#[derive(Debug)]
pub struct Listeners {
    cores: Vec<Vec<(OwnedFd, ChannelKind)>>,
    /// The explicit addresses, with the ports that the system chose for 0.
    pub explicit: Vec<SocketAddr>,
    /// The implicit ones.
    pub implicit: Vec<SocketAddr>,
}

impl Listeners {
    /// Binds every address once for each core (SO_REUSEPORT), so that the kernel spreads
    /// connections over the cores.
    ///
    /// # Errors
    /// The address that could not be bound, and why.
    pub fn bind(
        explicit: &[SocketAddr],
        implicit: &[SocketAddr],
        cores: usize,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let mut listeners = Self {
            cores: (0..cores.max(1)).map(|_| Vec::new()).collect(),
            explicit: Vec::new(),
            implicit: Vec::new(),
        };
        for address in explicit {
            let bound = listeners.add(*address, ChannelKind::Explicit)?;
            listeners.explicit.push(bound);
        }
        for address in implicit {
            let bound = listeners.add(*address, ChannelKind::Implicit)?;
            listeners.implicit.push(bound);
        }
        Ok(listeners)
    }

    fn add(
        &mut self,
        address: SocketAddr,
        kind: ChannelKind,
    ) -> Result<SocketAddr, (SocketAddr, io::Error)> {
        let failed = |error| (address, error);
        // Without SO_REUSEPORT first: another server on this address is an error to be told, not
        // somebody to share the clients with.
        if address.port() != 0 {
            drop(socket::listen(address, BACKLOG, false).map_err(failed)?);
        }
        let mut bound = address;
        for core in &mut self.cores {
            let fd = socket::listen(bound, BACKLOG, true).map_err(failed)?;
            socket::tune_control(&fd);
            bound = socket::local_address(&fd).map_err(failed)?;
            core.push((fd, kind));
        }
        Ok(bound)
    }
}

/// From the main thread to a core.
enum Command {
    /// Stop accepting; end when the last transfer has, or after the grace period.
    Drain,
    /// End now.
    Force,
    /// Other settings for new connections.
    Reload(Box<Reloaded>),
    /// Hand over what was recorded, and go on in these books.
    Report(Books, oneshot::Sender<Books>),
}

/// What a reload puts into force: for new connections, and the grace period. Cores, busy polling,
/// admission and accounts are those of the start.
pub type Reloaded = (Settings, tls::Settings);

/// Serves until SIGTERM or SIGINT; SIGHUP calls `reload` for new settings, SIGUSR1 writes
/// counts and percentiles to the log, as the end does.
///
/// # Errors
/// A ring, a thread or a signal handler could not be set up.
pub fn run(
    settings: &Settings,
    tls: &tls::Settings,
    listeners: Listeners,
    outlets: Outlets,
    reload: impl FnMut() -> Option<Reloaded>,
) -> io::Result<()> {
    let catalogue = Arc::new(Catalogue::new(&data::names()));
    let mut commands = Vec::new();
    let mut threads = Vec::new();
    for (cpu, listeners) in settings.cores.iter().copied().zip(listeners.cores) {
        let (sender, receiver) = mpsc::unbounded_channel();
        commands.push(sender);
        let (settings, tls) = (settings.clone(), tls.clone());
        let catalogue = Arc::clone(&catalogue);
        let name = format!("core-{cpu}");
        threads.push(thread::Builder::new().name(name).spawn(move || {
            if let Err(error) = host::pin_thread(cpu) {
                warn!(cpu, %error, "thread not pinned: the scheduler places it");
            }
            let recorder = Recorder::new(&catalogue);
            let core = serve_core(settings, tls, listeners, receiver, Rc::clone(&recorder));
            rt::run(RING_ENTRIES, core)?;
            Ok(recorder.exchange(Books::new(&catalogue), 0))
        })?);
    }
    let watching = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (log, interval) = outlets.interval_log.unzip();
    let monitor = Arc::new(Monitor::new(&catalogue, &settings.cores, &commands, log));
    watching.block_on(async {
        monitor::start(&monitor, outlets.listener, interval)?;
        watch_signals(&commands, &threads, &monitor, reload).await
    })?;
    drop(commands);
    let mut result = Ok(());
    let mut last = Vec::new();
    for thread in threads {
        let ended: io::Result<Books> = thread
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
    watching.block_on(monitor.finish(last));
    result
}

/// Returns once every core has ended.
async fn watch_signals<T>(
    commands: &[mpsc::UnboundedSender<Command>],
    threads: &[thread::JoinHandle<T>],
    monitor: &Monitor,
    mut reload: impl FnMut() -> Option<Reloaded>,
) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut report = signal(SignalKind::user_defined1())?;
    let tell = |command: fn() -> Command| {
        for core in commands {
            // A core that has ended needs no command.
            let _ = core.send(command());
        }
    };
    let mut draining = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {
                if let Some(reloaded) = reload() {
                    for core in commands {
                        let _ = core.send(Command::Reload(Box::new(reloaded.clone())));
                    }
                }
                continue;
            }
            _ = report.recv() => {
                monitor.log().await;
                continue;
            }
            () = tokio::time::sleep(DRAIN_INTERVAL), if draining => {
                if threads.iter().all(thread::JoinHandle::is_finished) {
                    return Ok(());
                }
                continue;
            }
            () = tokio::time::sleep(Duration::from_secs(1)), if !draining => {
                if threads.iter().any(thread::JoinHandle::is_finished) {
                    error!("a core has ended by itself: stopping");
                    monitor.drain();
                    draining = true;
                    tell(|| Command::Force);
                }
                continue;
            }
        }
        if draining {
            info!("second signal: ending transfers now");
            tell(|| Command::Force);
        } else {
            info!("stopping: no new connections, running transfers may finish");
            monitor.drain();
            draining = true;
            tell(|| Command::Drain);
        }
    }
}

/// A core's main task.
async fn serve_core(
    mut settings: Settings,
    tls: tls::Settings,
    listeners: Vec<(OwnedFd, ChannelKind)>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    recorder: Rc<Recorder>,
) {
    let core = control::Core::new(
        control_settings(&settings, tls),
        Arc::clone(&settings.authenticator),
        Arc::clone(&settings.admission),
        recorder,
    );
    rt::busy_poll(settings.busy_poll);
    rt::spawn(monitor::watch_delay(Rc::clone(&core)));
    let mut sockets = Vec::new();
    for (fd, kind) in listeners {
        let listener = Socket::new(fd);
        sockets.push(listener.clone());
        rt::spawn(accept::run(Rc::clone(&core), listener, kind));
    }
    let mut force = false;
    loop {
        match commands.recv().await {
            Some(Command::Reload(reloaded)) => {
                let tls;
                (settings, tls) = *reloaded;
                core.reload(control_settings(&settings, tls));
            }
            Some(Command::Report(books, reply)) => report(&core, books, reply),
            Some(Command::Drain) => break,
            Some(Command::Force) | None => {
                force = true;
                break;
            }
        }
    }
    for listener in sockets {
        listener.shut_down();
    }
    core.shut_down(force);
    if !force {
        tokio::select! {
            () = drained(&core) => {}
            () = rt::sleep(settings.grace) => core.shut_down(true),
            _ = forced(&core, &mut commands) => core.shut_down(true),
        }
    }
    tokio::select! {
        () = drained(&core) => {}
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
        handshake_time_max: settings.handshake_time_max,
        close_time_max: settings.close_time_max,
        drain_time_max: settings.drain_time_max,
        tls,
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
            Some(Command::Drain | Command::Reload(_)) => {}
            None => return false,
        }
    }
}

fn report(core: &control::Core, books: Books, reply: oneshot::Sender<Books>) {
    let filled = core.metrics.exchange(books, core.connections());
    // When nobody waits any more the main thread has ended: nobody will ask again.
    let _ = reply.send(filled);
}

async fn drained(core: &control::Core) {
    while core.connections() > 0 {
        rt::sleep(DRAIN_INTERVAL).await;
    }
}
