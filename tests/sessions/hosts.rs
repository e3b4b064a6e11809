//! `--host`: sessions of one virtual host, chosen for a list and for an end; and processes that answer otherwise than they
//! should.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::common::client::Client;
use crate::common::server::{PASSWORD, Server, USER, process_directory, program};
use crate::common::{PATIENCE, Port};
use crate::{list, run, start, told};

/// Hosts with the server's users.
const HOSTS: &str =
    "[[hosts]]\nnames = ['a.example', 'alias.example']\n[[hosts]]\nnames = '*.b.example'\n";

fn server() -> Server {
    let file = process_directory().join("hosts.toml");
    std::fs::write(&file, HOSTS).unwrap();
    // Beside the usual options.
    start(&["--log-level", "debug", "--config", file.to_str().unwrap()])
}

/// Logged in at the host that HOST names.
fn at(server: &Server, host: Option<&str>) -> Client {
    let mut client = Client::connect(server, Port::Explicit);
    client.secure();
    if let Some(host) = host {
        client.ok(format!("HOST {host}"), 220);
    }
    client.login(USER, PASSWORD);
    client
}

#[test]
fn sessions_of_a_host_are_listed_and_ended_and_no_others() {
    let server = server();
    let mut alias = at(&server, Some("alias.example"));
    let mut first = at(&server, Some("A.example"));
    let mut other = at(&server, Some("x.b.example"));
    let mut none = at(&server, None);
    let mut stranger = Client::connect(&server, Port::Explicit);
    stranger.expect(220);
    let hosts = |options: &[&str]| {
        let sessions = list(&server, options);
        let hosts = sessions.iter().map(|session| session["host"].clone());
        hosts.collect::<Vec<Value>>()
    };
    // By the first name, whichever the client has said.
    let a = json!("a.example");
    assert_eq!(hosts(&["--host", "a.example"]), [a.clone(), a.clone()]);
    assert_eq!(hosts(&["--host", "A.EXAMPLE"]), [a.clone(), a]);
    assert_eq!(hosts(&["--host", "alias.example"]), [] as [Value; 0]);
    assert_eq!(hosts(&["--host", "*.b.example"]), [json!("*.b.example")]);
    assert_eq!(hosts(&["--host", "-"]), [Value::Null, Value::Null]);
    assert_eq!(hosts(&["--host", "-", "--user", USER]), [Value::Null]);
    assert_eq!(hosts(&[]).len(), 5);
    let (_, table, _) = run(&server, &["session", "list", "--host", "a.example"]);
    assert_eq!(table.matches("a.example").count(), 2, "{table}");
    assert!(!table.contains("b.example"), "{table}");

    let kill = |options: &[&str]| run(&server, &[&["session", "kill"], options].concat());
    let (status, out, error) = kill(&["--host", "none.example"]);
    assert_eq!((status, out.as_str()), (1, "0 sessions ended\n"), "{error}");
    let (status, out, error) = kill(&["--host", "a.example"]);
    assert_eq!(
        (status, out.as_str(), error.as_str()),
        (0, "2 sessions ended\n", "")
    );
    for ended in [&mut alias, &mut first] {
        ended.expect(421);
        ended.expect_closed();
    }
    other.ok("NOOP", 200);
    none.ok("NOOP", 200);

    // An ID of another host is none of these.
    let id = list(&server, &["--host", "*.b.example"])[0]["id"].clone();
    let (status, out, error) = kill(&["--host", "-", id.as_str().unwrap()]);
    assert_eq!((status, out.as_str()), (1, "0 sessions ended\n"), "{error}");
    other.ok("NOOP", 200);
    let (status, out, _) = kill(&["--host=-", "--user", USER]);
    assert_eq!((status, out.as_str()), (0, "1 session ended\n"));
    none.expect(421);
    other.ok("NOOP", 200);
    stranger.ok("FEAT", 211);
}

/// A process that gives these answers, one a connection, and then tells what it was asked.
struct Fake {
    directory: PathBuf,
    asked: JoinHandle<Vec<Value>>,
}

impl Fake {
    fn start(name: &str, process: u32, answers: &[String]) -> Self {
        let directory = process_directory().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join(format!("status-{process}.sock"));
        let listener = UnixListener::bind(socket).unwrap();
        let answers = answers.to_vec();
        let asked = std::thread::spawn(move || {
            let answer = |answer: String| {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                serde_json::from_str(&line).unwrap()
            };
            answers.into_iter().map(answer).collect()
        });
        Self { directory, asked }
    }

    /// Runs `session kill` with these words: status, standard output, standard error.
    fn kill(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(program());
        command.args(["session", "kill", "--state-dir"]);
        command.arg(&self.directory).args(words);
        told(&command.output().unwrap())
    }
}

fn sessions(process: u32, numbers: &[u64]) -> String {
    let mut lines = vec![
        json!({"kind": "process", "version": 1, "release": "", "process": process,
        "accepting": true, "seconds": 1.0}),
    ];
    for number in numbers {
        lines.push(json!({"kind": "session", "session": number, "user": null,
            "address": "192.0.2.1", "port": 1, "server": "", "listener": "explicit", "tls": null,
            "seconds": 0, "idle_seconds": 0, "phase": "idle", "command": null, "transfer": null}));
    }
    lines.push(json!({"kind": "end", "sessions": numbers.len(), "silent": []}));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn refusal(words: &str) -> String {
    format!("{}\n", json!({"kind": "error", "message": words}))
}

#[test]
fn the_host_goes_to_the_server_with_the_wish() {
    let refusal = refusal("not now");
    let fake = Fake::start("fake-wish", 7, &[sessions(7, &[1]), refusal]);
    fake.kill(&["--host", "a.example"]);
    let asked = fake.asked.join().unwrap();
    for (request, ask) in asked.iter().zip(["sessions", "kill"]) {
        assert_eq!(request["ask"], ask, "{asked:?}");
        assert_eq!(request["host"], "a.example", "{asked:?}");
    }
    assert_eq!(asked.len(), 2);
}

#[test]
fn why_a_session_does_not_end_is_told_once() {
    let fake = Fake::start("fake-refusal", 7, &[sessions(7, &[1]), refusal("not now")]);
    let (status, out, error) = fake.kill(&["1"]);
    assert_eq!((status, out.as_str()), (71, ""));
    assert_eq!(error, "ringftpd: process 7: not now; its sessions go on\n");
}

#[test]
fn of_several_processes_each_that_fails_is_told_once() {
    let one = Fake::start("fake-two", 7, &[sessions(7, &[1]), refusal("no")]);
    let two = Fake::start("fake-two", 8, &[sessions(8, &[2]), refusal("never")]);
    let (status, out, error) = one.kill(&["1", "2"]);
    assert_eq!((status, out.as_str()), (71, ""));
    let mut lines: Vec<&str> = error.lines().collect();
    lines.sort_unstable();
    let each = [
        "ringftpd: process 7: no; its sessions go on",
        "ringftpd: process 8: never; its sessions go on",
    ];
    assert_eq!(lines, each);
    one.asked.join().unwrap();
    two.asked.join().unwrap();
}
