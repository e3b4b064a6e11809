//! What goes wrong is counted, told, and ends in time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::Port;
use crate::common::server::{PASSWORD, Server, USER};
use crate::common::tls::Identity;
use crate::{command, number, report, report_of, run, server};

/// Exit statuses that scripts may rely on.
const ERRORS: i32 = 1;
const USAGE: i32 = 2;
const NO_INPUT: i32 = 66;
const UNAVAILABLE: i32 = 69;
const NO_PERMISSION: i32 = 77;

#[test]
fn errors_are_counted_and_tell() {
    let missing = report_of(
        Port::Explicit,
        &["get", "--path", "not-there", "--count", "3"],
        ERRORS,
    );
    assert_eq!(missing["errors"]["reply 550"], 3);
    assert_eq!(number(&missing, "operations"), 0);
    let example = missing["error_examples"]["reply 550"].as_str().unwrap();
    assert!(example.contains("not-there"), "{example}");

    let words = [
        "noop",
        "--count",
        "1",
        "--user",
        "nobody",
        "--password",
        "wrong",
    ];
    let refused = report_of(Port::Explicit, &words, NO_PERMISSION);
    assert_eq!(refused["errors"]["reply 530"], 1);

    // Of a connection in the clear, the server only wants to hear about TLS.
    let strict = Server::shared(&[]);
    let output = run(command(
        &strict,
        Port::Explicit,
        &["noop", "--security", "clear"],
    ));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(NO_PERMISSION), "{error}");
    assert!(
        error.contains("--security explicit") && error.lines().count() == 1,
        "{error}"
    );
}

/// Asserts that the program ends so, and says that in one line.
fn refuse(words: &[&str], status: i32, expected: &str) {
    let mut load = Command::new(env!("CARGO_BIN_EXE_ringftpd-load"));
    let output = load.args(words).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {error}");
    assert!(error.contains(expected), "{words:?}: {error}");
    assert!(
        status == USAGE || error.lines().count() == 1,
        "{words:?}: {error}"
    );
}

#[test]
fn a_server_that_cannot_be_used_is_one_line_with_the_remedy() {
    let server = server();
    let explicit = server.explicit.to_string();
    let implicit = server.implicit.to_string();
    let login = ["--user", USER, "--password", PASSWORD];
    let with = |words: &[&'static str], address: &str| -> Vec<String> {
        let words = words.iter().chain(&login).map(|&word| word.to_owned());
        words
            .chain(["--server".to_owned(), address.to_owned()])
            .collect()
    };
    let check = |words: &[&'static str], address: &str, status: i32, expected: &str| {
        let words = with(words, address);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        refuse(&words, status, expected);
    };
    // Nobody listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    check(
        &["noop", "--insecure"],
        &free.to_string(),
        UNAVAILABLE,
        "is the server running",
    );
    check(&["noop"], &explicit, USAGE, "--insecure");
    check(&["noop", "--insecure"], "localhost", USAGE, "HOST:PORT");
    check(
        &["noop", "--insecure"],
        "no.such.host.invalid:21",
        UNAVAILABLE,
        "no such host",
    );
    check(&["get", "--insecure"], &explicit, USAGE, "--path");
    check(&["replay", "--insecure"], &explicit, USAGE, "--trace");
    check(
        &["noop", "--ca", "/does/not/exist"],
        &explicit,
        NO_INPUT,
        "/does/not/exist",
    );
    check(
        &["noop", "--insecure", "--timeout", "0.5"],
        &implicit,
        UNAVAILABLE,
        "--security",
    );
    check(
        &["noop", "--insecure", "--security", "implicit"],
        &explicit,
        UNAVAILABLE,
        "--security",
    );
    check(
        &["small", "--insecure", "--path", "not-there"],
        &explicit,
        UNAVAILABLE,
        "--path",
    );
    refuse(
        &["compare", "/does/not/exist", "b"],
        NO_INPUT,
        "/does/not/exist",
    );
}

#[test]
fn certificates_are_verified_when_asked_for() {
    let identity = Identity::shared();
    let file = identity.certificate_file.to_str().unwrap();
    let mut words = vec!["noop", "--count", "2", "--ca", file];
    let good = report(Port::Explicit, &words);
    assert_eq!(number(&good, "operations"), 2);
    // The system trusts no certificate of a test.
    words.truncate(4);
    words.push("system");
    let refused = run(command(&server(), Port::Explicit, &words));
    let code = refused.status.code();
    assert!(matches!(code, Some(UNAVAILABLE | NO_INPUT)), "{refused:?}");
}

#[test]
fn an_interrupt_ends_the_run_and_still_prints() {
    let server = server();
    let words = ["noop", "--insecure", "--duration", "60", "--sessions", "3"];
    let mut command = command(&server, Port::Explicit, &words);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let began = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("ended early") && text.contains("command"),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// A server that dies in the middle is an error of the run, and the run ends in time.
#[test]
fn a_server_that_goes_away_is_an_error() {
    let server = Server::start(&[]);
    let words = ["noop", "--insecure", "--duration", "3", "--sessions", "2"];
    let mut command = command(&server, Port::Explicit, &words);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    server.signal(Signal::KILL);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(ERRORS), "{output:?}");
    assert!(text.starts_with("ERRORS"), "errors come first: {text}");
    assert!(
        text.contains("refused") || text.contains("reset") || text.contains("closed"),
        "{text}"
    );
}
