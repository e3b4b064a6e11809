//! The command line of `ringftpd-load`, raw, and its check.

use std::io::{self, Read};
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rustls::pki_types::CertificateDer;

use super::failure::{Exit, Fatal};
use super::mix::Mix;
use super::settings::{Extent, ListCommand, Security, Settings, Suite, Trust, Verify, Workload};
use super::trace;
use crate::limits;
use crate::sys::host;
use crate::tls::Version;

const PROTECTION: &str = "Protection";
const EXTENT: &str = "How much and how long";
const WORK: &str = "What is transferred";
const OUTPUT: &str = "Output";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "ringftpd-load",
    version,
    about = "Puts load on an FTPS server and measures how it bears it",
    after_help = "Eight sessions download a file for ten seconds:\n  \
        ringftpd-load get --server localhost:21 --insecure --user u --password p --path /big.bin --sessions 8\n\
        A schedule instead of as fast as possible, so that waiting counts: add --rate 500\n\
        Exit status: 0 no errors, 1 errors were counted, 2 wrong option, 66 file missing, 69 server not \
        reachable or no io_uring, 71 system error, 73 cannot write a file, 77 login refused."
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The workloads, and what is done with their reports.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Download the files of --path, in turn.
    Get(Options),
    /// Upload files of --size into the directory of --path.
    Put(Options),
    /// Download the files of the directory of --path, in turn.
    Small(Options),
    /// Download, upload, list and download small files in the proportions of --mix, in the directory of
    /// --path; a second --path is for the uploads.
    Mixed(Options),
    /// List the directory of --path.
    List(Options),
    /// Connect, do the TLS handshake, log in, leave; again and again.
    Login(Options),
    /// Open sessions and hold them.
    Idle(Options),
    /// Measure the round trip of a command (NOOP).
    Noop(Options),
    /// Repeat the transfers of an xferlog (--trace) at the times at which they were; uploads go to the
    /// directory of --path, which also stands in front of the names of downloads.
    Replay(Options),
    /// Show two reports side by side.
    Compare {
        /// A report of --json.
        a: PathBuf,
        /// Another one.
        b: PathBuf,
    },
}

/// How the control connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SecurityOption {
    /// AUTH TLS (RFC 4217), usually port 21.
    Explicit,
    /// TLS from the first octet, usually port 990.
    Implicit,
    /// No TLS at all.
    Clear,
}

/// Protection of data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProtectOption {
    /// TLS.
    #[value(name = "P", alias = "p")]
    Private,
    /// In the clear.
    #[value(name = "C", alias = "c")]
    Clear,
}

/// TLS versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VersionOption {
    /// RFC 5246.
    #[value(name = "1.2")]
    Tls12,
    /// RFC 8446.
    #[value(name = "1.3")]
    Tls13,
}

/// The options of every workload.
#[derive(Debug, Args)]
pub struct Options {
    /// The server.
    #[arg(long, value_name = "HOST:PORT")]
    pub server: String,
    /// User name.
    #[arg(long, value_name = "NAME", default_value = "anonymous")]
    pub user: String,
    /// Its password; other users of this machine can see it, --password-file is safer.
    #[arg(long, value_name = "PASSWORD", conflicts_with = "password_file")]
    pub password: Option<String>,
    /// File whose first line is the password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// How the control connection is protected.
    #[arg(long, value_enum, default_value = "explicit", help_heading = PROTECTION)]
    pub security: SecurityOption,
    /// PROT: protection of data connections [default: P; C with --security clear].
    #[arg(long, value_enum, help_heading = PROTECTION)]
    pub protect: Option<ProtectOption>,
    /// Offer this TLS version only.
    #[arg(long, value_enum, help_heading = PROTECTION)]
    pub tls: Option<VersionOption>,
    /// Offer this cipher only.
    #[arg(long, value_enum, help_heading = PROTECTION)]
    pub suite: Option<Suite>,
    /// Accept any certificate.
    #[arg(long, conflicts_with = "ca", help_heading = PROTECTION)]
    pub insecure: bool,
    /// Accept certificates that one of this PEM file vouches for; `system`: one that this system trusts.
    #[arg(long, value_name = "FILE", help_heading = PROTECTION)]
    pub ca: Option<PathBuf>,
    /// Data connections do full handshakes, instead of resuming the control connection's session.
    #[arg(long, help_heading = PROTECTION)]
    pub no_resume: bool,
    /// With `login`: each login resumes the TLS session of the one before.
    #[arg(long, conflicts_with = "no_resume", help_heading = PROTECTION)]
    pub resume: bool,
    /// Active mode: the server connects data connections.
    #[arg(long, help_heading = PROTECTION)]
    pub active: bool,

