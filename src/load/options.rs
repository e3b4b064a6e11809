//! The command line of the load generator.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use rustls::pki_types::ServerName;

use super::tls::{self, Wishes};
use super::{Extent, Plan, Report, Workload};
use crate::proto::client::Security;
use crate::sys::host;
use crate::tls::{Cipher, Version};

/// Loads an FTP or FTPS server and tells how fast it answers
#[derive(Debug, Parser)]
#[command(name = "ringftpd-load", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Download files, in turn
    Get(Common),
    /// Upload files of --size octets to a directory, and delete them
    Put(Common),
    /// Download the files of a directory, in turn
    Small(Common),
    /// List a directory
    List(Common),
    /// Six downloads of a directory's files, two uploads, two listings
    Mixed(Common),
    /// Log in and out
    Login(Common),
    /// Hold sessions that do nothing
    Idle(Common),
    /// Send NOOP
    Noop(Common),
    /// Two results side by side
    Compare {
        /// Result of --json
        a: PathBuf,
        /// Another one
        b: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SecurityOption {
    Explicit,
    Implicit,
    Clear,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtectOption {
    #[value(name = "P")]
    Private,
    #[value(name = "C")]
    Clear,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VersionOption {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SuiteOption {
    Aes128,
    Aes256,
    Chacha20,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ListOption {
    #[value(name = "MLSD")]
    Mlsd,
    #[value(name = "LIST")]
    List,
    #[value(name = "NLST")]
    Nlst,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Host and port
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// AUTH TLS, TLS from the start, or none
    #[arg(long, value_enum, default_value = "explicit")]
    security: SecurityOption,
    /// User name
    #[arg(long, default_value = "anonymous")]
    user: String,
    /// Password
    #[arg(long, default_value = "", conflicts_with = "password_file")]
    password: String,
    /// File with the password in its first line
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Protection of data connections
    #[arg(long, value_enum, default_value = "P")]
    protect: ProtectOption,
    /// Only this version of TLS
    #[arg(long, value_enum)]
    tls: Option<VersionOption>,
    /// Only suites with this cipher
    #[arg(long, value_enum)]
    suite: Option<SuiteOption>,
    /// Certificates that are trusted, in PEM
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(long)]
    insecure: bool,
    /// Full handshakes on data connections
    #[arg(long)]
    no_resume: bool,
    /// Sessions at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    sessions: usize,
    /// Seconds to measure
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10.0,
        conflicts_with = "count"
    )]
    duration: f64,
    /// Operations in all, instead of a duration
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Seconds before measuring begins
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    warm_up: f64,
    /// CPUs to use, a thread each, for instance 1 or 2,3 [default: the last one]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cores: Vec<usize>,
    /// Operations a second in all, by schedule (an open loop): latencies count from the intended time
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Files (get), or the directory
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,
    /// Octets of an upload; K, M and G are powers of 1024
    #[arg(long, value_name = "OCTETS", default_value = "1M", value_parser = octets)]
    size: u64,
    /// Uploads stay on the server
    #[arg(long)]
    keep: bool,
    /// Command of the listings
    #[arg(long, value_enum, default_value = "MLSD")]
    command: ListOption,
    /// Seconds for which idle sessions are held
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    hold: f64,
    /// Seconds after which something that does not happen is a failure
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    timeout: f64,
    /// Write the result to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// No progress
    #[arg(long)]
    quiet: bool,
}

/// Reads a size.
fn octets(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (text.get(..at), 10),
        Some((at, 'M' | 'm')) => (text.get(..at), 20),
        Some((at, 'G' | 'g')) => (text.get(..at), 30),
        _ => (Some(text), 0),
    };
    let number: Option<u64> = number.and_then(|number| number.parse().ok());
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "a number, or one with K, M or G behind it".to_owned())
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Compare { a, b } => compare(&a, &b),
        Command::Get(common) => get(common),
        Command::Put(common) => with_directory(common, |common, directory| Workload::Put {
            directory,
            octets: common.size,
            keep: common.keep,
        }),
        Command::Small(common) => with_directory(common, |_, directory| Workload::Small(directory)),
        Command::List(common) => with_directory(common, |common, directory| {
            let command = match common.command {
                ListOption::Mlsd => "MLSD",
                ListOption::List => "LIST",
                ListOption::Nlst => "NLST",
            };
            Workload::List(format!("{command} {directory}"))
        }),
        Command::Mixed(common) => with_directory(common, |common, directory| Workload::Mixed {
            directory,
            octets: common.size,
        }),
        Command::Login(common) => perform(common, Workload::Login),
        Command::Idle(common) => {
            let hold = seconds(common.hold);
            perform(common, Workload::Idle(hold))
        }
        Command::Noop(common) => perform(common, Workload::Noop),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("ringftpd-load: {message}");
            ExitCode::from(2)
        }
    }
}

