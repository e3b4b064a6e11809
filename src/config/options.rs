//! The options of the command line, raw: every one documented for `--help`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::access::AccessOptions;
use super::bandwidth::RateOptions;
use super::clients::ClientOptions;
use super::doctor::DoctorOptions;
use super::file::ConfigCommand;
use super::file_rules::FileOptions;
use super::metrics::MetricsOptions;
use super::network::NetworkOptions;
use super::pam::PamOptions;
use super::quota::QuotaOptions;
use super::restart::{RestartOptions, UpgradeOptions};
use super::routes::RouteOptions;
use super::session::{SessionCommand, TopOptions};
use super::user::UserCommand;
use super::value::{Listen, parse_listen, parse_ports, parse_time, parse_time_above_zero};
use super::zone::parse_zone;
use crate::logging::{LogFormat, TransferLogFormat};
use crate::proto::zone::Zone;
use crate::vfs::Storing;

pub(super) const LISTENING: &str = "Listening";
pub(super) const ACCOUNTS: &str = "Certificates and accounts";
const PROTECTION: &str = "Protection";
pub(super) const TRANSFERS: &str = "Transfers";
const HOST: &str = "Process";
const TIMERS: &str = "Timers (300, 300s, 500ms, 5m, 1h)";
pub(super) const BOUNDS: &str = "Limits (0 for none)";
const LOGS: &str = "Logs";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "ringftpd",
    version,
    about = "An FTPS server for high-volume file distribution on Linux",
    after_help = "Serve a directory with a one-time account: ringftpd serve /srv/files\n\
                  Without the right to bind ports 21 and 990: add --explicit :2121 --implicit :2990"
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a directory over explicit (AUTH TLS) and implicit FTPS.
    #[command(after_help = "\
        Without --users, --anonymous and --pam a one-time account with a random password is made and \
        printed.\n\
        Started as root, the server becomes another account once it listens (--run-as).\n\
        With --config FILE each of these options can be a key of that file; options given here override it, and \
        --no-FLAG unsets a flag that it sets. `ringftpd config example` prints one.\n\
        SIGHUP reads configuration, certificate, key and users again and opens log files anew; SIGTERM and SIGINT end \
        the server after the running transfers, at most --grace later; SIGUSR1 writes counts and percentiles to the \
        log; SIGUSR2 is `ringftpd upgrade`.\n\
        Standard output says `explicit FTPS on ADDR:PORT` and `implicit FTPS on ADDR:PORT` for \
        each listener, with --metrics `metrics on http://ADDR:PORT/metrics`, then `ready`.\n\
        Exit status: 0 ended by a signal, 2 wrong option, 66 file missing, 69 io_uring missing, \
        71 system error, 73 cannot make a file, 77 permission missing, 78 wrong contents of a file.")]
    Serve(Box<ServeOptions>),
    /// Print an example of the configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check a configuration file, and the users file, certificate and key that it names.
    #[command(after_help = "\
        Each line of standard error is one problem: FILE:LINE:COLUMN, what is wrong, what is allowed. Run it as \
        the account that starts the server, which must be able to read those files.\n\
        Exit status: 0 no errors, 66 the file cannot be read, 78 wrong contents.")]
    CheckConfig {
        /// The file for `ringftpd serve --config`.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Examine this machine: kernel, io_uring, kernel TLS, limits, network, cards, clock, certificate, files.
    #[command(after_help = "\
        Give it the configuration file or the options of `serve`, all of which it takes; those shown above are looked at. \
        Run it as the account that starts the \
        server: as root it also loads the kernel's modules, as the server does, and reads the firewall's rules.\n\
        Each thing that is not as it should be is told with what was measured, what is wanted, why, and \
        the remedy. What is wanted, and why, comes from the files of tuning/.\n\
        Exit status: 0 the server can run here, 1 there are warnings and --strict was given, 69 it cannot.")]
    Doctor(Box<DoctorOptions>),
    /// Replace the running server by a new process of its program, without a refused connection or a broken session.
    #[command(after_help = "\
        The running server starts its program anew, with the options that it was started with and --take-over; SIGUSR2 \
        does the same. When the new process is ready, the old one stops accepting, goes on with its sessions and ends with \
        the last one. When it fails, the old one goes on as before.\n\
        Exit status: 0 replaced, 66 and 78 the configuration file is missing or wrong, 69 no server answers, 71 the new \
        process failed, 77 the server belongs to another account.")]
    Upgrade(UpgradeOptions),
    /// List or end the sessions of the running server.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Watch the running server: sessions, transfers and their rates, load and latencies of each core.
    #[command(after_help = "\
        On a terminal: q or Ctrl-C ends it, s sorts by the next column, arrows scroll, space looks at once. Elsewhere it \
        prints once, as with --once. Rates and percentiles are those of the time between two looks.\n\
        LOAD counts time in which a core waits for a prompt client (--busy-poll). The titles are not inverted with NO_COLOR.\n\
        Exit status: 0, 69 no server answers, 71 it does not answer in time, 77 permission missing.")]
    Top(TopOptions),
    /// Manage the accounts of a users file.
    #[command(subcommand)]
    User(UserCommand),
}

