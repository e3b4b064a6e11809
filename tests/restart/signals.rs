//! Signals that come before the server can answer them.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::client::Client;
use crate::common::server::{Server, by_shell, wait_until};
use crate::common::{PATIENCE, Port};
use crate::{OPEN, Orphan, upgrade};

/// Whether every thread of the process holds these signals back, or has handlers for them.
fn is_ready_for(process: u32, signals: &[Signal]) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok())
            .unwrap_or(0)
    };
    let (blocked, caught) = (set("SigBlk:"), set("SigCgt:"));
    signals
        .iter()
        .all(|signal| (blocked | caught) >> (signal.as_raw() - 1) & 1 == 1)
}

/// Sends the signals to the process as early as it can hear them, long before it has read its files.
fn send_early(command: &mut Command, signals: &'static [Signal]) -> std::thread::JoinHandle<u32> {
    // The process writes its number before it becomes the server.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    command.env("RINGFTPD_TEST_PID", &file);
    std::thread::spawn(move || {
        let mut process = None;
        assert!(wait_until(PATIENCE, || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            process = text.strip_suffix('\n').and_then(|text| text.parse().ok());
            process.is_some_and(|process| is_ready_for(process, signals))
        }));
        drop(directory);
        let process: u32 = process.unwrap();
        for signal in signals {
            let pid = Pid::from_raw(process.try_into().unwrap()).unwrap();
            kill_process(pid, *signal).unwrap();
        }
        process
    })
}

/// The same command behind a shell that tells its number.
fn told(command: &Command) -> Command {
    by_shell(r#"echo $$ >"$RINGFTPD_TEST_PID""#, command)
}

#[test]
fn signals_before_the_handlers_are_answered_once_there_are_some() {
    let mut sender = None;
    let server = Server::start_by(&[], |command| {
        let mut command = told(&command);
        let signals = &[Signal::HUP, Signal::USR1];
        sender = Some(send_early(&mut command, signals));
        command
    });
    assert_eq!(sender.unwrap().join().unwrap(), server.pid);
    assert!(server.wait_for_log("accounts reloaded"), "SIGHUP was lost");
    // A server that has done nothing has nothing to tell at SIGUSR1, but lives.
    Client::ready(&server, Port::Explicit).download("NLST");
    server.signal(Signal::TERM);
    assert_eq!(server.wait(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn an_upgrade_that_is_asked_for_at_the_start_comes_about() {
    let mut sender = None;
    let old = Server::start_by(&[], |command| {
        let mut command = told(&command);
        sender = Some(send_early(&mut command, &[Signal::USR2]));
        command
    });
    sender.unwrap().join().unwrap();
    assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0), "not replaced");
    let open = || String::from_utf8_lossy(&old.log()).matches(OPEN).count() == 2;
    assert!(wait_until(PATIENCE, open), "not open");
    Client::ready(&old, Port::Explicit).download("NLST");
    // The socket in the state directory tells who serves: it can be replaced, and then be ended.
    let last = upgrade(&old);
    let words = String::from_utf8_lossy(&last.stdout).into_owned();
    assert!(last.status.success(), "{last:?}");
    let _last = Orphan::new(words.split_whitespace().nth(1).unwrap());
}

/// Whoever has read `ready` may end the server, and it ends well.
#[test]
fn sigterm_right_after_ready_is_an_end_with_status_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(&[]);
        server.signal(signal);
        assert_eq!(server.wait(PATIENCE).unwrap().code(), Some(0));
    }
}

/// What the server does not hear yet ends it, so that a start that hangs can be ended.
#[test]
fn sigterm_ends_a_start_that_takes_long() {
    let server = Server::start(&[]);
    let pipe = server.directory.join("users.pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut child: Child = server
        .command_beside(&["--config", pipe.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = child.id();
    assert!(wait_until(PATIENCE, || is_ready_for(
        process,
        &[Signal::HUP]
    )));
    let pid = Pid::from_raw(process.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(wait_until(PATIENCE, || child.try_wait().unwrap().is_some()));
    use std::os::unix::process::ExitStatusExt;
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status:?}");
}
