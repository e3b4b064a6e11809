//! The report as one page that needs nothing else.

use serde::Serialize;

use super::hgrm::curve;
use super::report::Report;
use super::statistics::{Phase, Statistics};

const PAGE: &str = include_str!("page.html");
/// Where the data goes; a script's expression, so that the page is valid without, too.
const PLACE: &str = "null/*DATA*/";

/// What the page's script gets.
#[derive(Serialize)]
struct Data<'a> {
    report: &'a Report,
    /// For each phase that happened its name and points: quantile, microseconds.
    curves: Vec<(&'static str, Vec<(f64, f64)>)>,
}

/// The page.
///
/// # Errors
/// The report has a number that JSON has not.
pub fn page(report: &Report, statistics: &Statistics) -> serde_json::Result<String> {
    let curves = Phase::ALL.into_iter().filter_map(|phase| {
        let steps = curve(statistics.durations(phase)?);
        let points = steps.iter().map(|step| (step.quantile, step.value));
        Some((phase.name(), points.collect()))
    });
    let data = Data {
        report,
        curves: curves.collect(),
    };
    // No name on a server may end the script.
    let data = serde_json::to_string(&data)?.replace('<', "\\u003c");
    Ok(PAGE.replacen(PLACE, &data, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_place_for_data_and_asks_nobody() {
        assert_eq!(PAGE.matches(PLACE).count(), 1);
        for word in ["http:", "https:", "src=", "@import", "url("] {
            let found = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(word), "{word}");
        }
    }
}
