//! The load generator against the real server: every workload does what it says, failures are counted and shown.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests panic when they fail, and have a clock"
)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::server::{Accounts, PASSWORD, Server, USER};
use common::{Port, pattern};
use serde_json::Value;

const FILE_OCTETS: usize = 3_000_000;

/// A server whose only account has a home with these files: `big`, and ten in `small`.
struct Scene {
    server: Server,
    home: tempfile::TempDir,
}

impl Scene {
    fn new(options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("big"), pattern(FILE_OCTETS)).unwrap();
        std::fs::create_dir(home.path().join("small")).unwrap();
        for number in 0..10 {
            let path = home.path().join(format!("small/file {number}"));
            std::fs::write(path, pattern(1000 + number)).unwrap();
        }
        let accounts = Accounts::single(USER, home.path());
        let users = accounts.file.to_str().unwrap().to_owned();
        let server = Server::start(&[&["--users", &users], options].concat());
        Self { server, home }
    }

    /// Runs the generator; returns what it printed and its JSON, if there is any.
    fn load(&self, port: Port, words: &[&str]) -> (Output, Value) {
        let (workload, rest) = words.split_first().unwrap();
        let result = self.home.path().join(format!("result-{workload}.json"));
        let security = match port {
            Port::Implicit => "implicit",
            Port::Explicit => "explicit",
        };
        let output = Command::new(env!("CARGO_BIN_EXE_ringftpd-load"))
            .args([workload, "--user", USER, "--insecure", "--json"])
            .arg(&result)
            .args(["--server", &self.server.address(port).to_string()])
            .args(["--security", security, "--timeout", "20"])
            .args(rest)
            .output()
            .unwrap();
        let json = std::fs::read(&result).unwrap_or_default();
        let json = serde_json::from_slice(&json).unwrap_or(Value::Null);
        (output, json)
    }

    /// As [`Self::load`] with the right password, without failures.
    #[track_caller]
    fn ok(&self, port: Port, words: &[&str]) -> Value {
        let words = [words, &["--password", PASSWORD]].concat();
        let (output, json) = self.load(port, &words);
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{complained}");
        assert_eq!(json["errors"], serde_json::json!([]), "{said}");
        json
    }
}

fn phase<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    let phases = json["phases"].as_array().unwrap();
    phases.iter().find(|phase| phase["phase"] == name)
}

fn count(json: &Value, name: &str) -> u64 {
    phase(json, name).map_or(0, |phase| phase["count"].as_u64().unwrap())
}

#[test]
fn downloads_are_counted_to_the_octet() {
    let scene = Scene::new(&["--protect-data", "optional"]);
    for (port, words) in [
        (Port::Explicit, &["--suite", "aes128"][..]),
        (Port::Explicit, &["--suite", "aes256", "--tls", "1.2"]),
        (Port::Implicit, &["--suite", "chacha20"]),
        (Port::Explicit, &["--protect", "C"]),
    ] {
        let words = [
            &["get", "--path", "/big", "--count", "6", "--sessions", "2"],
            words,
        ]
        .concat();
        let json = scene.ok(port, &words);
        assert_eq!(json["operations"], 6, "{json}");
        assert_eq!(json["octets"], 6 * FILE_OCTETS, "{json}");
        assert_eq!(count(&json, "operation"), 6);
        assert_eq!(count(&json, "login"), 2);
        let resumed = count(&json, "data_handshake_resumed");
        let expected = if json["protect"] == "P" { 6 } else { 0 };
        assert_eq!(resumed, expected, "{json}");
        let operation = phase(&json, "operation").unwrap();
        assert!(operation["p50"].as_f64().unwrap() <= operation["p99"].as_f64().unwrap());
    }
}

#[test]
fn full_handshakes_where_that_is_wanted() {
    let scene = Scene::new(&["--resume", "off"]);
    let json = scene.ok(
        Port::Explicit,
        &["get", "--path", "/big", "--count", "3", "--no-resume"],
    );
    assert_eq!(count(&json, "data_handshake_full"), 3, "{json}");
    assert_eq!(count(&json, "data_handshake_resumed"), 0, "{json}");
}

