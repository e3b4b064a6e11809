//! Prometheus text.
//!
//! Distributions are Prometheus histograms, not summaries: those of several servers can be added up,
//! and their percentiles asked for over any stretch of time, which the quantiles of a summary allow
//! neither of. The bounds are powers of two microseconds, or of two octets a second: there the buckets
//! of HdrHistogram have their bounds too, so no value is counted on the wrong side of one.

use std::fmt;
use std::time::SystemTime;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::catalogue::Unit;
use super::labels::Kind;
use super::totals::{Label, Row, Totals, owned};

pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// Families of more series show only those that were counted.
const SERIES_SHOWN_AT_ZERO_MAX: usize = 16;
/// The buckets of times, as exponents: from 8 us to 2^32 us, more than the longest time recorded.
const TIME_EXPONENTS: std::ops::RangeInclusive<u32> = 3..=32;
/// The buckets of rates: from 16 KiB/s to 128 GiB/s.
const RATE_EXPONENTS: std::ops::RangeInclusive<u32> = 14..=37;
const NANOSECONDS: f64 = 1e9;
const MICROSECONDS: f64 = 1e6;

/// What is told of the process as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    /// Whether new connections are taken; not any more during a drain.
    pub accepting: bool,
    /// When it began to serve.
    pub started: SystemTime,
    /// Cores that did not hand over their books in time: they are busy, and their figures old.
    pub cores_silent: usize,
    /// Lines that each log has lost.
    pub lines_lost: [(&'static str, u64); 2],
}

/// The text of all metrics.
///
/// # Errors
/// Never, as the text grows in memory.
pub fn encode(totals: &Totals, process: Process) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ringftpd");
    registry.register_collector(Box::new(Exposition::new(totals, process)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

/// One metric with all its series, ready to be written.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    series: Vec<(Vec<Label>, Value)>,
}

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram {
        sum: f64,
        count: u64,
        buckets: Vec<(f64, u64)>,
    },
}

#[derive(Debug)]
struct Exposition(Vec<Metric>);

impl Exposition {
    fn new(totals: &Totals, process: Process) -> Self {
        let mut metrics = gauges(totals, process);
        for (count, family) in totals.catalogue().counts() {
            let series = totals.counts(count).iter().enumerate();
            let shown = series
                .filter(|(_, number)| **number > 0 || family.len() <= SERIES_SHOWN_AT_ZERO_MAX);
            metrics.push(Metric {
                name: family.name,
                help: family.help,
                series: shown
                    .map(|(index, number)| (owned(family.labels(index)), Value::Counter(*number)))
                    .collect(),
            });
        }
        for (measure, family) in totals.catalogue().measures() {
            let rows = totals.rows(measure, family);
            metrics.push(Metric {
                name: family.name,
                help: family.help,
                series: rows.into_iter().filter_map(histogram).collect(),
            });
        }
        Self(metrics)
    }
}

fn gauges(totals: &Totals, process: Process) -> Vec<Metric> {
    let gauges = totals.gauges();
    let single = |name, help, value| Metric {
        name,
        help,
        series: vec![(Vec::new(), Value::Gauge(value))],
    };
    let started = process.started.duration_since(SystemTime::UNIX_EPOCH);
    let version = vec![("version", env!("CARGO_PKG_VERSION").into())];
    let running = Kind::NAMES.iter().zip(gauges.transfers);
    vec![
        Metric {
            name: "build_info",
            help: "Always 1; the version is a label.",
            series: vec![(version, Value::Gauge(1.0))],
        },
        single(
            "start_time_seconds",
            "When the server began, in seconds since 1970.",
            started.unwrap_or_default().as_secs_f64(),
        ),
        single(
            "accepting",
            "1 while new connections are taken, 0 while the server ends.",
            f64::from(u8::from(process.accepting)),
        ),
        single(
            "cores_silent",
            "Cores that did not answer in time; their figures are those of an earlier look.",
            process.cores_silent as f64,
        ),
        single(
            "open_connections",
            "Control connections that are open.",
            gauges.connections as f64,
        ),
        single(
            "sessions",
            "Control connections with a user who is logged in.",
            gauges.sessions as f64,
        ),
        Metric {
            name: "log_lines_lost",
            help: "Lines of logs that were not written: they came too fast, or the disk was full.",
            series: process
                .lines_lost
                .iter()
                .map(|(log, number)| (vec![("log", (*log).into())], Value::Counter(*number)))
                .collect(),
        },
        Metric {
            name: "running_transfers",
            help: "Transfers that are running.",
            series: running
                .map(|(kind, number)| {
                    let labels = vec![("kind", (*kind).into())];
                    (labels, Value::Gauge(number as f64))
                })
                .collect(),
        },
    ]
}

fn histogram(row: Row<'_>) -> Option<(Vec<Label>, Value)> {
    let histogram = row.series.histogram()?;
    let sum = row.series.sum() as f64;
    let value = Value::Histogram {
        sum: match row.unit {
            Unit::Time => sum / NANOSECONDS,
            Unit::Rate => sum,
        },
        count: histogram.len(),
        buckets: buckets(histogram, row.unit),
    };
    Some((row.labels, value))
}

/// How many values lie between a bound and the one before; without those above the last.
fn buckets(histogram: &Histogram<u64>, unit: Unit) -> Vec<(f64, u64)> {
    let (exponents, scale) = match unit {
        Unit::Time => (TIME_EXPONENTS, MICROSECONDS),
        Unit::Rate => (RATE_EXPONENTS, 1.0),
    };
    let first = *exponents.start();
    let mut buckets: Vec<(f64, u64)> = exponents
        .map(|exponent| ((1_u64 << exponent) as f64 / scale, 0))
        .collect();
    for step in histogram.iter_recorded() {
        // A value that was cut off to `2^n - 1` was below `2^n` before.
        let bits = u64::BITS - step.value_iterated_to().leading_zeros();
        let place = bits.saturating_sub(first) as usize;
        if let Some((_, count)) = buckets.get_mut(place) {
            *count += step.count_since_last_iteration();
        }
    }
    buckets
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Metric { name, help, series } in &self.0 {
            let Some((_, first)) = series.first() else {
                continue;
            };
            let metric_type = match first {
                Value::Counter(_) => MetricType::Counter,
                Value::Gauge(_) => MetricType::Gauge,
                Value::Histogram { .. } => MetricType::Histogram,
            };
            let mut encoder = encoder.encode_descriptor(name, help, None, metric_type)?;
            for (labels, value) in series {
                let mut encoder = encoder.encode_family(labels)?;
                match value {
                    Value::Counter(number) => {
                        encoder.encode_counter(number, None::<&Exemplar<Vec<Label>, u64>>)?;
                    }
                    Value::Gauge(number) => encoder.encode_gauge(number)?,
                    Value::Histogram {
                        sum,
                        count,
                        buckets,
                    } => encoder.encode_histogram::<Vec<Label>>(*sum, *count, buckets, None)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{Admitted, Books, Catalogue, Class, Listener, Names, Recorder};
    use super::*;

    fn text(fill: impl Fn(&Recorder)) -> String {
        let names = Names {
            routes: vec!["user-tls"],
            fallbacks: vec!["short"],
        };
        let catalogue = Arc::new(Catalogue::new(&names));
        let recorder = Recorder::new(&catalogue);
        let mut totals = Totals::new(&catalogue, &[0, 7, 7]);
        for core in 0..3 {
            fill(&recorder);
            totals.add(core, &recorder.exchange(Books::new(&catalogue), 4));
        }
        let process = Process {
            accepting: true,
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(12),
            cores_silent: 0,
            lines_lost: [("server", 0), ("transfers", 7)],
        };
        encode(&totals, process).unwrap()
    }

    #[track_caller]
    fn assert_line(text: &str, line: &str) {
        assert!(text.lines().any(|one| one == line), "no {line} in\n{text}");
    }

    #[test]
    fn counters_and_gauges_are_sums_over_the_cores() {
        let text = text(|recorder| recorder.connection(Listener::Implicit, Admitted::Refused));
        for line in [
            "# TYPE ringftpd_connections_total counter",
            r#"ringftpd_connections_total{listener="implicit",result="refused"} 3"#,
            r#"ringftpd_connections_total{listener="explicit",result="accepted"} 0"#,
            "ringftpd_open_connections 12.0",
            "ringftpd_start_time_seconds 12.0",
            "ringftpd_accepting 1.0",
            r#"ringftpd_kernel_tls_fallbacks_total{reason="short"} 0"#,
            "# TYPE ringftpd_log_lines_lost_total counter",
            r#"ringftpd_log_lines_lost_total{log="transfers"} 7"#,
        ] {
            assert_line(&text, line);
        }
        // Many series: only those that count.
        assert!(!text.contains("ringftpd_transfers_total"), "{text}");
        assert!(!text.contains("greeting"), "nothing was greeted\n{text}");
    }

    #[test]
    fn times_are_cumulated_below_exact_bounds() {
        let text = text(|recorder| {
            for nanoseconds in [7_999, 8_000, 15_999, 16_000, 5_000_000_000_000_000] {
                recorder.command(Class::Noop, Duration::from_nanos(nanoseconds));
            }
        });
        for line in [
            "# TYPE ringftpd_command_seconds histogram",
            r#"ringftpd_command_seconds_bucket{class="noop",le="8e-06"} 3"#,
            r#"ringftpd_command_seconds_bucket{class="noop",le="1.6e-05"} 9"#,
            r#"ringftpd_command_seconds_bucket{class="noop",le="3.2e-05"} 12"#,
            r#"ringftpd_command_seconds_bucket{class="noop",le="1.048576"} 12"#,
            r#"ringftpd_command_seconds_bucket{class="noop",le="+Inf"} 15"#,
            r#"ringftpd_command_seconds_count{class="noop"} 15"#,
        ] {
            assert_line(&text, line);
        }
    }

    #[test]
    fn the_delay_is_told_of_each_core() {
        let text = text(|recorder| {
            recorder.loop_delay(Duration::from_micros(50), Duration::from_millis(100));
        });
        for core in ["0", "7", "7.1"] {
            assert_line(
                &text,
                &format!(r#"ringftpd_event_loop_delay_seconds_count{{core="{core}"}} 1"#),
            );
        }
    }

    #[test]
    fn every_metric_says_its_unit() {
        let text = text(|recorder| recorder.command(Class::Noop, Duration::from_micros(9)));
        for line in text.lines().filter(|line| line.starts_with("# HELP ")) {
            let (name, help) = line["# HELP ".len()..].split_once(' ').unwrap();
            if name.ends_with("_seconds") {
                assert!(help.contains("seconds"), "{line}");
            }
            assert!(help.ends_with('.'), "{line}");
        }
    }
}