/// A switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// What to do about TLS session resumption on data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resume {
    /// Never ask for it.
    Off,
    /// Demand it of clients that have done it once on this control connection.
    Prefer,
    /// Demand it of every client.
    Require,
}

/// Whether TLS is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protect {
    /// Refuse what is in the clear.
    Required,
    /// Leave it to the client.
    Optional,
}

/// From which port active data connections come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ActiveSourcePort {
    /// 20 for explicit, 989 for implicit sessions, where the system permits it (RFC 959 §3.2).
    Standard,
    /// Any port.
    Any,
}

/// The options of `ringftpd serve`, before they are checked.
#[derive(Debug, Args)]
pub struct ServeOptions {
    /// Directory to serve; made if it does not exist.
    #[arg(value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Configuration file: every option below as a key of its section, see `ringftpd config example`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Listen for explicit FTPS: `ADDR[:PORT]`, `[IPV6][:PORT]`, `:PORT` or `off`; repeatable [default: `[::]:21`].
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = parse_listen, help_heading = LISTENING)]
    pub explicit: Vec<Listen>,
    /// Listen for implicit FTPS, likewise; repeatable [default: `[::]:990`].
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = parse_listen, help_heading = LISTENING)]
    pub implicit: Vec<Listen>,
    /// Ports for passive data connections.
    #[arg(long, value_name = "A-B", value_parser = parse_ports, default_value = "40000-49999", help_heading = LISTENING)]
    pub passive_ports: RangeInclusive<u16>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub network: NetworkOptions,
    /// Active mode (PORT, EPRT).
    #[arg(long, value_name = "on|off", default_value = "on", hide_possible_values = true, help_heading = LISTENING)]
    pub active: Switch,
    /// Source port of active data connections: `standard` (20 and 989, where permitted) or `any`.
    #[arg(long, value_name = "standard|any", default_value = "standard", hide_possible_values = true, help_heading = LISTENING)]
    pub active_source_port: ActiveSourcePort,

    /// Certificate chain in PEM [default: a self-signed one, kept in the state directory].
    #[arg(long, value_name = "FILE", requires = "key", help_heading = ACCOUNTS)]
    pub cert: Option<PathBuf>,
    /// Private key of the certificate in PEM.
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = ACCOUNTS)]
    pub key: Option<PathBuf>,
    /// Users file; `ringftpd user add` makes one.
    #[arg(long, value_name = "FILE", help_heading = ACCOUNTS)]
    pub users: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub clients: ClientOptions,
    /// Let in `anonymous` and `ftp` with any password, to read only.
    #[arg(long, help_heading = ACCOUNTS)]
    pub anonymous: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pam: PamOptions,

    /// TLS session resumption on data connections: `off`, `prefer` (demand it of clients that have done it) or `require`.
    #[arg(long, value_name = "off|prefer|require", default_value = "prefer", hide_possible_values = true, help_heading = PROTECTION)]
    pub resume: Resume,
    /// TLS on explicit control connections before login: `required` or `optional`.
    #[arg(long, value_name = "required|optional", default_value = "required", hide_possible_values = true, help_heading = PROTECTION)]
    pub protect_control: Protect,
    /// TLS on data connections (PROT P): `required` or `optional`.
    #[arg(long, value_name = "required|optional", default_value = "required", hide_possible_values = true, help_heading = PROTECTION)]
    pub protect_data: Protect,
    /// Permit CCC: back to a clear control connection after login (explicit FTPS only).
    #[arg(long, help_heading = PROTECTION)]
    pub ccc: bool,
    /// Take a protected upload for complete only if close_notify ended it.
    #[arg(long, value_name = "on|off", default_value = "on", hide_possible_values = true, help_heading = PROTECTION)]
    pub strict_eof: Switch,

    /// Reply 226 to an upload only once it is on disk.
    #[arg(long, help_heading = TRANSFERS)]
    pub fsync: bool,
    /// Remove the file of an upload that broke off, instead of keeping it to be restarted.
    #[arg(long, help_heading = TRANSFERS)]
    pub remove_partial: bool,
    /// When uploads from the first octet on (STOR, STOU) appear under their name: `in-place` (at once; what arrived of one
    /// that broke off stays) or `atomic` (once they are whole; one that broke off leaves what was there).
    #[arg(long, value_name = "in-place|atomic", default_value = "in-place", hide_possible_values = true, help_heading = TRANSFERS)]
    pub upload_mode: Storing,
    /// Time zone of the dates in LIST: `UTC`, `local`, an offset as +02:00, or a name as Europe/Berlin. All else is UTC.
    #[arg(long, value_name = "ZONE", value_parser = parse_zone, allow_hyphen_values = true, default_value = "UTC", help_heading = TRANSFERS)]
    pub list_zone: Zone,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub files: FileOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub routes: RouteOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: HostOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub timers: TimerOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub bounds: BoundOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub rates: RateOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub quotas: QuotaOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub access: AccessOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub logs: LogOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub metrics: MetricsOptions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub restart: RestartOptions,
}

