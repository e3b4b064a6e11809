//! `ringftpd doctor`: its options, and the examination that [`crate::doctor`] makes of them.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, Command};

use super::file::{Refusal, Sources};
use super::hosts::HostsOptions;
use super::options::ServeOptions;
use super::value::Listen;
use super::{EXPLICIT_PORT, Exit, Failure, IMPLICIT_PORT, RouteOptions, kernel_tls};
use crate::data::kernel::{KernelTlsPolicy, Wanted};
use crate::data::route::{Fallback, Means};
use crate::doctor::{
    self, ClientInput, Finding, HostInput, Input, KernelTls, Machine, Report, Severity, Style,
    SuiteRow,
};
use crate::rt;
use crate::sys::host;
use crate::tls::Protection;
use crate::tls::probe::{self, SuiteReport};
use crate::vfs::Storing;

const OUTPUT: &str = "Output";
/// Columns of a report that goes to no terminal.
const COLUMNS_UNLESS_TERMINAL: usize = 100;

/// The options of `ringftpd doctor`: those of `serve`, and how it tells.
#[derive(Debug, Args)]
pub struct DoctorOptions {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub serve: ServeOptions,

    /// One JSON object instead of text; README.md describes it.
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Exit status 1 when there are warnings.
    #[arg(long, help_heading = OUTPUT)]
    pub strict: bool,
}

impl DoctorOptions {
    /// Its own options, which `serve` has not.
    pub(super) const OWN: [&str; 2] = ["json", "strict"];
    /// What it looks at, of the options of `serve`; all others may stand there, too.
    const LOOKED_AT: [&str; 19] = [
        "directory",
        "config",
        "explicit",
        "implicit",
        "passive_ports",
        "cert",
        "key",
        "users",
        "run_as",
        "client_cert",
        "client_ca",
        "client_crl",
        "connections_max",
        "upload_mode",
        "ktls",
        "ktls_download",
        "ktls_upload",
        "ktls_key_records",
        "route",
    ];

    /// The help shows what is looked at.
    pub(super) fn show(command: Command) -> Command {
        let shown = command.mut_args(|arg| {
            let id = arg.get_id().as_str();
            let hidden = !Self::OWN.contains(&id) && !Self::LOOKED_AT.contains(&id);
            arg.hide(hidden)
        });
        shown.mut_arg("directory", |arg| {
            arg.hide_default_value(true)
                .help("Directory that is served [default: that of --config; without one none is looked at]")
        })
    }
}

/// The command line of the doctor, taken apart.
struct Asked {
    sources: Sources,
    json: bool,
    strict: bool,
}

impl Asked {
    /// `words` with those of the program and of the command.
    fn new(words: &[OsString]) -> Result<Self, Refusal> {
        let usage = |error| Refusal::Usage(Box::new(error));
        let given = || words.iter().skip(2).cloned();
        let named = |name: &str| {
            let option = format!("--{name}");
            given()
                .take_while(|word| word != "--")
                .any(|word| *word == *option)
        };
        match super::command().try_get_matches_from(words) {
            Ok(_) => {}
            // The file may say it.
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {}
            Err(error) => return Err(usage(error)),
        }
        let mut options = true;
        let of_serve = given().filter(|word| {
            options &= word != "--";
            let word = word.to_str().and_then(|word| word.strip_prefix("--"));
            !(options && word.is_some_and(|word| DoctorOptions::OWN.contains(&word)))
        });
        Ok(Self {
            sources: Sources::new(of_serve.collect())?,
            json: named("json"),
            strict: named("strict"),
        })
    }
}

fn input(
    options: &ServeOptions,
    directory_given: bool,
    config: Option<&Path>,
    hosts: HostsOptions,
) -> Result<Input, Failure> {
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
    let connections = options.bounds.connections_max;
    Ok(Input {
        directory: directory_given
            .then(|| super::absolute(&options.directory))
            .transpose()?,
        config: config.map(Path::to_path_buf),
        certificate: absolute(&options.cert)?,
        key: absolute(&options.key)?,
        users: absolute(&options.users)?,
        explicit: listeners(&options.explicit, EXPLICIT_PORT),
        implicit: listeners(&options.implicit, IMPLICIT_PORT),
        passive_ports: options.passive_ports.clone(),
        connections_max: (connections > 0).then_some(connections),
        atomic: options.upload_mode == Storing::Atomic,
        run_as: options.host.run_as.clone(),
        hosts: hosts_input(hosts),
        clients: ClientInput {
            authorities: absolute(&options.clients.client_ca)?,
            revocations: absolute(&options.clients.client_crl)?,
        },
    })
}

/// Their paths are absolute.
fn hosts_input(hosts: HostsOptions) -> Vec<HostInput> {
    let names = hosts.names;
    let each = hosts.list.into_iter().enumerate();
    each.map(|(index, host)| HostInput {
        names: names.names(index),
        name: host.name,
        certificate: host.certificate.map(|files| (files.certificate, files.key)),
        users: host.users,
        directory: host.directory,
    })
    .collect()
}

/// Examines this machine and prints the report to standard output. `words` is the whole command line.
///
/// # Errors
/// What keeps the server from running here, or is wrong with its configuration.
pub fn doctor(words: &[OsString]) -> Result<ExitCode, Refusal> {
    let asked = Asked::new(words)?;
    let (options, matches) = asked.sources.options()?;
    let directory_given = matches.value_source("directory") == Some(ValueSource::CommandLine);
    let hosts = asked.sources.hosts()?;
    let input = input(&options, directory_given, asked.sources.file(), hosts)?;
    Ok(examine(&options.routes, &input, &asked)?)
}

fn examine(routes: &RouteOptions, input: &Input, asked: &Asked) -> Result<ExitCode, Failure> {
    let ring = host::probe_ring();
    let now = rt::now();
    let wishes = routes.wishes();
    let switched_off = (wishes.download, wishes.upload) == (Wanted::Off, Wanted::Off);
    let probed = kernel_tls(wishes, now);

    let mut facts = Machine::this().facts(input);
    facts.ring_problem = ring.as_ref().err().cloned();
    if let (Ok((report, _)), false) = (&probed, switched_off) {
        let suites = report.suites.iter();
        facts.kernel_tls = suites
            .map(|suite| (suite.protection.to_string(), suite.problem.clone()))
            .collect();
    }
    let mut findings = doctor::examine(input, &facts);
    if let Err(failure) = &probed {
        findings.insert(0, Finding::of_kernel_tls(failure.message.clone()));
    }
    check_users(input, &mut findings);
    let table = probed
        .as_ref()
        .ok()
        .map(|(report, policy)| table(report, policy, switched_off, now));
    let report = Report::new(facts.kernel, host::cores().len(), findings, table);
    print(&if asked.json {
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
    if asked.strict && report.counts.warning > 0 {
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether users files can be parsed, where they can be read.
fn check_users(input: &Input, findings: &mut [Finding]) {
    let own = input.users.as_deref();
    let own = own.map(|path| ("users-file".to_owned(), path));
    let of_hosts = input.hosts.iter().filter_map(|host| {
        let id = format!("users-file:{}", host.name);
        Some((id, host.users.as_deref()?))
    });
    // What is no regular file has been told of, and reading a pipe could wait for ever.
    let files = own.into_iter().chain(of_hosts);
    for (id, path) in files.filter(|(_, path)| path.is_file()) {
        if let Err(failure) = super::users_store::read(path) {
            doctor::mark(findings, &id, failure.message);
        }
    }
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
