//! The report of a run, as `--json` writes it. Names and units are stable: fields may be added, none
//! changes its meaning.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::{Extent, Security, Settings, Suite, Verify};
use super::statistics::{Durations, Phase, Statistics};
use crate::sys::host;
use crate::tls::Version;

/// Version of this structure; it grows when a field changes its meaning.
const FORMAT: u32 = 1;

/// A run and what came of it. Times are seconds where the name does not say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this structure.
    pub format: u32,
    /// `ringftpd-load` and its version.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// The workload's name.
    pub workload: String,
    /// What was asked for.
    pub settings: Asked,
    /// TLS version and suite of the control connections; absent without TLS.
    pub protection: Option<String>,
    /// Time of measuring.
    pub seconds: f64,
    /// Time to open all sessions.
    pub open_seconds: f64,
    /// Operations that were finished in the time of measuring.
    pub operations: u64,
    /// Octets of files and listings in that time, in either direction.
    pub octets: u64,
    /// `operations / seconds`.
    pub ops_per_second: f64,
    /// `octets / seconds / 10^6`.
    pub megabytes_per_second: f64,
    /// Durations by phase: connect, handshake_control_full, handshake_control_resumed,
    /// handshake_data_full, handshake_data_resumed, login, session, command, data_connection, first_byte,
    /// transfer. Phases that did not happen are absent.
    pub phases: BTreeMap<String, Percentiles>,
    /// How many errors of each kind: refused, timeout, tls, `reply NNN`, short, mismatch, reset, closed,
    /// protocol, system.
    pub errors: BTreeMap<String, u64>,
    /// What the first error of each kind said.
    pub error_examples: BTreeMap<String, String>,
    /// TLS handshakes that resumed a session, in the time of measuring where that applies.
    pub resumed: u64,
    /// TLS handshakes that did not.
    pub full: u64,
    /// Protected downloads that ended without close_notify.
    pub unclosed: u64,
    /// With `rate`: operations that were due in the time of measuring and were never begun.
    pub missed_arrivals: u64,
    /// CPU time of this program in the time of measuring, all cores together.
    pub client_cpu_seconds: f64,
    /// The run was ended early, by a signal.
    pub interrupted: bool,
    /// What happened in each second of measuring; the last one may be cut short.
    pub series: Vec<Point>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// `HOST:PORT`.
    pub server: String,
    /// explicit, implicit or clear.
    pub security: String,
    /// `P` or `C`.
    pub protect: String,
    /// `1.2` or `1.3`, if only that was offered.
    pub tls: Option<String>,
    /// aes128, aes256 or chacha20, if only that was offered.
    pub suite: Option<String>,
    /// Data connections resume.
    pub resume: bool,
    /// The server connects data connections.
    pub active: bool,
    /// Sessions at the same time.
    pub sessions: usize,
    /// Threads.
    pub threads: usize,
    /// Time of measuring that was asked for.
    pub duration: Option<f64>,
    /// Operations that were asked for.
    pub count: Option<u64>,
    /// Time before measuring.
    pub warm_up: f64,
    /// Arrivals a second; absent in a closed loop.
    pub rate: Option<f64>,
    /// Files or directories.
    pub paths: Vec<String>,
    /// Octets of an upload, where there are uploads.
    pub size: Option<u64>,
    /// Listing command, where there are listings.
    pub command: Option<String>,
    /// size, sha256 or none.
    pub verify: String,
}

