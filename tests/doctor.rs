//! `ringftpd doctor` as a person or a script runs it, and the files in `tuning/` as their programs see them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests panic when they fail, and have a clock"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

mod common;

use common::skip;

#[path = "doctor/others.rs"]
mod others;

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringftpd"))
        .arg("doctor")
        // The probe of kernel TLS takes time and has tests of its own.
        .args(["--ktls", "off"])
        .args(arguments)
        .output()
        .unwrap()
}

/// The JSON report and the exit status.
fn report(arguments: &[&str]) -> (Value, i32) {
    let output = doctor(&[&["--json"], arguments].concat());
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (report, output.status.code().unwrap())
}

fn finding<'a>(report: &'a Value, id: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["id"] == id);
    found.unwrap_or_else(|| panic!("no {id} in {report:#}"))
}

fn tuning(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tuning")
        .join(name)
}

/// Whether the program is there; where it is not, the test is skipped.
fn present(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        skip(&format!("there is no {program}"));
    }
    there
}

#[test]
fn the_json_report_has_the_documented_form() {
    let (report, status) = report(&[]);
    assert_eq!(report["schema"], 1);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(report["kernel"], release.trim());
    assert!(report["cores"].as_u64().unwrap() > 0);
    assert_eq!(report["can_serve"], status == 0);
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() > 20, "{report:#}");
    let mut counted = 0;
    for severity in ["ok", "advice", "warning", "error"] {
        let found = findings.iter().filter(|f| f["severity"] == severity);
        let found = found.count() as u64;
        assert_eq!(report["counts"][severity], found, "{severity}");
        counted += found;
    }
    assert_eq!(counted, findings.len() as u64);
    let mut ids = BTreeSet::new();
    for finding in findings {
        for field in ["id", "group", "severity", "measured", "wanted", "why"] {
            let text = finding[field].as_str();
            assert!(
                text.is_some_and(|text| !text.is_empty()),
                "{field}: {finding:#}"
            );
        }
        // What is wrong has a remedy, what is right has none.
        assert_eq!(
            finding["fix"].is_null(),
            finding["severity"] == "ok",
            "{finding:#}"
        );
        assert!(ids.insert(finding["id"].to_string()), "twice: {finding:#}");
    }
    assert_eq!(report["kernel_tls"]["suites"].as_array().unwrap().len(), 6);
    assert_eq!(finding(&report, "io_uring")["severity"], "ok");
}

