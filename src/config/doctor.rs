//! `ringftpd doctor`: what this machine offers, and what the server would make of it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use super::{Exit, Failure, RouteOptions, kernel_tls};
use crate::data::kernel::KernelTlsPolicy;
use crate::data::route::{Fallback, Means};
use crate::rt;
use crate::sys::host;
use crate::tls::Protection;
use crate::tls::probe::{Problem, Report, SuiteReport};

/// Prints the examination to standard output.
///
/// # Errors
/// [`Failure`]: what keeps the server from running here.
pub fn doctor(options: &RouteOptions) -> Result<ExitCode, Failure> {
    let mut text = String::new();
    let ring = host::probe_ring();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "kernel      {}", host::kernel_release());
    if ring.is_ok() {
        let _ = writeln!(text, "io_uring    every operation that is needed");
    }
    let _ = writeln!(text, "cores       {}", host::cores().len());
    let now = rt::now();
    let probed = kernel_tls(options.wishes(), now);
    if let Ok((report, policy)) = &probed {
        describe(&mut text, report, policy, now);
    }
    print(&text)?;
    probed?;
    ring?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| Failure::new(Exit::System, format!("standard output: {error}")))
}

fn describe(text: &mut String, report: &Report, policy: &KernelTlsPolicy, now: Instant) {
    let milliseconds = report.time.as_secs_f64() * 1e3;
    let _ = writeln!(text, "kernel TLS  probed in {milliseconds:.1} ms\n");
    let _ = writeln!(
        text,
        "{:<26} {:<22} {:<22} {:<8} CPU ns/octet: user, read+send, sendfile; user, receive",
        "version and cipher", "downloads", "uploads", "re-key"
    );
    for suite in &report.suites {
        let row = row(suite, policy, now);
        let _ = writeln!(text, "{}", row.trim_end());
    }
    let mut problems: Vec<&Problem> = Vec::new();
    for suite in &report.suites {
        for problem in suite.problem.iter().chain(&suite.receive_problem) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    if !problems.is_empty() {
        text.push('\n');
    }
    for problem in problems {
        let _ = writeln!(text, "kernel TLS: {problem}");
    }
}

fn row(suite: &SuiteReport, policy: &KernelTlsPolicy, now: Instant) -> String {
    let protection = suite.protection;
    let works = suite.problem.is_none();
    let rekey = match (works, suite.rekey) {
        (false, _) => "-",
        (true, false) => "no",
        (true, true) => "yes",
    };
    let cost = |cost: Option<f64>| cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.3}"));
    let costs = &suite.costs;
    let costs = format!(
        "{}, {}, {}; {}, {}",
        cost(costs.user_send),
        cost(costs.kernel_read),
        cost(costs.kernel_sendfile),
        cost(costs.user_receive),
        cost(costs.kernel_receive)
    );
    format!(
        "{protection:<26} {:<22} {:<22} {rekey:<8} {}",
        describe_download(policy, protection, now),
        describe_upload(policy, protection, now),
        if works { costs.as_str() } else { "" },
    )
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
