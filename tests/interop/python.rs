//! Python's ftplib (OpenSSL): as it comes, by a subclass on the implicit port, and resuming the session of the
//! control connection on every data connection.

use crate::support::{Port, Site, client, installed, octets, program_path, succeeds};

fn run(kind: Port, resume: bool, tls: &str) {
    if !installed("python3", "python3") {
        return;
    }
    let site = Site::start();
    site.write("down.bin", &octets(5, 3_000_001));
    let mut command = client("python3");
    site.environment(&mut command, kind)
        .arg(program_path("ftplib_client.py"))
        .arg(tls);
    if resume {
        command.arg("resume");
    }
    let said = succeeds(&mut command);
    assert!(said.ends_with("done\n"), "{said}");
    assert!(site.read("up.bin") == site.read("down.bin"));
    // A plain ftplib never resumes; the subclass must have done so on every data connection.
    assert_eq!(said.contains("not resumed"), !resume, "{said}");
}

#[test]
fn python_explicit_tls12() {
    run(Port::Explicit, false, "1.2");
}

#[test]
fn python_explicit_tls13() {
    run(Port::Explicit, false, "1.3");
}

#[test]
fn python_implicit_tls12() {
    run(Port::Implicit, false, "1.2");
}

#[test]
fn python_implicit_tls13() {
    run(Port::Implicit, false, "1.3");
}

#[test]
fn python_resuming_explicit_tls12() {
    run(Port::Explicit, true, "1.2");
}

#[test]
fn python_resuming_explicit_tls13() {
    run(Port::Explicit, true, "1.3");
}

#[test]
fn python_resuming_implicit_tls12() {
    run(Port::Implicit, true, "1.2");
}

#[test]
fn python_resuming_implicit_tls13() {
    run(Port::Implicit, true, "1.3");
}
