//! The log of the server: sessions, forms, the journal, and what never stands in it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::client::Client;
use crate::common::server::{PASSWORD, Server, USER, process_directory, wait_until};
use crate::common::{PATIENCE, Port, pattern};
use crate::{Logged, lines_of};

#[test]
fn the_lines_of_a_session_bear_its_number() {
    let file = process_directory().join("numbered.log");
    let options = ["--log-format", "json", "--log-file", file.to_str().unwrap()];
    let logged = Logged::start("numbered", "json", &options);
    fs::write(logged.home.join("file"), pattern(1000)).unwrap();
    let mut clients: Vec<Client> = (0..2)
        .map(|_| Client::connect(&logged.server, Port::Explicit))
        .collect();
    for client in &mut clients {
        client.settle("ann", PASSWORD);
    }
    for client in &mut clients {
        client.download("RETR file");
        client.upload("STOR up", &pattern(70));
        client.download("LIST");
        client.ok("QUIT", 221);
        client.expect_closed();
    }
    let mut ends = Vec::new();
    let mut lines = Vec::new();
    assert!(wait_until(PATIENCE, || {
        let read = lines_of(&file).into_iter();
        lines = read
            .map(|line| serde_json::from_slice::<Value>(&line).expect("every line is JSON"))
            .collect();
        let ended = lines
            .iter()
            .filter(|line| line["message"] == "session ended");
        ends = ended.cloned().collect();
        ends.len() == 2
    }));
    assert_ne!(ends[0]["session"], ends[1]["session"]);
    for end in &ends {
        let own: Vec<&Value> = lines
            .iter()
            .filter(|line| line["session"] == end["session"])
            .collect();
        let count = |message: &str| own.iter().filter(|line| line["message"] == message).count();
        assert_eq!((count("login"), count("transfer")), (1, 3));
        assert!(count("command") > 8, "{own:?}");
        let info = own.iter().filter(|line| line["level"] == "INFO");
        assert_eq!(info.count(), 5, "no command has a line at info: {own:?}");
        assert_eq!(end["user"], "ann");
        let of = |key: &str| end[key].as_u64().unwrap();
        assert_eq!(
            (of("downloads"), of("uploads"), of("listings"), of("broken")),
            (1, 1, 1, 0)
        );
        assert_eq!(of("octets_received"), 70);
        assert!(of("octets_sent") > 1000);
    }
    let peer = |line: &&Value| line["peer"].is_string() && line["session"].is_null();
    let unnumbered: Vec<&Value> = lines.iter().filter(peer).collect();
    assert!(unnumbered.is_empty(), "{unnumbered:?}");
    assert!(logged.server.log().is_empty(), "nothing on standard error");
}

#[test]
fn no_password_is_in_any_log() {
    const SECRETS: [&str; 4] = [
        "Sesame-1-open",
        "Sesame-2-shut",
        "Sesame-3-late",
        "Sesame-4-mail",
    ];
    for form in ["human", "json"] {
        let options = ["--log-level", "trace", "--log-format", form, "--anonymous"];
        let logged = Logged::start(&format!("secrets-{form}"), "json", &options);
        let server = &logged.server;
        // In the clear, and before USER.
        let mut client = Client::connect(server, Port::Explicit);
        client.expect(220);
        client.command(format!("PASS {}", SECRETS[0]));
        client.auth_tls();
        client.command(format!("PASS {}", SECRETS[0]));
        for (line, code) in [
            (format!("USER {USER}\x1b[31m"), 331),
            (format!("pass {}", SECRETS[1]), 530),
            ("USER nobody".to_owned(), 331),
            (format!("PaSs  {}  ", SECRETS[1]), 530),
        ] {
            client.ok(line, code);
        }
        client.login("ann", PASSWORD);
        // Where nobody asked for it, in a wrong command, and in an overlong one.
        client.command(format!("PASS {}", SECRETS[2]));
        client.command(format!("ACCT {}", SECRETS[2]));
        client.command(format!("XPASS {}", SECRETS[2]));
        client.command(format!("PASS {}{}", SECRETS[2], "x".repeat(9000)));
        client.ok("QUIT", 221);
        let mut client = Client::connect(server, Port::Implicit);
        client.settle("anonymous", SECRETS[3]);
        client.ok("QUIT", 221);
        client.expect_closed();
        assert!(wait_until(PATIENCE, || {
            let log = String::from_utf8_lossy(&server.log()).into_owned();
            log.matches("session ended").count() == 2
        }));
        let log = String::from_utf8(server.log()).unwrap();
        let transfers = fs::read_to_string(&logged.transfers).unwrap();
        assert_eq!(log.matches("login refused").count(), 2, "{log}");
        assert!(
            log.contains("Pass") && log.contains("TRACE"),
            "commands and replies: {log}"
        );
        for secret in SECRETS.iter().chain([&PASSWORD]) {
            assert!(!log.contains(secret), "{secret}: {log}");
            assert!(!transfers.contains(secret));
        }
        // The refused name cannot steer a terminal.
        assert!(!log.contains('\x1b') && log.contains("x1b[31m"), "{log}");
    }
}

