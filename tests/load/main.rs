//! The load generator against the real server: every workload, every protection, errors, and what it writes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and have a clock"
)]

#[path = "../common/mod.rs"]
mod common;
mod errors;
mod output;

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::server::{Accounts, PASSWORD, Server, USER};
use common::{Port, pattern};
use serde_json::Value;

const LARGE: &str = "load-large.bin";
const LARGE_OCTETS: usize = 3 * 1024 * 1024 + 17;
const SMALL_FILES: usize = 12;

/// A server that takes everything, on the files of all tests.
fn server() -> Arc<Server> {
    let server = Server::shared(&[
        "--protect-data",
        "optional",
        "--protect-control",
        "optional",
    ]);
    static FILES: std::sync::Once = std::sync::Once::new();
    FILES.call_once(|| {
        let home = &Accounts::shared().home;
        std::fs::write(home.join(LARGE), pattern(LARGE_OCTETS)).unwrap();
        let small = home.join("load-small");
        std::fs::create_dir(&small).unwrap();
        for number in 0..SMALL_FILES {
            std::fs::write(small.join(format!("f {number}")), pattern(100 * number)).unwrap();
        }
        // Sealed off: the report is to say what was done, not what was left by others.
        for directory in ["load-put", "load-mixed"] {
            std::fs::create_dir(home.join(directory)).unwrap();
        }
        std::fs::write(home.join("load-mixed/big"), pattern(1 << 20)).unwrap();
        std::fs::write(home.join("load-mixed/little"), pattern(1000)).unwrap();
    });
    server
}

fn command(server: &Server, port: Port, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringftpd-load"));
    command.args(words);
    command.args(["--server", &server.address(port).to_string()]);
    if port == Port::Implicit {
        command.args(["--security", "implicit"]);
    }
    if !words.contains(&"--password") && !words.contains(&"--password-file") {
        command.args(["--user", USER, "--password", PASSWORD]);
    }
    command.stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

/// Runs without trouble; returns the report.
#[track_caller]
fn report(port: Port, words: &[&str]) -> Value {
    report_of(port, words, 0)
}

/// Runs with this exit status; returns the report.
#[track_caller]
fn report_of(port: Port, words: &[&str], status: i32) -> Value {
    let file = tempfile::NamedTempFile::new().unwrap();
    let server = server();
    let mut command = command(&server, port, words);
    if !words.contains(&"--ca") {
        command.arg("--insecure");
    }
    let output = run({
        command.arg("--json").arg(file.path());
        command
    });
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {error}");
    let text = std::fs::read_to_string(file.path()).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|bad| panic!("{words:?}: {bad}: {text}"))
}

#[track_caller]
fn count(report: &Value, phase: &str) -> u64 {
    report["phases"][phase]["count"].as_u64().unwrap_or(0)
}

#[track_caller]
fn number(report: &Value, field: &str) -> u64 {
    report[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} in {report}"))
}

