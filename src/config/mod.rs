//! The command line: raw options first ([`ServeOptions`]), checked values second ([`Checked`]).

mod access;
mod accounts;
mod bandwidth;
mod clients;
mod doctor;
mod failure;
mod file;
mod file_rules;
mod hosts;
mod logs;
mod metrics;
mod network;
mod options;
mod pam;
mod privileges;
mod prompt;
mod quota;
mod restart;
mod routes;
mod running;
mod serve;
mod session;
mod user;
mod user_options;
mod users_store;
mod value;
mod welcome;
mod zone;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::FileRules;
use crate::data::Proxies;
use crate::data::kernel::Wishes;
use crate::limits;
use crate::logging::{LogSettings, TransferLogFormat};
use crate::proto::Charset;
use crate::proto::zone::Zone;
use crate::server::PassivePlan;
use crate::sys::{host, identity};
use crate::vfs::Storing;

pub use access::{Access, AccessOptions};
pub use accounts::{AccountSource, OneTimeAccount};
pub use bandwidth::RateOptions;
pub use clients::{ClientCert, ClientFiles, ClientOptions};
pub use doctor::{DoctorOptions, describe_download, describe_upload, doctor};
pub use failure::{Exit, Failure, cause, explain_bind_error};
pub use file::{
    Change, Complaints, ConfigCommand, Loaded, ManualKey, ManualSection, Origins, Place, Problem,
    Problems, Refusal, Section, Sources, Structures, check_config, command, manual,
    run_config_command, structures,
};
pub use file_rules::FileOptions;
pub use hosts::{HostOptions, HostsOptions};
pub use metrics::MetricsOptions;
pub use network::{NetworkOptions, ProxyOthers};
pub use options::{ActiveSourcePort, Command, CommandLine, Protect, Resume, ServeOptions, Switch};
pub use pam::{PamOptions, PamSettings};
pub use privileges::Privileges;
pub use quota::QuotaOptions;
pub use restart::{RestartOptions, UpgradeOptions, upgrade};
pub use routes::{RouteOptions, kernel_tls, log_kernel_tls};
pub use serve::{hold_signals, serve};
pub use session::{SessionCommand, TopOptions, run_session_command, top};
pub use user::{UserCommand, run_user_command};
pub use value::Listen;
pub use welcome::{CurlTrust, print_listeners, print_metrics, print_welcome};

/// The usual port of explicit FTPS (RFC 959).
pub const EXPLICIT_PORT: u16 = 21;
/// The usual port of implicit FTPS (MS-FTPS §1.9).
pub const IMPLICIT_PORT: u16 = 990;

/// Everything that `ringftpd serve` was told, checked; paths are absolute.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The directory that accounts without a home of their own see as `/`. May not exist yet:
    /// [`Privileges::prepare`] makes it.
    pub directory: PathBuf,
    /// Where to listen for explicit FTPS; empty for `off`. A port may be 0: the system chooses.
    pub explicit: Vec<SocketAddr>,
    /// Where to listen for implicit FTPS, likewise. One of the two is not empty.
    pub implicit: Vec<SocketAddr>,
    /// Ports for passive data connections; none is 0.
    pub passive_ports: RangeInclusive<u16>,
    /// What PASV names.
    pub passive: PassivePlan,
    /// Whether data connections may come from other addresses if they resume.
    pub peers_elsewhere: bool,
    /// Proxies in front of this server.
    pub proxies: Proxies,
    /// Whether PORT and EPRT are served.
    pub active: bool,
    /// From which port active data connections come.
    pub active_source_port: ActiveSourcePort,
    /// Certificate and key; `None` for a self-signed certificate in the state directory.
    pub certificate: Option<CertificateFiles>,
    /// The users file.
    pub users: Option<PathBuf>,
    /// Certificates of clients.
    pub clients: ClientFiles,
    /// Whether `anonymous` may log in.
    pub anonymous: bool,
    /// Whether PAM is asked, and about what.
    pub pam: Option<PamSettings>,
    /// Resumption on data connections.
    pub resume: Resume,
    /// TLS on explicit control connections.
    pub protect_control: Protect,
    /// TLS on data connections.
    pub protect_data: Protect,
    /// Whether CCC is permitted.
    pub ccc: bool,
    /// Whether an upload without close_notify is truncated (426).
    pub strict_eof: bool,
    /// Which ways transfers go.
    pub routes: Wishes,
    /// Whether 226 means "on disk".
    pub fsync: bool,
    /// Whether the file of a broken upload is removed.
    pub remove_partial: bool,
    /// When uploads appear under their name.
    pub storing: Storing,
    /// Rules for the files of every account.
    pub file_rules: Arc<FileRules>,
    /// The character set of names for accounts without one of their own.
    pub charset: Charset,
    /// The time zone of dates in LIST.
    pub list_zone: Zone,
    /// The account to become, if one was named.
    pub run_as: Option<String>,
    /// The processor of each thread, one entry a thread; never empty. With `--cores` above what is
    /// usable, processors are named again.
    pub cores: Vec<usize>,
    /// How long a core looks for its next event before it sleeps; zero: not at all.
    pub busy_poll: Duration,
    /// Octets for what directories held a moment ago; 0: none.
    pub listing_cache_octets: usize,
    /// The directory for what outlives the process. May not exist yet.
    pub state_directory: PathBuf,
    /// Whether to take over from a running server.
    pub take_over: bool,
    /// Timers.
    pub timers: Timers,
    /// Bounds on connections.
    pub bounds: Bounds,
    /// Who may connect.
    pub access: Access,
    /// How fast transfers may go.
    pub rates: crate::bandwidth::Limits,
    /// Octets of the files of each account that has no quota of its own; 0 for no quota.
    pub quota_per_user: u64,
    /// Logs.
    pub log: LogSettings,
    /// The transfer log and its form.
    pub transfer_log: Option<(PathBuf, TransferLogFormat)>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// The directory for histogram logs.
    pub histogram_log: Option<PathBuf>,
    /// The length of their intervals.
    pub histogram_interval: Duration,
    /// The configuration file, if there is one.
    pub config_file: Option<PathBuf>,
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