    /// Sessions at the same time.
    #[arg(long, value_name = "N", default_value = "1", help_heading = EXTENT,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: u32,
    /// Measure for so long [default: 10].
    #[arg(long, value_name = "SECONDS", conflicts_with = "count", value_parser = parse_seconds, help_heading = EXTENT)]
    pub duration: Option<Duration>,
    /// Stop after so many operations in all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = EXTENT)]
    pub count: Option<u64>,
    /// Run for so long before measuring begins.
    #[arg(long, value_name = "SECONDS", default_value = "0", conflicts_with = "count",
          value_parser = parse_seconds, help_heading = EXTENT)]
    pub warm_up: Duration,
    /// Open loop: so many operations a second begin by schedule, and their times count from then.
    #[arg(long, value_name = "OPS_PER_S", value_parser = parse_rate, help_heading = EXTENT)]
    pub rate: Option<f64>,
    /// Processors to run on, one thread each, as `1` or `0,2-3` [default: one thread, anywhere].
    #[arg(long, value_name = "LIST", value_parser = parse_cores, help_heading = EXTENT)]
    pub cores: Option<Cores>,
    /// Longest wait for the server.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds, help_heading = EXTENT)]
    pub timeout: Duration,
    /// With `idle`: hold the sessions for so long [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, help_heading = EXTENT)]
    pub hold: Option<Duration>,

    /// File (get) or directory (others); repeatable with `get`.
    #[arg(long, value_name = "PATH", help_heading = WORK)]
    pub path: Vec<String>,
    /// Size of an upload; K, M and G are powers of 1024.
    #[arg(long, value_name = "OCTETS", default_value = "1M", value_parser = parse_size, help_heading = WORK)]
    pub size: u64,
    /// Command of `list`.
    #[arg(long, value_enum, default_value = "MLSD", help_heading = WORK)]
    pub command: ListCommand,
    /// Proportions of `mixed`: files of 1 MiB and more, uploads, listings, smaller files
    /// [default: get=20,put=10,list=10,small=60].
    #[arg(long, value_name = "PARTS", help_heading = WORK)]
    pub mix: Option<Mix>,
    /// Transfer log of `replay`.
    #[arg(long, value_name = "FILE", help_heading = WORK)]
    pub trace: Option<PathBuf>,
    /// Replay so many times as fast.
    #[arg(long, value_name = "X", default_value = "1", value_parser = parse_rate, help_heading = WORK)]
    pub speed: f64,
    /// What is checked of every file: its size; also its SHA-256, against the first download of the same
    /// file, and of the first upload of each session by downloading it.
    #[arg(long, value_enum, default_value = "size", help_heading = WORK)]
    pub verify: Verify,
    /// Leave uploaded files on the server.
    #[arg(long, help_heading = WORK)]
    pub keep: bool,

    /// Write the report to this file.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub json: Option<PathBuf>,
    /// Write HdrHistogram percentile files, one for each phase, into this directory, or with this prefix.
    #[arg(long, value_name = "DIRECTORY|PREFIX", help_heading = OUTPUT)]
    pub hgrm: Option<PathBuf>,
    /// Write a page with curves, complete in itself.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub html: Option<PathBuf>,
    /// No progress, no table: errors only.
    #[arg(long, help_heading = OUTPUT)]
    pub quiet: bool,
}

/// A list of processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>();
    let time = seconds
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok());
    time.filter(|time| *time <= limits::TIMER_MAX)
        .ok_or_else(|| "give a number of seconds, as 10 or 0.5".to_owned())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    rate.filter(|rate| rate.is_finite() && *rate > 0.0 && *rate <= 1e8)
        .ok_or_else(|| "give a number of operations a second, as 500 or 0.1".to_owned())
}

