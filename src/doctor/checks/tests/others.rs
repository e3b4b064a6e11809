//! Virtual hosts, and what client certificates are judged by.

use super::*;

fn file(path: &str, mode: u32) -> FileFacts {
    FileFacts {
        path: PathBuf::from(path),
        problem: None,
        mode,
        owner: 0,
        open_parent: None,
    }
}

fn host(name: &str) -> HostFacts {
    let leaf = Link {
        names: vec![name.to_owned(), format!("*.{name}")],
        ..facts().certificate.unwrap().chain.remove(0)
    };
    let chain = Certificate {
        chain: vec![leaf],
        in_order: true,
        trusted: Some(true),
        ..Certificate::default()
    };
    HostFacts {
        name: name.to_owned(),
        names: vec![format!("*.{name}"), format!("ftp.{name}"), name.to_owned()],
        certificate: Some((PathBuf::from("/etc/host.pem"), chain)),
        key: Some(file("/etc/host.key", 0o640)),
        users: Some(file("/etc/host-users.toml", 0o600)),
        directory: facts().directory,
    }
}

/// As [`spoilt`], with one host.
#[track_caller]
fn spoilt_host(change: impl Fn(&mut HostFacts), id: &str, severity: Severity, remedy: &str) {
    let with_host = |facts: &mut Facts| {
        let mut host = host("example");
        change(&mut host);
        facts.hosts = vec![host];
    };
    spoilt(with_host, id, severity, remedy);
}

fn clients() -> ClientFacts {
    let authority = |name: &str| Authority {
        certificate: Link {
            subject: format!("CN={name}"),
            not_before: day(19_000),
            not_after: day(23_000),
            is_authority: true,
            ..Link::default()
        },
        has_list: true,
    };
    let list = |name: &str| RevocationList {
        issuer: format!("CN={name}"),
        issued: day(20_000),
        next: day(20_010),
        entries: 3,
        passed_over_for: None,
    };
    ClientFacts {
        authorities_file: file("/etc/ca.pem", 0o644),
        authorities_problem: None,
        authorities: vec![authority("A"), authority("B")],
        revocations_file: Some(file("/etc/crl.pem", 0o644)),
        revocations_problem: None,
        lists: vec![list("A"), list("B")],
    }
}

#[track_caller]
fn spoilt_clients(change: impl Fn(&mut ClientFacts), id: &str, severity: Severity, remedy: &str) {
    let with_clients = |facts: &mut Facts| {
        let mut clients = clients();
        change(&mut clients);
        facts.clients = Some(clients);
    };
    spoilt(with_clients, id, severity, remedy);
}

#[test]
fn hosts_and_clients_that_are_as_they_should_be_have_nothing_to_mend() {
    let mut facts = facts();
    facts.hosts = vec![host("example"), host("example.net")];
    facts.clients = Some(clients());
    let findings = examine(&input(), &facts);
    let bad = findings.iter().find(|f| f.severity > Severity::Ok);
    assert_eq!(bad, None);
    let mut ids: Vec<&str> = findings.iter().map(|f| f.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), findings.len(), "a name stands twice");
    for id in [
        "certificate:example",
        "certificate-chain:example",
        "certificate-dates:example.net",
        "certificate-key:example",
        "certificate-names:example",
        "key-file:example",
        "users-file:example.net",
        "directory:example",
        "client-ca",
        "client-ca-dates",
        "client-ca-file",
        "client-crl",
        "client-crl-dates",
        "client-crl-file",
    ] {
        assert!(ids.contains(&id), "no {id}");
    }
    let volumes = ids.iter().filter(|id| id.starts_with("free-space"));
    assert_eq!(volumes.count(), 1, "one disk is told of once");
}

