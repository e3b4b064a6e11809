//! The life of one transfer: connect, handshake, copy, end, outcome.
//!
//! ```text
//! set-up + opened file ──> connect ──> secure (PROT P) ──> send | receive ──> ends ──> outcome
//! ```
//!
//! A transfer is a task of its own on the core of its control connection. The two share a
//! [`Handle`]: the control connection reads the progress from it, and aborts by shutting down
//! whatever socket the transfer waits on at that moment.

pub mod connect;
mod detached;
mod direct;
mod end;
pub mod kernel;
mod measure;
mod prepare;
pub mod proxy;
mod receive;
mod records;
pub mod route;
mod secure;
mod send;
mod sink;
mod take_over;
mod throttle;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::bandwidth::Budget;
use crate::limits;
use crate::metrics::Recorder;
use crate::proto::{FileError, TransferEnd};
use crate::rt::{self, Residency, Socket};
use crate::tls;
use crate::vfs;

pub use connect::{Expected, Listener};
pub use kernel::KernelTlsPolicy;
pub use measure::names;
pub use prepare::Passive;
pub use proxy::Proxies;
pub use secure::Security;

use direct::Rest;
use measure::Watch;
use prepare::Early;
use records::Records;
use route::{Choice, Protected, Route, Subject};
use secure::Begun;

/// What the operator sets for data connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Wait for the client's connection, or for ours to it (425 afterwards).
    pub connect_time_max: Duration,
    /// Wait for the TLS handshake (522 afterwards).
    pub handshake_time_max: Duration,
    /// A transfer without progress for so long ends with 426.
    pub stall_time_max: Duration,
    /// Wait for the client to close after a download's last octet.
    pub drain_time_max: Duration,
    /// An upload is complete only on close_notify (RFC 4217 §12.6 draws it so); else a plain FIN
    /// will do.
    pub strict_eof: bool,
    /// 226 to an upload means that the disk has it.
    pub fsync: bool,
    /// An upload that broke is removed instead of kept for a restart.
    pub remove_partial: bool,
    /// Ports for passive data connections.
    pub passive_ports: RangeInclusive<u16>,
    /// Passive connections may come from another address than the control connection if they resume its TLS session,
    /// which shows whose they are; else from the same alone.
    pub peers_elsewhere: bool,
    /// Active connections come from the control port less one (RFC 959 §3.2: 20; MS-FTPS: 989).
    pub active_source_standard: bool,
    /// When the kernel protects data connections, and how files go to sockets.
    pub kernel_tls: Arc<KernelTlsPolicy>,
    /// Proxies in front of this server.
    pub proxies: Proxies,
}

/// Where the data connection comes from.
#[derive(Debug)]
pub enum Setup {
    /// PASV, EPSV: the client is waited for.
    Passive(Passive),
    /// PORT, EPRT: the client's address.
    Active(SocketAddr),
}

impl Setup {
    /// What the transfer that uses it shares with the control connection.
    #[must_use]
    pub fn handle(&self) -> Rc<Handle> {
        match self {
            Self::Passive(passive) => passive.handle(),
            Self::Active(_) => Rc::default(),
        }
    }
}

/// What a transfer reads or writes.
#[derive(Debug)]
pub enum Opened {
    /// RETR: a file, from an offset to the size it had when opened.
    Download {
        /// The file.
        file: rt::File,
        /// First octet.
        offset: u64,
        /// One past the last octet.
        end: u64,
    },
    /// LIST, NLST, MLSD.
    Listing(vfs::Listing),
    /// STOR, APPE, STOU.
    Upload(vfs::Upload),
}

/// One transfer, ready to run.
#[derive(Debug)]
pub struct Job {
    /// Where the connection comes from; used up.
    pub setup: Setup,
    /// What is moved.
    pub opened: Opened,
    /// TYPE A conversion.
    pub ascii: bool,
    /// PROT P: how to protect the connection.
    pub security: Option<Security>,
    /// The control connection's local address.
    pub local: SocketAddr,
    /// The control connection's peer; nobody else is served.
    pub peer: SocketAddr,
    /// The operator's settings.
    pub settings: Arc<Settings>,
    /// How much may move when; `None` for no limit.
    pub budget: Option<Budget>,
    /// Shared with the control connection.
    pub handle: Rc<Handle>,
    /// When the transfer command came.
    pub asked: Instant,
    /// The core's books.
    pub metrics: Rc<Recorder>,
}

/// What the control connection and its running transfer share.
#[derive(Debug, Default)]
pub struct Handle {
    octets: Cell<u64>,
    /// When the first octet had moved.
    first: Cell<Option<Instant>>,
    aborted: Cell<bool>,
    /// The way that was chosen.
    choice: Cell<Option<Choice>>,
    /// It is over, and what it moved is in the books.
    over: Cell<bool>,
    socket: RefCell<Option<Socket>>,
    /// Beside a listener: the connection of a proxy that has not said yet whose it is.
    candidate: RefCell<Option<Socket>>,
    /// The transfer command has come.
    wanted: Notify,
    /// It was aborted, while it waited for nothing on the network.
    stopped: Notify,
}

