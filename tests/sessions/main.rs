//! What a running server tells of its sessions, and how they are ended: `ringftpd session`, `ringftpd top`, and the socket
//! that both ask.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and have a clock"
)]

#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod hosts;
mod listing;
mod processes;
mod terminal;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

use common::server::{Accounts, Server, program};
use serde_json::Value;

/// Where that server has its sockets.
fn state(server: &Server) -> PathBuf {
    server.directory.join("state")
}

/// A server with these options that can be asked.
fn start(options: &[&str]) -> Server {
    let server = Server::start(options);
    assert!(server.wait_for_log(OPEN), "it cannot be asked");
    server
}

/// What a server says after it has opened its sockets.
const OPEN: &str = "a new process can take over";

/// The program with these words and the server's state directory.
fn command(server: &Server, words: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(words)
        .arg("--state-dir")
        .arg(state(server))
        .env_remove("NO_COLOR");
    command
}

/// Runs it: status, standard output, standard error.
fn run(server: &Server, words: &[&str]) -> (i32, String, String) {
    told(&command(server, words).output().unwrap())
}

fn told(output: &Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout.clone()).unwrap(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

/// What `session list --json` tells with these options.
#[track_caller]
fn list(server: &Server, options: &[&str]) -> Vec<Value> {
    let (status, out, error) = run(server, &[&["session", "list", "--json"], options].concat());
    assert_eq!((status, error.as_str()), (0, ""), "{out}");
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A file of zeros in the home of all tests.
fn put_zeros(name: &str, length: u64) {
    let path = Accounts::shared().home.join(name);
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(b"begin").unwrap();
    file.set_len(length).unwrap();
}
