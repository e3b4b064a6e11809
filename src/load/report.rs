//! What a run found out: a table, JSON, and a comparison of two.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stats::{Phase, Stats};
use super::{Extent, Plan};
use crate::proto::client::Security;
use crate::sys::host;

/// Percentiles of a phase, in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Percentiles {
    /// The phase, see [`Phase::name`].
    pub phase: String,
    /// How many there were.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: f64,
    /// 90 % of them.
    pub p90: f64,
    /// 99 % of them.
    pub p99: f64,
    /// 99.9 % of them.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
}

/// Failures of a kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failures {
    /// refused, reset, timeout, closed, tls, protocol, `reply NNN`, size, mismatch, exhausted.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// What the server said to one of them, if it said anything.
    pub example: String,
}

/// A second of the measured time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Second {
    /// Operations that ended in it.
    pub operations: u64,
    /// Octets that moved in it.
    pub octets: u64,
}

/// The result of a run. This is its JSON, whose names stay as they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Version of the generator.
    pub version: String,
    /// Release of the kernel that it ran on.
    pub kernel: String,
    /// The workload's name.
    pub workload: String,
    /// Address and port.
    pub server: String,
    /// explicit, implicit or clear.
    pub security: String,
    /// P or C.
    pub protect: String,
    /// Cipher suite of data connections, else of control connections.
    pub suite: Option<String>,
    /// Sessions at once.
    pub sessions: usize,
    /// Threads.
    pub cores: usize,
    /// Intended operations a second, in an open loop.
    pub rate: Option<f64>,
    /// Measured time in seconds.
    pub seconds: f64,
    /// Seconds until all sessions were logged in.
    pub seconds_to_open: f64,
    /// Operations that succeeded.
    pub operations: u64,
    /// Octets of files and listings.
    pub octets: u64,
    /// Operations a second.
    pub ops_per_second: f64,
    /// 10^6 octets a second.
    pub megabytes_per_second: f64,
    /// CPU seconds of the generator, from its start to its end.
    pub client_cpu_seconds: f64,
    /// Latencies, in microseconds.
    pub phases: Vec<Percentiles>,
    /// Failures by kind; empty if there were none.
    pub errors: Vec<Failures>,
    /// Second by second.
    pub series: Vec<Second>,
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        stats: Stats,
        time: Duration,
        opened: Duration,
        cpu: Duration,
    ) -> Self {
        let seconds = time.as_secs_f64().max(1e-9);
        let phases = Phase::ALL
            .into_iter()
            .filter_map(|phase| percentiles(&stats, phase));
        let errors = stats.failures.iter().map(|(trouble, count)| Failures {
            kind: trouble.to_string(),
            count: *count,
            example: stats.examples.get(trouble).cloned().unwrap_or_default(),
        });
        let mut series: Vec<Second> = stats
            .series
            .iter()
            .map(|&(operations, octets)| Second { operations, octets })
            .collect();
        if let Extent::Time(time) = plan.extent {
            series.truncate(usize::try_from(time.as_secs().max(1)).unwrap_or(usize::MAX));
        }
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: host::kernel_release(),
            workload: plan.workload.name().to_owned(),
            server: plan.server.to_string(),
            security: match plan.security {
                Security::Explicit => "explicit",
                Security::Implicit => "implicit",
                Security::None => "clear",
            }
            .to_owned(),
            protect: if plan.protect_data { "P" } else { "C" }.to_owned(),
            suite: stats.suite.clone(),
            sessions: plan.sessions,
            cores: plan.cores.len(),
            rate: plan.rate,
            seconds,
            seconds_to_open: opened.as_secs_f64(),
            operations: stats.operations,
            octets: stats.octets,
            ops_per_second: stats.operations as f64 / seconds,
            megabytes_per_second: stats.octets as f64 / seconds / 1e6,
            client_cpu_seconds: cpu.as_secs_f64(),
            phases: phases.collect(),
            errors: errors.collect(),
            series,
        }
    }

    /// Did everything go well, and was there anything?
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.operations > 0
    }

    /// The two side by side, with ratios of the second to the first.
    #[must_use]
    pub fn compare(&self, other: &Self) -> String {
        let mut lines = vec![format!(
            "{:<32} {:>14} {:>14} {:>8}",
            format!("{} / {}", self.workload, other.workload),
            "A",
            "B",
            "B/A"
        )];
        let mut row = |name: String, a: f64, b: f64| {
            let ratio = if a > 0.0 {
                format!("{:.3}", b / a)
            } else {
                "-".to_owned()
            };
            lines.push(format!("{name:<32} {a:>14.1} {b:>14.1} {ratio:>8}"));
        };
        row(
            "operations/s".to_owned(),
            self.ops_per_second,
            other.ops_per_second,
        );
        row(
            "MB/s".to_owned(),
            self.megabytes_per_second,
            other.megabytes_per_second,
        );
        for ours in &self.phases {
            let Some(theirs) = other.phases.iter().find(|phase| phase.phase == ours.phase) else {
                continue;
            };
            row(format!("{} p50 µs", ours.phase), ours.p50, theirs.p50);
            row(format!("{} p99 µs", ours.phase), ours.p99, theirs.p99);
        }
        let errors = |report: &Self| -> u64 { report.errors.iter().map(|kind| kind.count).sum() };
        row(
            "failures".to_owned(),
            errors(self) as f64,
            errors(other) as f64,
        );
        lines.join("\n")
    }
}

fn percentiles(stats: &Stats, phase: Phase) -> Option<Percentiles> {
    let times = stats.latencies(phase)?;
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    Some(Percentiles {
        phase: phase.name().to_owned(),
        count: times.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: times.max() as f64 / 1e3,
        mean: times.mean() / 1e3,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Failures {
            kind,
            count,
            example,
        } in &self.errors
        {
            write!(f, "FAILED {count} times: {kind}")?;
            match example.as_str() {
                "" => writeln!(f)?,
                example => writeln!(f, " ({example})")?,
            }
        }
        writeln!(
            f,
            "{} on {} ({}, PROT {}, {}), {} sessions on {} cores, {:.2} s (sessions there after {:.2} s)",
            self.workload,
            self.server,
            self.security,
            self.protect,
            self.suite.as_deref().unwrap_or("no TLS"),
            self.sessions,
            self.cores,
            self.seconds,
            self.seconds_to_open,
        )?;
        writeln!(
            f,
            "{} operations, {:.1}/s; {} octets, {:.1} MB/s; {:.2} CPU s of this client",
            self.operations,
            self.ops_per_second,
            self.octets,
            self.megabytes_per_second,
            self.client_cpu_seconds,
        )?;
        write!(
            f,
            "{:<26} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "microseconds", "count", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for phase in &self.phases {
            write!(
                f,
                "\n{:<26} {:>9} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
                phase.phase, phase.count, phase.p50, phase.p90, phase.p99, phase.p999, phase.max
            )?;
        }
        Ok(())
    }
}
