//! Percentile files in the form of HdrHistogram, which its plotter and others read.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::failure::{Exit, Fatal, cause};
use super::statistics::{Durations, Phase, Statistics};

/// Steps from one half of what is left to the next.
const TICKS_PER_HALF: u32 = 5;

/// One point of a percentile curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Microseconds.
    pub value: f64,
    /// From 0 to 1.
    pub quantile: f64,
    /// Durations up to `value`.
    pub count: u64,
}

/// The percentile curve.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for the eye")]
pub fn curve(durations: &Durations) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut count = 0;
    for step in durations.iter_quantiles(TICKS_PER_HALF) {
        count += step.count_since_last_iteration();
        steps.push(Step {
            value: step.value_iterated_to() as f64 / 1e3,
            quantile: step.quantile_iterated_to(),
            count,
        });
    }
    steps
}

/// The text of a file; values are microseconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for the eye")]
pub fn text(durations: &Durations) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for step in curve(durations) {
        let _ = write!(
            text,
            "{:12.3} {:.12} {:10}",
            step.value, step.quantile, step.count
        );
        let _ = match step.quantile < 1.0 {
            true => writeln!(text, " {:14.2}", 1.0 / (1.0 - step.quantile)),
            false => writeln!(text),
        };
    }
    let (mean, deviation) = (durations.mean() / 1e3, durations.stdev() / 1e3);
    let _ = writeln!(
        text,
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]"
    );
    let (max, count) = (durations.max() as f64 / 1e3, durations.len());
    let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {count:12}]");
    let _ = writeln!(
        text,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        durations.buckets(),
        2048
    );
    text
}

/// Where the file of a phase goes: into a directory, or next to others with the same beginning.
fn file(target: &Path, phase: Phase) -> PathBuf {
    if target.is_dir() || target.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return target.join(format!("{}.hgrm", phase.name()));
    }
    let mut name = target.as_os_str().to_owned();
    name.push(format!("-{}.hgrm", phase.name()));
    name.into()
}

/// Writes a file for each phase.
///
/// # Errors
/// One cannot be written.
pub fn write(target: &Path, statistics: &Statistics) -> Result<(), Fatal> {
    let failed = |path: &Path, error: &std::io::Error| {
        let what = format!("{}: {}", path.display(), cause(error));
        Fatal::new(Exit::CannotCreate, what)
    };
    if target.as_os_str().as_encoded_bytes().ends_with(b"/") {
        std::fs::create_dir_all(target).map_err(|error| failed(target, &error))?;
    }
    for phase in Phase::ALL {
        if let Some(durations) = statistics.durations(phase) {
            let path = file(target, phase);
            std::fs::write(&path, text(durations)).map_err(|error| failed(&path, &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;

    #[test]
    fn percentiles_rise_to_the_greatest_value() {
        let mut durations = Histogram::new(3).unwrap();
        for value in 1..=10_000_u64 {
            durations.record(value * 1000).unwrap();
        }
        let steps = curve(&durations);
        assert!(
            steps
                .windows(2)
                .all(|pair| pair[0].quantile <= pair[1].quantile)
        );
        assert!(steps.windows(2).all(|pair| pair[0].value <= pair[1].value));
        let last = steps.last().unwrap();
        assert_eq!((last.quantile, last.count), (1.0, 10_000));
        assert!((last.value - 10_000.0).abs() < 10.0, "{last:?}");
        let half = steps.iter().find(|step| step.quantile >= 0.5).unwrap();
        assert!((half.value - 5000.0).abs() < 10.0, "{half:?}");
        let text = text(&durations);
        let head = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n";
        assert!(text.starts_with(head));
        assert!(
            text.contains("\n#[Max     =    10002.431, Total count    =        10000]\n"),
            "{text}"
        );
        let line = text.lines().find(|line| line.contains(" 0.5000")).unwrap();
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[3], "2.00", "{line}");
    }
}
