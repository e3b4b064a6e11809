//! The report as a person reads it.

use std::fmt::{self, Write};

use super::report::{Percentiles, Report};
use super::statistics::Phase;

/// A duration with three digits and its unit.
#[must_use]
pub fn duration(microseconds: f64) -> String {
    let (value, unit) = match microseconds {
        us if us < 999.5 => (us, "us"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// A number with thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Errors first, then figures, then the table of phases.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.error_count() > 0 {
            writeln!(f, "ERRORS: {}", grouped(self.error_count()))?;
            for (kind, count) in &self.errors {
                let example = self.error_examples.get(kind).map_or("", String::as_str);
                writeln!(f, "  {:>9}  {kind}: {example}", grouped(*count))?;
            }
            writeln!(f)?;
        }
        if self.interrupted {
            writeln!(f, "ended early by a signal")?;
        }
        if self.missed_arrivals > 0 {
            writeln!(
                f,
                "the server did not keep up: {} operations were due and never begun",
                grouped(self.missed_arrivals)
            )?;
        }
        let asked = &self.settings;
        writeln!(
            f,
            "{} on {}, {} {}, PROT {}, {} session{}{}",
            self.workload,
            asked.server,
            asked.security,
            self.protection.as_deref().unwrap_or("without TLS"),
            asked.protect,
            grouped(asked.sessions as u64),
            if asked.sessions == 1 { "" } else { "s" },
            asked
                .rate
                .map_or_else(String::new, |rate| format!(", {rate} arrivals/s")),
        )?;
        writeln!(
            f,
            "{} operations in {:.2} s: {:.1}/s, {:.1} MB/s",
            grouped(self.operations),
            self.seconds,
            self.ops_per_second,
            self.megabytes_per_second
        )?;
        writeln!(
            f,
            "sessions opened in {:.3} s; TLS handshakes {} resumed, {} full; client CPU {:.2} s",
            self.open_seconds,
            grouped(self.resumed),
            grouped(self.full),
            self.client_cpu_seconds
        )?;
        if self.unclosed > 0 {
            let count = grouped(self.unclosed);
            writeln!(f, "{count} protected downloads ended without close_notify")?;
        }
        phases(f, self)
    }
}

fn phases(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    if report.phases.is_empty() {
        return Ok(());
    }
    let mut head = format!("\n{:<26}{:>10}", "", "count");
    for title in ["p50", "p90", "p99", "p99.9", "max"] {
        write!(head, "{title:>10}")?;
    }
    writeln!(f, "{head}")?;
    for phase in Phase::ALL {
        if let Some(percentiles) = report.phases.get(phase.name()) {
            row(f, phase.name(), percentiles)?;
        }
    }
    Ok(())
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, p: &Percentiles) -> fmt::Result {
    write!(f, "{name:<26}{:>10}", grouped(p.count))?;
    for value in [p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.max_us] {
        write!(f, "{:>10}", duration(value))?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let cases = [
            (0.4, "0.40 us"),
            (74.51, "74.5 us"),
            (999.4, "999 us"),
            (999.6, "1.00 ms"),
            (12_345.0, "12.3 ms"),
            (999_600.0, "1.00 s"),
            (61e6, "61.0 s"),
        ];
        for (microseconds, text) in cases {
            assert_eq!(duration(microseconds), text);
        }
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