/// Durations of one phase, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many there were.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// Their mean.
    pub mean_us: f64,
    /// Half of them were not longer.
    pub p50_us: f64,
    /// 90 %.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Percentiles {
    fn new(durations: &Durations) -> Self {
        let at = |quantile| microseconds(durations.value_at_quantile(quantile));
        Self {
            count: durations.len(),
            min_us: microseconds(durations.min()),
            mean_us: durations.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: microseconds(durations.max()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

/// One second of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Octets of files and listings.
    pub octets: u64,
    /// Operations finished.
    pub operations: u64,
}

/// What the run itself, rather than its cores, has measured.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Time of measuring.
    pub measured: Duration,
    /// Time to open all sessions.
    pub opening: Duration,
    /// CPU time of this program in the time of measuring.
    pub cpu: Duration,
    /// TLS version and suite of control connections.
    pub protection: Option<String>,
    /// Ended by a signal.
    pub interrupted: bool,
}

impl Report {
    /// The report of a run.
    #[must_use]
    pub fn new(settings: &Settings, statistics: &Statistics, frame: &Frame) -> Self {
        let seconds = frame.measured.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let rate = |count: u64| match seconds {
            seconds if seconds > 0.0 => count as f64 / seconds,
            _ => 0.0,
        };
        let phases: BTreeMap<String, Percentiles> = Phase::ALL
            .into_iter()
            .filter_map(|phase| {
                let durations = statistics.durations(phase)?;
                Some((phase.name().to_owned(), Percentiles::new(durations)))
            })
            .collect();
        let handshakes = |names: [&str; 2]| {
            let counts = names.into_iter().filter_map(|name| phases.get(name));
            counts.map(|phase| phase.count).sum()
        };
        let errors = &statistics.errors;
        Self {
            format: FORMAT,
            version: concat!("ringftpd-load ", env!("CARGO_PKG_VERSION")).to_owned(),
            kernel: host::kernel_release(),
            workload: settings.workload.name().to_owned(),
            settings: Asked::new(settings),
            protection: frame.protection.clone(),
            seconds,
            open_seconds: frame.opening.as_secs_f64(),
            operations: statistics.operations,
            octets: statistics.octets,
            ops_per_second: rate(statistics.operations),
            megabytes_per_second: rate(statistics.octets) / 1e6,
            resumed: handshakes(["handshake_control_resumed", "handshake_data_resumed"]),
            full: handshakes(["handshake_control_full", "handshake_data_full"]),
            phases,
            errors: errors
                .iter()
                .map(|(kind, errors)| (kind.to_string(), errors.count))
                .collect(),
            error_examples: errors
                .iter()
                .map(|(kind, errors)| (kind.to_string(), errors.first.clone()))
                .collect(),
            unclosed: statistics.unclosed,
            missed_arrivals: statistics.missed,
            client_cpu_seconds: frame.cpu.as_secs_f64(),
            interrupted: frame.interrupted,
            series: statistics
                .series
                .iter()
                .map(|second| Point {
                    octets: second.octets,
                    operations: second.operations,
                })
                .collect(),
        }
    }

    /// All errors together.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

impl Asked {
    fn new(settings: &Settings) -> Self {
        use super::settings::Workload as W;
        let workload = settings.workload;
        let uploads = matches!(workload, W::Put | W::Mixed);
        let lists = matches!(workload, W::List | W::Mixed);
        let text = |word: &str| word.to_owned();
        Self {
            server: format!("{}:{}", settings.host, settings.server.port()),
            security: text(match settings.security {
                Security::Explicit => "explicit",
                Security::Implicit => "implicit",
                Security::None => "clear",
            }),
            protect: text(match settings.protect_data {
                true => "P",
                false => "C",
            }),
            tls: settings.version.map(|version| {
                text(match version {
                    Version::Tls12 => "1.2",
                    Version::Tls13 => "1.3",
                })
            }),
            suite: settings.suite.map(|suite| {
                text(match suite {
                    Suite::Aes128 => "aes128",
                    Suite::Aes256 => "aes256",
                    Suite::Chacha20 => "chacha20",
                })
            }),
            resume: settings.resume,
            active: settings.active,
            sessions: settings.sessions,
            threads: settings.cores.len(),
            duration: match settings.extent {
                Extent::Time(time) => Some(time.as_secs_f64()),
                Extent::Operations(_) => None,
            },
            count: match settings.extent {
                Extent::Time(_) => None,
                Extent::Operations(count) => Some(count),
            },
            warm_up: settings.warm_up.as_secs_f64(),
            rate: settings.rate,
            paths: settings.paths.clone(),
            size: uploads.then_some(settings.size),
            command: lists.then(|| text(settings.command.verb())),
            verify: text(match settings.verify {
                Verify::Size => "size",
                Verify::Sha256 => "sha256",
                Verify::None => "none",
            }),
        }
    }
}
