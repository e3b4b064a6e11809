//! Virtual hosts: the judgements of the server's own files, for each; and whether certificates are for their names.

use std::collections::BTreeSet;

use super::{certificate, files};
use crate::doctor::facts::{DirectoryFacts, HostFacts, Link};
use crate::doctor::{Facts, Finding, Group, Severity};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let own = facts.directory.iter();
    let mut volumes: BTreeSet<_> = own
        .filter(|own| own.problem.is_none())
        .map(volume)
        .collect();
    let mut findings = Vec::new();
    for host in &facts.hosts {
        let mut of_host = certificates(host, facts);
        if let Some(key) = &host.key {
            of_host.push(files::secret("key-file", key, facts));
        }
        if let Some(users) = &host.users {
            of_host.push(files::secret("users-file", users, facts));
        }
        if let Some(directory) = &host.directory {
            of_host.push(files::access(directory));
            // Hosts mostly share a disk, of which once is enough.
            if directory.problem.is_none() && volumes.insert(volume(directory)) {
                of_host.extend(files::volume(directory));
            }
        }
        findings.extend(of_host.into_iter().map(|finding| Finding {
            id: format!("{}:{}", finding.id, host.name),
            ..finding
        }));
    }
    findings
}

/// What tells a volume from others. It may be mounted twice, and read-only once.
fn volume(directory: &DirectoryFacts) -> (Option<u64>, &[String]) {
    (directory.device, &directory.mount_options)
}

fn certificates(host: &HostFacts, facts: &Facts) -> Vec<Finding> {
    let Some((path, own)) = &host.certificate else {
        // It shows the server's, if that is not one of its own making.
        let server = facts.certificate.as_ref();
        let usable = server.filter(|certificate| certificate.problem.is_none());
        let leaf = usable.and_then(|certificate| certificate.chain.first());
        return leaf
            .map(|leaf| names(host, leaf, "the server's, for ", SERVERS_REMEDY))
            .into_iter()
            .collect();
    };
    let mut findings = certificate::judge(path, own, facts.now);
    if let Some(leaf) = own.chain.first() {
        for finding in &mut findings {
            // What is wrong with the certificate by itself comes first.
            if finding.id == "certificate-names" && finding.severity == Severity::Ok {
                *finding = names(host, leaf, "", OWN_REMEDY);
            }
        }
    }
    findings
}

const OWN_REMEDY: &str = "ask the authority for one that names all";
const SERVERS_REMEDY: &str =
    "give the host a `cert` and `key` of its own, or ask for one for the server that names all";

fn names(host: &HostFacts, leaf: &Link, whose: &str, remedy: &str) -> Finding {
    let held = match leaf.names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let missing: Vec<&str> = host
        .names
        .iter()
        .map(String::as_str)
        .filter(|name| !leaf.names.iter().any(|pattern| covers(pattern, name)))
        .collect();
    let finding = Finding::new("certificate-names", Group::Certificate)
        .wanted("a certificate for every name of the host")
        .why(
            "clients look for the name that they connect to among the subject alternative names only, and refuse the connection \
             (RFC 9525 section 6.3)",
        );
    if missing.is_empty() {
        return finding.measured(format!("{whose}{held}"));
    }
    let all = host.names.iter().map(|name| format!("DNS:{name}"));
    let request = format!(
        "{remedy}: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj / -addext \
         'subjectAltName={}' -keyout key.pem -out request.pem",
        all.collect::<Vec<_>>().join(",")
    );
    finding
        .measured(format!("{whose}{held}; not for {}", missing.join(", ")))
        .bad(Severity::Warning, request)
}

/// Whether a subject alternative name is for this name of a host. A wildcard is for exactly one label (RFC 9525 section 6.3).
fn covers(pattern: &str, name: &str) -> bool {
    let one_label = |pattern: &str| {
        let domain = pattern.strip_prefix("*.")?;
        let (_, rest) = name.split_once('.')?;
        Some(rest.eq_ignore_ascii_case(domain))
    };
    pattern.eq_ignore_ascii_case(name) || one_label(pattern).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_for_one_label() {
        assert!(covers("Files.example", "files.EXAMPLE"));
        assert!(covers("*.example", "a.example"));
        assert!(covers("*.example", "*.example"));
        assert!(!covers("*.example", "a.b.example"));
        assert!(!covers("*.example", "example"));
        assert!(!covers("a.example", "*.example"));
        assert!(!covers("192.0.2.1", "a.example"));
    }
}