#[test]
fn the_text_is_for_people() {
    let output = doctor(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        !text.contains('\x1b'),
        "colours without a terminal: {text:?}"
    );
    for part in [
        "Network and firewall",
        "  ok      io_uring",
        "the server can run here:",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn files_that_cannot_be_used_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users.toml");
    let path = users.to_str().unwrap();
    let (missing, status) = report(&["--users", path]);
    assert_eq!(status, 69);
    assert_eq!(finding(&missing, "users-file")["severity"], "error");
    assert_eq!(missing["can_serve"], false);

    fs::write(&users, "[users.ann]\npassword = \"hunter2\"\n").unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    let (wrong, status) = report(&["--users", path]);
    assert_eq!(status, 69);
    let text = finding(&wrong, "users-file").to_string();
    assert!(
        text.contains("users.toml:2") && !text.contains("hunter2"),
        "{text}"
    );

    fs::write(&users, "").unwrap();
    let (good, status) = report(&["--users", path, directory.path().to_str().unwrap()]);
    assert_eq!(
        (status, &finding(&good, "users-file")["severity"]),
        (0, &Value::from("ok"))
    );
    assert!(
        finding(&good, "free-space")["measured"]
            .as_str()
            .unwrap()
            .contains("free of")
    );

    let error = doctor(&["--cert", "/no/chain.pem", "--key", "/no/key.pem"]);
    assert_eq!(error.status.code(), Some(69));
    let line = String::from_utf8(error.stderr).unwrap();
    assert!(
        line.starts_with("ringftpd: ") && line.contains("/no/chain.pem"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1, "{line}");
    let (gone, status) = report(&["/no/directory"]);
    assert_eq!(
        (status, &finding(&gone, "directory")["severity"]),
        (69, &Value::from("error"))
    );
}

#[test]
fn the_configuration_file_says_what_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(file("served")).unwrap();
    fs::write(
        file("c.toml"),
        "directory = \"served\"\n[listening]\npassive-ports = \"45000-45009\"\nimplicit = \"off\"\nproxy-others = \"serve\"\n\
         [accounts]\nusers = \"users.toml\"\ncert = \"chain.pem\"\nanonymous = true\n[limits]\nconnections-max = 500\n",
    )
    .unwrap();
    fs::set_permissions(file("c.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    // The key comes from the command line; flags of `serve` may stand there, too.
    let words = ["--config", &file("c.toml"), "--key", "/no/key.pem"];
    let (told, status) =
        report(&[&words[..], &["--no-anonymous", "--idle-timeout", "5s"]].concat());
    assert_eq!(status, 69);
    let measured = |id: &str| finding(&told, id)["measured"].as_str().unwrap().to_owned();
    assert!(measured("passive-range").starts_with("10 ports"));
    assert!(measured("directory").starts_with(&file("served")));
    assert!(measured("users-file").starts_with(&file("users.toml")));
    assert!(measured("certificate").contains(&file("chain.pem")));
    assert!(measured("key-file").starts_with("/no/key.pem"));
    assert_eq!(finding(&told, "config-file")["severity"], "ok");
    let ports = finding(&told, "firewall")["wanted"].as_str().unwrap();
    assert!(
        ports.contains("21, 45000-45009") && !ports.contains("990"),
        "{ports}"
    );

    fs::set_permissions(file("c.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let (open, _) = report(&words);
    let found = finding(&open, "config-file");
    assert_eq!(found["fix"], format!("chmod go-w {}", file("c.toml")));

    fs::write(file("c.toml"), "[limits]\nconections-max = 500\n").unwrap();
    let wrong = doctor(&["--config", &file("c.toml")]);
    assert_eq!(wrong.status.code(), Some(78), "{wrong:?}");
    let line = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        line.contains("c.toml:2:1") && line.contains("connections-max"),
        "{line}"
    );
    assert!(wrong.stdout.is_empty());
    let missing = doctor(&["--config", &file("none.toml")]);
    assert_eq!(missing.status.code(), Some(66), "{missing:?}");
    let half = doctor(&["--cert", &file("chain.pem")]);
    assert_eq!(half.status.code(), Some(2), "{half:?}");
}

#[test]
fn warnings_count_only_when_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users.toml");
    fs::write(&users, "").unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o644)).unwrap();
    let path = users.to_str().unwrap();
    let (report_, status) = report(&["--users", path]);
    assert_eq!(status, 0);
    let found = finding(&report_, "users-file");
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["fix"], format!("chmod 640 {path}"));
    assert_eq!(report(&["--users", path, "--strict"]).1, 1);
}

#[test]
fn a_certificate_is_looked_through() {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["files.example".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = parameters.self_signed(&key).unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("chain.pem"), certificate.pem()).unwrap();
    fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    fs::set_permissions(path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let (old, status) = report(&["--cert", &path("chain.pem"), "--key", &path("key.pem")]);
    assert_eq!(status, 69);
    let dates = finding(&old, "certificate-dates");
    assert_eq!(dates["severity"], "error");
    assert!(
        dates["measured"].as_str().unwrap().contains("expired"),
        "{dates}"
    );
    assert_eq!(
        finding(&old, "certificate-chain")["measured"],
        "self-signed"
    );
    assert_eq!(
        finding(&old, "certificate-names")["measured"],
        "files.example"
    );
    assert_eq!(finding(&old, "key-file")["severity"], "warning");
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(path("key.pem"), other.serialize_pem()).unwrap();
    let (wrong, _) = report(&["--cert", &path("chain.pem"), "--key", &path("key.pem")]);
    let pair = finding(&wrong, "certificate");
    assert_eq!(pair["severity"], "error");
    assert!(
        pair["measured"]
            .as_str()
            .unwrap()
            .contains("does not belong"),
        "{pair}"
    );
}

#[test]
fn the_passive_range_is_the_one_that_was_given() {
    let (report, _) = report(&["--passive-ports", "45000-45009", "--connections-max", "500"]);
    let range = finding(&report, "passive-range");
    assert_eq!(range["severity"], "warning");
    assert!(
        range["measured"].as_str().unwrap().starts_with("10 ports"),
        "{range}"
    );
    let firewall = finding(&report, "firewall");
    assert!(
        firewall["wanted"]
            .as_str()
            .unwrap()
            .contains("21, 990, 45000-45009"),
        "{firewall}"
    );
}

#[test]
fn every_setting_and_module_is_one_that_kernels_have() {
    // What this kernel shows, it must know by that name; the lab (tests/lab/settings) writes them into Debian's.
    let text = fs::read_to_string(tuning("sysctl.conf")).unwrap();
    let settings = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in settings {
        let (name, value) = line.split_once(" = ").unwrap();
        let optional = name.starts_with('-');
        let name = name.trim_start_matches('-');
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        assert!(
            optional || Path::new(&path).exists(),
            "{name} is not in this kernel"
        );
        assert!(!value.trim().is_empty(), "{line}");
    }
    let text = fs::read_to_string(tuning("modules-load.conf")).unwrap();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(line.chars().all(plain), "{line}");
    }
}

