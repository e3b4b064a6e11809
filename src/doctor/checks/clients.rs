//! Authorities of client certificates, and their revocation lists.

use std::path::Path;
use std::time::SystemTime;

use super::certificate::DAY;
use super::quoted;
use crate::doctor::facts::{ClientFacts, RevocationList};
use crate::doctor::{Facts, Finding, Group, Severity};
use crate::limits;

/// A list is soon due when this part of its time is left: some authorities write one each day, some each half year.
const LIST_TIME_LEFT: u32 = 10;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(clients) = &facts.clients else {
        return Vec::new();
    };
    // A file that cannot be read is told of among the files.
    if clients.authorities_file.problem.is_some() {
        return Vec::new();
    }
    let mut findings = vec![authorities(clients)];
    if clients.authorities_problem.is_none()
        && let Some(now) = facts.now
    {
        findings.push(authority_dates(clients, now));
    }
    match &clients.revocations_file {
        None => findings.push(no_lists()),
        Some(file) if file.problem.is_some() => {}
        Some(file) => {
            findings.push(lists(clients));
            if let Some(now) = facts.now
                && clients.revocations_problem.is_none()
            {
                findings.extend(list_dates(&file.path, &clients.lists, now));
            }
        }
    }
    findings
}

fn finding(id: &str) -> Finding {
    Finding::new(id, Group::Certificate)
}

/// What the server says of a file, its remedy apart.
fn refused(finding: Finding, problem: &str) -> Finding {
    let (what, remedy) = problem
        .rsplit_once("; ")
        .unwrap_or((problem, "give the file in PEM"));
    finding.measured(what).bad(Severity::Error, remedy)
}

fn authorities(clients: &ClientFacts) -> Finding {
    let path = clients.authorities_file.path.display();
    let finding = finding("client-ca")
        .wanted("certificates of authorities, in PEM")
        .why("who has a certificate of theirs is who its subject says. The server does not start with a file that it cannot use");
    if let Some(problem) = &clients.authorities_problem {
        return refused(finding, problem);
    }
    let all = clients.authorities.iter().map(|one| &one.certificate);
    if let Some(other) = all.clone().find(|one| !one.is_authority) {
        return finding
            .measured(format!("{path}: no authority's: {}", other.subject))
            .bad(
                Severity::Warning,
                "put there the certificate of the authority that signs the clients' (basicConstraints CA:TRUE); single clients are listed by \
                 fingerprint in the users file",
            );
    }
    let subjects: Vec<&str> = all.map(|one| one.subject.as_str()).collect();
    finding.measured(format!("{path}: {}", subjects.join("; ")))
}

fn authority_dates(clients: &ClientFacts, now: SystemTime) -> Finding {
    let finding = finding("client-ca-dates")
        .wanted("valid, for 14 days at least")
        .why(
            "the server does not look at the dates of the authorities themselves and goes on accepting what they have signed; other programs \
             refuse it, and an authority that has expired signs no renewals",
        );
    let remedy = format!(
        "put the authority's new certificate into {} beside the old one, then: systemctl reload ringftpd",
        quoted(&clients.authorities_file.path.display().to_string())
    );
    let all = clients.authorities.iter().map(|one| &one.certificate);
    if let Some(early) = all
        .clone()
        .find(|one| one.not_before.is_some_and(|begin| now < begin))
    {
        return finding
            .measured(format!("not yet valid: {}", early.subject))
            .bad(Severity::Warning, "check this machine's clock: timedatectl");
    }
    let first_end = all
        .filter_map(|one| Some((one.not_after?, one)))
        .min_by_key(|(end, _)| *end);
    let Some((end, first)) = first_end else {
        return finding
            .measured("their dates cannot be read")
            .bad(Severity::Warning, remedy);
    };
    match end.duration_since(now) {
        Err(past) => {
            let days = past.duration().as_secs() / DAY.as_secs();
            finding
                .measured(format!("expired {days} days ago: {}", first.subject))
                .bad(Severity::Warning, remedy)
        }
        Ok(left) => {
            let days = left.as_secs() / DAY.as_secs();
            finding
                .measured(format!("valid for another {days} days: {}", first.subject))
                .bad_if(
                    left < limits::CERTIFICATE_EXPIRY_WARNING,
                    Severity::Warning,
                    remedy,
                )
        }
    }
}

fn no_lists() -> Finding {
    finding("client-crl")
        .measured("none given: --client-crl")
        .wanted("the revocation lists of the authorities")
        .why("without them a certificate whose key was stolen is accepted until it expires")
        .bad(
            Severity::Advice,
            "openssl ca -gencrl -out crl.pem, and --client-crl crl.pem; not needed where certificates live for days only",
        )
}