fn parse_size(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text.get(number.len()..).unwrap_or_default() {
        "" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "m" | "MiB" => 1 << 20,
        "G" | "g" | "GiB" => 1 << 30,
        _ => 0,
    };
    let size = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    size.filter(|_| factor > 0)
        .ok_or_else(|| "give a number of octets, as 1024, 100K, 1M or 2G".to_owned())
}

fn parse_cores(text: &str) -> Result<Cores, String> {
    let wrong = || "give processors as 1 or 0,2-3".to_owned();
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last - first >= limits::CORES_MAX {
            return Err(wrong());
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(Cores(cores))
}

impl Options {
    /// Checks everything and reads the files that are named.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub fn check(&self, workload: Workload) -> Result<Settings, Fatal> {
        let usage = |message: String| Fatal::new(Exit::Usage, message);
        let (host, server) = self.resolve()?;
        let security = match self.security {
            SecurityOption::Explicit => Security::Explicit,
            SecurityOption::Implicit => Security::Implicit,
            SecurityOption::Clear => Security::None,
        };
        let protect_data = match (self.protect, security) {
            (Some(ProtectOption::Private), Security::None) => {
                return Err(usage(
                    "--protect P needs TLS: choose --security explicit".into(),
                ));
            }
            (Some(ProtectOption::Private), _) => true,
            (None, security) => security != Security::None,
            (Some(ProtectOption::Clear), _) => false,
        };
        match (workload, self.path.len()) {
            (Workload::Get, 0) => {
                return Err(usage("which file? Name it with --path".into()));
            }
            (Workload::Get, _) | (_, 0 | 1) | (Workload::Mixed, 2) => {}
            _ => return Err(usage("one --path is enough for this workload".into())),
        }
        let trace = self.read_trace(workload)?;
        Ok(Settings {
            workload,
            host,
            server,
            security,
            protect_data,
            user: self.user.clone(),
            password: self.read_password()?,
            version: self.tls.map(|version| match version {
                VersionOption::Tls12 => Version::Tls12,
                VersionOption::Tls13 => Version::Tls13,
            }),
            suite: self.suite,
            trust: self.trust(security)?,
            resume: !self.no_resume,
            resume_logins: self.resume,
            active: self.active,
            sessions: self.sessions as usize,
            extent: self.extent(workload, trace.len()),
            warm_up: match workload {
                Workload::Idle => Duration::ZERO,
                _ => self.warm_up,
            },
            cores: self.threads()?,
            rate: self.rate,
            paths: self.path.clone(),
            size: self.size,
            command: self.command,
            verify: self.verify,
            mix: self.mix.clone().unwrap_or_default(),
            trace,
            speed: self.speed,
            keep: self.keep,
            timeout: self.timeout.max(Duration::from_millis(1)),
            quiet: self.quiet,
        })
    }

    fn read_trace(&self, workload: Workload) -> Result<Vec<trace::Entry>, Fatal> {
        let file = match (workload, &self.trace) {
            (Workload::Replay, Some(file)) => file,
            (Workload::Replay, None) => {
                let what = "which transfers? Name an xferlog with --trace";
                return Err(Fatal::new(Exit::Usage, what));
            }
            _ => return Ok(Vec::new()),
        };
        let failed =
            |what: String| Fatal::new(Exit::NoInput, format!("{}: {what}", file.display()));
        // Names may be of any encoding.
        let octets = read_octets(file)?;
        let text = String::from_utf8_lossy(&octets);
        let entries = trace::parse(&text).map_err(|error| failed(error.to_string()))?;
        match entries.is_empty() {
            true => Err(failed("no complete transfer in it".to_owned())),
            false => Ok(entries),
        }
    }

    fn extent(&self, workload: Workload, traced: usize) -> Extent {
        const USUAL: Duration = Duration::from_secs(10);
        match (workload, self.count) {
            (Workload::Idle, _) => Extent::Time(self.hold.or(self.duration).unwrap_or(USUAL)),
            (Workload::Replay, count) if self.duration.is_none() => {
                let traced = traced as u64;
                Extent::Operations(count.map_or(traced, |count| count.min(traced)))
            }
            (_, Some(count)) => Extent::Operations(count),
            (_, None) => Extent::Time(self.duration.unwrap_or(USUAL)),
        }
    }

    fn resolve(&self) -> Result<(String, std::net::SocketAddr), Fatal> {
        let (host, port) = self.server.rsplit_once(':').unwrap_or((&self.server, ""));
        let port: u16 = port.parse().map_err(|_| {
            let what = format!("--server {}: give HOST:PORT, as localhost:21", self.server);
            Fatal::new(Exit::Usage, what)
        })?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = (host, port).to_socket_addrs();
        let address = addresses.map(|mut addresses| addresses.next());
        match address {
            Ok(Some(address)) => Ok((host.to_owned(), address)),
            _ => {
                let what = format!("{host}: no such host; check --server HOST:PORT");
                Err(Fatal::new(Exit::Unavailable, what))
            }
        }
    }

    fn read_password(&self) -> Result<String, Fatal> {
        match (&self.password, &self.password_file) {
            (Some(password), _) => Ok(password.clone()),
            (None, Some(file)) => {
                let text = read(file)?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
            // What anonymous users give by custom (RFC 1635).
            (None, None) => Ok("ringftpd-load@".to_owned()),
        }
    }

    fn trust(&self, security: Security) -> Result<Trust, Fatal> {
        match (&self.ca, self.insecure) {
            (_, true) => Ok(Trust::Anybody),
            (None, false) if security == Security::None => Ok(Trust::Anybody),
            (None, false) => Err(Fatal::new(
                Exit::Usage,
                "whose certificate is good? Choose --insecure (anybody's), --ca FILE or --ca system",
            )),
            (Some(file), false) if file == Path::new("system") => {
                let found = rustls_native_certs::load_native_certs();
                match found.certs {
                    roots if roots.is_empty() => Err(Fatal::new(
                        Exit::NoInput,
                        "this system has no trusted certificates: give --ca FILE",
                    )),
                    roots => Ok(Trust::Roots(roots)),
                }
            }
            (Some(file), false) => {
                let text = read(file)?;
                let roots: Result<Vec<CertificateDer<'static>>, _> =
                    rustls_pemfile::certs(&mut text.as_bytes()).collect();
                match roots {
                    Ok(roots) if !roots.is_empty() => Ok(Trust::Roots(roots)),
                    _ => {
                        let what = format!("{}: no PEM certificate in it", file.display());
                        Err(Fatal::new(Exit::NoInput, what))
                    }
                }
            }
        }
    }

    fn threads(&self) -> Result<Vec<Option<usize>>, Fatal> {
        let Some(Cores(cores)) = &self.cores else {
            return Ok(vec![None]);
        };
        let usable = host::cores();
        if let Some(missing) = cores.iter().find(|core| !usable.contains(core)) {
            let what = format!("--cores: processor {missing} is not usable here; {usable:?} are");
            return Err(Fatal::new(Exit::Usage, what));
        }
        let sessions = self.sessions as usize;
        Ok(cores.iter().copied().map(Some).take(sessions).collect())
    }
}

/// Reads a small text file.
fn read(file: &Path) -> Result<String, Fatal> {
    std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))
}

fn read_octets(file: &Path) -> Result<Vec<u8>, Fatal> {
    let mut octets = Vec::new();
    let read = std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut octets));
    read.map_err(|error| unreadable(file, &error))?;
    Ok(octets)
}

fn unreadable(file: &Path, error: &io::Error) -> Fatal {
    let cause = super::failure::cause(error);
    Fatal::new(Exit::NoInput, format!("{}: {cause}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn values_take_every_form() {
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        assert_eq!(parse_size("100K"), Ok(102_400));
        assert_eq!(parse_size("7"), Ok(7));
        for text in ["", "K", "1T", "-1", "99999999999G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_cores("3,0-1,1"), Ok(Cores(vec![0, 1, 3])));
        for text in ["", "a", "2-1", "0-99999"] {
            assert!(parse_cores(text).is_err(), "{text}");
        }
        assert_eq!(parse_seconds("0.5s"), Ok(Duration::from_millis(500)));
        assert!(parse_seconds("-1").is_err() && parse_seconds("1e99").is_err());
        assert!(parse_rate("0").is_err() && parse_rate("NaN").is_err());
        assert_eq!(parse_rate("0.1"), Ok(0.1));
    }
}