#[test]
fn the_unit_is_valid_and_its_exposure_is_low() {
    if !present("systemd-analyze") {
        return;
    }
    let unit = fs::read_to_string(tuning("ringftpd.service")).unwrap();
    let analyze = |arguments: &[&str], path: &Path| {
        let output = Command::new("systemd-analyze")
            .args(arguments)
            .arg(path)
            .output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), output.status.success())
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringftpd.service");
    // systemd wants the program to exist.
    fs::write(
        &path,
        unit.replace("/usr/local/bin/ringftpd", env!("CARGO_BIN_EXE_ringftpd")),
    )
    .unwrap();
    let (text, valid) = analyze(&["verify", "--man=no"], &path);
    assert!(valid && !text.contains("ringftpd.service:"), "{text}");

    let (text, _) = analyze(
        &["security", "--offline=true", "--no-pager"],
        &tuning("ringftpd.service"),
    );
    let line = text
        .lines()
        .find(|line| line.contains("Overall exposure level"));
    let exposure = line
        .unwrap_or_else(|| panic!("{text}"))
        .split_whitespace()
        .find_map(|word| word.parse::<f64>().ok());
    assert!(exposure.unwrap() <= 2.0, "{text}");
}

#[test]
fn the_unit_lets_the_server_do_what_it_must() {
    let unit = fs::read_to_string(tuning("ringftpd.service")).unwrap();
    let values = |key: &str| -> Vec<&str> {
        let lines = unit.lines().filter_map(|line| line.split_once('='));
        lines
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .collect()
    };
    assert_eq!(values("AmbientCapabilities"), ["CAP_NET_BIND_SERVICE"]);
    assert_eq!(values("CapabilityBoundingSet"), ["CAP_NET_BIND_SERVICE"]);
    assert_eq!(values("User"), ["ringftpd"]);
    let calls = values("SystemCallFilter");
    let last = calls.last().unwrap();
    for call in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "sched_setaffinity",
    ] {
        // The last line adds: an earlier one that took it away is undone.
        assert!(
            !last.starts_with('~') && last.split_whitespace().any(|word| word == call),
            "{calls:?}"
        );
    }
    // Low ports cannot be bound from a user namespace; limits and io_uring's switch are read below /proc/sys.
    assert!(values("PrivateUsers").is_empty() && values("ProcSubset").is_empty());
    assert!(
        values("ExecReload")
            .iter()
            .any(|command| command.contains("-HUP"))
    );
}

#[test]
fn scripts_are_clean() {
    let test = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let debian = ["build", "postinst", "prerm", "postrm"];
    for script in debian
        .map(|name| tuning("debian").join(name))
        .into_iter()
        .chain([
            tuning("nic-tune"),
            test("tests/lab/settings"),
            test("tests/package/check"),
        ])
    {
        let syntax = Command::new("bash")
            .arg("-n")
            .arg(&script)
            .output()
            .unwrap();
        assert!(syntax.status.success(), "{syntax:?}");
        assert!(script.metadata().unwrap().permissions().mode() & 0o111 == 0o111);
        if present("shellcheck") {
            let clean = Command::new("shellcheck").arg(&script).output().unwrap();
            assert!(
                clean.status.success(),
                "{}",
                String::from_utf8_lossy(&clean.stdout)
            );
        }
    }
}

