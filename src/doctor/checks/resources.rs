//! Descriptors and memory, against the sessions that are expected.

use super::size;
use crate::doctor::{Facts, Finding, Group, Input, Severity, tuning};
use crate::limits;

/// Descriptors of a session with a transfer: control connection, data connection, file.
const DESCRIPTORS_PER_SESSION: u64 = 3;
/// What an upload that appears once it is whole takes besides: the directory, and a second one of the file.
const DESCRIPTORS_PER_ATOMIC_UPLOAD: u64 = 2;
/// Fewer descriptors than these are few for any server.
const DESCRIPTORS_FEW: u64 = 4096;
/// Memory of an idle session, its TLS state included, in octets; measured 10 KiB (README.md), rounded up.
const MEMORY_PER_SESSION: u64 = 16 * 1024;
/// One session in so many is expected to transfer at a time, with a buffer that is read and one that is sent.
const SESSIONS_PER_TRANSFER: u64 = 10;
/// What the process takes by itself, hashing passwords included.
const MEMORY_BASE: u64 = 128 * 1024 * 1024;

pub(super) fn check(input: &Input, facts: &Facts) -> Vec<Finding> {
    let sessions = input.sessions();
    let further = if input.atomic {
        DESCRIPTORS_PER_ATOMIC_UPLOAD
    } else {
        0
    };
    let needed = sessions * (DESCRIPTORS_PER_SESSION + further) + limits::DESCRIPTORS_KEPT as u64;
    let for_sessions = format!("{needed} for {sessions} sessions");
    let severity = severity(input);
    let mut findings = vec![process_limit(facts, needed, &for_sessions, severity)];
    findings.extend(system_limits(facts, needed, &for_sessions));
    findings.push(memory(facts, sessions, severity));
    findings.extend(group_memory(facts, sessions, severity));
    findings.extend(facts.limits.locked_memory.map(|limit| {
        Finding::new("locked-memory", Group::Resources)
            .measured(limit_text(limit))
            .wanted("any")
            .why("rings count as locked memory only before Linux 5.12; the server registers no buffers")
    }));
    findings
}

/// Too little for sessions that somebody named is worse than for those that were assumed.
fn severity(input: &Input) -> Severity {
    if input.connections_max.is_some() {
        Severity::Warning
    } else {
        Severity::Advice
    }
}

fn limit_text(limit: u64) -> String {
    if limit == u64::MAX {
        "unlimited".to_owned()
    } else {
        limit.to_string()
    }
}

fn setting(facts: &Facts, name: &str) -> Option<u64> {
    facts.settings.get(name)?.parse().ok()
}

/// The limit that the server has, or would get.
fn process_limit(facts: &Facts, needed: u64, for_sessions: &str, severity: Severity) -> Finding {
    let limits = &facts.limits;
    let by_root = setting(facts, "fs.nr_open").unwrap_or(limits::DESCRIPTORS_MAX);
    let soft = limits
        .descriptors_soft
        .map_or_else(|| "?".to_owned(), limit_text);
    let hard = limits
        .descriptors_hard
        .map_or_else(|| "?".to_owned(), limit_text);
    let (in_force, whose) = match limits.server {
        Some(server) => (
            limits.descriptors_soft,
            format!("soft {soft}, hard {hard} of the server that runs (process {server})"),
        ),
        // It raises its own limits at the start.
        None if facts.account.user == 0 => (
            Some(by_root.min(limits::DESCRIPTORS_MAX)),
            format!("soft {soft}, hard {hard}; started as root the server raises both"),
        ),
        None => (
            limits.descriptors_hard,
            format!("soft {soft}, hard {hard}; the server raises the soft limit to the hard one"),
        ),
    };
    let wanted = tuning::directive("LimitNOFILE").unwrap_or("1048576");
    Finding::new("descriptors", Group::Resources)
        .measured(whose)
        .wanted(for_sessions)
        .why(
            "a session takes a descriptor, a transfer two more (with --upload-mode atomic four); at the limit new connections are turned away. --connections-max \
             says how many sessions there may be",
        )
        .bad_if(
            in_force.is_some_and(|limit| limit < needed),
            if in_force.is_some_and(|limit| limit < DESCRIPTORS_FEW) {
                Severity::Warning
            } else {
                severity
            },
            format!("LimitNOFILE={wanted} in the unit, or before the server in a shell: ulimit -n {needed}"),
        )
}

fn system_limits(facts: &Facts, needed: u64, for_sessions: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(files) = setting(facts, "fs.file-max") {
        let finding = Finding::new("file-max", Group::Resources)
            .measured(files.to_string())
            .wanted(format!("more than {for_sessions}"))
            .why("open files of all processes together; beyond it every open and accept of the machine fails");
        findings.push(finding.bad_if(
            files <= needed,
            Severity::Warning,
            format!("sysctl -w fs.file-max={}", needed * 2),
        ));
    }
    let unit = tuning::directive("LimitNOFILE").and_then(|limit| limit.parse::<u64>().ok());
    if let (Some(most), Some(unit)) = (setting(facts, "fs.nr_open"), unit) {
        let finding = Finding::new("nr-open", Group::Resources)
            .measured(most.to_string())
            .wanted(format!("at least {unit}, LimitNOFILE of the unit"))
            .why("the highest limit that a process can be given: systemd does not start a unit that asks for more");
        findings.push(finding.bad_if(
            most < unit,
            Severity::Warning,
            format!("sysctl -w fs.nr_open={unit}"),
        ));
    }
    findings
}

/// Memory for the sessions, their transfers and the buffers that cores keep.
fn needed_memory(facts: &Facts, sessions: u64) -> u64 {
    let chunk = limits::TRANSFER_CHUNK_OCTETS as u64;
    let cores = facts.processors.usable.len() as u64;
    let transfers = sessions / SESSIONS_PER_TRANSFER * 2 * chunk;
    let kept = cores * limits::TRANSFER_BUFFERS_KEPT_MAX as u64 * chunk;
    MEMORY_BASE + sessions * MEMORY_PER_SESSION + transfers.max(kept)
}

fn memory(facts: &Facts, sessions: u64, severity: Severity) -> Finding {
    let needed = needed_memory(facts, sessions);
    let finding = Finding::new("memory", Group::Resources)
        .wanted(format!(
            "{} for {sessions} sessions, one in ten transferring",
            size(needed)
        ))
        .why(
            "16 KiB a session and two buffers of 256 KiB a transfer, without the kernel's socket buffers; what is left over \
             holds files, so that they need not come from disk again",
        );
    match (facts.memory.available, facts.memory.total) {
        (Some(available), Some(total)) => finding
            .measured(format!("{} available of {}", size(available), size(total)))
            .bad_if(
                available < needed,
                severity,
                "add memory, or bound the sessions: --connections-max N",
            ),
        _ => finding.measured("unknown").bad(
            Severity::Advice,
            "look at `free`: /proc/meminfo cannot be read here",
        ),
    }
}

fn group_memory(facts: &Facts, sessions: u64, severity: Severity) -> Option<Finding> {
    let (limit, path) = facts.memory.group_limit.as_ref()?;
    let needed = needed_memory(facts, sessions);
    let finding = Finding::new("memory-group", Group::Resources)
        .measured(format!("{} by {}", size(*limit), path.display()))
        .wanted(format!("at least {}", size(needed)))
        .why("the control group counts socket buffers and the page cache of what is served, too; at its limit the kernel ends the server");
    Some(finding.bad_if(
        *limit < needed,
        severity,
        "MemoryMax= in the unit, or the container's limit, must be higher; or bound the sessions: --connections-max N",
    ))
}
