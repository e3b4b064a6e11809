//! Users file, key file, and the directory that is served.

use super::{quoted, size};
use crate::doctor::facts::{DirectoryFacts, FileFacts};
use crate::doctor::{Facts, Finding, Group, Severity};

/// File systems on other machines.
const NETWORK: [&str; 9] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "ceph",
    "glusterfs",
    "9p",
    "afs",
    "lustre",
];
/// Free space in percent below which uploads are about to fail.
const FREE_PERCENT_MIN: u64 = 5;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(file) = &facts.config {
        let why = "it names what is served, to whom, and the account that root becomes";
        findings.push(exclusive("config-file", file, facts, why));
    }
    if let Some(file) = &facts.users {
        findings.push(secret("users-file", file, facts));
    }
    if let Some(file) = &facts.key {
        findings.push(secret("key-file", file, facts));
    }
    for (id, file) in facts.clients.iter().flat_map(|clients| clients.files()) {
        findings.push(exclusive(
            id,
            file,
            facts,
            "whoever changes it decides whose certificates are accepted",
        ));
    }
    if let Some(directory) = &facts.directory {
        findings.push(access(directory));
        if directory.problem.is_none() {
            findings.extend(volume(directory));
        }
    }
    findings
}

/// What holds a directory.
pub(super) fn volume(directory: &DirectoryFacts) -> Vec<Finding> {
    let mut findings = vec![file_system(directory)];
    findings.extend(access_times(directory));
    findings.extend(space(directory));
    findings
}

/// The mode that a file with secrets should have, and the bits that it must not: the group may be that of a service that is
/// not the owner; Debian's group ssl-cert may read keys.
const SECRET: (u32, &str) = (0o037, "640");

/// A file with secrets: readable by this account, by few others, and replaceable by nobody.
pub(super) fn secret(id: &str, file: &FileFacts, facts: &Facts) -> Finding {
    let (forbidden, mode) = SECRET;
    let path = file.path.display().to_string();
    let finding = Finding::new(id, Group::Files)
        .wanted(format!(
            "readable by the server, mode {mode} at most, of root or the server's account"
        ))
        .why(if id == "users-file" {
            "it holds password hashes and decides who gets in"
        } else {
            "whoever reads the key can pretend to be this server"
        });
    if let Some(problem) = &file.problem {
        let name = quoted(&path);
        // What cannot even be looked at has no mode.
        let remedy = match (file.mode, id) {
            (0, "users-file") => format!("ringftpd user add --users {name} NAME"),
            (0, _) => "give the path of the private key in PEM".to_owned(),
            _ => format!(
                "run the doctor as the account that starts the server; as root: chown {} {name}",
                facts.account.name
            ),
        };
        return unusable(finding, &path, problem, remedy);
    }
    let finding = finding.measured(format!(
        "{path}: mode {:03o}, of user {}",
        file.mode, file.owner
    ));
    if file.mode & forbidden != 0 {
        return finding.bad(Severity::Warning, format!("chmod {mode} {}", quoted(&path)));
    }
    replaceable(finding, file, facts)
}

/// A file without secrets that only its owner may change: readable by this account, and replaceable by nobody.
fn exclusive(id: &str, file: &FileFacts, facts: &Facts, why: &str) -> Finding {
    let path = file.path.display().to_string();
    let finding = Finding::new(id, Group::Files)
        .wanted(
            "readable by the server, writable by its owner alone, of root or the server's account",
        )
        .why(why);
    if let Some(problem) = &file.problem {
        let remedy = match file.mode {
            // What cannot even be looked at has no mode.
            0 => "give the path of a PEM file".to_owned(),
            _ => format!(
                "run the doctor as the account that starts the server; as root: chmod a+r {}",
                quoted(&path)
            ),
        };
        return unusable(finding, &path, problem, remedy);
    }
    let finding = finding.measured(format!(
        "{path}: mode {:03o}, of user {}",
        file.mode, file.owner
    ));
    if file.mode & 0o022 != 0 {
        return finding.bad(Severity::Warning, format!("chmod go-w {}", quoted(&path)));
    }
    replaceable(finding, file, facts)
}

/// What keeps a file from being read. Its own remedy goes before `remedy`.
fn unusable(finding: Finding, path: &str, problem: &str, remedy: String) -> Finding {
    let (what, remedy) = match problem.split_once("; ") {
        Some((what, own)) => (what, own.to_owned()),
        None => (problem, remedy),
    };
    finding
        .measured(format!("{path}: {what}"))
        .bad(Severity::Error, remedy)
}

