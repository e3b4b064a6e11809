//! Perl's Net::FTP over IO::Socket::SSL, which never reads from the data connection of an upload: a server that
//! sends session tickets there and closes at once would lose the end of the file to a reset.

use std::process::Command;

use crate::support::{Port, Site, available, client, installed, octets, program_path, succeeds};

fn run(kind: Port, tls: &str) {
    let has_tls = || {
        Command::new("perl")
            .args(["-MIO::Socket::SSL", "-e", "1"])
            .output()
            .unwrap()
            .status
            .success()
    };
    if !installed("perl", "perl")
        || !available(has_tls(), "IO::Socket::SSL", "libio-socket-ssl-perl")
    {
        return;
    }
    let site = Site::start();
    site.write("down.bin", &octets(7, 2_000_001));
    let mut command = client("perl");
    let said = succeeds(
        site.environment(&mut command, kind)
            .arg(program_path("net_ftp_client.pl"))
            .arg(tls),
    );
    assert!(said.ends_with("done\n"), "{said}");
    for file in 0..20 {
        assert!(
            site.read(&format!("up-{file}.bin")) == site.read("down.bin"),
            "upload {file}"
        );
    }
}

#[test]
fn perl_explicit_tls12() {
    run(Port::Explicit, "TLSv1_2");
}

#[test]
fn perl_explicit_tls13() {
    run(Port::Explicit, "TLSv1_3");
}

#[test]
fn perl_implicit_tls12() {
    run(Port::Implicit, "TLSv1_2");
}

#[test]
fn perl_implicit_tls13() {
    run(Port::Implicit, "TLSv1_3");
}