impl Handle {
    /// Ends the transfer at once, whatever it waits for on the network.
    pub fn abort(&self) {
        self.aborted.set(true);
        self.stopped.notify_one();
        self.shut_down();
    }

    fn shut_down(&self) {
        for socket in [&self.socket, &self.candidate] {
            if let Some(socket) = socket.borrow().as_ref() {
                socket.shut_down();
            }
        }
    }

    /// Octets moved so far, as they lie in the file.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets.get()
    }

    /// The name of the way that its octets go; none before it was chosen.
    #[must_use]
    pub fn route(&self) -> Option<&'static str> {
        self.choice.get().map(|choice| choice.route.name())
    }

    /// Whether it has ended, and what it moved is recorded.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    fn add(&self, octets: u64) {
        self.moves();
        self.octets.set(self.octets.get() + octets);
    }

    /// Octets move: of those that are added later, some have left.
    fn moves(&self) {
        if self.first.get().is_none() {
            self.first.set(Some(rt::now()));
        }
    }

    /// From here on this is the socket to shut down.
    ///
    /// # Errors
    /// The transfer was aborted before.
    fn watch(&self, socket: &Socket) -> Result<(), TransferEnd> {
        *self.socket.borrow_mut() = Some(socket.clone());
        self.check()
    }

    fn check(&self) -> Result<(), TransferEnd> {
        if self.aborted.get() {
            Err(TransferEnd::Aborted)
        } else {
            Ok(())
        }
    }
}

/// How a transfer went, for the reply and for the log.
#[derive(Debug)]
pub struct Outcome {
    /// The end, for the reply.
    pub end: TransferEnd,
    /// Octets moved.
    pub octets: u64,
    /// From the transfer command to the end.
    pub time: Duration,
    /// Which way the octets went, and why not another; none where it did not come to that.
    pub choice: Option<Choice>,
    /// TLS version, cipher suite and whether the session was resumed.
    pub tls: Option<tls::Summary>,
    /// Of an upload that was to appear once it is whole nothing was kept.
    pub discarded: bool,
}

impl Outcome {
    /// An end before anything was moved.
    #[must_use]
    pub fn new(end: TransferEnd) -> Self {
        Self {
            end,
            octets: 0,
            time: Duration::ZERO,
            choice: None,
            tls: None,
            discarded: false,
        }
    }
}

/// Runs a transfer to its end. The data connection is closed when this returns.
pub async fn run(job: Job) -> Outcome {
    let began = rt::now();
    let handle = Rc::clone(&job.handle);
    let mut watch = Watch::new(&job, began);
    let sends = !matches!(job.opened, Opened::Upload(_));
    let mut outcome = Outcome::new(TransferEnd::Complete);
    let result = transfer(job, &mut outcome, &mut watch).await;
    // An abort shuts the socket down under the transfer: whatever error that gave, it was ABOR.
    outcome.end = match (handle.check(), result) {
        // Only what it came too late for.
        (_, Err(TransferEnd::Unsynced)) => TransferEnd::Unsynced,
        (Err(aborted), Err(_)) => aborted,
        (_, Err(end)) => end,
        (_, Ok(())) => TransferEnd::Complete,
    };
    outcome.octets = handle.octets();
    let ended = rt::now();
    outcome.time = ended.saturating_duration_since(began);
    let socket = handle.socket.borrow_mut().take();
    // Nobody wants the rest any more, or reads it: the kernel would keep megabytes of it for minutes.
    if sends
        && matches!(outcome.end, TransferEnd::Aborted | TransferEnd::Stalled)
        && let Some(socket) = socket
    {
        socket.reset_on_close();
    }
    watch.ended(&outcome, handle.first.get(), ended);
    handle.over.set(true);
    outcome
}

fn elapsed(since: Instant) -> Duration {
    rt::now().saturating_duration_since(since)
}

