//! Certificate and key.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::doctor::facts::{Certificate, Link};
use crate::doctor::{Facts, Finding, Group, Input, Severity};
use crate::limits;

pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// Fewest bits of an RSA key that clients of today accept (CA/Browser Forum BR 6.1.5; OpenSSL's security level 2).
const RSA_BITS_MIN: usize = 2048;

pub(super) fn check(input: &Input, facts: &Facts) -> Vec<Finding> {
    let Some(certificate) = &facts.certificate else {
        let none = finding("certificate")
            .measured("none given: --cert and --key")
            .wanted("one of an authority that the clients trust")
            .why(
                "without one the server makes a self-signed certificate, which every client must be given as its trust anchor, or told to \
                 ignore",
            );
        return vec![none.bad(
            Severity::Advice,
            "ringftpd doctor --cert chain.pem --key key.pem",
        )];
    };
    let path = input
        .certificate
        .as_deref()
        .unwrap_or_else(|| Path::new(""));
    judge(path, certificate, facts.now)
}

/// A chain and its key.
pub(super) fn judge(
    path: &Path,
    certificate: &Certificate,
    now: Option<SystemTime>,
) -> Vec<Finding> {
    let pair = finding("certificate")
        .wanted("a chain and its key that can be used")
        .why("the server does not start without, and keeps the old one on SIGHUP");
    if let Some(problem) = &certificate.problem {
        let (what, remedy) = problem
            .rsplit_once("; ")
            .unwrap_or((problem, "give a PEM chain, leaf first, and its key"));
        return vec![pair.measured(what).bad(Severity::Error, remedy)];
    }
    let Some(leaf) = certificate.chain.first() else {
        return vec![
            pair.measured("the chain is empty")
                .bad(Severity::Error, "give a PEM chain, leaf first"),
        ];
    };
    let subject = match leaf.names.as_slice() {
        [] => leaf.subject.clone(),
        names => names.join(", "),
    };
    let mut findings = vec![
        pair.measured(format!("{}: {subject}; key {}", path.display(), leaf.key)),
        chain(certificate, leaf),
        key(leaf),
        names(leaf),
    ];
    if let Some(now) = now {
        findings.push(dates(certificate, now));
    }
    findings
}

fn finding(id: &str) -> Finding {
    Finding::new(id, Group::Certificate)
}

fn dates(certificate: &Certificate, now: SystemTime) -> Finding {
    let finding = finding("certificate-dates")
        .wanted("valid, for 14 days at least")
        .why("clients refuse a chain with one expired certificate; SIGHUP takes a renewed one without dropping anybody");
    let renew = "renew it, then: systemctl reload ringftpd";
    for link in &certificate.chain {
        if link.not_before.is_some_and(|begin| now < begin) {
            let measured = format!("not yet valid: {}", link.subject);
            return finding
                .measured(measured)
                .bad(Severity::Error, "check this machine's clock: timedatectl");
        }
    }
    let first_end = certificate
        .chain
        .iter()
        .filter_map(|link| Some((link.not_after?, link)))
        .min_by_key(|(end, _)| *end);
    let Some((end, link)) = first_end else {
        return finding
            .measured("its dates cannot be read")
            .bad(Severity::Warning, renew);
    };
    match end.duration_since(now) {
        Err(past) => {
            let days = past.duration().as_secs() / DAY.as_secs();
            let measured = format!("expired {days} days ago: {}", link.subject);
            finding.measured(measured).bad(Severity::Error, renew)
        }
        Ok(left) => {
            let days = left.as_secs() / DAY.as_secs();
            let measured = format!("valid for another {days} days: {}", link.subject);
            let soon = left < limits::CERTIFICATE_EXPIRY_WARNING;
            finding
                .measured(measured)
                .bad_if(soon, Severity::Warning, renew)
        }
    }
}

fn chain(certificate: &Certificate, leaf: &Link) -> Finding {
    let count = certificate.chain.len();
    let finding = finding("certificate-chain")
        .wanted("leaf first, each signed by the next, up to an authority that clients know")
        .why(
            "clients know root authorities only; what is between must come from the server, in order. Browsers fetch what is missing, FTPS \
             clients do not",
        );
    let certificates = format!("{count} certificate{}", if count == 1 { "" } else { "s" });
    if !certificate.in_order {
        return finding
            .measured(format!(
                "{certificates}, but not each was signed by the next"
            ))
            .bad(
                Severity::Warning,
                "put them in order: cat leaf.pem intermediate.pem > chain.pem",
            );
    }
    if count == 1 && leaf.is_self_issued() {
        return finding.measured("self-signed").bad(
            Severity::Advice,
            "give clients this certificate as their trust anchor (curl --cacert), or get one of an authority",
        );
    }
    let root = certificate
        .chain
        .last()
        .filter(|last| count > 1 && last.is_self_issued());
    match certificate.trusted {
        Some(true) if root.is_some() => finding.measured(format!(
            "{certificates}, trusted here; the last one is the root, which clients have already"
        )),
        Some(true) => finding.measured(format!("{certificates}, trusted here")),
        None => finding
            .measured(format!(
                "{certificates}, in order; this machine has no authorities to compare with"
            ))
            .bad(Severity::Advice, "apt-get install ca-certificates"),
        Some(false) if root.is_some() => finding
            .measured(format!(
                "{certificates}, up to an authority that this machine does not know"
            ))
            .bad(
                Severity::Advice,
                "give clients the authority's certificate, if it is your own",
            ),
        Some(false) => {
            let last = certificate.chain.last().unwrap_or(leaf);
            finding.measured(format!("{certificates}; the issuer of the last one is not trusted here: {}", last.issuer)).bad(
                Severity::Warning,
                "append the intermediate certificates of the authority to the file; if the authority is your own, clients must be given its certificate",
            )
        }
    }
}

fn key(leaf: &Link) -> Finding {
    let finding = finding("certificate-key")
        .measured(if leaf.weak_signature {
            format!("{}, signed with SHA-1 or MD5", leaf.key)
        } else {
            leaf.key.clone()
        })
        .wanted("EC 256; RSA of 2048 bits at least for old clients; signed with SHA-256 or better")
        .why("a full handshake with RSA 2048 takes several times the CPU time of P-256, with RSA 4096 several times that again");
    let weak = leaf.weak_signature || leaf.rsa_bits.is_some_and(|bits| bits < RSA_BITS_MIN);
    let renew = "ask the authority for a certificate with an EC key: openssl ecparam -genkey -name prime256v1 -noout -out key.pem";
    if weak {
        return finding.bad(Severity::Warning, renew);
    }
    finding.bad_if(
        leaf.rsa_bits.is_some_and(|bits| bits > 3072),
        Severity::Advice,
        renew,
    )
}

fn names(leaf: &Link) -> Finding {
    let finding = finding("certificate-names")
        .measured(match leaf.names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        })
        .wanted("a certificate for TLS servers, with the names that clients connect to")
        .why("clients look for the host's name among the subject alternative names only (RFC 9525 section 6.3)");
    if leaf.is_authority && !leaf.is_self_issued() {
        return finding.bad(
            Severity::Warning,
            "the first certificate is an authority's: put the server's own first",
        );
    }
    let useless = leaf.names.is_empty() || !leaf.for_servers;
    finding.bad_if(
        useless,
        Severity::Warning,
        "ask for a certificate with subjectAltName and extended key usage serverAuth",
    )
}