/// Ports, options, and how the control connection is protected then.
const PROTECTIONS: [(Port, &[&str], &str); 9] = [
    (
        Port::Explicit,
        &["--tls", "1.3", "--suite", "aes256"],
        "TLSv1.3 TLS_AES_256_GCM_SHA384",
    ),
    (
        Port::Implicit,
        &["--tls", "1.3", "--suite", "aes128"],
        "TLSv1.3 TLS_AES_128_GCM_SHA256",
    ),
    (
        Port::Explicit,
        &["--tls", "1.3", "--suite", "chacha20"],
        "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256",
    ),
    (
        Port::Explicit,
        &["--tls", "1.2", "--suite", "aes128"],
        "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        Port::Implicit,
        &["--tls", "1.2", "--suite", "aes256"],
        "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        Port::Explicit,
        &["--tls", "1.2", "--suite", "chacha20"],
        "TLSv1.2 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (Port::Explicit, &["--protect", "C"], "TLSv1.3"),
    (Port::Explicit, &["--active"], "TLSv1.3"),
    (Port::Explicit, &["--security", "clear"], ""),
];

#[test]
fn downloads_in_every_protection() {
    for (port, more, protection) in PROTECTIONS {
        let clear = more.contains(&"clear");
        let words = [
            &[
                "get",
                "--path",
                LARGE,
                "--count",
                "5",
                "--sessions",
                "2",
                "--verify",
                "sha256",
            ],
            more,
        ];
        let report = report(port, &words.concat());
        assert_eq!(number(&report, "operations"), 5, "{more:?}: {report}");
        assert_eq!(
            number(&report, "octets"),
            5 * LARGE_OCTETS as u64,
            "{more:?}"
        );
        for phase in ["transfer", "first_byte", "data_connection"] {
            assert_eq!(count(&report, phase), 5, "{more:?}: {phase}");
        }
        assert_eq!(
            (count(&report, "connect"), count(&report, "login")),
            (2, 2),
            "{more:?}"
        );
        let found = report["protection"].as_str().unwrap_or_default();
        assert!(found.starts_with(protection), "{more:?}: {found}");
        // Every data connection resumes.
        let protected = !clear && !more.contains(&"C");
        assert_eq!(
            number(&report, "resumed"),
            if protected { 5 } else { 0 },
            "{more:?}"
        );
        assert_eq!(
            number(&report, "full"),
            if clear { 0 } else { 2 },
            "{more:?}"
        );
        assert_eq!(number(&report, "unclosed"), 0, "{more:?}");
    }
}

#[test]
fn without_resumption_every_handshake_is_full() {
    let report = report(
        Port::Explicit,
        &["get", "--path", LARGE, "--count", "3", "--no-resume"],
    );
    assert_eq!(
        (number(&report, "resumed"), number(&report, "full")),
        (0, 4)
    );
    assert_eq!(count(&report, "handshake_data_full"), 3);
}

/// Uploads bring no tickets, and there are more of them than tickets at login.
#[test]
fn uploads_are_checked_resumed_and_deleted() {
    for more in [&["--tls", "1.3"], &["--tls", "1.2"]] {
        let words = [
            "put", "--path", "load-put", "--size", "300K", "--count", "20", "--verify", "sha256",
        ];
        let report = report(Port::Explicit, &[&words, &more[..]].concat());
        assert_eq!(number(&report, "operations"), 20, "{report}");
        assert_eq!(
            (number(&report, "resumed"), number(&report, "full")),
            (21, 1),
            "{more:?}"
        );
    }
    let directory = Accounts::shared().home.join("load-put");
    let left = || std::fs::read_dir(&directory).unwrap().count();
    assert_eq!(left(), 0);
    let words = [
        "put",
        "--path",
        "load-put",
        "--size",
        "0",
        "--count",
        "2",
        "--keep",
        "--protect",
        "C",
    ];
    assert_eq!(number(&report(Port::Implicit, &words), "operations"), 2);
    assert_eq!(left(), 2);
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::create_dir(&directory).unwrap();
}

#[test]
fn a_run_by_time_measures_that_time_and_cleans_up() {
    let words = [
        "put",
        "--path",
        "load-mixed",
        "--size",
        "1G",
        "--duration",
        "1",
        "--warm-up",
        "0.3",
    ];
    let report = report(Port::Explicit, &words);
    let seconds = report["seconds"].as_f64().unwrap();
    assert!((seconds - 1.0).abs() < 0.05, "{seconds}");
    assert!(number(&report, "octets") > 0, "{report}");
    let series = report["series"].as_array().unwrap();
    let octets: u64 = series
        .iter()
        .map(|point| point["octets"].as_u64().unwrap())
        .sum();
    assert_eq!((series.len(), octets), (1, number(&report, "octets")));
    let left = std::fs::read_dir(Accounts::shared().home.join("load-mixed")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    let uploads = left
        .iter()
        .filter(|name| name.to_string_lossy().contains("-0-"));
    assert_eq!(uploads.count(), 0, "{left:?}");
}

#[test]
fn small_files_are_taken_in_turn() {
    let files = SMALL_FILES.to_string();
    let words = [
        "small",
        "--path",
        "load-small",
        "--count",
        &files,
        "--verify",
        "sha256",
    ];
    let report = report(Port::Explicit, &words);
    let octets: usize = (0..SMALL_FILES).map(|number| 100 * number).sum();
    assert_eq!(number(&report, "octets"), octets as u64);
    // An empty file has no first octet.
    assert_eq!(count(&report, "first_byte"), SMALL_FILES as u64 - 1);
}

#[test]
fn listings_of_every_kind() {
    for verb in ["MLSD", "LIST", "NLST"] {
        let words = [
            "list",
            "--path",
            "load-small",
            "--count",
            "4",
            "--command",
            verb,
        ];
        let report = report(Port::Implicit, &words);
        assert_eq!(count(&report, "transfer"), 4);
        assert_eq!(report["settings"]["command"], verb);
        assert!(
            number(&report, "octets") > 4 * 5 * SMALL_FILES as u64,
            "{report}"
        );
    }
}

#[test]
fn logins_are_full_unless_asked_otherwise() {
    let words = ["login", "--count", "8", "--sessions", "2"];
    let full = report(Port::Explicit, &words);
    assert_eq!((number(&full, "full"), number(&full, "resumed")), (8, 0));
    assert_eq!((count(&full, "session"), count(&full, "login")), (8, 8));
    // This server forgets a client's sessions with its last control connection, so what is offered here
    // comes to nothing; that it is offered is tested where the handshakes are.
    let offered = report(Port::Explicit, &[&words[..], &["--resume"]].concat());
    assert_eq!(number(&offered, "operations"), 8);
}

#[test]
fn sessions_are_held_and_commands_timed() {
    let held = report(
        Port::Explicit,
        &["idle", "--sessions", "30", "--hold", "0.5"],
    );
    assert_eq!(
        (number(&held, "operations"), count(&held, "connect")),
        (30, 30)
    );
    let noop = report(
        Port::Implicit,
        &["noop", "--count", "50", "--sessions", "2"],
    );
    assert_eq!(
        (number(&noop, "operations"), count(&noop, "command")),
        (50, 50)
    );
    let all = &noop["phases"]["command"];
    let order = ["min_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
    let values: Vec<f64> = order
        .iter()
        .map(|name| all[name].as_f64().unwrap())
        .collect();
    assert!(values[0] > 0.0 && values.is_sorted(), "{values:?}");
}

#[test]
fn mixed_keeps_its_proportions() {
    let words = [
        "mixed",
        "--path",
        "load-mixed",
        "--path",
        "load-put",
        "--count",
        "40",
        "--size",
        "5K",
        "--mix",
        "get=1,put=1,list=1,small=2",
        "--verify",
        "sha256",
    ];
    let report = report(Port::Explicit, &words);
    let counts =
        ["get", "put", "list", "small"].map(|kind| count(&report, &format!("transfer_{kind}")));
    assert_eq!(counts, [8, 8, 8, 16], "{report}");
    assert_eq!(
        count(&report, "transfer"),
        41,
        "an upload is checked by a download"
    );
}

#[test]
fn a_trace_is_replayed_at_its_times() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let line = |second: u32, size: u32, path: &str, direction: &str| {
        format!(
            "Thu Feb 12 08:09:{second:02} 2026 1 ::1 {size} {path} b _ {direction} r u ftp 0 * c\n"
        )
    };
    let text = [
        line(1, 100, "/load-small/f 1", "o"),
        line(1, 5000, "/anything", "i"),
        line(2, 200, "/load-small/f 2", "o"),
        line(5, 300, "/load-small/f 3", "o"),
    ];
    std::fs::write(trace.path(), text.concat()).unwrap();
    let words = [
        "replay",
        "--trace",
        trace.path().to_str().unwrap(),
        "--speed",
        "4",
        "--path",
        "/",
    ];
    let began = Instant::now();
    let report = report(Port::Explicit, &words);
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "4 s of log at four times the speed"
    );
    assert_eq!(number(&report, "octets"), 5600);
    let counts = (
        count(&report, "transfer_get"),
        count(&report, "transfer_put"),
    );
    assert_eq!(counts, (3, 1), "{report}");
}

#[test]
fn an_open_loop_keeps_to_its_schedule() {
    let words = [
        "noop",
        "--rate",
        "200",
        "--duration",
        "1",
        "--sessions",
        "2",
    ];
    let report = report(Port::Explicit, &words);
    let all = number(&report, "operations") + number(&report, "missed_arrivals");
    assert!((198..=200).contains(&all), "{report}");
    // More than the server can do: what waits is counted from when it was due.
    let words = ["login", "--rate", "100000", "--count", "150"];
    let late = self::report(Port::Explicit, &words);
    let session = &late["phases"]["session"];
    let (p50, most) = (
        session["p50_us"].as_f64().unwrap(),
        session["max_us"].as_f64().unwrap(),
    );
    let measured = late["seconds"].as_f64().unwrap() * 1e6;
    assert!(most > measured * 0.8 && p50 > measured * 0.3, "{late}");
}
