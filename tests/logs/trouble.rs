//! Full disks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::client::Client;
use crate::common::server::{PASSWORD, process_directory, wait_until};
use crate::common::{PATIENCE, Port, skip};
use crate::{Logged, lines_of};

#[test]
fn a_log_that_takes_nothing_disturbs_no_transfer_and_is_told_once() {
    let home = process_directory().join("dev-full");
    let logged = Logged::start_with_log(&home, Path::new("/dev/full"), "xferlog", &[]);
    fs::write(home.join("file"), b"contents").unwrap();
    let mut client = Client::connect(&logged.server, Port::Explicit);
    client.settle("ann", PASSWORD);
    for _ in 0..20 {
        client.download("RETR file");
    }
    assert!(logged.server.wait_for_log("transfer log not written"));
    // Longer than it takes to be tried again.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    client.download("RETR file");
    let log = String::from_utf8(logged.server.log()).unwrap();
    assert_eq!(log.matches("transfer log not written").count(), 1, "{log}");
    for word in ["ERROR", "/dev/full", "No space left", "make room"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    logged.server.signal(rustix::process::Signal::TERM);
    assert!(logged.server.wait(PATIENCE).expect("it ends").success());
    assert!(
        logged
            .server
            .wait_for_log("/dev/full: 21 lines not written")
    );
}

/// A small file system of its own.
struct Small(PathBuf);

impl Small {
    fn mount(name: &str) -> Option<Self> {
        let directory = process_directory().join(name);
        fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]);
        let mounted = command.arg(&directory).output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_costs_no_line_once_there_is_room_again() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let Some(small) = Small::mount("small") else {
        skip("no tmpfs can be mounted here");
        return;
    };
    let home = process_directory().join("full");
    let path = small.0.join("transfers");
    let own = small.0.join("server.log");
    let options = ["--log-file", own.to_str().unwrap()];
    let logged = Logged::start_with_log(&home, &path, "json", &options);
    fs::write(home.join("file"), b"contents").unwrap();
    let mut client = Client::connect(&logged.server, Port::Explicit);
    client.settle("ann", PASSWORD);
    client.download("RETR file");
    logged.lines(1);
    // Everything is full now: a page of each log may still have room.
    let filler = small.0.join("filler");
    let _ = fs::write(&filler, vec![0; 1024 * 1024]);
    const DOWNLOADS: usize = 60;
    for _ in 1..DOWNLOADS {
        client.download("RETR file");
    }
    // The server's log cannot tell of itself.
    assert!(logged.server.wait_for_log("server.log: log not written"));
    // Nor of the other one, which has tried by now.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(lines_of(&path).len() < DOWNLOADS);
    fs::remove_file(&filler).unwrap();
    for line in logged.objects(DOWNLOADS) {
        assert_eq!(line["result"], "complete");
    }
    let told = || String::from_utf8(fs::read(&own).unwrap()).unwrap();
    let again = wait_until(PATIENCE, || {
        told().matches("log written again").count() == 2
    });
    assert!(again, "{}", told());
    let log = told();
    assert_eq!(log.matches("transfer log not written").count(), 1, "{log}");
    assert_eq!(log.matches(" INFO transfer ").count(), DOWNLOADS, "{log}");
    assert!(!log.contains("log lines lost"), "{log}");
}