#[test]
fn hosts_are_judged() {
    use Severity::{Error, Warning};
    fn leaf(host: &mut HostFacts) -> &mut Link {
        &mut host.certificate.as_mut().unwrap().1.chain[0]
    }
    spoilt_host(
        |h| leaf(h).names = vec!["example".to_owned()],
        "certificate-names:example",
        Warning,
        "'subjectAltName=DNS:*.example,DNS:ftp.example,DNS:example'",
    );
    spoilt_host(
        |h| leaf(h).names.clear(),
        "certificate-names:example",
        Warning,
        "subjectAltName",
    );
    spoilt_host(
        |h| leaf(h).not_after = day(20_010),
        "certificate-dates:example",
        Warning,
        "renew",
    );
    spoilt_host(
        |h| leaf(h).not_after = day(20_000),
        "certificate-dates:example",
        Error,
        "renew",
    );
    let wrong = |h: &mut HostFacts| {
        let problem = "/etc/host.key: private key does not belong to it; give the key of it";
        h.certificate.as_mut().unwrap().1.problem = Some(problem.to_owned());
    };
    spoilt_host(wrong, "certificate:example", Error, "give the key of it");
    spoilt_host(
        |h| h.key.as_mut().unwrap().mode = 0o644,
        "key-file:example",
        Warning,
        "chmod 640 /etc/host.key",
    );
    spoilt_host(
        |h| h.users.as_mut().unwrap().problem = Some("gone".to_owned()),
        "users-file:example",
        Error,
        "chown",
    );
    spoilt_host(
        |h| h.directory.as_mut().unwrap().problem = Some("gone".to_owned()),
        "directory:example",
        Error,
        "install -d",
    );
    spoilt_host(
        |h| h.directory.as_mut().unwrap().barred = Some("ftp".to_owned()),
        "directory:example",
        Error,
        "chown ftp /srv/ftps",
    );
    // A disk of its own, the twin of the server's.
    let full = |h: &mut HostFacts| {
        let directory = h.directory.as_mut().unwrap();
        directory.device = Some(0x811);
        directory.space = Some((1 << 40, 1 << 30));
    };
    spoilt_host(full, "free-space:example", Warning, "df -h");
}

#[test]
fn hosts_without_a_certificate_show_the_servers() {
    let without = |h: &mut HostFacts| {
        h.certificate = None;
        h.key = None;
    };
    spoilt_host(
        without,
        "certificate-names:example",
        Severity::Warning,
        "give the host a `cert`",
    );
    let mut facts = facts();
    let mut host = host("example");
    without(&mut host);
    host.names = vec!["FILES.example".to_owned()];
    facts.hosts = vec![host];
    let findings = examine(&input(), &facts);
    let found = findings
        .iter()
        .find(|f| f.id == "certificate-names:example");
    let found = found.unwrap();
    assert_eq!(found.severity, Severity::Ok, "{found:?}");
    assert_eq!(found.measured, "the server's, for files.example");
    // One that the server makes is trusted by nobody anyway.
    facts.certificate = None;
    let findings = examine(&input(), &facts);
    assert!(
        !findings
            .iter()
            .any(|f| f.id.starts_with("certificate-names"))
    );
}

#[test]
fn authorities_are_judged() {
    use Severity::{Error, Warning};
    spoilt_clients(
        |c| c.authorities_problem = Some("no PEM certificate found; give some".to_owned()),
        "client-ca",
        Error,
        "give some",
    );
    spoilt_clients(
        |c| c.authorities[1].certificate.is_authority = false,
        "client-ca",
        Warning,
        "CA:TRUE",
    );
    for (end, days) in [(20_000, "expired 1 days"), (20_010, "another 9 days")] {
        spoilt_clients(
            |c| c.authorities[0].certificate.not_after = day(end),
            "client-ca-dates",
            Warning,
            "into /etc/ca.pem beside the old one",
        );
        let mut facts = facts();
        let mut clients = clients();
        clients.authorities[0].certificate.not_after = day(end);
        facts.clients = Some(clients);
        let findings = examine(&input(), &facts);
        let dates = findings.iter().find(|f| f.id == "client-ca-dates").unwrap();
        assert!(dates.measured.contains(days), "{dates:?}");
        assert!(dates.measured.contains("CN=A"), "{dates:?}");
    }
    spoilt_clients(
        |c| c.authorities[0].certificate.not_before = day(20_002),
        "client-ca-dates",
        Warning,
        "timedatectl",
    );
    spoilt_clients(
        |c| c.authorities_file.mode = 0o664,
        "client-ca-file",
        Warning,
        "chmod go-w /etc/ca.pem",
    );
}