/// Warns if somebody else owns the file, or may put another one in its place.
fn replaceable(finding: Finding, file: &FileFacts, facts: &Facts) -> Finding {
    let path = file.path.display().to_string();
    let strange = file.owner != 0 && facts.account.user != 0 && file.owner != facts.account.user;
    if strange {
        return finding.bad(
            Severity::Warning,
            format!("chown {} {}", facts.account.name, quoted(&path)),
        );
    }
    match &file.open_parent {
        Some(parent) => finding
            .measured(format!(
                "{path}: everybody may replace it, {} is open for writing",
                parent.display()
            ))
            .bad(
                Severity::Warning,
                format!("chmod o-w {}", quoted(&parent.display().to_string())),
            ),
        None => finding,
    }
}

pub(super) fn access(directory: &DirectoryFacts) -> Finding {
    let path = directory.path.display().to_string();
    let finding = Finding::new("directory", Group::Files)
        .wanted("readable by the server, not writable by everybody")
        .why("what accounts without a home of their own see as /");
    if let Some(problem) = &directory.problem {
        return finding.measured(format!("{path}: {problem}")).bad(
            Severity::Error,
            format!("install -d -o ringftpd -g ringftpd {}", quoted(&path)),
        );
    }
    if let Some(account) = &directory.barred {
        let measured = format!("{path}: the account `{account}` cannot list it");
        return finding.measured(measured).bad(
            Severity::Error,
            format!(
                "chown {} {}, or name another account with --run-as",
                quoted(account),
                quoted(&path)
            ),
        );
    }
    let open = directory.mode & 0o002 != 0 && directory.mode & 0o1000 == 0;
    finding
        .measured(format!("{path}: mode {:03o}", directory.mode))
        .bad_if(
            open,
            Severity::Advice,
            format!("chmod o-w {}", quoted(&path)),
        )
}

fn file_system(directory: &DirectoryFacts) -> Finding {
    let kind = directory.file_system.as_deref().unwrap_or("unknown");
    let read_only = directory.mount_options.iter().any(|option| option == "ro");
    let finding = Finding::new("file-system", Group::Files)
        .measured(format!("{kind}{}", if read_only { ", read-only" } else { "" }))
        .wanted("a local one")
        .why(
            "local file systems tell what is in memory, so that a core never waits for a disk. Of those on the network and in user space \
             (FUSE), files are read by the ring first, and metadata takes a round trip; a server that is gone stalls whoever asks",
        );
    if NETWORK.contains(&kind) || kind.starts_with("fuse") {
        let fix =
            "serve from a local disk, or mount with options that end (nfs: softerr,timeo=150)";
        return finding.bad(Severity::Advice, fix);
    }
    finding.bad_if(
        read_only,
        Severity::Advice,
        format!(
            "mount -o remount,rw {}, unless nobody uploads",
            quoted(&directory.path.display().to_string())
        ),
    )
}

fn access_times(directory: &DirectoryFacts) -> Option<Finding> {
    if directory.mount_options.is_empty() {
        return None;
    }
    let has = |name: &str| directory.mount_options.iter().any(|option| option == name);
    let strict = !has("noatime") && !has("relatime") && !has("ro");
    let measured = ["noatime", "relatime", "ro"]
        .into_iter()
        .find(|name| has(name));
    let finding = Finding::new("access-times", Group::Files)
        .measured(measured.unwrap_or("strictatime"))
        .wanted("noatime or relatime")
        .why("with strict access times every download writes to the disk; relatime, the usual one, writes once a day and file");
    let path = quoted(&directory.path.display().to_string());
    Some(finding.bad_if(
        strict,
        Severity::Advice,
        format!("mount -o remount,noatime {path}"),
    ))
}

fn space(directory: &DirectoryFacts) -> Vec<Finding> {
    let path = quoted(&directory.path.display().to_string());
    let scarce = |all: u64, free: u64| free < all / 100 * FREE_PERCENT_MIN;
    let mut findings = Vec::new();
    if let Some((all, free)) = directory.space.filter(|(all, _)| *all > 0) {
        let finding = Finding::new("free-space", Group::Files)
            .measured(format!("{} free of {}", size(free), size(all)))
            .wanted(format!("at least {FREE_PERCENT_MIN} %"))
            .why("uploads to a full disk end with 452");
        findings.push(finding.bad_if(
            scarce(all, free),
            Severity::Warning,
            format!("df -h {path}"),
        ));
    }
    if let Some((all, free)) = directory.inodes {
        let finding = Finding::new("free-inodes", Group::Files)
            .measured(format!("{free} free of {all}"))
            .wanted(format!("at least {FREE_PERCENT_MIN} %"))
            .why("many small files use up inodes before space; uploads then end with 452, too");
        findings.push(finding.bad_if(
            scarce(all, free),
            Severity::Warning,
            format!("df -i {path}"),
        ));
    }
    findings
}