async fn transfer(job: Job, outcome: &mut Outcome, watch: &mut Watch) -> Result<(), TransferEnd> {
    let Job {
        setup,
        opened,
        ascii,
        security,
        local,
        peer,
        settings,
        budget,
        handle,
        ..
    } = job;
    let link = Link {
        settings,
        handle,
        budget,
        looked: Cell::default(),
    };
    let (opened, upload_undo, quota) = match opened {
        Opened::Upload(upload) => {
            let undo = upload.undo();
            let quota = upload.charge.as_ref().map(|charge| charge.quota().clone());
            (Opened::Upload(upload), Some(undo), quota)
        }
        other => (other, None, None),
    };
    let result = async {
        let Early {
            socket,
            begun,
            elsewhere,
        } = connect::connect(setup, local, peer, &link).await?;
        watch.connected();
        let records = match (security, begun) {
            (Some(security), begun) => {
                let before = begun.as_ref().map_or(Duration::ZERO, Begun::took);
                let secured = secure::handshake(&socket, begun, security, elsewhere, &link).await?;
                let summary = secured.summary();
                watch.secured(summary.resumed, before);
                outcome.tls = Some(summary);
                Records::Rustls(Box::new(secured))
            }
            // PROT C after a handshake that the client began under PROT P.
            (None, Some(_)) => return Err(TransferEnd::TlsFailed),
            (None, None) if elsewhere => return Err(TransferEnd::NotConnected),
            (None, None) => Records::None,
        };
        if upload_undo.is_none() {
            link.pace(&socket);
        }
        move_octets(&socket, records, opened, ascii, &link, outcome).await
    }
    .await;
    if let Some(undo) = upload_undo {
        outcome.discarded = result.is_err() && undo.is_due();
        // A file that this command made and nothing was written to would only mislead.
        let misleads = undo.is_due() || link.handle.octets() == 0 || link.settings.remove_partial;
        if result.is_err() && misleads {
            undo.run(link.settings.remove_partial).await;
        } else {
            undo.end().await;
        }
    }
    match (result, quota) {
        // What is left now, without the file if that was removed.
        (Err(TransferEnd::File(FileError::OverQuota { .. })), Some(quota)) => {
            Err(TransferEnd::File(vfs::over_quota(&quota)))
        }
        _ => result,
    }
}

/// Chooses the route and goes it to the end.
async fn move_octets(
    socket: &Socket,
    mut records: Records,
    opened: Opened,
    ascii: bool,
    link: &Link,
    outcome: &mut Outcome,
) -> Result<(), TransferEnd> {
    let choice = outcome
        .choice
        .insert(choose(&records, &opened, ascii, link));
    if choice.route.is_kernel_tls() {
        records = records.take_over(socket, choice, link).await?;
    } else if let Opened::Download { offset, end, .. } = opened
        && choice.route == Route::UserTls
        && end - offset >= limits::DETACHED_OCTETS_MIN
    {
        records = records.detach(socket, link).await?;
    }
    link.handle.choice.set(Some(*choice));
    if choice.route.is_kernel_tls() || choice.route.is_direct() {
        // FIN follows right behind the last octet.
        socket.cork();
    }
    match opened {
        Opened::Upload(upload) => {
            return receive::run(socket, records, upload, choice, link).await;
        }
        Opened::Download { file, offset, end } if choice.route.is_direct() => {
            let rest = Rest { offset, end };
            let kernel = records.detached();
            if matches!(choice.route, Route::ClearSplice | Route::KernelTlsSplice) {
                direct::splice(socket, &file, rest, kernel, link).await?;
            } else {
                let Rest { offset, end } =
                    direct::sendfile(socket, &file, rest, kernel, link).await?;
                if offset < end {
                    socket.set_non_blocking(false).map_err(lost)?;
                    let rest = Opened::Download { file, offset, end };
                    send::run(socket, &mut records, rest, false, link).await?;
                }
            }
        }
        other => send::run(socket, &mut records, other, ascii, link).await?,
    }
    end::exchange(socket, &mut records, link).await
}

fn choose(records: &Records, opened: &Opened, ascii: bool, link: &Link) -> Choice {
    let policy = &link.settings.kernel_tls;
    let subject = match opened {
        Opened::Download { file, offset, end } => Subject::Download {
            octets: end - offset,
            residency: match records {
                // Not asked for nothing.
                Records::Rustls(_) if end - offset < limits::KERNEL_TLS_OCTETS_MIN => {
                    Residency::Unknown
                }
                _ => file.residency(*offset),
            },
        },
        Opened::Listing(_) => Subject::Listing,
        Opened::Upload(_) => Subject::Upload,
    };
    let protected = match records {
        Records::None | Records::Detached(_) => Protected::No,
        Records::Rustls(secured) => {
            let protection = secured.engine.protection();
            Protected::Yes(match subject {
                Subject::Upload => policy.upload(protection, rt::now()),
                _ => policy.download(protection, rt::now()),
            })
        }
    };
    route::choose(protected, ascii, policy.means(), subject)
}

/// What every step of a transfer needs.
#[derive(Debug)]
struct Link {
    settings: Arc<Settings>,
    handle: Rc<Handle>,
    budget: Option<Budget>,
    /// When it was looked last whether the client is still there, while the budget made it wait.
    looked: Cell<Option<Instant>>,
}

impl Link {
    /// Awaits an operation on the socket, at most as long as a transfer may stall.
    async fn unstalled<F: Future>(
        &self,
        socket: &Socket,
        operation: F,
    ) -> Result<F::Output, TransferEnd> {
        rt::within(self.settings.stall_time_max, socket, operation)
            .await
            .map_err(|rt::TimedOut| TransferEnd::Stalled)
    }
}

/// What an error on the data connection means: reset, broken pipe, time-out of TCP itself.
fn lost(_: io::Error) -> TransferEnd {
    TransferEnd::ConnectionLost
}

/// What an error on a file means.
fn failed(error: &io::Error) -> TransferEnd {
    TransferEnd::File(vfs::file_error(error))
}