#[test]
fn uploads_are_checked_and_deleted() {
    let scene = Scene::new(&[]);
    let words = ["put", "--path", "/", "--size", "300K", "--count", "4"];
    let json = scene.ok(Port::Explicit, &words);
    assert_eq!(json["octets"], 4 * 300 * 1024, "{json}");
    let uploads = |home: &Path| {
        let names = std::fs::read_dir(home).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("load-"))
            .count()
    };
    assert_eq!(uploads(scene.home.path()), 0);
    scene.ok(Port::Explicit, &[&words[..], &["--keep"]].concat());
    assert_eq!(uploads(scene.home.path()), 4);
}

#[test]
fn the_other_workloads() {
    let scene = Scene::new(&[]);
    let small = scene.ok(
        Port::Implicit,
        &[
            "small",
            "--path",
            "small",
            "--count",
            "30",
            "--sessions",
            "3",
        ],
    );
    assert_eq!(small["operations"], 30);
    let list = scene.ok(
        Port::Explicit,
        &[
            "list",
            "--path",
            "small",
            "--count",
            "5",
            "--command",
            "NLST",
        ],
    );
    assert_eq!(list["operations"], 5);
    assert!(list["octets"].as_u64().unwrap() > 0);
    let login = scene.ok(Port::Explicit, &["login", "--count", "4"]);
    assert_eq!(count(&login, "login"), 4, "{login}");
    assert_eq!(count(&login, "control_handshake_full"), 4, "{login}");
    let mixed = scene.ok(
        Port::Explicit,
        &["mixed", "--path", "small", "--size", "20K", "--count", "20"],
    );
    assert_eq!(mixed["operations"], 20);
    let idle = scene.ok(
        Port::Explicit,
        &["idle", "--sessions", "5", "--hold", "0.2"],
    );
    assert_eq!(idle["operations"], 5, "{idle}");
    let noop = scene.ok(
        Port::Explicit,
        &["noop", "--duration", "0.5", "--warm-up", "0.2"],
    );
    assert!(noop["operations"].as_u64().unwrap() > 0);
    let seconds = noop["seconds"].as_f64().unwrap();
    assert!((0.4..=0.5).contains(&seconds), "{noop}");
}

/// Arrivals come by schedule: there are as many as the rate says, and not as many as the server could serve.
#[test]
fn a_rate_is_kept() {
    let scene = Scene::new(&[]);
    let words = ["noop", "--duration", "2", "--rate", "50", "--sessions", "4"];
    let json = scene.ok(Port::Explicit, &words);
    let operations = json["operations"].as_u64().unwrap();
    assert!((90..=101).contains(&operations), "{json}");
}

#[test]
fn failures_are_counted_and_shown() {
    let scene = Scene::new(&["--bad-login-delay", "1ms"]);
    let words = ["noop", "--password", "wrong", "--duration", "1"];
    let (output, json) = scene.load(Port::Explicit, &words);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("FAILED"), "{said}");
    assert_eq!(json["errors"][0]["kind"], "reply 530", "{json}");
    assert_eq!(json["operations"], 0);
    let missing = [
        "get",
        "--path",
        "/nothing",
        "--count",
        "3",
        "--password",
        PASSWORD,
    ];
    let (output, json) = scene.load(Port::Explicit, &missing);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json["errors"][0]["kind"], "reply 550", "{json}");
    assert_eq!(json["errors"][0]["count"], 3, "{json}");
}

#[test]
fn what_cannot_be_right_is_said_at_once() {
    let program = env!("CARGO_BIN_EXE_ringftpd-load");
    for (words, remedy) in [
        (&["noop", "--server", "127.0.0.1:1"][..], "--insecure"),
        (&["noop", "--insecure", "--server", "localhost"], "port"),
        (&["get", "--insecure", "--server", "127.0.0.1:1"], "--path"),
        (
            &["put", "--server", "127.0.0.1:1", "--size", "many"],
            "K, M or G",
        ),
    ] {
        let output = Command::new(program).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(remedy), "{said}");
    }
    // Nobody listens there.
    let words = [
        "noop",
        "--insecure",
        "--server",
        "127.0.0.1:1",
        "--duration",
        "1",
    ];
    let output = Command::new(program).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("refused"), "{said}");
}

#[test]
fn two_results_side_by_side() {
    let scene = Scene::new(&[]);
    scene.ok(Port::Explicit, &["noop", "--count", "20"]);
    let result = scene.home.path().join("result-noop.json");
    let output = Command::new(env!("CARGO_BIN_EXE_ringftpd-load"))
        .arg("compare")
        .args([&result, &result])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let line = said.lines().find(|line| line.starts_with("operations/s"));
    assert!(line.unwrap().ends_with("1.000"), "{said}");
}