fn lists(clients: &ClientFacts) -> Finding {
    let finding = finding("client-crl")
        .wanted("a revocation list of each authority")
        .why(
            "with --client-crl the server refuses every certificate of an authority that it has no list of. It does not start with a file that it \
             cannot use",
        );
    if let Some(problem) = &clients.revocations_problem {
        return refused(finding, problem);
    }
    let without: Vec<&str> = clients
        .authorities
        .iter()
        .filter(|one| !one.has_list)
        .map(|one| one.certificate.subject.as_str())
        .collect();
    let file = clients.revocations_file.as_ref();
    let path = file.map_or_else(String::new, |file| file.path.display().to_string());
    if !without.is_empty() {
        return finding
            .measured(format!("{path}: no list of {}", without.join("; ")))
            .bad(
                Severity::Warning,
                format!(
                    "append the authority's list in PEM: openssl ca -gencrl >> {}, then: systemctl reload ringftpd",
                    quoted(&path)
                ),
            );
    }
    if let Some(list) = stale(&clients.lists) {
        return finding
            .measured(format!(
                "{path}: of the lists of {issuer} the first is not the newest, and the server takes the first",
                issuer = list.issuer
            ))
            .bad(
                Severity::Warning,
                format!(
                    "delete the older list of {issuer} from {path}, then: systemctl reload ringftpd",
                    issuer = list.issuer,
                    path = quoted(&path)
                ),
            );
    }
    let lists = taken(&clients.lists);
    let lists = lists.map(|list| format!("{}, {} revoked", list.issuer, list.entries));
    finding.measured(format!("{path}: {}", lists.collect::<Vec<_>>().join("; ")))
}

/// The lists that the server takes.
fn taken(lists: &[RevocationList]) -> impl Iterator<Item = &RevocationList> + Clone {
    lists.iter().filter(|list| list.passed_over_for.is_none())
}

/// A list that the server takes although the file has a newer one.
fn stale(lists: &[RevocationList]) -> Option<&RevocationList> {
    lists.iter().find_map(|newer| {
        let older = lists.get(newer.passed_over_for?)?;
        (newer.issued > older.issued).then_some(older)
    })
}

fn list_dates(path: &Path, lists: &[RevocationList], now: SystemTime) -> Option<Finding> {
    let path = quoted(&path.display().to_string());
    let finding = finding("client-crl-dates")
        .wanted("issued, and the next one not due soon")
        .why(
            "the server goes on with an old list, whatever its nextUpdate says: certificates that were revoked since are still accepted. It reads \
             the file at its start and on SIGHUP only",
        );
    if let Some(early) = taken(lists).find(|list| list.issued.is_some_and(|issued| now < issued)) {
        return Some(
            finding
                .measured(format!("issued in the future: {}", early.issuer))
                .bad(Severity::Warning, "check this machine's clock: timedatectl"),
        );
    }
    let (next, list) = taken(lists)
        .filter_map(|list| Some((list.next?, list)))
        .min_by_key(|(next, _)| *next)?;
    let issuer = &list.issuer;
    // A list that lacks keeps out all clients of its authority.
    let renew = match lists {
        [_] => format!(
            "write the authority's new list there: openssl ca -gencrl -out {path}, then: systemctl reload ringftpd"
        ),
        _ => format!(
            "in {path} put the new list of {issuer} (openssl ca -gencrl) in the place of its old one and keep the others, then: systemctl \
             reload ringftpd"
        ),
    };
    Some(match next.duration_since(now) {
        Err(past) => {
            let (hours, days) = hours_and_days(past.duration());
            let measured = match days {
                0 => format!("out of date for {hours} hours: {issuer}"),
                _ => format!("out of date for {days} days: {issuer}"),
            };
            finding.measured(measured).bad(Severity::Warning, renew)
        }
        Ok(left) => {
            let (hours, days) = hours_and_days(left);
            let measured = match days {
                0 => format!("the next one is due in {hours} hours: {issuer}"),
                _ => format!("the next one is due in {days} days: {issuer}"),
            };
            let whole = list
                .issued
                .and_then(|issued| next.duration_since(issued).ok());
            let soon = whole.is_some_and(|whole| left < whole / LIST_TIME_LEFT);
            finding
                .measured(measured)
                .bad_if(soon, Severity::Advice, renew)
        }
    })
}

fn hours_and_days(time: std::time::Duration) -> (u64, u64) {
    (time.as_secs() / 3600, time.as_secs() / DAY.as_secs())
}
