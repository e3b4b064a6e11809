//! Judgements: pure functions from facts to findings, a file for each subject.

mod certificate;
mod clients;
mod files;
mod hardware;
mod hosts;
mod kernel;
mod ports;
mod resources;
mod settings;

use super::{Facts, Finding, Input};

/// Judges everything. The findings come group by group, the worst of each first.
#[must_use]
pub fn examine(input: &Input, facts: &Facts) -> Vec<Finding> {
    let mut findings = kernel::check(facts);
    findings.extend(resources::check(input, facts));
    findings.extend(settings::check(input, facts));
    findings.extend(ports::check(input, facts));
    findings.extend(hardware::check(facts));
    findings.extend(certificate::check(input, facts));
    findings.extend(clients::check(facts));
    findings.extend(files::check(facts));
    findings.extend(hosts::check(facts));
    // A stable sort: within one severity they stay as the checks gave them.
    findings.sort_by_key(|finding| (finding.group, std::cmp::Reverse(finding.severity)));
    findings
}

/// A size for people.
fn size(octets: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.iter().find(|(bits, _)| octets >> bits > 0);
    unit.map_or_else(
        || format!("{octets} octets"),
        |(bits, name)| {
            format!(
                "{:.1} {name}",
                octets as f64 / f64::from(2_u32).powi((*bits).cast_signed())
            )
        },
    )
}

/// A word of a shell command line: quoted where the shell would take it apart.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:,+@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