fn get(common: Common) -> Result<bool, String> {
    if common.path.is_empty() {
        return Err("which file? Add --path".to_owned());
    }
    let files = common.path.clone();
    perform(common, Workload::Get(files))
}

fn with_directory(
    common: Common,
    workload: impl FnOnce(&Common, String) -> Workload,
) -> Result<bool, String> {
    let directory = match common.path.as_slice() {
        [] => "/".to_owned(),
        [one] => one.clone(),
        _ => return Err("one --path is enough: a directory".to_owned()),
    };
    let workload = workload(&common, directory);
    perform(common, workload)
}

/// Runs and reports; tells whether all went well.
fn perform(common: Common, workload: Workload) -> Result<bool, String> {
    let (json, quiet) = (common.json.clone(), common.quiet);
    host::raise_descriptor_limit();
    let plan = plan(common, workload)?;
    let report = super::run(plan).map_err(|error| format!("no ring: {error}"))?;
    if !quiet || !report.is_clean() {
        println!("{report}");
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if report.operations == 0 && report.errors.is_empty() {
        return Err("nothing was done in that time: choose a longer --duration".to_owned());
    }
    Ok(report.is_clean())
}

fn plan(common: Common, workload: Workload) -> Result<Plan, String> {
    let (server, host) = resolve(&common.server)?;
    let secure = !matches!(common.security, SecurityOption::Clear);
    if secure && !common.insecure && common.ca.is_none() {
        return Err(
            "whose certificate is right? Add --ca FILE, or --insecure to take any".to_owned(),
        );
    }
    let wishes = Wishes {
        version: common.tls.map(|version| match version {
            VersionOption::Tls12 => Version::Tls12,
            VersionOption::Tls13 => Version::Tls13,
        }),
        cipher: common.suite.map(|suite| match suite {
            SuiteOption::Aes128 => Cipher::Aes128Gcm,
            SuiteOption::Aes256 => Cipher::Aes256Gcm,
            SuiteOption::Chacha20 => Cipher::ChaCha20Poly1305,
        }),
    };
    let password = match &common.password_file {
        Some(path) => first_line(path)?,
        None => common.password,
    };
    let usable = host::cores();
    let last = usable.last().copied().unwrap_or(0);
    let login = workload == Workload::Login;
    Ok(Plan {
        server,
        name: ServerName::try_from(host).map_err(|error| format!("{}: {error}", common.server))?,
        security: match common.security {
            SecurityOption::Explicit => Security::Explicit,
            SecurityOption::Implicit => Security::Implicit,
            SecurityOption::Clear => Security::None,
        },
        protect_data: secure && common.protect == ProtectOption::Private,
        user: common.user.into_bytes(),
        password: password.into_bytes(),
        tls: tls::config(common.ca.as_deref(), wishes).map_err(|error| format!("TLS: {error}"))?,
        resume: !common.no_resume && !login,
        sessions: common.sessions.max(1),
        extent: match (common.count, &workload) {
            (Some(count), _) => Extent::Operations(count),
            (None, Workload::Idle(hold)) => Extent::Time(*hold + Duration::from_secs(5)),
            (None, _) => Extent::Time(seconds(common.duration)),
        },
        warm_up: seconds(common.warm_up),
        cores: if common.cores.is_empty() {
            vec![last]
        } else {
            common.cores
        },
        rate: common.rate.filter(|rate| *rate > 0.0),
        patience: seconds(common.timeout),
        live: !common.quiet,
        workload,
    })
}

/// A time that is none is no time.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn first_line(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn resolve(server: &str) -> Result<(SocketAddr, String), String> {
    let (host, _) = server
        .rsplit_once(':')
        .ok_or_else(|| format!("{server}: the port is missing, for instance {server}:21"))?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let mut addresses = server
        .to_socket_addrs()
        .map_err(|error| format!("{server}: {error}"))?;
    let address = addresses
        .next()
        .ok_or_else(|| format!("{server}: no address"))?;
    Ok((address, host))
}

fn compare(a: &Path, b: &Path) -> Result<bool, String> {
    let read = |path: &Path| -> Result<Report, String> {
        let failed = |error: String| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    };
    println!("{}", read(a)?.compare(&read(b)?));
    Ok(true)
}
