//! `ringftpd doctor`: its options, and the examination that [`crate::doctor`] makes of them.

use std::io::{IsTerminal as _, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::options::{ACCOUNTS, BOUNDS, LISTENING};
use super::value::{Listen, parse_listen, parse_ports};
use super::{EXPLICIT_PORT, Exit, Failure, IMPLICIT_PORT, RouteOptions, kernel_tls};
use crate::data::kernel::{KernelTlsPolicy, Wanted};
use crate::data::route::{Fallback, Means};
use crate::doctor::{self, Finding, Input, KernelTls, Machine, Report, Severity, Style, SuiteRow};
use crate::rt;
use crate::sys::host;
use crate::tls::Protection;
use crate::tls::probe::{self, SuiteReport};

const OUTPUT: &str = "Output";
/// Columns of a report that goes to no terminal.
const COLUMNS_UNLESS_TERMINAL: usize = 100;

/// The options of `ringftpd doctor`: those of `serve` that it looks after, with the same meaning.
#[derive(Debug, Args)]
pub struct DoctorOptions {
    /// Directory that is to be served: rights, file system, space.
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,

    /// Where explicit FTPS is to listen, as for `serve`; repeatable.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = parse_listen, help_heading = LISTENING)]
    pub explicit: Vec<Listen>,
    /// Where implicit FTPS is to listen, likewise; repeatable.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = parse_listen, help_heading = LISTENING)]
    pub implicit: Vec<Listen>,
    /// Ports for passive data connections: kept from other connections, let in by the firewall, enough.
    #[arg(long, value_name = "A-B", value_parser = parse_ports, default_value = "40000-49999", help_heading = LISTENING)]
    pub passive_ports: RangeInclusive<u16>,

    /// Certificate chain in PEM: dates, order, completeness, names.
    #[arg(long, value_name = "FILE", requires = "key", help_heading = ACCOUNTS)]
    pub cert: Option<PathBuf>,
    /// Private key in PEM: whether it belongs to the certificate, and who may read it.
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = ACCOUNTS)]
    pub key: Option<PathBuf>,
    /// Users file: who may read and replace it.
    #[arg(long, value_name = "FILE", help_heading = ACCOUNTS)]
    pub users: Option<PathBuf>,

    /// Sessions that there may be; 0: not said, 10000 are assumed.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = BOUNDS)]
    pub connections_max: u32,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub routes: RouteOptions,

    /// One JSON object instead of text; README.md describes it.
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Exit status 1 when there are warnings.
    #[arg(long, help_heading = OUTPUT)]
    pub strict: bool,
}

impl DoctorOptions {
    fn input(&self) -> Result<Input, Failure> {
        let absolute = |path: &Option<PathBuf>| path.as_deref().map(super::absolute).transpose();
        let listeners = |given: &[Listen], usual| -> Vec<_> {
            let everywhere = [Listen::On {
                address: None,
                port: None,
            }];
            let given = if given.is_empty() { &everywhere } else { given };
            let ipv6 = host::ipv6_available();
            given
                .iter()
                .filter_map(|l| l.resolve(usual, ipv6))
                .collect()
        };
        Ok(Input {
            directory: absolute(&self.directory)?,
            certificate: absolute(&self.cert)?,
            key: absolute(&self.key)?,
            users: absolute(&self.users)?,
            explicit: listeners(&self.explicit, EXPLICIT_PORT),
            implicit: listeners(&self.implicit, IMPLICIT_PORT),
            passive_ports: self.passive_ports.clone(),
            connections_max: (self.connections_max > 0).then_some(self.connections_max),
        })
    }
}

