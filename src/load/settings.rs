//! What a run is to do: checked values.

use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

pub use crate::proto::client::Security;
use crate::tls::Version;

/// What the sessions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Download the files of `--path`, in turn.
    Get,
    /// Upload files of `--size` to the directory of `--path`.
    Put,
    /// Download the files of the directory of `--path`, in turn.
    Small,
    /// Downloads, uploads, listings and small files, as `--mix` says.
    Mixed,
    /// List the directory of `--path`.
    List,
    /// Connect, log in, leave.
    Login,
    /// Log in and stay.
    Idle,
    /// NOOP.
    Noop,
    /// The transfers of `--trace`.
    Replay,
}

impl Workload {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Small => "small",
            Self::Mixed => "mixed",
            Self::List => "list",
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Noop => "noop",
            Self::Replay => "replay",
        }
    }
}

/// Ciphers that `--suite` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// AES-128-GCM.
    Aes128,
    /// AES-256-GCM.
    Aes256,
    /// ChaCha20-Poly1305.
    Chacha20,
}

/// Whose certificate is good.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Everybody's: `--insecure`.
    Anybody,
    /// Those that one of these vouches for.
    Roots(Vec<CertificateDer<'static>>),
}

/// The listing command of `list` and `small`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ListCommand {
    /// RFC 3659 §7.
    #[value(name = "MLSD", alias = "mlsd")]
    Mlsd,
    /// RFC 959.
    #[value(name = "LIST", alias = "list")]
    List,
    /// Names only, RFC 959.
    #[value(name = "NLST", alias = "nlst")]
    Nlst,
}

impl ListCommand {
    /// The verb.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Mlsd => "MLSD",
            Self::List => "LIST",
            Self::Nlst => "NLST",
        }
    }
}

/// What is looked at in every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Verify {
    /// Its size.
    Size,
    /// Its size and its SHA-256.
    Sha256,
    /// Nothing.
    None,
}

/// When the run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// After this time of measuring.
    Time(Duration),
    /// After so many operations in all.
    Operations(u64),
}

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the sessions do.
    pub workload: Workload,
    /// The host as it was named.
    pub host: String,
    /// Where the server is.
    pub server: SocketAddr,
    /// Protection of the control connection.
    pub security: Security,
    /// PROT P.
    pub protect_data: bool,
    /// USER.
    pub user: String,
    /// PASS.
    pub password: String,
    /// The only TLS version, if there is one.
    pub version: Option<Version>,
    /// The only cipher, if there is one.
    pub suite: Option<Suite>,
    /// Whose certificate is good; without TLS nobody asks.
    pub trust: Trust,
    /// Data connections resume the session of their control connection.
    pub resume: bool,
    /// Control connections of `login` resume the session of the one before.
    pub resume_logins: bool,
    /// The server connects data connections.
    pub active: bool,
    /// Sessions at the same time, all cores together.
    pub sessions: usize,
    /// When the run is over.
    pub extent: Extent,
    /// Time before measuring begins.
    pub warm_up: Duration,
    /// Processors, one thread each; `None` leaves that to the scheduler.
    pub cores: Vec<Option<usize>>,
    /// Operations per second that arrive by schedule, all cores together.
    pub rate: Option<f64>,
    /// Files or directories.
    pub paths: Vec<String>,
    /// Octets of an upload.
    pub size: u64,
    /// The listing command.
    pub command: ListCommand,
    /// What is looked at in every file.
    pub verify: Verify,
    /// Uploaded files stay.
    pub keep: bool,
    /// Longest wait for anything.
    pub timeout: Duration,
    /// No live progress line.
    pub quiet: bool,
}