#[test]
fn both_ways_to_start_give_the_same_limit() {
    let limits = fs::read_to_string(tuning("limits.conf")).unwrap();
    let unit = fs::read_to_string(tuning("ringftpd.service")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("ringftpd hard nofile "));
    let limit = line.unwrap().rsplit(' ').next().unwrap();
    assert!(unit.contains(&format!("LimitNOFILE={limit}\n")), "{limit}");
}

/// A card with two queues, four cores, and interrupts on one of them.
fn fake_card(root: &Path) {
    for (path, text) in [
        ("sys/devices/system/cpu/online", "0-3"),
        ("sys/class/net/eth9/device/local_cpulist", "0-3"),
        ("sys/class/net/eth9/device/msi_irqs/30", ""),
        ("sys/class/net/eth9/device/msi_irqs/31", ""),
        ("sys/class/net/eth9/queues/rx-0/rps_cpus", "0"),
        ("sys/class/net/eth9/queues/rx-1/rps_cpus", "0"),
        (
            "sys/class/net/eth9/queues/tx-0/xps_cpus",
            "00000000,00000001",
        ),
        (
            "sys/class/net/eth9/queues/tx-1/xps_cpus",
            "00000000,00000001",
        ),
        ("proc/irq/30/smp_affinity_list", "0"),
        ("proc/irq/31/smp_affinity_list", "0"),
        ("sys/class/net/lo/operstate", "unknown"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
}

fn nic_tune(root: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(tuning("nic-tune"))
        .args(arguments)
        .env("NIC_TUNE_ROOT", root)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

#[test]
fn nic_tune_shows_what_it_would_do_and_does_only_that() {
    let root = tempfile::tempdir().unwrap();
    fake_card(root.path());
    let value = |path: &str| {
        fs::read_to_string(root.path().join(path))
            .unwrap()
            .trim()
            .to_owned()
    };
    let (shown, status) = nic_tune(root.path(), &["--dry-run", "eth9"]);
    assert_eq!(status, Some(0), "{shown}");
    assert!(
        shown.contains("irq/31/smp_affinity_list") && !shown.contains("irq/30"),
        "{shown}"
    );
    assert!(
        shown.contains("tx-1/xps_cpus") && !shown.contains("tx-0/"),
        "{shown}"
    );
    assert!(shown.contains("# 2 changes"), "{shown}");
    assert_eq!(
        value("proc/irq/31/smp_affinity_list"),
        "0",
        "a dry run wrote"
    );

    for (arguments, status) in [
        (&[][..], 2),
        (&["--fast", "eth9"], 2),
        (&["../../etc"], 2),
        (&["eth9", "eth8"], 2),
        (&["eth8"], 1),
        (&["lo"], 1),
    ] {
        let (text, found) = nic_tune(root.path(), arguments);
        assert_eq!(found, Some(status), "{arguments:?}: {text}");
    }

    let (applied, status) = nic_tune(root.path(), &["--apply", "eth9"]);
    if status == Some(1) && applied.contains("needs root") {
        skip("only root may apply");
        return;
    }
    assert_eq!(status, Some(0), "{applied}");
    assert_eq!(value("proc/irq/30/smp_affinity_list"), "0");
    assert_eq!(value("proc/irq/31/smp_affinity_list"), "1");
    assert_eq!(value("sys/class/net/eth9/queues/tx-1/xps_cpus"), "2");
    assert!(applied.contains("# to undo it:"), "{applied}");
    let undo = format!(
        "echo 0 > {}/proc/irq/31/smp_affinity_list",
        root.path().display()
    );
    assert!(applied.lines().any(|line| line == undo), "{applied}");
    let (again, _) = nic_tune(root.path(), &["--apply", "eth9"]);
    assert!(again.contains("# nothing to do"), "{again}");
}
