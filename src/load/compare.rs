//! Two reports side by side.

use std::fmt::Write;
use std::path::Path;

use super::failure::{Exit, Fatal, cause};
use super::report::{Percentiles, Report};
use super::statistics::Phase;
use super::table::{duration, grouped};

/// Reads a report that `--json` has written.
///
/// # Errors
/// The file cannot be read, or is none.
pub fn read(path: &Path) -> Result<Report, Fatal> {
    let failed = |what: String| Fatal::new(Exit::NoInput, format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(cause(&error)))?;
    serde_json::from_str(&text)
        .map_err(|error| failed(format!("not a report of ringftpd-load --json: {error}")))
}

/// The comparison as a table; ratios are B / A.
#[must_use]
pub fn table(a: &Report, b: &Report) -> String {
    let mut text = String::new();
    describe(&mut text, "A", a);
    describe(&mut text, "B", b);
    for difference in differences(a, b) {
        let _ = writeln!(text, "not the same: {difference}");
    }
    let _ = writeln!(text, "\n{:<34}{:>14}{:>14}{:>9}", "", "A", "B", "B / A");
    let mut row = |name: &str, a: f64, b: f64, form: &dyn Fn(f64) -> String| {
        let ratio = match a > 0.0 {
            true => format!("{:.3}", b / a),
            false => "-".to_owned(),
        };
        let _ = writeln!(text, "{name:<34}{:>14}{:>14}{ratio:>9}", form(a), form(b));
    };
    let plain = |value: f64| format!("{value:.1}");
    let small = |value: f64| format!("{value:.3}");
    row("operations/s", a.ops_per_second, b.ops_per_second, &plain);
    row(
        "MB/s",
        a.megabytes_per_second,
        b.megabytes_per_second,
        &plain,
    );
    row(
        "seconds to open all sessions",
        a.open_seconds,
        b.open_seconds,
        &small,
    );
    row(
        "client CPU seconds",
        a.client_cpu_seconds,
        b.client_cpu_seconds,
        &small,
    );
    for phase in Phase::ALL {
        let name = phase.name();
        let (Some(a), Some(b)) = (a.phases.get(name), b.phases.get(name)) else {
            continue;
        };
        type Value = fn(&Percentiles) -> f64;
        let values: [(&str, Value); 5] = [
            ("p50", |p| p.p50_us),
            ("p90", |p| p.p90_us),
            ("p99", |p| p.p99_us),
            ("p99.9", |p| p.p999_us),
            ("max", |p| p.max_us),
        ];
        for (title, value) in values {
            row(&format!("{name} {title}"), value(a), value(b), &duration);
        }
    }
    text
}

fn describe(text: &mut String, name: &str, report: &Report) {
    let asked = &report.settings;
    let _ = writeln!(
        text,
        "{name}: {} on {}, {} {}, PROT {}, {} sessions",
        report.workload,
        asked.server,
        asked.security,
        report.protection.as_deref().unwrap_or("without TLS"),
        asked.protect,
        grouped(asked.sessions as u64)
    );
    if report.error_count() > 0 {
        let errors: Vec<String> = report
            .errors
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        let _ = writeln!(text, "   ERRORS: {}", errors.join(", "));
    }
}

/// What makes two reports hard to compare.
fn differences(a: &Report, b: &Report) -> Vec<String> {
    let pairs = [
        ("workload", a.workload.clone(), b.workload.clone()),
        (
            "protection",
            format!("{:?}", a.protection),
            format!("{:?}", b.protection),
        ),
        (
            "PROT",
            a.settings.protect.clone(),
            b.settings.protect.clone(),
        ),
        (
            "sessions",
            a.settings.sessions.to_string(),
            b.settings.sessions.to_string(),
        ),
        (
            "rate",
            format!("{:?}", a.settings.rate),
            format!("{:?}", b.settings.rate),
        ),
        (
            "size",
            format!("{:?}", a.settings.size),
            format!("{:?}", b.settings.size),
        ),
        ("kernel", a.kernel.clone(), b.kernel.clone()),
    ];
    pairs
        .into_iter()
        .filter(|(_, a, b)| a != b)
        .map(|(name, a, b)| format!("{name} ({a} and {b})"))
        .collect()
}
