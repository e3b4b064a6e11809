//! Accounts of PAM, with Linux-PAM's own modules: the server runs in a mount namespace in which /etc/pam.d, /etc/passwd and
//! /etc/shadow are the test's.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests panic when they fail, and have a clock"
)]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "pam")]
mod accounts;
#[cfg(feature = "pam")]
mod helpers;
#[cfg(feature = "pam")]
mod world;

#[cfg(not(feature = "pam"))]
#[test]
fn a_program_without_pam_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(common::server::program());
    command.arg("serve").arg(directory.path());
    command.args(["--explicit", "127.0.0.1:0", "--implicit", "off"]);
    command
        .arg("--state-dir")
        .arg(directory.path().join("state"));
    if rustix::process::geteuid().is_root() {
        command.args(["--run-as", "root"]);
    }
    let output = command.args(["--pam", "login"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("--features pam"), "{words}");
    let file = directory.path().join("ringftpd.toml");
    std::fs::write(&file, "[accounts]\npam = 'login'\n").unwrap();
    let mut command = std::process::Command::new(common::server::program());
    let output = command.arg("check-config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains(":2:7: pam: ") && words.contains("--features pam"),
        "{words}"
    );
}

/// The unit with its drop-in for PAM.
#[test]
fn the_unit_with_its_drop_in_is_as_closed_as_without() {
    use std::process::Command;
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return common::skip("no systemd-analyze: apt-get install systemd");
    }
    let tuning = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning");
    let unit = std::fs::read_to_string(tuning.join("ringftpd.service")).unwrap();
    let more = std::fs::read_to_string(tuning.join("ringftpd-pam.conf")).unwrap();
    let (_, more) = more.split_once("[Service]\n").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringftpd.service");
    let program = env!("CARGO_BIN_EXE_ringftpd");
    // Lines of a drop-in count as if they stood at the end of the section.
    let whole = unit.replace("\n[Install]", &format!("{more}\n[Install]"));
    std::fs::write(&path, whole.replace("/usr/local/bin/ringftpd", program)).unwrap();
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        let output = command.args(arguments).arg(&path).output().unwrap();
        let success = output.status.success();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), success)
    };
    let (text, valid) = analyze(&["verify", "--man=no"]);
    assert!(valid && !text.contains("ringftpd.service:"), "{text}");
    let (text, _) = analyze(&["security", "--offline=true", "--no-pager"]);
    let line = text.lines().find(|line| line.contains("Overall exposure"));
    let mut words = line.unwrap().split_whitespace();
    let exposure = words.find_map(|word| word.parse::<f64>().ok());
    assert!(exposure.unwrap() <= 2.0, "{text}");
}
