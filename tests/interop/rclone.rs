//! rclone (Go's TLS): copies and checks a tree. Its uploads never read from the data connection.

use std::process::Command;

use crate::support::{
    PASSWORD, Port, Site, USER, assert_same_tree, client, installed, plant_tree, succeeds,
};

/// rclone with a remote `:ftp:` that needs no configuration file.
fn rclone(site: &Site, port: Port, hidden: &str) -> Command {
    let mut command = client("rclone");
    command
        .env("SSL_CERT_FILE", site.certificate())
        .env("RCLONE_CONFIG", site.scratch().join("none.conf"))
        .args([
            "--retries=1",
            "--low-level-retries=2",
            "--contimeout=30s",
            "--timeout=60s",
            "--transfers=4",
        ])
        .args([
            "--ftp-host=localhost",
            &format!("--ftp-port={}", site.port(port)),
            &format!("--ftp-user={USER}"),
        ])
        .args([&format!("--ftp-pass={hidden}"), "--ftp-concurrency=8"])
        .arg(match port {
            Port::Explicit => "--ftp-explicit-tls=true",
            Port::Implicit => "--ftp-tls=true",
        });
    command
}

fn run(port: Port) {
    if !installed("rclone", "rclone") {
        return;
    }
    let site = Site::start();
    plant_tree(&site.served("tree"), 5, 12);
    let hidden = succeeds(client("rclone").args(["obscure", PASSWORD]))
        .trim()
        .to_owned();
    let local = site.scratch().join("tree");
    succeeds(
        rclone(&site, port, &hidden)
            .arg("copy")
            .arg(":ftp:tree")
            .arg(&local),
    );
    assert_eq!(assert_same_tree(&site.served("tree"), &local), 60);
    succeeds(
        rclone(&site, port, &hidden)
            .arg("copy")
            .arg(&local)
            .arg(":ftp:back"),
    );
    assert_eq!(assert_same_tree(&local, &site.served("back")), 60);
    succeeds(
        rclone(&site, port, &hidden)
            .args(["check", "--download"])
            .arg(&local)
            .arg(":ftp:back"),
    );
    succeeds(rclone(&site, port, &hidden).args(["moveto", ":ftp:back/directory 00", ":ftp:moved"]));
    assert_same_tree(&local.join("directory 00"), &site.served("moved"));
    succeeds(rclone(&site, port, &hidden).args(["purge", ":ftp:back"]));
    assert!(!site.served("back").exists());
}

#[test]
fn rclone_explicit() {
    run(Port::Explicit);
}

#[test]
fn rclone_implicit() {
    run(Port::Implicit);
}
