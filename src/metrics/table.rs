//! The log's view: percentiles and counts since the start.

use tracing::info;

use super::catalogue::{Count, Unit};
use super::labels::{End, Kind};
use super::totals::{Label, Row, Totals};

/// Writes to the log, a line each: the transfers of every route that was taken, every reason why the
/// kernel did not protect a transfer, and the percentiles of every distribution that has values.
/// Event-loop delay is that of each core, everything else of all of them.
pub fn log(totals: &Totals) {
    log_transfers(totals);
    for (measure, family) in totals.catalogue().measures() {
        for row in totals.rows(measure, family) {
            log_percentiles(family.name, &row);
        }
    }
}

fn log_transfers(totals: &Totals) {
    for (count, family) in totals.catalogue().counts() {
        let counts = totals.counts(count);
        match count {
            Count::Fallbacks => {
                let all = counts.iter().enumerate();
                for (index, transfers) in all.filter(|(_, transfers)| **transfers > 0) {
                    let labels = family.labels(index);
                    let reason = labels.first().map_or("", |(_, reason)| reason);
                    info!(reason, transfers, "kernel TLS not used");
                }
            }
            Count::Transfers => {
                let of_route = Kind::NAMES.len() * End::NAMES.len();
                let octets = totals.counts(Count::Octets).chunks(Kind::NAMES.len());
                let routes = counts.chunks(of_route).zip(octets).enumerate();
                for (place, (ends, octets)) in routes {
                    let all: u64 = ends.iter().sum();
                    let complete: u64 = ends
                        .iter()
                        .skip(End::Complete as usize)
                        .step_by(End::NAMES.len())
                        .sum();
                    let octets: u64 = octets.iter().sum();
                    let labels = family.labels(place * of_route);
                    let route = labels.first().map_or("", |(_, route)| route);
                    if all > 0 {
                        let broken = all - complete;
                        info!(route, complete, broken, octets, "transfers");
                    }
                }
            }
            _ => {}
        }
    }
}

fn log_percentiles(name: &str, row: &Row<'_>) {
    let Some(histogram) = row.series.histogram() else {
        return;
    };
    let at = |quantile| histogram.value_at_quantile(quantile);
    let measure = with_labels(name, &row.labels);
    let count = histogram.len();
    match row.unit {
        Unit::Time => info!(
            %measure,
            count,
            p50_us = at(0.5),
            p90_us = at(0.9),
            p99_us = at(0.99),
            p99_9_us = at(0.999),
            max_us = histogram.max(),
            "percentiles"
        ),
        // Of rates the low ones are of interest.
        Unit::Rate => info!(
            %measure,
            count,
            min = histogram.min(),
            p1 = at(0.01),
            p10 = at(0.1),
            p50 = at(0.5),
            max = histogram.max(),
            "percentiles"
        ),
    }
}

/// `name;key=value;key=value`: the name in the log and in histogram logs, whose tags have neither
/// commas nor spaces.
pub(super) fn with_labels(name: &str, labels: &[Label]) -> String {
    labels.iter().fold(name.to_owned(), |name, (key, value)| {
        format!("{name};{key}={value}")
    })
}
