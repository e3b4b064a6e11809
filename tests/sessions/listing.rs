//! One server: what is told of a session, and its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::client::Client;
use crate::common::server::{READER, Server, USER, program, wait_until};
use crate::common::{PATIENCE, Port, skip};
use crate::{command, list, put_zeros, run, start, state, told};

const LARGE: u64 = 64 << 20;

/// A server whose downloads take minutes.
fn slow(options: &[&str]) -> Server {
    put_zeros("slow.bin", LARGE);
    start(&[&["--download-rate-per-session", "2M"], options].concat())
}

fn socket(server: &Server) -> std::path::PathBuf {
    state(server).join(format!("status-{}.sock", server.pid))
}

/// The lines of an answer to this request.
fn ask(server: &Server, request: &[u8]) -> Vec<Value> {
    let mut stream = UnixStream::connect(socket(server)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // One that is refused early may not be taken whole.
    let _ = stream.write_all(request);
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        lines.push(line);
        let kind = &lines.last().unwrap()["kind"];
        if kind == "end" || kind == "error" {
            break;
        }
    }
    lines
}

#[test]
fn a_download_is_shown_with_its_progress() {
    let server = slow(&["--ktls", "off"]);
    let mut idle = Client::connect(&server, Port::Implicit);
    idle.secure();
    let mut client = Client::ready(&server, Port::Explicit);
    let mut download = client.open("RETR slow.bin");
    assert_eq!(download.take_exactly(5), b"begin");
    let find = || {
        let sessions = list(&server, &["--user", USER]);
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        sessions.into_iter().next().unwrap()
    };
    let octets = |session: &Value| session["transfer"]["octets"].as_u64().unwrap();
    let first = find();
    let mut later = Value::Null;
    let grew = wait_until(PATIENCE, || {
        later = find();
        octets(&later) > octets(&first)
    });
    assert!(grew, "{first} {later}");
    assert!(octets(&later) < LARGE);
    let transfer = &later["transfer"];
    assert_eq!(transfer["total"], LARGE);
    assert_eq!(transfer["command"], "RETR");
    assert_eq!(transfer["path"], "/slow.bin");
    assert_eq!(transfer["route"], "user-tls");
    assert_eq!(
        (&transfer["upload"], &transfer["protected"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        (&later["phase"], &later["command"]),
        (&json!("transfer"), &json!("RETR"))
    );
    assert_eq!(
        (&later["address"], &later["listener"]),
        (&json!("127.0.0.1"), &json!("explicit"))
    );
    assert_eq!(later["server"], server.explicit.to_string());
    assert!(
        later["tls"]["version"]
            .as_str()
            .unwrap()
            .starts_with("TLSv1.")
    );
    assert!(later["rate"].as_f64().unwrap() > 0.0);
    assert_eq!(later["process"], server.pid);

    let all = list(&server, &["--address", "127.0.0.0/8"]);
    let phases: Vec<&Value> = all.iter().map(|session| &session["phase"]).collect();
    assert_eq!(phases, [&json!("login"), &json!("transfer")]);
    assert_eq!(
        (&all[0]["user"], &all[0]["transfer"]),
        (&Value::Null, &Value::Null)
    );
    assert!(list(&server, &["--address", "192.0.2.1"]).is_empty());
    let (status, text, _) = run(&server, &["session", "list"]);
    assert_eq!(status, 0);
    assert!(text.starts_with("ID  USER"), "{text}");
    assert!(
        text.contains("RETR") && text.contains("/slow.bin"),
        "{text}"
    );

    // An upload has no known end.
    let mut other = Client::ready(&server, Port::Implicit);
    let mut upload = other.open("STOR list-upload.bin");
    upload.send(&[7; 100_000]).unwrap();
    let arrived = wait_until(PATIENCE, || {
        let session = list(&server, &[]).pop().unwrap();
        let transfer = &session["transfer"];
        transfer["octets"] == 100_000 && transfer["total"].is_null() && transfer["upload"] == true
    });
    assert!(arrived, "{:?}", list(&server, &[]));
}

#[test]
fn killed_sessions_hear_it_and_their_transfers_are_logged() {
    let log = crate::common::server::process_directory().join("killed.json");
    let server = slow(&[
        "--transfer-log",
        log.to_str().unwrap(),
        "--transfer-log-format",
        "json",
    ]);
    let mut busy = Client::ready(&server, Port::Explicit);
    let mut download = busy.open("RETR slow.bin");
    assert_eq!(download.take_exactly(5), b"begin");
    let mut idle = Client::connect(&server, Port::Implicit);
    idle.secure();
    idle.login(READER, crate::common::server::PASSWORD);
    let id = list(&server, &["--user", USER])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();

    let (status, out, error) = run(&server, &["session", "kill", &id, "4711"]);
    assert_eq!((status, out.as_str()), (1, "1 session ended\n"), "{error}");
    assert!(error.contains("no session 4711"), "{error}");
    // Whatever was on its way is not waited for.
    while download.receive().is_ok() {
        download.take().unwrap();
    }
    busy.expect(426);
    let last = busy.expect(421).text();
    assert!(last.contains("operator"), "{last}");
    busy.expect_closed();
    let logged = wait_until(PATIENCE, || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("\"aborted\"") && text.contains("/slow.bin")
    });
    assert!(logged, "{:?}", std::fs::read_to_string(&log));
    assert!(server.wait_for_log("sessions ended by the operator"));
    assert!(server.wait_for_log(&format!("ended by the operator session={id} ")));

    // Everything that is given must hold.
    let (status, out, _) = run(
        &server,
        &["session", "kill", "--user", READER, "--address", "::1"],
    );
    assert_eq!((status, out.as_str()), (1, "0 sessions ended\n"));
    idle.ok("NOOP", 200);
    let (status, out, error) = run(&server, &["session", "kill", "--user", READER]);
    assert_eq!(
        (status, out.as_str(), error.as_str()),
        (0, "1 session ended\n", "")
    );
    idle.expect(421);
    idle.expect_closed();
    let gone = wait_until(PATIENCE, || list(&server, &[]).is_empty());
    assert!(gone, "{:?}", list(&server, &[]));
    let (status, _, error) = run(&server, &["session", "kill"]);
    assert!(status == 2 && error.contains("<ID"), "{error}");
}

#[test]
fn wrong_requests_get_a_reason() {
    let server = start(&[]);
    let _client = Client::ready(&server, Port::Explicit);
    let cases: [(&[u8], &str); 6] = [
        (b"nonsense\n", "the request is none"),
        (
            b"{\"version\":1,\"ask\":\"reboot\"}\n",
            "the request is none",
        ),
        (b"{\"version\":2,\"ask\":\"look\"}\n", "speaks version 1"),
        (b"{\"version\":1,\"ask\":\"kill\"}\n", "name sessions"),
        (
            b"{\"version\":1,\"ask\":\"sessions\",\"address\":\"10.0.0.1/8\"}\n",
            "10.0.0.0/8",
        ),
        (&[b'x'; 70_000], "too long"),
    ];
    for (request, reason) in cases {
        let answer = ask(&server, request);
        let error = answer.last().unwrap();
        assert_eq!(
            (answer.len(), &error["kind"]),
            (1, &json!("error")),
            "{answer:?}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
    // What is not known yet is passed over, and one connection serves for several requests.
    let twice = b"{\"version\":1,\"ask\":\"sessions\",\"colour\":\"red\"}\n{\"version\":1,\"ask\":\"look\"}\n";
    let mut stream = UnixStream::connect(socket(&server)).unwrap();
    stream.write_all(twice).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let kinds: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].take())
        .collect();
    assert_eq!(kinds[..4], ["process", "session", "end", "process"]);
    assert_eq!(kinds[kinds.len() - 2..], ["session", "end"]);
}

/// The mode keeps other accounts away; where somebody has opened the socket, the server does.
#[test]
fn other_accounts_may_not_ask() {
    const NOBODY: u32 = 65_534;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    if !rustix::process::geteuid().is_root() {
        let server = start(&[]);
        assert_eq!(mode(&socket(&server)), 0o600);
        return skip("only root can become another account");
    }
    // Where that account can reach the program and the socket.
    let directory = std::env::temp_dir().join(format!("ringftpd-status-{}", std::process::id()));
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let state = directory.join("state");
    std::fs::create_dir_all(&state).unwrap();
    open(&directory, 0o755);
    let copy = directory.join("ringftpd");
    std::fs::copy(program(), &copy).unwrap();
    open(&copy, 0o755);
    let server = start(&["--state-dir", state.to_str().unwrap()]);
    let socket = state.join(format!("status-{}.sock", server.pid));
    assert_eq!(mode(&socket), 0o600);
    let ask = |words: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(words).arg("--state-dir").arg(&state);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        told(&command.output().unwrap())
    };
    open(&state, 0o700);
    let (status, _, error) = ask(&["session", "list"]);
    assert!(status == 77 && error.contains("ask as root"), "{error}");
    open(&state, 0o755);
    let (status, _, error) = ask(&["top", "--once"]);
    assert!(status == 77 && error.contains("ask as root"), "{error}");
    open(&socket, 0o666);
    for words in [
        &["session", "kill", "1"][..],
        &["top"],
        &["session", "list"],
    ] {
        let (status, out, error) = ask(words);
        assert!(
            status == 71 && error.contains("its own account only"),
            "{error}"
        );
        assert_eq!(out, "");
    }
    assert!(server.wait_for_log("status refused"));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn without_a_server_the_remedy_is_told() {
    let server = start(&[]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(PATIENCE).unwrap().code(), Some(0));
    let left: Vec<_> = std::fs::read_dir(state(&server)).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    for words in [
        &["session", "list"][..],
        &["top"],
        &["session", "kill", "1"],
    ] {
        let (status, out, error) = told(&command(&server, words).output().unwrap());
        assert_eq!((status, out.as_str()), (69, ""));
        assert!(
            error.contains("no server answers") && error.contains("--state-dir"),
            "{error}"
        );
    }
}