#[test]
fn of_several_lists_of_an_authority_the_one_that_the_server_takes_is_judged() {
    let judged = |change: &dyn Fn(&mut RevocationList)| {
        let mut facts = facts();
        let mut clients = clients();
        let mut second = clients.lists[0].clone();
        second.passed_over_for = Some(0);
        change(&mut second);
        clients.lists.push(second);
        facts.clients = Some(clients);
        let findings = examine(&input(), &facts);
        let found = |id: &str| findings.iter().find(|f| f.id == id).unwrap().clone();
        (found("client-crl"), found("client-crl-dates"))
    };
    // An old one behind it counts for nothing.
    let (lists, dates) = judged(&|second| {
        (second.issued, second.next) = (day(19_000), day(19_010));
    });
    assert_eq!(dates.severity, Severity::Ok, "{dates:?}");
    assert_eq!(lists.severity, Severity::Ok, "{lists:?}");
    assert_eq!(lists.measured.matches("CN=A").count(), 1, "{lists:?}");
    // Nor does a new one, which is not what the operator meant.
    let (lists, dates) = judged(&|second| {
        (second.issued, second.next) = (day(20_001), day(20_100));
    });
    assert_eq!(lists.severity, Severity::Warning);
    assert!(lists.measured.contains("the server takes the first"));
    let fix = lists.fix.unwrap();
    assert!(fix.contains("delete the older list of CN=A"), "{fix}");
    assert!(dates.measured.contains("due in 9 days: CN=A"), "{dates:?}");
}

#[test]
fn revocation_lists_are_judged() {
    use Severity::{Advice, Error, Warning};
    spoilt_clients(
        |c| c.revocations_file = None,
        "client-crl",
        Advice,
        "--client-crl",
    );
    spoilt_clients(
        |c| c.revocations_problem = Some("no list found; give some".to_owned()),
        "client-crl",
        Error,
        "give some",
    );
    spoilt_clients(
        |c| c.authorities[1].has_list = false,
        "client-crl",
        Warning,
        "openssl ca -gencrl >> /etc/crl.pem",
    );
    spoilt_clients(
        |c| c.lists[1].next = day(20_000),
        "client-crl-dates",
        Warning,
        "systemctl reload ringftpd",
    );
    // To write the whole file would take the other authority's list away.
    for end in [20_000, 20_001] {
        let mut facts = facts();
        let mut clients = clients();
        clients.lists[1].next = day(end);
        facts.clients = Some(clients.clone());
        let fix = |facts: &Facts| {
            let findings = examine(&input(), facts);
            let dates = findings.into_iter().find(|f| f.id == "client-crl-dates");
            dates.unwrap().fix.unwrap()
        };
        let several = fix(&facts);
        assert!(!several.contains("-out"), "{several}");
        assert!(several.contains("put the new list of CN=B"), "{several}");
        assert!(several.contains("keep the others"), "{several}");
        clients.lists.remove(0);
        clients.authorities.remove(0);
        facts.clients = Some(clients);
        let one = fix(&facts);
        assert!(one.contains("-gencrl -out /etc/crl.pem,"), "{one}");
    }
    // Half an hour of ten days.
    let soon = day(20_001).unwrap() + Duration::from_secs(1800);
    spoilt_clients(
        |c| c.lists[1].next = Some(soon),
        "client-crl-dates",
        Advice,
        "systemctl reload ringftpd",
    );
    spoilt_clients(
        |c| c.lists[0].issued = day(20_002),
        "client-crl-dates",
        Warning,
        "timedatectl",
    );
    let gone = |c: &mut ClientFacts| {
        let file = c.revocations_file.as_mut().unwrap();
        (file.problem, file.mode) = (Some("gone".to_owned()), 0);
    };
    spoilt_clients(gone, "client-crl-file", Error, "PEM file");
}
