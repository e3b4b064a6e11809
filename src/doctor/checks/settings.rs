//! Settings of the kernel against `tuning/sysctl.conf`.

use std::ops::RangeInclusive;

use super::quoted;
use crate::doctor::tuning::{self, Line};
use crate::doctor::{Facts, Finding, Group, Input, Severity};

/// How the value in force compares with the one in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The same word.
    Same,
    /// Not more.
    AtMost,
    /// Not less.
    AtLeast,
    /// Its third number, the upper bound of three, is not less.
    UpperBound,
    /// It holds the passive ports that outgoing connections would take.
    Reserves,
}

/// How a setting is judged, and what it is when it is not as wanted. Every line of the file has a row.
const RULES: [(&str, Rule, Group, Severity); 9] = [
    (
        "kernel.io_uring_disabled",
        Rule::AtMost,
        Group::Kernel,
        Severity::Warning,
    ),
    (
        "net.core.somaxconn",
        Rule::AtLeast,
        Group::Network,
        Severity::Warning,
    ),
    (
        "net.ipv4.tcp_max_syn_backlog",
        Rule::AtLeast,
        Group::Network,
        Severity::Advice,
    ),
    (
        "net.ipv4.tcp_rmem",
        Rule::UpperBound,
        Group::Network,
        Severity::Advice,
    ),
    (
        "net.ipv4.tcp_wmem",
        Rule::UpperBound,
        Group::Network,
        Severity::Advice,
    ),
    (
        "net.ipv4.ip_local_reserved_ports",
        Rule::Reserves,
        Group::Network,
        Severity::Warning,
    ),
    (
        "net.ipv4.tcp_slow_start_after_idle",
        Rule::Same,
        Group::Network,
        Severity::Advice,
    ),
    (
        "net.core.default_qdisc",
        Rule::Same,
        Group::Network,
        Severity::Advice,
    ),
    (
        "net.ipv4.tcp_congestion_control",
        Rule::Same,
        Group::Network,
        Severity::Advice,
    ),
];

pub(super) fn check(input: &Input, facts: &Facts) -> Vec<Finding> {
    let lines = tuning::settings();
    let mut findings: Vec<Finding> = lines
        .iter()
        .filter_map(|line| {
            let row = RULES.iter().find(|(name, ..)| *name == line.name)?;
            Some(judge(input, facts, line, row))
        })
        .collect();
    findings.extend(window_scaling(facts));
    findings
}

fn judge(
    input: &Input,
    facts: &Facts,
    line: &Line,
    (name, rule, group, severity): &(&str, Rule, Group, Severity),
) -> Finding {
    let finding = Finding::new(format!("sysctl:{name}"), *group).why(line.reason.clone());
    if *rule == Rule::Reserves {
        return reserved(finding, input, facts, *severity);
    }
    let wanted = match rule {
        Rule::AtMost | Rule::Same | Rule::Reserves => line.value.clone(),
        Rule::AtLeast => format!("at least {}", line.value),
        Rule::UpperBound => format!("at least {} as the third number", last(&line.value)),
    };
    let finding = finding.wanted(wanted);
    let Some(value) = facts.settings.get(*name) else {
        return absent(finding, line);
    };
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    let good = match rule {
        Rule::Same | Rule::Reserves => value == line.value,
        Rule::AtMost => number(&value) <= number(&line.value),
        Rule::AtLeast => number(&value) >= number(&line.value),
        Rule::UpperBound => number(last(&value)) >= number(last(&line.value)),
    };
    let fix = format!("sysctl -w {name}={}", quoted(&line.value));
    finding.measured(value).bad_if(!good, *severity, fix)
}

/// A kernel, or a container, that does not show the setting.
fn absent(finding: Finding, line: &Line) -> Finding {
    let finding = finding.measured("this kernel does not show it here");
    if line.optional {
        return finding;
    }
    finding.bad(
        Severity::Advice,
        "look at it on the host: containers do not show every setting",
    )
}

fn last(text: &str) -> &str {
    text.split_whitespace().last().unwrap_or_default()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Passive ports that outgoing connections may take.
fn reserved(finding: Finding, input: &Input, facts: &Facts, severity: Severity) -> Finding {
    let passive = &input.passive_ports;
    let (first, last) = (*passive.start(), *passive.end());
    let name = "net.ipv4.ip_local_reserved_ports";
    let local = facts
        .settings
        .get("net.ipv4.ip_local_port_range")
        .and_then(|text| {
            let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
            Some(numbers.next()?..=numbers.next()?)
        });
    let finding = finding.wanted(format!("{first}-{last}, the passive ports"));
    let Some(local) = local else {
        return finding.measured("unknown").bad(
            Severity::Advice,
            "look at net.ipv4.ip_local_port_range on the host: containers do not show every setting",
        );
    };
    let (begin, end) = (first.max(*local.start()), last.min(*local.end()));
    let text = facts.settings.get(name).map_or("", String::as_str);
    let ranges = ranges(text);
    let open: Vec<u16> = (begin..=end)
        .filter(|port| !ranges.iter().any(|range| range.contains(port)))
        .collect();
    let outgoing = format!("outgoing connections use {}-{}", local.start(), local.end());
    if begin > end {
        return finding.measured(format!("{outgoing}, no passive port among them"));
    }
    let all = if text.is_empty() {
        format!("{first}-{last}")
    } else {
        format!("{text},{first}-{last}")
    };
    let reserved = if text.is_empty() { "nothing" } else { text };
    finding
        .measured(format!(
            "{outgoing}, {reserved} is reserved: {} passive ports are open to them",
            open.len()
        ))
        .bad_if(
            !open.is_empty(),
            severity,
            format!("sysctl -w {name}={all}"),
        )
}

/// A list of ports as the kernel writes it: `8080,40000-49999`.
fn ranges(text: &str) -> Vec<RangeInclusive<u16>> {
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    });
    ranges.collect()
}

/// Only when it is off: then nothing else about buffers matters.
fn window_scaling(facts: &Facts) -> Option<Finding> {
    let name = "net.ipv4.tcp_window_scaling";
    let value = facts.settings.get(name).filter(|value| *value == "0")?;
    let finding = Finding::new(format!("sysctl:{name}"), Group::Network)
        .measured(value.clone())
        .wanted("1")
        .why("without it no connection has more than 64 KiB on its way (RFC 7323 section 2)");
    Some(finding.bad(Severity::Warning, format!("sysctl -w {name}=1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_file_has_a_rule_and_the_other_way_round() {
        let mut lines: Vec<String> = tuning::settings().into_iter().map(|l| l.name).collect();
        let mut rules: Vec<String> = RULES.iter().map(|(name, ..)| (*name).to_owned()).collect();
        lines.sort();
        rules.sort();
        assert_eq!(lines, rules);
    }
}