/// Options about the process itself.
#[derive(Debug, Args)]
pub struct HostOptions {
    /// Account of the system to become when started as root [default: the owner of DIR, or `ringftpd`, or `nobody`].
    #[arg(long, value_name = "USER", help_heading = HOST)]
    pub run_as: Option<String>,
    /// Threads, each on a core of its own [default: one for each usable core].
    #[arg(long, value_name = "N", help_heading = HOST)]
    pub cores: Option<usize>,
    /// Look for a client's next command for so long before a core sleeps, where clients have been answering as fast; 0: never.
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u16).range(..=10_000), default_value_t = 200, help_heading = HOST)]
    pub busy_poll: u16,
    /// Memory for what directories held a moment ago, for those listed more than once a second; 0: none.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u16), default_value_t = 32, help_heading = HOST)]
    pub listing_cache: u16,
    /// Directory for the self-signed certificate [default: /var/lib/ringftpd as root, else $XDG_STATE_HOME/ringftpd or ~/.local/state/ringftpd].
    #[arg(long, value_name = "DIR", help_heading = HOST)]
    pub state_dir: Option<PathBuf>,
}

/// Timers.
#[derive(Debug, Args)]
pub struct TimerOptions {
    /// For a TLS handshake.
    #[arg(long, value_name = "TIME", value_parser = parse_time_above_zero, default_value = "30s", help_heading = TIMERS)]
    pub handshake_timeout: Duration,
    /// From connecting to being logged in.
    #[arg(long, value_name = "TIME", value_parser = parse_time_above_zero, default_value = "120s", help_heading = TIMERS)]
    pub login_timeout: Duration,
    /// For the next command.
    #[arg(long, value_name = "TIME", value_parser = parse_time_above_zero, default_value = "300s", help_heading = TIMERS)]
    pub idle_timeout: Duration,
    /// For a data connection to come up, passive or active.
    #[arg(long, value_name = "TIME", value_parser = parse_time_above_zero, default_value = "60s", help_heading = TIMERS)]
    pub connect_timeout: Duration,
    /// For a transfer without any progress.
    #[arg(long, value_name = "TIME", value_parser = parse_time_above_zero, default_value = "300s", help_heading = TIMERS)]
    pub stall_timeout: Duration,
    /// For the client's close_notify.
    #[arg(long, value_name = "TIME", value_parser = parse_time_above_zero, default_value = "10s", help_heading = TIMERS)]
    pub close_timeout: Duration,
    /// For the client to close a data connection after a download.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "5s", help_heading = TIMERS)]
    pub drain_timeout: Duration,
    /// Before the reply to a rejected password.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1s", help_heading = TIMERS)]
    pub bad_login_delay: Duration,
    /// For running transfers when the server is told to end.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "30s", help_heading = TIMERS)]
    pub grace: Duration,
}

/// Bounds on connections.
#[derive(Debug, Args)]
pub struct BoundOptions {
    /// Control connections, all together; 0 leaves it to the limit on descriptors.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = BOUNDS)]
    pub connections_max: u32,
    /// Control connections from one address.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = BOUNDS)]
    pub connections_per_address_max: u32,
    /// Sessions of one user.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = BOUNDS)]
    pub sessions_per_user_max: u32,
}

/// Options about logs.
#[derive(Debug, Args)]
pub struct LogOptions {
    /// Form of log lines: `human` (under systemd: fields of the journal) or `json`.
    #[arg(long, value_name = "human|json", default_value = "human", hide_possible_values = true, help_heading = LOGS)]
    pub log_format: LogFormat,
    /// error, warn, info, debug, trace, or a filter as `info,ringftpd::tls=debug` [default: $RINGFTPD_LOG, or info].
    #[arg(long, value_name = "LEVEL", help_heading = LOGS)]
    pub log_level: Option<String>,
    /// Append the log to this file [default: standard error, or the journal where that is connected to it].
    #[arg(long, value_name = "FILE", help_heading = LOGS)]
    pub log_file: Option<PathBuf>,
    /// Append a line for each transfer to this file.
    #[arg(long, value_name = "FILE", help_heading = LOGS)]
    pub transfer_log: Option<PathBuf>,
    /// Form of the transfer log: `xferlog`, or `json` with more fields, listings and changes of the tree.
    #[arg(long, value_name = "xferlog|json", default_value = "xferlog", hide_possible_values = true, help_heading = LOGS)]
    pub transfer_log_format: TransferLogFormat,
}