impl CertificateFiles {
    fn check(options: &ServeOptions) -> Result<Option<Self>, Failure> {
        let (Some(certificate), Some(key)) = (&options.cert, &options.key) else {
            return Ok(None);
        };
        Ok(Some(Self {
            certificate: existing_file("--cert", certificate)?,
            key: existing_file("--key", key)?,
        }))
    }
}

/// Timers; those of which nothing else is said are above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// A TLS handshake, on control and data connections.
    pub handshake: Duration,
    /// From accept to login.
    pub login: Duration,
    /// Between commands.
    pub idle: Duration,
    /// Accepting or connecting a data connection.
    pub connect: Duration,
    /// A transfer without progress.
    pub stall: Duration,
    /// Waiting for the peer's close_notify.
    pub close: Duration,
    /// Waiting for the peer's FIN after a download; may be zero.
    pub drain: Duration,
    /// Before 530 to a rejected password; may be zero.
    pub bad_login_delay: Duration,
    /// Running transfers after SIGTERM; may be zero.
    pub grace: Duration,
    /// Sessions after another process has taken over; may be zero.
    pub retire: Duration,
}

/// Bounds on connections, whole process; `None` for no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Control connections; `None` leaves it to the limit on descriptors.
    pub connections_max: Option<NonZeroU32>,
    /// Control connections from one address.
    pub connections_per_address_max: Option<NonZeroU32>,
    /// Sessions of one user.
    pub sessions_per_user_max: Option<NonZeroU32>,
}

impl From<&options::BoundOptions> for Bounds {
    fn from(bounds: &options::BoundOptions) -> Self {
        Self {
            connections_max: NonZeroU32::new(bounds.connections_max),
            connections_per_address_max: NonZeroU32::new(bounds.connections_per_address_max),
            sessions_per_user_max: NonZeroU32::new(bounds.sessions_per_user_max),
        }
    }
}

impl Checked {
    /// Checks the options together and fills in what depends on this machine.
    ///
    /// # Errors
    /// [`Failure`] with the option at fault and the remedy.
    pub fn new(options: ServeOptions) -> Result<Self, Failure> {
        let (log, transfer_log) = logs::check(&options.logs)?;
        let (explicit, implicit) = listeners(&options)?;
        let certificate = CertificateFiles::check(&options)?;
        let users = options.users.as_deref();
        let histogram_log = options.metrics.histogram_log.as_deref();
        let timers = &options.timers;
        Ok(Self {
            directory: absolute(&options.directory)?,
            explicit,
            implicit,
            passive_ports: options.passive_ports,
            passive: options.network.passive()?,
            peers_elsewhere: options.network.peers_elsewhere(options.resume)?,
            proxies: options.network.proxies(timers.handshake_timeout),
            active: options.active == Switch::On,
            active_source_port: options.active_source_port,
            certificate,
            users: users
                .map(|path| existing_file("--users", path))
                .transpose()?,
            clients: options.clients.check()?,
            anonymous: options.anonymous,
            pam: options.pam.settings(),
            resume: options.resume,
            protect_control: options.protect_control,
            protect_data: options.protect_data,
            ccc: options.ccc,
            strict_eof: options.strict_eof == Switch::On,
            routes: Wishes {
                strict_eof: options.strict_eof == Switch::On,
                ..options.routes.wishes()
            },
            fsync: options.fsync,
            remove_partial: options.remove_partial,
            charset: options.files.charset,
            storing: options.upload_mode,
            file_rules: options.files.rules(),
            list_zone: options.list_zone,
            run_as: options.host.run_as,
            cores: cores(options.host.cores)?,
            busy_poll: Duration::from_micros(options.host.busy_poll.into()),
            listing_cache_octets: usize::from(options.host.listing_cache) << 20,
            state_directory: state_directory(options.host.state_dir)?,
            take_over: options.restart.take_over,
            timers: Timers {
                handshake: timers.handshake_timeout,
                login: timers.login_timeout,
                idle: timers.idle_timeout,
                connect: timers.connect_timeout,
                stall: timers.stall_timeout,
                close: timers.close_timeout,
                drain: timers.drain_timeout,
                bad_login_delay: timers.bad_login_delay,
                grace: timers.grace,
                retire: options.restart.retire_timeout,
            },
            bounds: Bounds::from(&options.bounds),
            access: options.access.access(),
            rates: options.rates.limits(),
            quota_per_user: options.quotas.quota_per_user,
            log,
            transfer_log,
            metrics: options.metrics.metrics,
            histogram_log: histogram_log.map(absolute).transpose()?,
            histogram_interval: options.metrics.histogram_interval,
            config_file: options.config.as_deref().map(absolute).transpose()?,
        })
    }

