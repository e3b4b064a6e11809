//! Restart and upgrade without loss: hand-over to a new process, socket activation, and what a supervisor hears.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and have a clock"
)]

mod activation;
#[path = "../common/mod.rs"]
mod common;
mod load;
mod signals;
mod supervisor;
mod takeover;

use std::io::Write;
use std::process::{Command, Output};
use std::time::Duration;

use common::server::{Accounts, Server};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Starts a process that takes over, and waits until it has.
#[track_caller]
fn replace(old: &Server, options: &[&str]) -> Server {
    replace_by(old, options, |command| command)
}

/// As [`replace`], by a command made of the usual one.
#[track_caller]
fn replace_by(old: &Server, options: &[&str], prepare: impl FnOnce(Command) -> Command) -> Server {
    assert!(old.wait_for_log(OPEN), "nobody can take over");
    let new = old.start_beside(&[&["--take-over"], options].concat(), prepare);
    assert!(new.wait_for_log("has taken over"), "no take-over");
    assert!(old.wait_for_log("sessions here go on"), "not retired");
    assert_eq!((new.explicit, new.implicit), (old.explicit, old.implicit));
    new
}

/// Runs `ringftpd upgrade` for that server.
fn upgrade(server: &Server) -> Output {
    assert!(server.wait_for_log(OPEN), "nobody can take over");
    let mut command = Command::new(common::server::program());
    command.arg("upgrade").arg("--state-dir");
    command
        .arg(server.directory.join("state"))
        .output()
        .unwrap()
}

/// A process that nobody waits for: killed at the end.
struct Orphan(Pid);

impl Orphan {
    fn new(number: &str) -> Self {
        Self(Pid::from_raw(number.parse().unwrap()).unwrap())
    }

    fn is_alive(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        test_kill_process(self.0).is_ok() && !status.contains(") Z ")
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// A file of zeros in the home of all tests.
fn put_zeros(name: &str, length: u64) {
    let path = Accounts::shared().home.join(name);
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(b"begin").unwrap();
    file.set_len(length).unwrap();
}

/// What a server says once it can be replaced.
const OPEN: &str = "a new process can take over";
/// For what takes no longer than a turn of the server.
const MOMENT: Duration = Duration::from_millis(300);