/// A server whose standard error is what the test wants, and where it listens.
fn spawn(
    name: &str,
    options: &[&str],
    stderr: Stdio,
    journal: Option<String>,
) -> (Child, SocketAddr) {
    let directory = process_directory().join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringftpd"));
    command.arg("serve").arg(directory.join("public"));
    command.args([
        "--explicit",
        "127.0.0.1:0",
        "--implicit",
        "off",
        "--anonymous",
    ]);
    command.arg("--state-dir").arg(directory.join("state"));
    if rustix::process::geteuid().is_root() {
        command.args(["--run-as", "root"]);
    }
    command
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command.env_remove("JOURNAL_STREAM").stderr(stderr);
    if let Some(journal) = journal {
        command.env("JOURNAL_STREAM", journal);
    }
    let mut child = command.spawn().unwrap();
    let mut address = None;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref().map_while(Result::ok) {
        if let Some(text) = line.strip_prefix("explicit FTPS on ") {
            address = text.parse().ok();
        }
        if line == "ready" {
            break;
        }
    }
    (child, address.expect("it listens"))
}

fn end(mut child: Child) {
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).unwrap();
    let mut ended = false;
    wait_until(PATIENCE, || {
        ended = child.try_wait().unwrap().is_some();
        ended
    });
    let _ = child.kill();
    let _ = child.wait();
    assert!(ended, "it does not end");
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let (child, address) = spawn("unread", &["--log-level", "trace"], Stdio::piped(), None);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    replies.read_line(&mut line).unwrap();
    assert!(line.starts_with("220"), "{line}");
    // Far more than a pipe holds.
    for _ in 0..2000 {
        stream.write_all(b"FEAT\r\n").unwrap();
        loop {
            line.clear();
            replies.read_line(&mut line).expect("a reply");
            if line.starts_with("211 ") {
                break;
            }
        }
    }
    end(child);
}

#[test]
fn under_systemd_lines_have_priorities() {
    let path = process_directory().join("journal-stream");
    let file = fs::File::create(&path).unwrap();
    let metadata = file.metadata().unwrap();
    let stream = format!("{}:{}", metadata.dev(), metadata.ino());
    let options = ["--log-format", "json", "--log-level", "debug"];
    let (child, address) = spawn("journal", &options, file.into(), Some(stream));
    let mut stream = TcpStream::connect(address).unwrap();
    let mut octets = [0; 3];
    stream.read_exact(&mut octets).unwrap();
    drop(stream);
    end(child);
    let mut priorities = Vec::new();
    for line in lines_of(&path) {
        let line = String::from_utf8(line).unwrap();
        let (priority, object) = line.strip_prefix('<').unwrap().split_once('>').unwrap();
        let object: Value = serde_json::from_str(object).unwrap();
        let wanted = match object["level"].as_str().unwrap() {
            "ERROR" => "3",
            "WARN" => "4",
            "INFO" => "6",
            _ => "7",
        };
        assert_eq!(priority, wanted, "{line}");
        priorities.push(priority.to_owned());
    }
    assert!(priorities.iter().any(|one| one == "6") && priorities.iter().any(|one| one == "7"));
}

#[test]
fn a_log_that_cannot_be_opened_is_told_with_a_remedy() {
    let directory = process_directory();
    let nowhere = directory.join("nowhere/log");
    let nowhere = nowhere.to_str().unwrap();
    let public = directory.join("unopened");
    let serve = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringftpd"));
        command
            .arg("serve")
            .arg(&public)
            .args(["--anonymous", "--explicit", "127.0.0.1:0"]);
        command
            .args(["--implicit", "off", "--state-dir"])
            .arg(directory.join("unopened-state"));
        let output = command.args(options).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    for option in ["--log-file", "--transfer-log"] {
        let (status, said) = serve(&[option, nowhere]);
        assert_eq!(status, Some(73), "{said}");
        // What was logged before comes too, and the reason last.
        let last = said.lines().last().unwrap();
        for word in ["nowhere/log", "make its directory", option] {
            assert!(last.contains(word), "{said}");
        }
    }
    let (status, said) = serve(&["--log-file", nowhere, "--transfer-log", nowhere]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("each its own"), "{said}");
}

#[test]
fn standard_error_is_the_log_without_a_file() {
    let server = Server::start(&["--log-level", "info"]);
    let mut client = Client::ready(&server, Port::Explicit);
    client.ok("NOOP", 200);
    client.ok("QUIT", 221);
    assert!(server.wait_for_log("session ended session="));
    let log = String::from_utf8(server.log()).unwrap();
    assert!(log.contains(" INFO login session="), "{log}");
    assert!(!log.contains("DEBUG"), "{log}");
}