/// Examines this machine and prints the report to standard output.
///
/// # Errors
/// [`Failure`]: what keeps the server from running here.
pub fn doctor(options: &DoctorOptions) -> Result<ExitCode, Failure> {
    let input = options.input()?;
    let ring = host::probe_ring();
    let now = rt::now();
    let wishes = options.routes.wishes();
    let switched_off = (wishes.download, wishes.upload) == (Wanted::Off, Wanted::Off);
    let probed = kernel_tls(wishes, now);

    let mut facts = Machine::this().facts(&input);
    facts.ring_problem = ring.as_ref().err().cloned();
    if let (Ok((report, _)), false) = (&probed, switched_off) {
        let suites = report.suites.iter();
        facts.kernel_tls = suites
            .map(|suite| (suite.protection.to_string(), suite.problem.clone()))
            .collect();
    }
    let mut findings = doctor::examine(&input, &facts);
    if let Err(failure) = &probed {
        findings.insert(0, Finding::of_kernel_tls(failure.message.clone()));
    }
    let users = input.users.as_deref().map(check_users);
    if let Some(Err(failure)) = users {
        doctor::mark(&mut findings, "users-file", failure.message);
    }
    let table = probed
        .as_ref()
        .ok()
        .map(|(report, policy)| table(report, policy, switched_off, now));
    let report = Report::new(facts.kernel, host::cores().len(), findings, table);
    print(&if options.json {
        report.to_json()
    } else {
        report.to_text(style())
    })?;
    probed?;
    ring?;
    if let Some(error) = report
        .findings
        .iter()
        .find(|f| f.severity == Severity::Error)
    {
        let message = format!("{}: {}", error.id, error.measured);
        let remedy = error.fix.as_deref().unwrap_or("see above");
        return Err(Failure::new(
            Exit::Unavailable,
            format!("{message}; {remedy}"),
        ));
    }
    if options.strict && report.counts.warning > 0 {
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the users file can be parsed, where it can be read.
fn check_users(path: &Path) -> Result<(), Failure> {
    super::users_store::read(path).map(|_| ())
}

fn style() -> Style {
    let stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    let columns = terminal
        .then(|| rustix::termios::tcgetwinsize(&stdout).ok())
        .flatten()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0);
    Style {
        // https://no-color.org
        colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        columns: columns.unwrap_or(COLUMNS_UNLESS_TERMINAL),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| Failure::new(Exit::System, format!("standard output: {error}")))
}

fn table(
    report: &probe::Report,
    policy: &KernelTlsPolicy,
    switched_off: bool,
    now: Instant,
) -> KernelTls {
    KernelTls {
        milliseconds: report.time.as_secs_f64() * 1e3,
        suites: report
            .suites
            .iter()
            .map(|suite| row(suite, policy, switched_off, now))
            .collect(),
    }
}

fn row(
    suite: &SuiteReport,
    policy: &KernelTlsPolicy,
    switched_off: bool,
    now: Instant,
) -> SuiteRow {
    let problems = suite.problem.iter().chain(&suite.receive_problem);
    let costs = &suite.costs;
    SuiteRow {
        suite: suite.protection.to_string(),
        downloads: describe_download(policy, suite.protection, now),
        uploads: describe_upload(policy, suite.protection, now),
        works: suite.problem.is_none(),
        rekey: suite.rekey,
        problems: if switched_off {
            Vec::new()
        } else {
            problems.map(ToString::to_string).collect()
        },
        user_send: costs.user_send,
        kernel_read: costs.kernel_read,
        kernel_sendfile: costs.kernel_sendfile,
        user_receive: costs.user_receive,
        kernel_receive: costs.kernel_receive,
    }
}

/// How downloads go under this protection, in a few words.
#[must_use]
pub fn describe_download(
    policy: &KernelTlsPolicy,
    protection: Protection,
    now: Instant,
) -> &'static str {
    match policy.download(Some(protection), now) {
        Ok(offer) => match policy.means() {
            Means::Splice => "kernel, splice",
            Means::Sendfile => "kernel, sendfile",
            Means::Auto if offer.sendfile => "kernel, sendfile",
            Means::Auto | Means::Read => "kernel, read and send",
        },
        Err(reason) => describe_fallback(reason),
    }
}

/// How uploads go under this protection, in a few words.
#[must_use]
pub fn describe_upload(
    policy: &KernelTlsPolicy,
    protection: Protection,
    now: Instant,
) -> &'static str {
    match policy.upload(Some(protection), now) {
        Ok(_) => "kernel",
        Err(reason) => describe_fallback(reason),
    }
}

fn describe_fallback(reason: Fallback) -> &'static str {
    match reason {
        Fallback::Off => "user (switched off)",
        Fallback::Dearer => "user (is cheaper)",
        Fallback::Suspended => "user (failures)",
        Fallback::Unasked => "user",
        _ => "user",
    }
}