    /// Adds what the sections of the configuration file say that are no options.
    fn take_structures(&mut self, structures: &Structures) {
        let rules = FileRules::clone(&self.file_rules);
        self.file_rules = Arc::new(rules.with_places(&structures.places));
    }

    /// Whether active data connections are to come from ports 20 and 989, now or after a reload that permits them.
    #[must_use]
    pub fn needs_bind_right(&self) -> bool {
        self.active_source_port == ActiveSourcePort::Standard
    }
}

/// The explicit and the implicit listeners.
fn listeners(options: &ServeOptions) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), Failure> {
    let ipv6 = host::ipv6_available();
    let resolve = |given: &[Listen], usual_port, option: &str| {
        let everywhere = [Listen::On {
            address: None,
            port: None,
        }];
        let given = if given.is_empty() { &everywhere } else { given };
        let addresses: Vec<SocketAddr> = given
            .iter()
            .filter_map(|listen| listen.resolve(usual_port, ipv6))
            .collect();
        if addresses.is_empty() || addresses.len() == given.len() {
            return Ok(addresses);
        }
        Err(usage(format!(
            "`{option} off` cannot stand beside another {option}: leave one of them out"
        )))
    };
    let explicit = resolve(&options.explicit, EXPLICIT_PORT, "--explicit")?;
    let implicit = resolve(&options.implicit, IMPLICIT_PORT, "--implicit")?;
    if explicit.is_empty() && implicit.is_empty() {
        return Err(usage(
            "both --explicit and --implicit are off: leave one on",
        ));
    }
    let mut seen: Vec<SocketAddr> = Vec::new();
    for address in explicit.iter().chain(&implicit).filter(|a| a.port() != 0) {
        if seen.contains(address) {
            return Err(usage(format!(
                "{address} is named twice among --explicit and --implicit: give each its own port"
            )));
        }
        seen.push(*address);
    }
    Ok((explicit, implicit))
}

fn cores(asked: Option<usize>) -> Result<Vec<usize>, Failure> {
    let usable = host::cores();
    let count = asked.unwrap_or(usable.len());
    if !(1..=limits::CORES_MAX).contains(&count) {
        return Err(usage(format!(
            "--cores takes 1 to {}; this process may use {}",
            limits::CORES_MAX,
            usable.len()
        )));
    }
    Ok(usable.into_iter().cycle().take(count).collect())
}

fn state_directory(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return absolute(&given);
    }
    if identity::is_root() {
        return Ok(PathBuf::from("/var/lib/ringftpd"));
    }
    let variable = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    variable("XDG_STATE_HOME")
        .or_else(|| Some(variable("HOME")?.join(".local/state")))
        .map(|base| base.join("ringftpd"))
        .ok_or_else(|| usage("neither XDG_STATE_HOME nor HOME is set: give --state-dir DIR"))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::io(Exit::NoInput, path, &error))
}

fn existing_file(option: &str, path: &Path) -> Result<PathBuf, Failure> {
    let problem = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return absolute(path),
        Ok(_) => "it is no file".to_owned(),
        // At a reload another process may have to read it: whether it can be read shows then.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return absolute(path);
        }
        Err(error) => cause(&error),
    };
    let remedy = match option {
        "--users" => "make it with `ringftpd user add --users FILE NAME`",
        _ => "give the path of a PEM file that can be read",
    };
    let message = format!("{option} {}: {problem}; {remedy}", path.display());
    Err(Failure::new(Exit::NoInput, message))
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}
