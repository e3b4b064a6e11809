//! `ringftpd check-config`: everything that is wrong with a configuration file and the files that it names.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use super::blame::Origins;
use super::problem::{Problem, Problems};
use super::sources::{Loaded, Refusal, Sources};
use crate::config::file_rules::check_mounts;
use crate::config::hosts::check_files;
use crate::config::{Exit, Failure, pam, users_store};
use crate::sys::keeper::Keeper;
use crate::{limits, tls};

/// Checks the file, and the users file, certificate and key that it names; makes nothing and becomes nobody.
/// Problems are told on standard error, one a line.
///
/// # Errors
/// The file cannot be read.
pub fn check_config(file: &Path) -> Result<ExitCode, Failure> {
    let sources = Sources::only(file)?;
    let survey = sources.survey(&sources.read()?, None);
    let mut list = survey.problems;
    match survey.loaded {
        Ok(loaded) => list.extend(examine(&loaded)),
        // What is wrong with the file says it all.
        Err(_) if !list.is_empty() => {}
        Err(Refusal::File(problems)) => list.extend(problems.list),
        Err(Refusal::Failure(failure)) => return Err(failure),
        Err(Refusal::Usage(error)) => return Err(Failure::new(Exit::Usage, error.to_string())),
    }
    let refused = Problems::refuse(sources.file().unwrap_or(file), list);
    match refused {
        Ok(()) => {
            let written = writeln!(std::io::stdout(), "{}: no errors", file.display());
            written
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| Failure::new(Exit::System, format!("standard output: {error}")))
        }
        Err(problems) => {
            for line in problems.lines() {
                eprintln!("ringftpd: {line}");
            }
            Ok(ExitCode::from(Exit::Config as u8))
        }
    }
}

/// Looks into the files that are named.
fn examine(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |key: &str, result: Result<(), Failure>| {
        if let Err(failure) = result {
            problems.push(problem(&loaded.origins, key, failure));
        }
    };
    if let Some(users) = &loaded.checked.users {
        add("users", check_users(users));
    }
    add("mounts", check_mounts(&loaded.checked.file_rules));
    if let Some(files) = &loaded.checked.certificate {
        add("cert", check_certificate(&files.certificate, &files.key));
    }
    if let Some(settings) = &loaded.checked.pam {
        add("pam", pam::demand(settings));
    }
    let clients = &loaded.checked.clients;
    let keeper = Keeper::direct(clients.files().collect());
    add("client-ca", clients.load(&keeper).map(drop));
    for host in &loaded.structures.hosts.list {
        for failure in check_files(host, check_users, check_certificate) {
            problems.push(Problem {
                place: Some(host.place),
                message: format!("host {}: {}", host.name, failure.message),
                exit: failure.exit,
            });
        }
    }
    problems
}

fn problem(origins: &Origins, key: &str, failure: Failure) -> Problem {
    Problem {
        place: origins.place(key),
        message: format!("{key}: {}", failure.message),
        exit: failure.exit,
    }
}

fn check_users(file: &Path) -> Result<(), Failure> {
    let octets = read(file)?;
    users_store::parse(file, &octets).map(drop)
}

fn check_certificate(certificate: &Path, key: &Path) -> Result<(), Failure> {
    for file in [certificate, key] {
        read(file)?;
    }
    let identity = tls::Identity::load(certificate, key)
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let soon = SystemTime::now() + limits::CERTIFICATE_EXPIRY_WARNING;
    match identity.expires() {
        Some(expires) if expires < SystemTime::now() => {
            let message = "the certificate has expired: renew it";
            Err(Failure::file(Exit::Config, certificate, message))
        }
        Some(expires) if expires < soon => {
            eprintln!(
                "ringftpd: {}: warning: the certificate expires within 14 days",
                certificate.display()
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

fn read(file: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, Failure> {
    let octets = Keeper::direct(vec![file.to_path_buf()]).read(file);
    octets.map_err(|error| Failure::io(Exit::NoInput, file, &error))
}
