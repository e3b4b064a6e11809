//! Routes of transfers: the options, the probe, and the policy that follows from both.

use std::time::Instant;

use clap::{Args, ValueEnum};

use super::options::TRANSFERS;
use super::value::parse_key_records;
use super::{Exit, Failure};
use crate::data::kernel::{KernelTlsPolicy, Wanted, Wishes};
use crate::data::route::Means;
use crate::limits;
use crate::tls::probe::{self, Problem, Report};

/// When the kernel protects data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ktls {
    /// Where it works and is not clearly dearer than this process.
    Auto,
    /// Wherever it works; the server does not start where it works for no suite.
    On,
    /// Never.
    Off,
}

/// How files go to sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RouteOption {
    /// What is best for the file.
    Auto,
    /// Read into a buffer, then sent.
    Read,
    /// sendfile(2).
    Sendfile,
    /// splice(2) through the ring.
    Splice,
}

/// The options about routes.
#[derive(Debug, Clone, Args)]
pub struct RouteOptions {
    /// Kernel TLS on data connections: `auto` (where it works and is not clearly dearer), `on` (wherever it works) or `off`.
    #[arg(long, value_name = "auto|on|off", default_value = "auto", hide_possible_values = true, help_heading = TRANSFERS)]
    pub ktls: Ktls,
    /// The same for downloads alone [default: as --ktls].
    #[arg(long, value_name = "auto|on|off", hide_possible_values = true, help_heading = TRANSFERS)]
    pub ktls_download: Option<Ktls>,
    /// The same for uploads alone [default: as --ktls].
    #[arg(long, value_name = "auto|on|off", hide_possible_values = true, help_heading = TRANSFERS)]
    pub ktls_upload: Option<Ktls>,
    /// TLS records that the kernel protects with one key of AES-GCM (1024 to 16777216) before it gets a new one.
    #[arg(long, value_name = "N", value_parser = parse_key_records, default_value_t = limits::TLS_RECORDS_PER_KEY_MAX, hide_default_value = true, help_heading = TRANSFERS)]
    pub ktls_key_records: u64,
    /// How files go to clear and kernel TLS connections, whatever their size: `auto`, `read`, `sendfile` or `splice`.
    #[arg(long, value_name = "auto|read|sendfile|splice", default_value = "auto", hide_possible_values = true, help_heading = TRANSFERS)]
    pub route: RouteOption,
}

impl RouteOptions {
    /// What they mean.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        let wanted = |own: Option<Ktls>| match own.unwrap_or(self.ktls) {
            Ktls::Auto => Wanted::Auto,
            Ktls::On => Wanted::On,
            Ktls::Off => Wanted::Off,
        };
        Wishes {
            download: wanted(self.ktls_download),
            upload: wanted(self.ktls_upload),
            means: match self.route {
                RouteOption::Auto => Means::Auto,
                RouteOption::Read => Means::Read,
                RouteOption::Sendfile => Means::Sendfile,
                RouteOption::Splice => Means::Splice,
            },
            records_max: self.ktls_key_records,
            ..Wishes::default()
        }
    }
}

/// Probes the kernel and makes the policy. As root this loads the kernel's modules, so it comes before
/// the rights are given away.
///
/// # Errors
/// `--ktls on`, and it works for no suite.
pub fn kernel_tls(wishes: Wishes, now: Instant) -> Result<(Report, KernelTlsPolicy), Failure> {
    let report = if wishes.asks_kernel() {
        probe::run()
    } else {
        probe::unsupported(Problem::NoModule)
    };
    demand(&report, wishes)?;
    let policy = KernelTlsPolicy::new(&report, wishes, now);
    Ok((report, policy))
}

/// Holds the operator's wishes against what was found.
///
/// # Errors
/// `--ktls on`, and it works for no suite.
pub(super) fn demand(report: &Report, wishes: Wishes) -> Result<(), Failure> {
    for (wanted, direction) in [(wishes.download, "download"), (wishes.upload, "upload")] {
        if wanted == Wanted::On
            && let Some(problem) = missing(report, direction == "upload")
        {
            let message = format!("--ktls on, but it cannot serve any {direction}: {problem}");
            return Err(Failure::new(Exit::Unavailable, message));
        }
    }
    Ok(())
}

/// What is the matter with the first suite, if something is with every one.
fn missing(report: &Report, receiving: bool) -> Option<&Problem> {
    let mut problems = report.suites.iter().map(|suite| {
        let receive = suite.receive_problem.as_ref().filter(|_| receiving);
        suite.problem.as_ref().or(receive)
    });
    let first = problems.next().flatten()?;
    problems.all(|problem| problem.is_some()).then_some(first)
}

/// Tells the log what was found.
pub fn log_kernel_tls(report: &Report, policy: &KernelTlsPolicy, wishes: Wishes, now: Instant) {
    if (wishes.download, wishes.upload) == (Wanted::Off, Wanted::Off) {
        tracing::info!("kernel TLS is switched off: records are made in this process");
        return;
    }
    if let Some(problem) = missing(report, false) {
        tracing::info!("kernel TLS is not used, records are made in this process: {problem}");
        return;
    }
    for suite in &report.suites {
        let protection = suite.protection;
        let download = super::describe_download(policy, protection, now);
        let upload = super::describe_upload(policy, protection, now);
        tracing::info!(suite = %protection, download, upload, "kernel TLS");
        for problem in suite.problem.iter().chain(&suite.receive_problem) {
            tracing::info!(suite = %protection, %problem, "kernel TLS not used");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        routes: RouteOptions,
    }

    fn wishes(words: &[&str]) -> Wishes {
        let line = [&["ringftpd"], words].concat();
        Line::try_parse_from(line).unwrap().routes.wishes()
    }

    #[expect(clippy::disallowed_methods, reason = "a test has no runtime to ask")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn one_option_for_both_directions_and_one_for_each() {
        assert_eq!(wishes(&[]), Wishes::default());
        let both = wishes(&["--ktls", "on"]);
        assert_eq!((both.download, both.upload), (Wanted::On, Wanted::On));
        let one = wishes(&[
            "--ktls",
            "off",
            "--ktls-upload",
            "auto",
            "--route",
            "splice",
        ]);
        assert_eq!((one.download, one.upload), (Wanted::Off, Wanted::Auto));
        assert_eq!(one.means, Means::Splice);
        assert_eq!(wishes(&["--ktls-key-records", "2048"]).records_max, 2048);
    }

    #[test]
    fn off_asks_the_kernel_nothing() {
        let (report, policy) = kernel_tls(wishes(&["--ktls", "off"]), now()).unwrap();
        assert_eq!(report, probe::unsupported(Problem::NoModule));
        let offer = policy.download(Some(report.suites[0].protection), now());
        assert_eq!(offer, Err(crate::data::route::Fallback::Off));
    }

    #[test]
    fn on_needs_one_suite_that_works() {
        let mut report = probe::unsupported(Problem::NoModule);
        assert_eq!(missing(&report, false), Some(&Problem::NoModule));
        report.suites[3].problem = None;
        assert_eq!(missing(&report, false), None);
        report.suites[3].receive_problem = Some(Problem::Wrong("told to".into()));
        assert_eq!(missing(&report, false), None);
        assert!(missing(&report, true).is_some());
    }
}
